//! `doorbell why ID`: what became of a message, as a timeline.

use std::fmt::Write as _;
use std::process::ExitCode;

use anyhow::Context;
use doorbell_protocol::Uid;
use doorbell_server::utc::rfc3339;
use serde::Deserialize;

use super::ask::Asking;
use super::{print, print_line};
use crate::cli::WhyArgs;
use crate::config::Environment;
use crate::exit::{Failure, NOBODY};

/// The answer to `GET /v1/messages/{id}`.
#[derive(Deserialize)]
struct Message {
    id: String,
    trails: Vec<Trail>,
    complete: bool,
}

#[derive(Deserialize)]
struct Trail {
    uid: String,
    seq: Option<u64>,
    steps: Vec<Step>,
}

#[derive(Deserialize)]
struct Step {
    at_ms: u64,
    step: String,
    connection: Option<String>,
    reason: Option<String>,
}

pub(crate) fn run(args: &WhyArgs, environment: &Environment) -> Result<ExitCode, Failure> {
    let mut path = format!("/v1/messages/{}", percent_encoded(&args.id));
    if let Some(uid) = &args.uid {
        let uid = Uid::new(uid).context("not a uid").map_err(Failure::Usage)?;
        path += &format!("?uid={}", percent_encoded(uid.as_str()));
    }
    if args.id.is_empty() {
        return Err(Failure::Usage(anyhow::anyhow!("an empty id; give the id in the answer to the push")));
    }
    let answer = Asking::new(&args.server, environment)?.get(&path)?;
    if answer.status == 404 && answer.problem().as_deref() == Some("unknown_message") {
        let missing = "nothing is remembered of it: no push with this id was accepted, or newer ones took its place (trail.memory)";
        print_line(if args.json { answer.text() } else { missing.to_owned() }.as_str());
        return Ok(ExitCode::from(NOBODY));
    }
    let json = answer.accepted().map_err(Failure::CouldNotAsk)?;
    let message: Message = serde_json::from_value(json)
        .context("an answer that is no trail: is the server older than this program?")
        .map_err(Failure::CouldNotAsk)?;
    if args.json {
        print_line(&answer.text());
    } else {
        print(&message.timeline());
    }
    let has_it = message.trails.iter().any(Trail::was_written);
    Ok(if has_it { ExitCode::SUCCESS } else { ExitCode::from(NOBODY) })
}

impl Message {
    fn timeline(&self) -> String {
        let mut text = String::new();
        for trail in &self.trails {
            let number = trail.seq.map_or_else(String::new, |seq| format!(", number {seq}"));
            // Writing to a String cannot fail. A uid may hold anything, so it is shown escaped.
            let _ = writeln!(text, "{} to {}{number}", self.id.escape_debug(), trail.uid.escape_debug());
            let began = trail.steps.first().map_or(0, |step| step.at_ms);
            for step in &trail.steps {
                let when = if step.at_ms == began {
                    rfc3339(began)
                } else {
                    later(step.at_ms.saturating_sub(began))
                };
                let _ = writeln!(text, "  {when:<25} {}", step.said());
            }
            let _ = writeln!(text, "  so: {}\n", trail.conclusion());
        }
        if !self.complete {
            text.push_str("There is more; ask for one uid with --uid.\n");
        }
        text
    }
}

impl Trail {
    /// Whether some connection has it: written, and not given up there afterwards.
    fn was_written(&self) -> bool {
        self.steps.iter().any(|step| {
            step.step == "acked" || (step.step == "written" && !self.was_lost(step.connection.as_deref()))
        })
    }

    fn was_lost(&self, connection: Option<&str>) -> bool {
        self.steps.iter().any(|step| step.step == "dropped" && step.connection.as_deref() == connection)
    }

    fn conclusion(&self) -> &'static str {
        let any = |what: &str| self.steps.iter().any(|step| step.step == what);
        let gone = self.steps.iter().any(|step| step.step == "dropped" && step.connection.is_none());
        match () {
            () if any("acked") => "the page has handled it",
            () if self.was_written() => "the page was sent it and has not said that it handled it",
            () if gone => "it is gone",
            () if any("held") => "it waits for the page",
            () => "no connection has it",
        }
    }
}

impl Step {
    fn said(&self) -> String {
        let connection = self.connection.as_deref();
        match (self.step.as_str(), connection) {
            ("accepted", _) => "accepted".into(),
            ("held", _) => "held: nobody was there to take it".into(),
            ("written", Some(connection)) => format!("written to {connection}"),
            ("acked", Some(connection)) => format!("acked by {connection}"),
            ("acked", None) => "acked by a long-poll that asked for what comes next".into(),
            ("dropped", about) => {
                let reason = self.reason.as_deref().unwrap_or("no reason given");
                let reason = match reason {
                    "absent" => "nobody was there, and it was not to be kept",
                    "expired" => "its time ended before anybody was there",
                    "evicted" => "newer messages took its place in the mailbox before anybody was there",
                    "too_slow" => "too slow, its queue was full",
                    "connection_lost" => "the connection was lost while it waited in its queue",
                    "closing" => "the connection was closing",
                    other => other,
                };
                about.map_or_else(
                    || format!("dropped: {reason}"),
                    |name| format!("dropped for {name}: {reason}"),
                )
            }
            (other, Some(connection)) => format!("{other} {connection}"),
            (other, None) => other.into(),
        }
    }
}

fn later(ms: u64) -> String {
    format!("+{}.{:03} s", ms / 1_000, ms % 1_000)
}

/// RFC 3986 section 2.1; everything but the unreserved characters.
fn percent_encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
        encoded
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_encoded_for_a_path() {
        assert_eq!(percent_encoded("order/1 é~"), "order%2F1%20%C3%A9~");
    }
}

//! What one scenario of `doorbell bench` has shown, for people and for programs.

use std::fmt;
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::churn::Churned;
use crate::histogram::Histogram;
use crate::scenario::{Delivery, Measured, per_million};

/// See the module's header. `Display` prints it as lines of text.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The scenario's name.
    pub scenario: &'static str,
    /// Names, numbers and units in the order in which they are shown.
    pub figures: Vec<(String, f64, &'static str)>,
    /// What was lost, doubled, misdelivered, refused or cut, a line each; empty when all is well.
    pub failures: Vec<String>,
}

impl Outcome {
    pub(crate) fn new(scenario: &'static str) -> Self {
        Self { scenario, figures: Vec::new(), failures: Vec::new() }
    }

    /// Whether everything arrived that should have.
    pub fn is_sound(&self) -> bool {
        self.failures.is_empty()
    }

    pub(crate) fn figure(&mut self, what: impl Into<String>, value: f64, unit: &'static str) {
        self.figures.push((what.into(), value, unit));
    }

    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    pub(crate) fn count(&mut self, what: impl Into<String>, count: u64) {
        self.figure(what, count as f64, "");
    }

    pub(crate) fn time(&mut self, what: impl Into<String>, time: Duration) {
        self.figure(what, time.as_secs_f64() * 1e3, "ms");
    }

    /// The median, the slowest of a hundred and of all.
    pub(crate) fn times(&mut self, what: &str, times: &Histogram) {
        if times.total() > 0 {
            self.time(format!("{what}, median"), times.quantile(0.5));
            self.time(format!("{what}, 99 of 100 within"), times.quantile(0.99));
            self.time(format!("{what}, longest"), times.max());
        }
    }

    pub(crate) fn delivery(&mut self, what: &str, delivery: &Delivery) {
        let Delivery { expected, refused, tally } = *delivery;
        self.count(format!("{what} expected"), expected);
        self.count(format!("{what} delivered"), tally.received);
        let right = tally.received.saturating_sub(tally.duplicated + tally.misdelivered);
        for (name, count) in [
            ("lost", expected.saturating_sub(right)),
            ("duplicated", tally.duplicated),
            ("misdelivered", tally.misdelivered),
            ("out of order", if expected == right { tally.skipped } else { 0 }),
            ("refused", refused),
            ("connections cut", tally.closed),
            ("delivered that nobody had sent", right.saturating_sub(expected)),
        ] {
            if count > 0 {
                self.count(format!("{what} {name}"), count);
                self.failures.push(format!("{}: {what} {name}: {count}", self.scenario));
            }
        }
    }

    /// What a measured part cost.
    pub(crate) fn cost(&mut self, measured: &Measured, knows_server: bool) {
        if knows_server {
            self.figure("server CPU a million", measured.cpu_per_million(), "s");
        }
        self.figure("clients' own CPU a million", measured.client_cpu_per_million(), "s");
    }

    pub(crate) fn churned(&mut self, churned: &Churned) {
        self.count("clients that came, heard and went", churned.done);
        for (name, count) in [
            ("could not come in or were cut", churned.failed),
            ("heard nothing", churned.lost),
            ("heard it again", churned.duplicated),
            ("heard what was not theirs", churned.misdelivered),
        ] {
            if count > 0 {
                self.count(format!("clients that {name}"), count);
                self.failures.push(format!("{}: clients that {name}: {count}", self.scenario));
            }
        }
        self.times("coming in", &churned.waits);
        self.times("push to receipt", &churned.pushes);
    }

    pub(crate) fn cpu_a_million(&mut self, what: &str, cpu: crate::CpuTime, count: u64) {
        self.figure(what, per_million(cpu, count), "s");
    }

    /// For programs: `{"scenario", "sound", "failures", "figures": {name: number}}`; times in milliseconds.
    pub fn to_json(&self) -> Value {
        let figures: Map<String, Value> =
            self.figures.iter().map(|(what, value, _)| (what.clone(), json!(value))).collect();
        json!({
            "scenario": self.scenario,
            "sound": self.is_sound(),
            "failures": self.failures,
            "figures": figures,
        })
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.scenario)?;
        for (what, value, unit) in &self.figures {
            let number = if unit.is_empty() { format!("{value:.0}") } else { format!("{value:.2} {unit}") };
            writeln!(f, "  {what:<44} {number:>14}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tally::Tally;

    #[test]
    fn every_kind_of_failure_is_named() {
        let tally = Tally { received: 9, misdelivered: 1, duplicated: 2, skipped: 4, closed: 1 };
        let mut outcome = Outcome::new("push");
        outcome.delivery("pushes", &Delivery { expected: 10, refused: 3, tally });
        assert_eq!(
            outcome.failures,
            [
                "push: pushes lost: 4",
                "push: pushes duplicated: 2",
                "push: pushes misdelivered: 1",
                "push: pushes refused: 3",
                "push: pushes connections cut: 1"
            ]
        );
        let mut sound = Outcome::new("push");
        sound.delivery(
            "pushes",
            &Delivery { expected: 2, refused: 0, tally: Tally { received: 2, ..Tally::default() } },
        );
        assert!(sound.is_sound() && sound.to_json()["sound"] == true);
    }
}

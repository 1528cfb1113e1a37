//! The text port: one JSON object a line in, one answer a line out (`docs/PROTOCOL.md`).
//!
//! All complete lines of one read are pushed one after the other and answered with one write. Answers that the
//! backend does not read pause its reading, so they are bounded by what one read can hold.

use std::sync::Arc;

use doorbell_hub::{Body, Delivered, Post, Sent};
use doorbell_protocol::frame::{Opcode, encode};
use doorbell_protocol::line;

use super::connection::Connection;
use super::life::{Next, Tools, unbounded};
use crate::metrics::Listener;

const OK: &[u8] = b"ok\n";
const FAIL: &[u8] = b"fail\n";
const HELD: &[u8] = b"held\n";

/// What is remembered of a backend's connection between reads.
#[derive(Debug)]
pub(super) struct TextState {
    /// The beginning of a line whose end has not come.
    partial: Vec<u8>,
    /// The key has yet to be said.
    locked: bool,
    /// No line has come yet.
    fresh: bool,
    paused: bool,
}

/// Whether the conversation goes on after a line.
enum Talk {
    On,
    Over,
}

impl TextState {
    pub(super) const fn new(locked: bool) -> Self {
        Self { partial: Vec::new(), locked, fresh: true, paused: false }
    }

    pub(super) const fn is_paused(&self) -> bool {
        self.paused
    }

    pub(super) const fn resume(&mut self) {
        self.paused = false;
    }

    /// Whether a deadline applies: a line is unfinished or the key is owed.
    pub(super) const fn is_waiting_for_more(&self) -> bool {
        self.locked || !self.partial.is_empty()
    }

    pub(super) fn receive(
        &mut self,
        mut bytes: &[u8],
        connection: &Arc<Connection>,
        tools: &mut Tools,
    ) -> Next {
        let longest = tools.policy.limits.line_bytes;
        tools.answers.clear();
        while let Some((line, used)) = line::next_line(bytes) {
            let talk = if self.partial.is_empty() {
                if used > longest { self.too_long(tools) } else { self.take(line, tools) }
            } else if self.partial.len() + used > longest {
                self.too_long(tools)
            } else {
                let mut whole = std::mem::take(&mut self.partial);
                whole.extend_from_slice(&bytes[..used]);
                let line = line::next_line(&whole).map_or(&[][..], |(line, _)| line);
                self.take(line, tools)
            };
            if matches!(talk, Talk::Over) {
                return Next::Farewell(std::mem::take(&mut tools.answers));
            }
            bytes = &bytes[used..];
        }
        if self.partial.len() + bytes.len() >= longest {
            self.too_long(tools);
            return Next::Farewell(std::mem::take(&mut tools.answers));
        }
        self.partial.extend_from_slice(bytes);
        if tools.answers.is_empty() {
            return Next::Continue;
        }
        if connection.send(&tools.answers, unbounded()) == Sent::Closed {
            return Next::Gone;
        }
        self.paused = !connection.is_drained();
        Next::Continue
    }

    fn take(&mut self, line: &[u8], tools: &mut Tools) -> Talk {
        let first = std::mem::take(&mut self.fresh);
        if first && line::looks_like_http(line) {
            return refuse("http", Talk::Over, tools);
        }
        if self.locked {
            let opens = line::auth_key(line).is_some_and(|key| tools.policy.opens_text(key));
            if !opens {
                return refuse("bad_key", Talk::Over, tools);
            }
            self.locked = false;
            tools.answers.extend_from_slice(OK);
            return Talk::On;
        }
        match line::uid_of(line) {
            Ok(uid) => {
                tools.frame.clear();
                encode(Opcode::Text, line, &mut tools.frame);
                let body = Body { id: "", data: line, epoch: tools.context.hub.epoch() };
                let post = Post { frame: &tools.frame, body, ttl: tools.policy.hold };
                let delivered = tools.context.hub.push(uid.as_str(), &post, tools.now_ms);
                let (count, answer) = match delivered {
                    Delivered { written: 1.., .. } => (&tools.text_ok, OK),
                    Delivered { held: 1.., .. } => (&tools.text_held, HELD),
                    _ => (&tools.text_fail, FAIL),
                };
                count.inc();
                tools.answers.extend_from_slice(answer);
                Talk::On
            }
            Err(error) => refuse(error.reason(), Talk::On, tools),
        }
    }

    fn too_long(&mut self, tools: &mut Tools) -> Talk {
        self.partial = Vec::new();
        refuse("line_too_long", Talk::Over, tools)
    }
}

fn refuse(reason: &'static str, talk: Talk, tools: &mut Tools) -> Talk {
    tools.context.metrics.refused(Listener::Text, reason);
    tools.answers.extend_from_slice(FAIL);
    talk
}

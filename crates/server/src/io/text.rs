//! The text port: one JSON object a line in, one answer a line out (`docs/PROTOCOL.md`).
//!
//! All complete lines of one read are pushed one after the other and answered with one write. Answers that the
//! backend does not read pause its reading, so they are bounded by what one read can hold. Lines are parsed a handful at
//! a time, so that the hub can look ahead and the kernel gets their frames together.

use std::sync::Arc;

use doorbell_hub::{AHEAD, Body, Delivered, Post, Sent};
use doorbell_protocol::Uid;
use doorbell_protocol::frame::{Opcode, encode};
use doorbell_protocol::line::{self, LineError};

use super::connection::Connection;
use super::life::{Next, unbounded};
use super::tools::Tools;
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

/// A complete line: how long it is without and with its ending, and for whom.
#[derive(Debug)]
pub(super) struct Line {
    length: usize,
    used: usize,
    uid: Result<Uid, LineError>,
}

/// The complete lines at the beginning of these bytes.
struct Lines<'a>(&'a [u8]);

impl Iterator for Lines<'_> {
    type Item = Line;

    fn next(&mut self) -> Option<Line> {
        let (line, used) = line::next_line(self.0)?;
        self.0 = &self.0[used..];
        Some(Line { length: line.len(), used, uid: line::uid_of(line) })
    }
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

    pub(super) fn receive(&mut self, bytes: &[u8], connection: &Arc<Connection>, tools: &mut Tools) -> Next {
        tools.answers.clear();
        if matches!(self.take_all(bytes, tools), Talk::Over) {
            return Next::Farewell(std::mem::take(&mut tools.answers));
        }
        if tools.answers.is_empty() {
            return Next::Continue;
        }
        if connection.send(&tools.answers, unbounded()) == Sent::Closed {
            return Next::Gone;
        }
        self.paused = !connection.is_drained();
        Next::Continue
    }

    /// Takes every complete line, and keeps what there is of the next.
    fn take_all(&mut self, mut bytes: &[u8], tools: &mut Tools) -> Talk {
        let longest = tools.policy.limits.line_bytes;
        if !self.partial.is_empty()
            && let Some((_, used)) = line::next_line(bytes)
        {
            if self.partial.len() + used > longest {
                return self.too_long(tools);
            }
            let mut whole = std::mem::take(&mut self.partial);
            whole.extend_from_slice(&bytes[..used]);
            bytes = &bytes[used..];
            let line = line::next_line(&whole).map_or(&[][..], |(line, _)| line);
            if matches!(self.take(line, line::uid_of(line), tools), Talk::Over) {
                return Talk::Over;
            }
        }
        let mut handful = std::mem::take(&mut tools.handful);
        let talk = self.take_handfuls(&mut bytes, &mut handful, tools);
        handful.clear();
        tools.handful = handful;
        if matches!(talk, Talk::Over) {
            return Talk::Over;
        }
        if self.partial.len() + bytes.len() >= longest {
            return self.too_long(tools);
        }
        self.partial.extend_from_slice(bytes);
        Talk::On
    }

    /// Takes complete lines off `bytes` until there is none.
    fn take_handfuls(&mut self, bytes: &mut &[u8], handful: &mut Vec<Line>, tools: &mut Tools) -> Talk {
        loop {
            handful.extend(Lines(bytes).take(AHEAD));
            if handful.is_empty() {
                return Talk::On;
            }
            let uids = handful.iter().filter_map(|line| line.uid.as_ref().ok());
            tools.context.hub.look_ahead(uids.map(Uid::as_str));
            // One alone needs no list.
            if !self.fresh && !self.locked && handful.len() > 1 {
                push_together(bytes, handful, tools);
            }
            for Line { length, used, uid } in handful.drain(..) {
                if used > tools.policy.limits.line_bytes {
                    return self.too_long(tools);
                }
                let line = &bytes[..length];
                *bytes = &bytes[used..];
                if matches!(self.take(line, uid, tools), Talk::Over) {
                    return Talk::Over;
                }
            }
        }
    }

    fn take(&mut self, line: &[u8], uid: Result<Uid, LineError>, tools: &mut Tools) -> Talk {
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
        match uid {
            Ok(uid) => {
                tools.frame.clear();
                encode(Opcode::Text, line, &mut tools.frame);
                let body = Body { id: "", data: line, epoch: tools.context.hub.epoch() };
                let post = Post { frame: &tools.frame, body, ttl: tools.policy.hold };
                let delivered = tools.context.hub.push(uid.as_str(), &post, tools.now_ms);
                answer(delivered, tools);
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

/// Pushes lines that need nothing but pushing, up to the first that is too long.
fn push_together(bytes: &mut &[u8], handful: &mut Vec<Line>, tools: &mut Tools) {
    let longest = tools.policy.limits.line_bytes;
    let fit = handful.iter().position(|line| line.used > longest).unwrap_or(handful.len());
    let mut frames = std::mem::take(&mut tools.frame);
    frames.clear();
    let mut at = *bytes;
    let mut parts = Vec::with_capacity(fit);
    for line in &handful[..fit] {
        let (text, rest) = (&at[..line.length], &at[line.used..]);
        at = rest;
        if let Ok(uid) = &line.uid {
            let start = frames.len();
            encode(Opcode::Text, text, &mut frames);
            parts.push((uid, text, start..frames.len()));
        }
    }
    let epoch = tools.context.hub.epoch();
    let posts: Vec<_> = parts
        .into_iter()
        .map(|(uid, data, frame)| {
            let body = Body { id: "", data, epoch };
            (uid, Post { frame: &frames[frame], body, ttl: tools.policy.hold })
        })
        .collect();
    let mut delivered = Vec::with_capacity(posts.len());
    tools.context.hub.push_each(&posts, tools.now_ms, |told| delivered.push(told));
    drop(posts);
    let mut delivered = delivered.into_iter();
    for line in handful.drain(..fit) {
        match line.uid {
            Ok(_) => answer(delivered.next().unwrap_or_default(), tools),
            Err(error) => drop(refuse(error.reason(), Talk::On, tools)),
        }
    }
    *bytes = at;
    tools.frame = frames;
}

/// Answers a push.
fn answer(delivered: Delivered, tools: &mut Tools) {
    let (count, answer) = match delivered {
        Delivered { written: 1.., .. } => (&tools.text_ok, OK),
        Delivered { held: 1.., .. } => (&tools.text_held, HELD),
        _ => (&tools.text_fail, FAIL),
    };
    count.inc();
    tools.answers.extend_from_slice(answer);
}

fn refuse(reason: &'static str, talk: Talk, tools: &mut Tools) -> Talk {
    tools.context.metrics.refused(Listener::Text, reason);
    tools.answers.extend_from_slice(FAIL);
    talk
}

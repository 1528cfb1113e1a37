//! A long-poll's one answer, and what there is of it before it goes out.
//!
//! While a poll is caught up it may collect several messages; once it waits, the first one is its answer. So a poll that
//! waits has nothing of its own but how it was asked for, and those that were asked for alike share that: they cost no
//! more than any other waiting page.

use std::sync::Arc;

use doorbell_hub::{Encoding, Message};

use super::stream::head;

/// The answer of one connection, if that is a long-poll. One word.
#[derive(Debug, Default)]
pub(super) struct Poll(Option<Arc<Stage>>);

/// How far a poll has come.
#[derive(Debug)]
enum Stage {
    /// It collects what it is to say at once; nobody else shares this.
    Collecting(Collected),
    /// The first message is its answer. Never changed, only replaced, because others may share it.
    Waiting(Terms),
    /// It was answered, and its page is about to ask again.
    Answered,
    /// It was told why there is no more.
    Dismissed,
}

/// What an answer says whatever comes.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Terms {
    recovered: bool,
    /// The origin to which it is open, when a page of another one asks.
    allow_origin: Option<String>,
}

#[derive(Debug)]
struct Collected {
    /// Envelopes, separated by commas.
    messages: Vec<u8>,
    /// Up to where it has, or will not get, everything.
    seq: u64,
    terms: Terms,
}

/// What the latest poll of a loop waits as, for the next one to share: most ask alike, because they are of one site.
#[derive(Debug, Default)]
pub(super) struct Latest(Option<Arc<Stage>>);

impl Latest {
    fn share(&mut self, terms: &Terms) -> Arc<Stage> {
        match &self.0 {
            Some(stage) if matches!(&**stage, Stage::Waiting(latest) if latest == terms) => Arc::clone(stage),
            _ => Arc::clone(self.0.insert(Arc::new(Stage::Waiting(terms.clone())))),
        }
    }
}

impl Poll {
    /// A poll's that is about to be caught up.
    pub(super) fn new(allow_origin: Option<String>) -> Self {
        let terms = Terms { recovered: true, allow_origin };
        Self::collecting(Vec::new(), 0, terms)
    }

    fn collecting(messages: Vec<u8>, seq: u64, terms: Terms) -> Self {
        Self(Some(Arc::new(Stage::Collecting(Collected { messages, seq, terms }))))
    }

    fn collected(&mut self) -> Option<&mut Collected> {
        match self.0.as_mut().and_then(Arc::get_mut) {
            Some(Stage::Collecting(collected)) => Some(collected),
            _ => None,
        }
    }

    /// Takes note of where its messages begin.
    pub(super) fn begin(&mut self, seq: u64, recovered: bool) {
        if let Some(collected) = self.collected() {
            collected.seq = seq;
            collected.terms.recovered = recovered;
        }
    }

    /// Takes a message; whether it was taken and, if so, whether the poll is now to be answered. `seen` is up to where
    /// its connection was sent everything.
    pub(super) fn take(&mut self, message: &Message<'_>, seen: u64) -> Option<bool> {
        let envelope = message.frame(Encoding::Text);
        if let Some(Stage::Waiting(terms)) = self.0.as_deref() {
            *self = Self::collecting(envelope.to_vec(), seen.max(message.seq()), terms.clone());
            return Some(true);
        }
        let collected = self.collected()?;
        if !collected.messages.is_empty() {
            collected.messages.push(b',');
        }
        collected.messages.extend_from_slice(envelope);
        collected.seq = collected.seq.max(message.seq());
        Some(false)
    }

    /// Takes note that all it had missed is here; whether the poll is now to be answered. If not, where it has
    /// everything is from now on what its connection has seen, because both are where its messages begin.
    pub(super) fn caught_up(&mut self, latest: &mut Latest) -> bool {
        let Some(collected) = self.collected() else { return false };
        if !collected.messages.is_empty() {
            return true;
        }
        self.0 = Some(latest.share(&collected.terms));
        false
    }

    /// Whether its page is about to ask again.
    pub(super) fn is_answered(&self) -> bool {
        matches!(self.0.as_deref(), Some(Stage::Answered))
    }

    /// The answer, once; empty when it was given, and of a connection that is no poll. `bye` is an envelope that says
    /// why there is no more.
    pub(super) fn answer(&mut self, epoch: &str, seen: u64, bye: Option<&[u8]>) -> Vec<u8> {
        let (messages, seq, terms) = match self.0.as_deref() {
            Some(Stage::Collecting(Collected { messages, seq, terms })) => (messages.as_slice(), *seq, terms),
            Some(Stage::Waiting(terms)) => (&[][..], seen, terms),
            Some(Stage::Answered | Stage::Dismissed) | None => return Vec::new(),
        };
        let recovered = terms.recovered;
        let mut body = Vec::with_capacity(messages.len() + bye.map_or(0, <[u8]>::len) + 96);
        body.extend_from_slice(b"{\"messages\":[");
        body.extend_from_slice(messages);
        body.extend_from_slice(format!("],\"next\":\"{epoch}:{seq}\",\"recovered\":{recovered}").as_bytes());
        if let Some(bye) = bye {
            body.extend_from_slice(b",\"bye\":");
            body.extend_from_slice(bye);
        }
        body.extend_from_slice(b"}\n");
        let length = format!("Content-Length: {}\r\n", body.len());
        let mut answer = head("application/json", &length, terms.allow_origin.as_deref());
        answer.append(&mut body);
        self.0 = Some(Arc::new(if bye.is_some() { Stage::Dismissed } else { Stage::Answered }));
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn polls_that_were_asked_for_alike_share_what_they_wait_as() {
        let mut latest = Latest::default();
        let mut waiting = |origin: Option<&str>, recovered| {
            let mut poll = Poll::new(origin.map(str::to_owned));
            poll.begin(7, recovered);
            assert!(!poll.caught_up(&mut latest));
            poll.0.expect("it waits")
        };
        let first = waiting(Some("https://a.example"), true);
        assert!(Arc::ptr_eq(&first, &waiting(Some("https://a.example"), true)));
        for (origin, recovered) in [(Some("https://b.example"), true), (None, true), (None, false)] {
            assert!(!Arc::ptr_eq(&first, &waiting(origin, recovered)), "{origin:?}, {recovered}");
        }
        assert_eq!(size_of::<Poll>(), size_of::<usize>());
    }
}

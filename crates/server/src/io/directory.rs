//! How other threads find a connection that they know by its name alone.
//!
//! A loop owns its connections, also those that have no uid yet, so it is asked: each question is a command, answered
//! in the loop's next turn. Nothing is looked up in a shared table, so a connection that nobody asks for costs nothing
//! here.

use std::sync::{Arc, Weak};
use std::time::Duration;

use doorbell_protocol::Uid;
use tokio::sync::oneshot;

use super::connection::{Connection, ConnectionId};
use super::event_loop::{Command, LoopHandle, Places, Unbindable};

/// Loops answer within a turn, which is milliseconds; one that does not by then is ending or stuck.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// The loops by their index. Weak, because a loop's handle holds the context that holds this.
#[derive(Debug)]
pub(crate) struct Directory(Box<[Weak<LoopHandle>]>);

/// A place in the list of all connections: a loop, and a place there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Cursor {
    home: usize,
    from: usize,
}

impl Cursor {
    /// Reads what [`std::fmt::Display`] writes.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (home, from) = text.split_once('-')?;
        Some(Self { home: home.parse().ok()?, from: from.parse().ok()? })
    }
}

impl std::fmt::Display for Cursor {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}-{}", self.home, self.from)
    }
}

impl Directory {
    pub(super) fn new(loops: &[Arc<LoopHandle>]) -> Self {
        Self(loops.iter().map(Arc::downgrade).collect())
    }

    /// Binds a page that waits for it.
    ///
    /// # Errors
    /// [`Unbindable`]
    pub(crate) async fn bind(&self, id: ConnectionId, uid: Uid) -> Result<Arc<Connection>, Unbindable> {
        let asked = self.ask(id.home(), |answer| Command::Bind(id, uid, answer)).await;
        match asked {
            Asked::Answered(bound) => bound,
            Asked::NoLoop => Err(Unbindable::Unknown),
            Asked::TimedOut => Err(Unbindable::Busy),
        }
    }

    /// The connection of that name, if there is one and it is not closing.
    pub(crate) async fn find(&self, id: ConnectionId) -> Option<Arc<Connection>> {
        match self.ask(id.home(), |answer| Command::Find(id, answer)).await {
            Asked::Answered(found) => found.filter(|connection| !connection.is_closing()),
            Asked::NoLoop | Asked::TimedOut => None,
        }
    }

    /// Some connections from `cursor` on, `most` at most, and where to go on; none at the end. Whoever goes on from there
    /// meets every connection that is there all the while exactly once.
    pub(crate) async fn list(
        &self,
        cursor: Cursor,
        most: usize,
        transport: Option<&'static str>,
    ) -> (Vec<Arc<Connection>>, Option<Cursor>) {
        let mut found = Vec::new();
        let Cursor { mut home, mut from } = cursor;
        while home < self.0.len() && found.len() < most {
            let range = Places { from, most: most - found.len(), transport };
            let next = match self.ask(home, |answer| Command::List(range, answer)).await {
                Asked::Answered(mut listed) => {
                    found.append(&mut listed.connections);
                    listed.next
                }
                Asked::NoLoop => None,
                // What was found is true; the next request may go on from here.
                Asked::TimedOut => return (found, Some(Cursor { home, from })),
            };
            (home, from) = next.map_or((home + 1, 0), |from| (home, from));
        }
        found.retain(|connection| !connection.is_closing());
        (found, (home < self.0.len()).then_some(Cursor { home, from }))
    }

    async fn ask<T>(&self, home: usize, question: impl FnOnce(oneshot::Sender<T>) -> Command) -> Asked<T> {
        let Some(handle) = self.0.get(home).and_then(Weak::upgrade) else { return Asked::NoLoop };
        let (sender, receiver) = oneshot::channel();
        handle.tell(question(sender));
        // A command that its loop did not live to see drops the sender.
        match tokio::time::timeout(ANSWER_TIMEOUT, receiver).await {
            Ok(Ok(answer)) => Asked::Answered(answer),
            Ok(Err(_)) => Asked::NoLoop,
            Err(_) => Asked::TimedOut,
        }
    }
}

enum Asked<T> {
    Answered(T),
    NoLoop,
    TimedOut,
}

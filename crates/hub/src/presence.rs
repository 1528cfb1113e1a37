//! Who came and who went: a uid's first connection, and its last one going.
//!
//! Transitions are noted in the shard whose lock their bind or unbind holds anyway, so that those of one uid are in
//! order and no push ever sees any of this. Somebody has to fetch them; while nobody watches, none are noted.

use std::mem;

use doorbell_protocol::Uid;

/// Transitions a shard notes until they are fetched. Fetched every 100 ms, this is millions a second over all shards.
const MAX_NOTED: usize = 16_384;

/// A uid that has come or gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transition {
    /// Who.
    pub uid: Uid,
    /// Whether it has connections now.
    pub online: bool,
}

/// What has happened since the last time somebody asked.
#[derive(Debug, Default)]
pub struct Transitions {
    /// In order for each uid.
    pub happened: Vec<Transition>,
    /// How many more there were, for which there was no room.
    pub lost: usize,
}

/// The transitions of one shard.
#[derive(Debug, Default)]
pub(crate) struct Noted(Transitions);

impl Noted {
    pub(crate) fn note(&mut self, uid: &Uid, online: bool) {
        if self.0.happened.len() < MAX_NOTED {
            self.0.happened.push(Transition { uid: uid.clone(), online });
        } else {
            self.0.lost += 1;
        }
    }

    pub(crate) fn fetch(&mut self, into: &mut Transitions) {
        into.happened.append(&mut self.0.happened);
        into.lost += mem::take(&mut self.0.lost);
    }

    pub(crate) fn clear(&mut self) {
        self.0 = Transitions::default();
    }
}

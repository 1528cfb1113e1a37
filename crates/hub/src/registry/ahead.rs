//! Looking ahead: what several pushes are about to read, fetched from memory all at once.
//!
//! Among a million connections a look-up reads a few places that no cache holds, each found only by way of the one
//! before: the table's tags, its entry, the connection. One after the other they cost more than all the rest of a push
//! (`docs/decisions/0004-look-ahead.md`). The places of different uids do not depend on each other, and a processor
//! fetches many at a time as long as no atomic operation comes between. So this reads them step by step for a handful
//! of uids, under locks taken before the first step.

use std::hint::black_box;
use std::sync::Arc;

use super::{Hub, Outbox, SHARDS, User, shard_of};

/// How many uids [`Hub::look_ahead`] looks at. More than a core has misses under way at once, and few enough that what
/// it fetched is still in the cache when the last push needs it.
pub const AHEAD: usize = 32;

impl<O: Outbox> Hub<O> {
    /// Prepares the processor's caches for pushes to the first [`AHEAD`] of these uids. Nothing but time depends on it,
    /// and for fewer than two uids there is nothing to gain.
    ///
    /// Waits for nobody: a shard that is locked is left out. It holds the others for a few microseconds.
    pub fn look_ahead<'a>(&self, uids: impl IntoIterator<Item = &'a str>) {
        let mut hashes = [0; AHEAD];
        let mut count = 0;
        for (place, uid) in hashes.iter_mut().zip(uids) {
            *place = self.hash(uid);
            count += 1;
        }
        let hashes = &hashes[..count];

        let mut shards = [const { None }; SHARDS];
        for hash in hashes {
            let index = shard_of(*hash);
            if shards[index].is_none() {
                shards[index] = self.shards[index].try_lock();
            }
        }
        let mut users: [Option<&User<O>>; AHEAD] = [None; AHEAD];
        for (place, hash) in users.iter_mut().zip(hashes) {
            // The first entry with the same seven bits of hash: nearly always the one.
            *place = shards[shard_of(*hash)].as_ref().and_then(|shard| shard.users.find(*hash, |_| true));
        }
        let mut connections: [Option<&Arc<O>>; AHEAD] = [None; AHEAD];
        for (place, user) in connections.iter_mut().zip(&users[..count]) {
            *place = user.and_then(|user| user.connections().first());
        }
        for connection in connections[..count].iter().flatten() {
            black_box(Arc::strong_count(connection));
            connection.touch();
        }
    }
}

//! The users of a shard, in a table made for look-ups among a million, when nothing is in a cache.
//!
//! A bucket is one cache line: seven places, a byte of tag for each, and a byte for the bucket. A look-up reads that
//! line and then the connection, which holds the uid. A table that keeps its tags apart from its entries reads one line
//! more, and what a look-up costs is the lines it reads (`docs/decisions/0004-look-ahead.md` has the numbers).
//!
//! An entry whose bucket is full goes to the next one that has room. Each bucket counts those that passed it by, so a
//! search ends at the first bucket that nobody passed, and who leaves leaves nothing behind.

use std::sync::Arc;

use doorbell_protocol::Uid;
use doorbell_system::memory::{prefetch, prefetch_counts, prefetch_shared};
use hashbrown::HashTable;

use super::Outbox;
use super::table::{Many, User};

/// Places of a bucket: as many as fit beside their tags.
const PLACES: usize = 7;

/// Which byte of a bucket's head counts who passed by.
const PASSED: usize = PLACES;

/// In a place's tag: its uid has more than one connection.
const MANY: u8 = 1;

/// Each uid once, with its connections.
#[derive(Debug)]
pub(super) struct Users<O> {
    /// None, or a power of two.
    buckets: Box<[Bucket<O>]>,
    len: usize,
    /// The connections of the uids that have more than one, which are few.
    many: HashTable<Arc<Many<O>>>,
}

/// What a removal did.
#[derive(Debug)]
pub(super) enum Removed<O> {
    /// Nothing: that connection was not here.
    Absent,
    /// It was the uid's only one.
    Last,
    /// These stay.
    Rest(User<O>),
}

#[derive(Debug)]
#[repr(align(64))]
struct Bucket<O> {
    /// For each place zero when it is free, else its tag; then the count of who passed by, which stays at 255.
    head: [u8; 8],
    /// The uid's connection, or the oldest of several.
    places: [Option<Arc<O>>; PLACES],
}

/// Where a uid is.
#[derive(Debug, Clone, Copy)]
struct Found {
    bucket: usize,
    place: usize,
}

impl<O: Outbox> Users<O> {
    pub(super) fn new() -> Self {
        Self { buckets: Box::default(), len: 0, many: HashTable::new() }
    }

    /// The connections of a uid, oldest first.
    pub(super) fn connections(&self, hash: u64, uid: &str) -> &[Arc<O>] {
        let Some(found) = self.find(hash, uid) else { return &[] };
        match self.many_at(found, hash, uid) {
            Some(many) => many.connections(),
            None => self.place(found).as_slice(),
        }
    }

    /// The same, shared out of the shard.
    pub(super) fn share(&self, hash: u64, uid: &str) -> Option<User<O>> {
        self.share_at(self.find(hash, uid)?, hash, uid)
    }

    /// Everyone's.
    pub(super) fn share_all(&self) -> impl Iterator<Item = User<O>> {
        /// Buckets whose connections are asked for before they are counted up, which has to wait for each.
        const AHEAD: usize = 4;
        let alone = self.buckets.iter().enumerate().flat_map(|(index, bucket)| {
            let ahead = self.buckets.get(index + AHEAD);
            ahead.iter().flat_map(|bucket| bucket.places.iter().flatten()).for_each(prefetch_counts);
            let places = bucket.places.iter().zip(bucket.head).filter(|(_, tag)| tag & MANY == 0);
            places.filter_map(|(place, _)| place.clone().map(User::One))
        });
        alone.chain(self.many.iter().map(|many| User::Many(Arc::clone(many))))
    }

    /// Adds a connection under its uid.
    pub(super) fn add(&mut self, hash: u64, connection: &Arc<O>, hasher: impl Fn(&str) -> u64) {
        let uid = uid_of(connection);
        if let Some(found) = self.find(hash, uid)
            && let Some(user) = self.share_at(found, hash, uid)
        {
            self.set(found, hash, user.with(connection), hasher);
            return;
        }
        if (self.len + 1) * 5 > self.buckets.len() * PLACES * 4 {
            self.resize((self.buckets.len() * 2).max(1), hasher);
        }
        self.insert(hash, Arc::clone(connection), 0);
        self.len += 1;
    }

    /// Removes a connection.
    pub(super) fn remove(
        &mut self,
        hash: u64,
        connection: &Arc<O>,
        hasher: impl Fn(&str) -> u64,
    ) -> Removed<O> {
        let uid = uid_of(connection);
        let Some(found) = self.find(hash, uid) else { return Removed::Absent };
        let Some(user) = self.share_at(found, hash, uid) else { return Removed::Absent };
        if !user.connections().iter().any(|other| Arc::ptr_eq(other, connection)) {
            return Removed::Absent;
        }
        if let Some(rest) = user.without(connection) {
            self.set(found, hash, rest.share(), hasher);
            return Removed::Rest(rest);
        }
        self.take(hash, found);
        self.len -= 1;
        // Memory is given back after a crowd has left; the factor keeps one that breathes from moving each time.
        if self.buckets.len() > 8 && self.len * 4 < self.buckets.len() * PLACES {
            self.resize(self.buckets.len() / 2, hasher);
        }
        Removed::Last
    }

    /// Asks for the line in which a search begins.
    pub(super) fn prefetch_bucket(&self, hash: u64) {
        if let Some(bucket) = self.buckets.get(self.home(hash)) {
            prefetch(bucket);
        }
    }

    /// Asks for the first connection there whose tag is the same: nearly always the one.
    pub(super) fn prefetch_connection(&self, hash: u64) {
        if let Some(bucket) = self.buckets.get(self.home(hash))
            && let Some(place) = bucket.alike(tag_of(hash)).next()
            && let Some(connection) = &bucket.places[place]
        {
            prefetch_shared(connection);
        }
    }

    fn find(&self, hash: u64, uid: &str) -> Option<Found> {
        let tag = tag_of(hash);
        let mut at = self.home(hash);
        for _ in 0..self.buckets.len() {
            let bucket = &self.buckets[at];
            for place in bucket.alike(tag) {
                let Some(connection) = &bucket.places[place] else { continue };
                // All of it at once, for whoever looks it up will use it.
                prefetch_shared(connection);
                if uid_of(connection) == uid {
                    return Some(Found { bucket: at, place });
                }
            }
            if bucket.head[PASSED] == 0 {
                return None;
            }
            at = self.after(at);
        }
        None
    }

    fn place(&self, found: Found) -> &Option<Arc<O>> {
        &self.buckets[found.bucket].places[found.place]
    }

    fn share_at(&self, found: Found, hash: u64, uid: &str) -> Option<User<O>> {
        match self.many_at(found, hash, uid) {
            Some(many) => Some(User::Many(Arc::clone(many))),
            None => self.place(found).clone().map(User::One),
        }
    }

    fn many_at(&self, found: Found, hash: u64, uid: &str) -> Option<&Arc<Many<O>>> {
        let tag = self.buckets[found.bucket].head[found.place];
        if tag & MANY == 0 { None } else { self.many.find(hash, |many| many.is(uid)) }
    }

    /// Puts a uid's connections where one or more of them were.
    fn set(&mut self, found: Found, hash: u64, user: User<O>, hasher: impl Fn(&str) -> u64) {
        let bucket = &mut self.buckets[found.bucket];
        bucket.places[found.place] = user.connections().first().cloned();
        let tag = &mut bucket.head[found.place];
        let old = if *tag & MANY == 0 {
            None
        } else {
            let uid = user.uid();
            self.many.find_entry(hash, |many| many.is(uid)).ok()
        };
        match (user, old) {
            (User::One(_), old) => {
                *tag &= !MANY;
                drop(old.map(|entry| entry.remove()));
            }
            (User::Many(many), Some(mut old)) => *old.get_mut() = many,
            (User::Many(many), None) => {
                *tag |= MANY;
                self.many.insert_unique(hash, many, |many| hasher(many.uid()));
            }
        }
    }

    /// Takes a uid that has no further connection out of the table.
    fn take(&mut self, hash: u64, found: Found) {
        let bucket = &mut self.buckets[found.bucket];
        bucket.places[found.place] = None;
        bucket.head[found.place] = 0;
        let mut at = self.home(hash);
        while at != found.bucket {
            let passed = &mut self.buckets[at].head[PASSED];
            if *passed < u8::MAX {
                *passed -= 1;
            }
            at = self.after(at);
        }
    }

    /// Puts a connection into the first place that is free for it. There is one.
    fn insert(&mut self, hash: u64, connection: Arc<O>, many: u8) {
        let mut at = self.home(hash);
        loop {
            let bucket = &mut self.buckets[at];
            if let Some(place) = bucket.places.iter().position(Option::is_none) {
                bucket.head[place] = tag_of(hash) | many;
                bucket.places[place] = Some(connection);
                return;
            }
            bucket.head[PASSED] = bucket.head[PASSED].saturating_add(1);
            at = self.after(at);
        }
    }

    fn resize(&mut self, buckets: usize, hasher: impl Fn(&str) -> u64) {
        let old = std::mem::replace(&mut self.buckets, (0..buckets).map(|_| Bucket::free()).collect());
        for bucket in old {
            for (place, tag) in bucket.places.into_iter().zip(bucket.head) {
                if let Some(connection) = place {
                    self.insert(hasher(uid_of(&connection)), connection, tag & MANY);
                }
            }
        }
        if self.many.capacity() > 64 && self.many.len() * 4 < self.many.capacity() {
            self.many.shrink_to(self.many.len() * 2, |many| hasher(many.uid()));
        }
    }

    /// Where the search for a hash begins.
    #[expect(clippy::cast_possible_truncation, reason = "the lowest bits are wanted")]
    fn home(&self, hash: u64) -> usize {
        hash as usize & self.buckets.len().wrapping_sub(1)
    }

    fn after(&self, bucket: usize) -> usize {
        (bucket + 1) & (self.buckets.len() - 1)
    }
}

impl<O> Bucket<O> {
    fn free() -> Self {
        Self { head: [0; 8], places: [const { None }; PLACES] }
    }

    /// The places with this tag; none of them is free.
    fn alike(&self, tag: u8) -> impl Iterator<Item = usize> + use<O> {
        /// The lowest bit of every byte, and all others but the highest.
        const LOWEST: u64 = u64::MAX / 0xff;
        const BELOW_HIGHEST: u64 = LOWEST * 0x7f;
        let other = (u64::from_le_bytes(self.head) & !(LOWEST * u64::from(MANY))) ^ (LOWEST * u64::from(tag));
        // The highest bit of each byte that is zero, and no other: bytes do not carry into one another here.
        let mut same = !(((other & BELOW_HIGHEST) + BELOW_HIGHEST) | other | BELOW_HIGHEST);
        same &= !(0xff << (8 * PASSED));
        std::iter::from_fn(move || {
            let place = (same != 0).then(|| same.trailing_zeros() as usize / 8);
            same &= same.wrapping_sub(1);
            place
        })
    }
}

/// From the hash's top bits; never zero, and without [`MANY`].
fn tag_of(hash: u64) -> u8 {
    ((hash >> 57) as u8).max(1) << 1
}

fn uid_of<O: Outbox>(connection: &Arc<O>) -> &str {
    connection.uid().map_or("", Uid::as_str)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::{Message, Sent};

    #[derive(Debug)]
    struct Named(Uid);

    impl Named {
        fn new(number: u16) -> Arc<Self> {
            Arc::new(Self(Uid::new(&format!("u{number}")).expect("a uid")))
        }
    }

    impl Outbox for Named {
        fn uid(&self) -> Option<&Uid> {
            Some(&self.0)
        }

        fn deliver(&self, _: &Message<'_>) -> Sent {
            Sent::Written
        }
    }

    /// A hash of so few different values that buckets overflow, with tags that are alike as well.
    fn crowded(uid: &str, values: u64) -> u64 {
        let number: u64 = uid[1..].parse().expect("a number");
        let value = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) % values;
        value | (value % 3) << 57
    }

    fn same(here: &[Arc<Named>], model: &[Arc<Named>]) -> bool {
        here.len() == model.len() && here.iter().zip(model).all(|(here, model)| Arc::ptr_eq(here, model))
    }

    proptest! {
        #[test]
        fn any_order_of_coming_and_going_agrees_with_the_model(
            values in 1_u64..40,
            steps in proptest::collection::vec((any::<bool>(), 0_u16..60, any::<prop::sample::Index>()), 0..400),
        ) {
            let hash = |uid: &str| crowded(uid, values);
            let mut users = Users::new();
            let mut model: BTreeMap<u16, Vec<Arc<Named>>> = BTreeMap::new();
            for (comes, number, which) in steps {
                let all = model.entry(number).or_default();
                let stranger = Named::new(number);
                let code = hash(uid_of(&stranger));
                if comes {
                    users.add(code, &stranger, hash);
                    all.push(stranger);
                } else {
                    prop_assert!(matches!(users.remove(code, &stranger, hash), Removed::Absent));
                    if !all.is_empty() {
                        let gone = all.remove(which.index(all.len()));
                        match users.remove(code, &gone, hash) {
                            Removed::Rest(rest) => prop_assert!(same(rest.connections(), all)),
                            Removed::Last => prop_assert!(all.is_empty()),
                            Removed::Absent => prop_assert!(false, "it was there"),
                        }
                    }
                }
                for number in 0..60 {
                    let uid = format!("u{number}");
                    let there = model.get(&number).map_or(&[][..], Vec::as_slice);
                    prop_assert!(same(users.connections(hash(&uid), &uid), there));
                    let shared = users.share(hash(&uid), &uid);
                    prop_assert!(same(shared.as_ref().map_or(&[], User::connections), there));
                }
                let everyone: usize = users.share_all().map(|user| user.connections().len()).sum();
                prop_assert_eq!(everyone, model.values().map(Vec::len).sum::<usize>());
            }
            for connection in model.into_values().flatten() {
                users.remove(hash(uid_of(&connection)), &connection, hash);
            }
            prop_assert_eq!(users.len, 0);
            prop_assert!(users.many.is_empty());
            prop_assert!(users.buckets.iter().all(|bucket| bucket.head == [0; 8]), "nothing stays behind");
        }
    }

    #[test]
    fn more_may_pass_a_bucket_by_than_it_can_count() {
        const MANY_MORE: u16 = 600;
        let hash = |_: &str| 0;
        let mut users = Users::new();
        let crowd: Vec<_> = (0..MANY_MORE).map(Named::new).collect();
        for connection in &crowd {
            users.add(0, connection, hash);
        }
        let found = |users: &Users<Named>, one: &Arc<Named>| {
            same(users.connections(0, uid_of(one)), &[Arc::clone(one)])
        };
        assert!(crowd.iter().all(|connection| found(&users, connection)));
        let (gone, here) = crowd.split_at(crowd.len() - 100);
        for connection in gone {
            assert!(matches!(users.remove(0, connection, hash), Removed::Last));
            assert!(users.connections(0, uid_of(connection)).is_empty());
        }
        assert!(here.iter().all(|connection| found(&users, connection)));
    }

    #[test]
    fn memory_is_given_back_after_a_crowd() {
        let hash = |uid: &str| crowded(uid, u64::MAX);
        let mut users = Users::new();
        let crowd: Vec<_> = (0..10_000).map(Named::new).collect();
        for connection in &crowd {
            users.add(hash(uid_of(connection)), connection, hash);
        }
        let most = users.buckets.len();
        assert!(most * PLACES < 3 * crowd.len(), "{most}");
        for connection in &crowd[10..] {
            users.remove(hash(uid_of(connection)), connection, hash);
        }
        assert!(users.buckets.len() <= 8, "{}", users.buckets.len());
        let named = |connection: &&Arc<Named>| {
            users.connections(hash(uid_of(connection)), uid_of(connection)).len() == 1
        };
        assert_eq!(crowd.iter().filter(named).count(), 10);
    }

    #[test]
    fn a_bucket_is_a_cache_line() {
        assert_eq!((size_of::<Bucket<Named>>(), align_of::<Bucket<Named>>()), (64, 64));
    }
}

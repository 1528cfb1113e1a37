//! All logins of one server: reads an attempt, has it take a step, and writes it back if nobody was faster.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};

use crate::Now;
use crate::attempt::{Attempt, Refusal, State, Step, Who};
use crate::crowd::Crowd;
use crate::guesses::Guesses;
use crate::rules::Rules;
use crate::secret::{Keys, LoginId, Random};
use crate::store::{Key, Replaced, Store, StoreError};
use crate::view::View;
use crate::wheel::Wheel;

/// Is told of every step after it is in force.
pub trait Observer: Send + Sync {
    /// `attempt` has taken `step`, and `view` makes what its page is to be shown. Called by whoever took the step, so it
    /// must not wait; two steps of one login may be told in the wrong order, which their versions show.
    fn stepped(&self, attempt: &Arc<Attempt>, step: Step, view: &dyn Fn() -> View);
}

/// See the module's header.
pub struct Logins<S> {
    pub(crate) store: S,
    pub(crate) keys: Keys,
    pub(crate) random: Box<dyn Random>,
    pub(crate) crowd: Crowd,
    pub(crate) guesses: Guesses,
    observer: Box<dyn Observer>,
    rules: RwLock<Arc<Rules>>,
    /// What this server alone knows of the pages behind logins.
    pages: Vec<Mutex<HashMap<LoginId, Presence>>>,
    rotations: Mutex<Wheel<LoginId>>,
    absences: Mutex<Wheel<LoginId>>,
}

/// What is known of the page behind a login. It is a matter of manners, not of truth, so it is not in the store.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Presence {
    /// When it can be forgotten.
    pub(crate) until: Now,
    /// When it last asked at the token endpoint, and how long it has to pause there.
    pub(crate) polled: Option<Now>,
    pub(crate) interval_ms: u64,
    /// It follows the login, so it can draw a new QR code.
    pub(crate) follows: bool,
    /// Connections that watch.
    watchers: u32,
    /// When it was last heard of.
    seen: Now,
}

const SHARDS: usize = 32;
/// How often a step is tried again after somebody else was faster. Each time one other step has succeeded, and a login
/// takes few.
const TRIES: usize = 64;
/// Attempts looked at in one round of the clock's work.
const ROUND: usize = 4_096;

impl<S: std::fmt::Debug> std::fmt::Debug for Logins<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Logins").field("store", &self.store).finish_non_exhaustive()
    }
}

impl<S: Store> Logins<S> {
    /// Logins in `store`, by `rules`, which have been [checked](Rules::check).
    pub fn new(
        store: S,
        keys: Keys,
        random: Box<dyn Random>,
        rules: Rules,
        observer: Box<dyn Observer>,
    ) -> Self {
        Self {
            store,
            keys,
            random,
            crowd: Crowd::default(),
            guesses: Guesses::default(),
            observer,
            rules: RwLock::new(Arc::new(rules)),
            pages: (0..SHARDS).map(|_| Mutex::default()).collect(),
            rotations: Mutex::default(),
            absences: Mutex::default(),
        }
    }

    /// The rules in force.
    pub fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.rules.read())
    }

    /// Puts other rules, which have been [checked](Rules::check), in force; logins under way keep what they began with.
    pub fn adopt(&self, rules: Rules) {
        *self.rules.write() = Arc::new(rules);
    }

    /// The store.
    pub const fn store(&self) -> &S {
        &self.store
    }

    /// The key of what is computed.
    pub const fn keys(&self) -> &Keys {
        &self.keys
    }

    /// How many logins are under way.
    pub fn under_way(&self) -> usize {
        self.crowd.total()
    }

    /// The attempt of that name, for those who look after the server.
    ///
    /// # Errors
    /// The store fails.
    pub async fn inspect(&self, id: LoginId) -> Result<Option<Arc<Attempt>>, StoreError> {
        self.store.get(id).await
    }

    /// The attempt with that key, as it stands now: one that is overdue has expired.
    pub(crate) async fn find(&self, key: Key, now: Now) -> Result<Arc<Attempt>, Refusal> {
        for _ in 0..TRIES {
            let found = self.store.find(key).await?.ok_or(Refusal::Unknown)?;
            if !found.is_overdue(now) {
                return Ok(found);
            }
            self.commit(&found, found.expire(now), Step::Expired).await?;
        }
        Err(busy())
    }

    /// Has the attempt with that key take the step that `decide` makes of it, again if somebody else was faster.
    /// `decide` may also leave it as it is.
    pub(crate) async fn step<T>(
        &self,
        key: Key,
        now: Now,
        decide: impl Fn(&Attempt) -> Result<Decision<T>, Refusal>,
    ) -> Result<(Arc<Attempt>, T), Refusal> {
        for _ in 0..TRIES {
            let found = self.find(key, now).await?;
            match decide(&found)? {
                Decision::Keep(answer) => return Ok((found, answer)),
                Decision::Step(next, step, answer) => {
                    if let Some(next) = self.commit(&found, *next, step).await? {
                        return Ok((next, answer));
                    }
                }
            }
        }
        Err(busy())
    }

    /// Writes `next` in the place of `before`; `None` when somebody else was faster.
    pub(crate) async fn commit(
        &self,
        before: &Attempt,
        next: Attempt,
        step: Step,
    ) -> Result<Option<Arc<Attempt>>, StoreError> {
        let next = Arc::new(next);
        if self.store.replace(before.version, Arc::clone(&next)).await? == Replaced::Changed {
            return Ok(None);
        }
        if next.state.is_final() && !before.state.is_final() {
            self.crowd.leave(next.computer.address, !next.counted);
        }
        self.observe(&next, step);
        Ok(Some(next))
    }

    pub(crate) fn observe(&self, attempt: &Arc<Attempt>, step: Step) {
        let now = attempt.audit.last().map_or(attempt.created, |record| record.at);
        self.observer.stepped(attempt, step, &|| self.view(attempt, now));
    }

    /// The clock's work: ends what is overdue, forgets what is over, changes QR tokens, gives up on pages that are gone.
    /// Call it a few times a second. Returns how many logins it looked at.
    ///
    /// # Errors
    /// The store fails; call again later.
    pub async fn tick(&self, now: Now) -> Result<usize, StoreError> {
        let mut looked_at = 0;
        loop {
            let due = self.store.due(now, ROUND).await?;
            for id in &due {
                self.end_or_forget(*id, now).await?;
            }
            looked_at += due.len();
            if due.len() < ROUND {
                break;
            }
        }
        let due = self.rotations.lock().due(now, usize::MAX);
        for id in &due {
            self.rotate_if_due(*id, now).await?;
        }
        looked_at += due.len();
        let absent = self.absences.lock().due(now, usize::MAX);
        for id in &absent {
            self.give_up_if_absent(*id, now).await?;
        }
        for shard in &self.pages {
            shard.lock().retain(|_, page| now < page.until);
        }
        Ok(looked_at + absent.len())
    }

    async fn end_or_forget(&self, id: LoginId, now: Now) -> Result<(), StoreError> {
        let Some(found) = self.store.get(id).await? else { return Ok(()) };
        if found.deadline > now {
            // Its deadline has moved since, and it will be given again.
            return Ok(());
        }
        if found.state.is_final() {
            return self.store.remove(id).await;
        }
        // Whoever was faster has moved the deadline.
        self.commit(&found, found.expire(now), Step::Expired).await.map(drop)
    }

    async fn rotate_if_due(&self, id: LoginId, now: Now) -> Result<(), StoreError> {
        let Some(found) = self.store.get(id).await? else { return Ok(()) };
        if found.state != State::Pending {
            return Ok(());
        }
        let rules = self.rules();
        let Some(due) = found.rotation_due(&rules) else { return Ok(()) };
        let mut again = due.max(now + 1);
        if due <= now
            && let Ok(next) = found.rotate(&self.keys, Who::Timer, now)
        {
            again = next.rotation_due(&rules).unwrap_or(again);
            self.commit(&found, next, Step::Rotated).await?;
        }
        self.rotations.lock().add(again, id);
        Ok(())
    }

    async fn give_up_if_absent(&self, id: LoginId, now: Now) -> Result<(), StoreError> {
        let patience = crate::attempt::millis(self.rules().abandoned);
        let absent =
            self.presence(id, |page| page.watchers == 0 && now.saturating_sub(page.seen) >= patience);
        if absent != Some(true) {
            return Ok(());
        }
        let Some(found) = self.store.get(id).await? else { return Ok(()) };
        if found.is_away() {
            return Ok(());
        }
        if let Ok(Some(next)) = found.cancel(Who::Timer, now) {
            self.commit(&found, next, Step::Cancelled).await?;
        }
        Ok(())
    }

    fn page(&self, id: LoginId) -> &Mutex<HashMap<LoginId, Presence>> {
        &self.pages[usize::from(id.as_bytes()[1]) % SHARDS]
    }

    fn presence<T>(&self, id: LoginId, look: impl FnOnce(&mut Presence) -> T) -> Option<T> {
        self.page(id).lock().get_mut(&id).map(look)
    }

    /// Takes note that the page behind a login was heard of.
    pub(crate) fn heard<T>(&self, attempt: &Attempt, now: Now, note: impl FnOnce(&mut Presence) -> T) -> T {
        let mut pages = self.page(attempt.id).lock();
        let page = pages.entry(attempt.id).or_default();
        page.seen = now;
        // Past the end of its state there is a new deadline or no login.
        page.until = page.until.max(attempt.deadline.saturating_add(1));
        note(page)
    }

    /// Takes note that the page draws what it is told: from now on its QR code changes by the clock.
    pub(crate) fn follow(&self, attempt: &Attempt, now: Now) {
        let first = self.heard(attempt, now, |page| !std::mem::replace(&mut page.follows, true));
        if first
            && attempt.state == State::Pending
            && let Some(due) = attempt.rotation_due(&self.rules())
        {
            self.rotations.lock().add(due, attempt.id);
        }
    }

    /// Takes note that a connection of the page watches the login.
    pub fn watched(&self, attempt: &Attempt, now: Now) {
        self.follow(attempt, now);
        self.heard(attempt, now, |page| page.watchers += 1);
    }

    /// Takes note that such a connection is gone. When none comes back in time, the login is cancelled.
    pub fn left(&self, id: LoginId, now: Now) {
        let alone = self.presence(id, |page| {
            page.watchers = page.watchers.saturating_sub(1);
            page.seen = now;
            page.watchers == 0
        });
        let patience = self.rules().abandoned;
        if alone == Some(true) && !patience.is_zero() {
            self.absences.lock().add(now.saturating_add(crate::attempt::millis(patience)), id);
        }
    }
}

/// What is made of an attempt.
pub(crate) enum Decision<T> {
    /// Nothing changes.
    Keep(T),
    /// This comes next.
    Step(Box<Attempt>, Step, T),
}

fn busy() -> Refusal {
    Refusal::Store(StoreError("too many changes at once".to_owned()))
}

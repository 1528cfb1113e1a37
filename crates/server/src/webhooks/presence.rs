//! `user.online` and `user.offline`: the first connection of a uid, and its last one gone for a while.
//!
//! The registry notes who comes and goes; one task fetches that ten times a second. There is no timer for a uid: the
//! absences wait in the order in which they began, all equally long.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use doorbell_hub::Transition;
use doorbell_protocol::Uid;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::settings::WebhookEvent;

/// How often transitions are fetched: how late an event may be.
const EVERY: Duration = Duration::from_millis(100);
/// Absences that wait; beyond, the oldest is told early.
const MAX_AWAY: usize = 100_000;

/// The `data` of both events.
#[derive(Debug, Serialize)]
struct About<'a> {
    uid: &'a str,
}

/// Who is away and not yet said to be.
#[derive(Debug, Default)]
struct Presence {
    away: HashMap<Uid, Instant>,
    /// Oldest first; some have come back meanwhile.
    order: VecDeque<(Instant, Uid)>,
}

impl Presence {
    /// Takes note of a transition; whether it is news now.
    fn take(&mut self, Transition { uid, online }: &Transition, now: Instant) -> bool {
        if *online {
            // Whoever comes back in time was never gone.
            return self.away.remove(uid).is_none();
        }
        self.away.insert(uid.clone(), now);
        self.order.push_back((now, uid.clone()));
        false
    }

    /// The next uid that has been away since `before` or longer.
    fn gone(&mut self, before: Instant) -> Option<Uid> {
        while self.order.front().is_some_and(|(since, _)| *since <= before || self.order.len() > MAX_AWAY) {
            let (since, uid) = self.order.pop_front()?;
            if self.away.get(&uid) == Some(&since) {
                self.away.remove(&uid);
                return Some(uid);
            }
        }
        None
    }

    fn turn(&mut self, context: &Context, after: Duration) {
        let now = Instant::now();
        let transitions = context.hub.transitions();
        for transition in &transitions.happened {
            if self.take(transition, now) {
                tell(context, WebhookEvent::UserOnline, &transition.uid);
            }
        }
        context.metrics.webhooks().lost(transitions.lost);
        let Some(before) = now.checked_sub(after) else { return };
        while let Some(uid) = self.gone(before) {
            tell(context, WebhookEvent::UserOffline, &uid);
        }
    }
}

fn tell(context: &Context, event: WebhookEvent, uid: &Uid) {
    context.webhooks.send(event, uid.as_str(), &About { uid: uid.as_str() });
}

fn is_wanted(context: &Context) -> bool {
    [WebhookEvent::UserOnline, WebhookEvent::UserOffline].iter().any(|event| context.webhooks.wants(*event))
}

/// Lets the registry note who comes and goes, if anybody wants to know. After each [`super::Webhooks::configure`].
pub(crate) fn note(context: &Context) {
    context.hub.watch(is_wanted(context));
}

/// Watches until told to stop. The absences that wait then are told at once; nobody is said to go because the server
/// does.
pub(crate) async fn watch(context: Arc<Context>, stop: CancellationToken) {
    let mut presence = Presence::default();
    let mut every = tokio::time::interval(EVERY);
    let mut wanted = is_wanted(&context);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let stopping = tokio::select! {
            () = stop.cancelled() => true,
            _ = every.tick(), if wanted => false,
            () = context.webhooks.configured.notified() => false,
        };
        wanted = is_wanted(&context);
        let after = if stopping { Duration::ZERO } else { context.policy.load().offline_after };
        if wanted {
            presence.turn(&context, after);
        } else {
            presence = Presence::default();
        }
        if stopping {
            context.hub.watch(false);
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transition(uid: &str, online: bool) -> Transition {
        Transition { uid: Uid::new(uid).expect("a valid uid"), online }
    }

    #[test]
    fn a_return_in_time_is_no_news() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut presence = Presence::default();
        assert!(presence.take(&transition("u", true), at(0)));
        assert!(!presence.take(&transition("u", false), at(10)));
        assert!(!presence.take(&transition("u", true), at(12)));
        assert!(!presence.take(&transition("u", false), at(12)));
        assert_eq!(presence.gone(at(11)), None, "the first absence ended");
        assert_eq!(presence.gone(at(12)).as_ref().map(Uid::as_str), Some("u"));
        assert_eq!(presence.gone(at(99)), None);
        assert!(presence.take(&transition("u", true), at(100)));
        assert!(presence.away.is_empty() && presence.order.is_empty());
    }

    #[test]
    fn too_many_absences_are_told_early() {
        let start = Instant::now();
        let mut presence = Presence::default();
        for number in 0..=MAX_AWAY {
            presence.take(&transition(&number.to_string(), false), start + Duration::from_secs(1));
        }
        assert_eq!(presence.gone(start).as_ref().map(Uid::as_str), Some("0"));
        assert_eq!(presence.gone(start), None);
    }
}

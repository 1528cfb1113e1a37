//! The login scenario: many logins wait while others go all the way from their QR code to the result.
//!
//! It runs in threads of this process, with sockets that block: [`page`] is one page, [`waiting`] those whose owner has
//! walked away, and [`flow`] the ones that log in. Every flow is another person's, so that a result at the wrong page is
//! noticed.

mod flow;
mod page;
mod waiting;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::bail;

use crate::outcome::Outcome;
use crate::procfs::cpu_time;
use crate::target::{Endpoint, Logins, cpu_time_of};
use crate::tls::Tls;

use flow::{Flows, Kind};
use page::Browser;
use waiting::Waiting;

/// Threads that begin logins or take them through. Each is at one login at a time.
const THREADS: usize = 32;

/// Descriptors that are left for the logins that are taken through, here and in a server with the same limit.
const SPARE: usize = 2_000;

/// How much of everything.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LoginPlan {
    /// Logins that wait all the while. Nine of ten are watched, as far as descriptors allow.
    pub(crate) waiting: usize,
    /// Logins a second that are taken through.
    pub(crate) rate: u32,
    /// For how long.
    pub(crate) duration: Duration,
}

/// Measures; what was lost, doubled or at the wrong page becomes a failure of `outcome`.
pub(crate) fn logins(
    public: &Endpoint,
    tls: Option<Tls>,
    way: &Logins,
    pids: &[u32],
    plan: &LoginPlan,
    outcome: &mut Outcome,
) -> anyhow::Result<()> {
    let browser = Browser { public: public.clone(), tls, client_id: way.client_id.clone() };
    let watched = (plan.waiting - plan.waiting / 10).min(descriptor_limit().saturating_sub(SPARE));
    let waiting = Waiting::new(&browser, plan.waiting - watched)?;
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let keeper = scope.spawn(|| waiting.keep(&over));
        let done = (|| {
            waiting.begin(watched)?;
            let (server, own) = (cpu_time_of(pids)?, cpu_time(std::process::id())?);
            let flows = flow::run(&browser, &way.api, plan)?;
            let server = cpu_time_of(pids)? - server;
            anyhow::Ok((flows, server, cpu_time(std::process::id())? - own))
        })();
        // Also when something failed: the scope waits for the keeper.
        over.store(true, Ordering::Release);
        let kept = keeper.join().unwrap_or_else(|_| bail!("a thread panicked"))?;
        let (flows, server, own) = done?;
        outcome.count("logins that wait, watched by WebSocket", watched as u64);
        outcome.count("logins that wait, begun by HTTP", (plan.waiting - watched) as u64);
        report(&flows, outcome);
        if !pids.is_empty() {
            outcome.cpu_a_million("server CPU a million logins", server, flows.of(Kind::Redeemed));
            let share = 100.0 * server.total().as_secs_f64() / flows.elapsed.as_secs_f64().max(1e-9);
            outcome.figure("server CPU, the waiting ones' included", share, "% of a core");
        }
        outcome.cpu_a_million("own CPU a million logins", own, flows.of(Kind::Redeemed));
        let alive = kept.alive + waiting.alive_by_http()?;
        outcome.count("waiting logins alive at the end", alive);
        fail(outcome, "waiting logins lost", (plan.waiting as u64).saturating_sub(alive));
        fail(outcome, "waiting pages told of another login", kept.misdelivered);
        Ok(())
    })
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn report(flows: &Flows, outcome: &mut Outcome) {
    for kind in Kind::STEPS {
        outcome.count(format!("logins {}", kind.name()), flows.of(kind));
    }
    outcome.figure(
        "rate",
        flows.of(Kind::Redeemed) as f64 / flows.elapsed.as_secs_f64().max(1e-9),
        "a second",
    );
    outcome.times("approve to told", &flows.told);
    outcome.times("a whole login, from when it was due", &flows.whole);
    for kind in Kind::FAULTS {
        fail(outcome, &format!("logins {}", kind.name()), flows.of(kind));
    }
    if let Some(error) = &flows.first_error {
        outcome.failures.push(format!("login: the first that failed: {error}"));
    }
}

fn fail(outcome: &mut Outcome, what: &str, count: u64) {
    if count > 0 {
        outcome.count(what, count);
        outcome.failures.push(format!("login: {what}: {count}"));
    }
}

/// Raises the soft limit to the hard one and says how many descriptors that are.
fn descriptor_limit() -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let current = if setrlimit(Resource::Nofile, raised).is_ok() { limit.maximum } else { limit.current };
    current.map_or(usize::MAX, |current| usize::try_from(current).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fault_makes_a_run_unsound() {
        let mut outcome = Outcome::new("login");
        report(&Flows::counting(&Kind::STEPS), &mut outcome);
        assert!(outcome.is_sound());
        for kind in Kind::FAULTS {
            let mut outcome = Outcome::new("login");
            report(&Flows::counting(&[Kind::Begun, kind]), &mut outcome);
            assert_eq!(outcome.failures, [format!("login: logins {}: 1", kind.name())]);
        }
    }
}

//! The measured scenarios: what is done to a server or to the floor, what it cost, and whether all of it arrived.

use std::ops::AddAssign;
use std::time::Duration;

use anyhow::Context as _;

use crate::clock::{monotonic_us, wait};
use crate::fleet::{Fleet, Latency};
use crate::floor::Floor;
use crate::http::Broadcaster;
use crate::payload::{self, EVERYONE};
use crate::procfs::CpuTime;
use crate::push::{PushOutcome, PushPlan, push};
use crate::tally::Tally;
use crate::target::{Publish, Target, cpu_time_of};

/// How long a delivery may take before it counts as lost.
pub(crate) const ARRIVAL: Duration = Duration::from_secs(20);

/// How long a scenario goes on listening for frames that should not come.
const AFTERMATH: Duration = Duration::from_millis(200);

/// What should have arrived, and what has.
#[derive(Debug, Clone, Copy, Default)]
pub struct Delivery {
    /// Frames that were acknowledged or written, each to be received once.
    pub expected: u64,
    /// Pushes that were refused, and broadcast writes that were not made.
    pub refused: u64,
    /// What the clients counted.
    pub tally: Tally,
}

impl Delivery {
    /// Whether everything was accepted and arrived exactly once, where it belongs.
    pub fn is_complete(&self) -> bool {
        self.refused == 0 && self.tally.is_exactly(self.expected)
    }
}

/// One scenario's result.
#[derive(Debug, Clone, Default)]
pub struct Measured {
    /// CPU time of the server, or of the floor.
    pub cpu: CpuTime,
    /// CPU time of the clients meanwhile.
    pub client_cpu: CpuTime,
    /// What arrived.
    pub delivery: Delivery,
    /// What came back to whoever pushed.
    pub pushed: PushOutcome,
    /// How long messages were under way.
    pub latency: Latency,
}

impl AddAssign for Measured {
    /// Adds a later slice of the same scenario; what came back is then that slice's.
    fn add_assign(&mut self, later: Self) {
        self.cpu += later.cpu;
        self.client_cpu += later.client_cpu;
        self.delivery.expected += later.delivery.expected;
        self.delivery.refused += later.delivery.refused;
        self.delivery.tally += later.delivery.tally;
        self.pushed = later.pushed;
        self.latency.pushes += &later.latency.pushes;
        self.latency.broadcasts += &later.latency.broadcasts;
    }
}

impl Measured {
    /// CPU seconds of the server for a million deliveries.
    pub fn cpu_per_million(&self) -> f64 {
        per_million(self.cpu, self.delivery.tally.received)
    }

    /// CPU seconds of the clients for a million deliveries.
    pub fn client_cpu_per_million(&self) -> f64 {
        per_million(self.client_cpu, self.delivery.tally.received)
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
pub(crate) fn per_million(cpu: CpuTime, count: u64) -> f64 {
    cpu.total().as_secs_f64() * 1e6 / count.max(1) as f64
}

/// Opens `total` clients on a fresh server and says how many bytes of its memory each one holds.
///
/// # Errors
/// When a client cannot be opened or the server ends.
#[expect(clippy::cast_precision_loss, reason = "bytes and counts are far below 2^52")]
pub fn idle(target: &Target, fleet: &mut Fleet, total: usize) -> anyhow::Result<f64> {
    target.settle()?;
    let before = target.memory()?;
    fleet.open(&target.subscribe, total)?;
    target.settle()?;
    let after = target.memory()?;
    Ok((after.pss as f64 - before.pss as f64) / total.max(1) as f64)
}

/// Broadcasts `count` times to a fleet of `receivers`; each starts when the one before has arrived everywhere.
///
/// # Errors
/// When a process ends or the broadcast is refused.
pub fn fanout(
    target: &Target,
    fleet: &mut Fleet,
    receivers: usize,
    count: u64,
    payload_bytes: usize,
) -> anyhow::Result<Measured> {
    let way = target.publish_to_all.as_ref().context("this target has no way to reach everyone")?;
    let mut broadcaster = Broadcaster::connect(way)?;
    measure(&target.pids, fleet, |fleet| {
        let mut delivery = Delivery::default();
        let mut payload = Vec::new();
        for seq in 1..=count {
            payload.clear();
            payload::append(&mut payload, EVERYONE, seq, monotonic_us(), payload_bytes);
            let written = broadcaster.broadcast(&payload)?.unwrap_or(receivers as u64);
            delivery.expected += written;
            delivery.refused += (receivers as u64).saturating_sub(written);
            fleet.await_received(delivery.expected, ARRIVAL)?;
        }
        Ok((delivery, PushOutcome::default()))
    })
}

/// Pushes to a fleet that has at least the plan's uids.
///
/// # Errors
/// When a process ends or the connection for pushes fails.
pub fn pushes(target: &Target, fleet: &mut Fleet, plan: &PushPlan) -> anyhow::Result<Measured> {
    let publish = target.publish.as_ref().context("this target has no way to push")?;
    pushes_by(publish, &target.pids, fleet, plan)
}

fn pushes_by(
    publish: &Publish,
    pids: &[u32],
    fleet: &mut Fleet,
    plan: &PushPlan,
) -> anyhow::Result<Measured> {
    measure(pids, fleet, |_| {
        let outcome = push(publish, plan)?;
        let delivery = Delivery { expected: outcome.ok, refused: outcome.refused, ..Delivery::default() };
        Ok((delivery, outcome))
    })
}

/// The floor of [`fanout`]: every socket in turn, round by round.
///
/// # Errors
/// When a process ends.
pub fn floor_fanout(
    floor: &mut Floor,
    fleet: &mut Fleet,
    count: u64,
    payload_bytes: usize,
) -> anyhow::Result<Measured> {
    measure(&[floor.pid()], fleet, |fleet| {
        let mut delivery = Delivery::default();
        for _ in 0..count {
            delivery.expected += floor.send_to_all(payload_bytes)?;
            fleet.await_received(delivery.expected, ARRIVAL)?;
        }
        Ok((delivery, PushOutcome::default()))
    })
}

/// The floor of [`pushes`]: sockets in random order.
///
/// # Errors
/// When a process ends.
pub fn floor_push(floor: &mut Floor, fleet: &mut Fleet, plan: &PushPlan) -> anyhow::Result<Measured> {
    measure(&[floor.pid()], fleet, |_| {
        let expected = floor.send_at_random(plan.count, plan.payload_bytes, plan.seed)?;
        Ok((Delivery { expected, ..Delivery::default() }, PushOutcome::default()))
    })
}

/// The floor of [`pushes`] at a pace at which each waits for its answer: as many wake-ups, and nothing else.
///
/// # Errors
/// When a process ends or the connection for pushes fails.
pub fn floor_answers(floor: &Floor, fleet: &mut Fleet, plan: &PushPlan) -> anyhow::Result<Measured> {
    pushes_by(&floor.publish(), &[floor.pid()], fleet, plan)
}

/// Wraps `act` in what every scenario shares: fresh counts, CPU before and after, and the last arrivals.
pub(crate) fn measure(
    pids: &[u32],
    fleet: &mut Fleet,
    act: impl FnOnce(&mut Fleet) -> anyhow::Result<(Delivery, PushOutcome)>,
) -> anyhow::Result<Measured> {
    fleet.reset()?;
    let client_before = fleet.cpu_time()?;
    let before = cpu_time_of(pids)?;
    let (mut delivery, pushed) = act(fleet)?;
    fleet.await_received(delivery.expected, ARRIVAL)?;
    let cpu = cpu_time_of(pids)? - before;
    let client_cpu = fleet.cpu_time()? - client_before;
    wait(AFTERMATH);
    delivery.tally = fleet.await_received(0, Duration::ZERO)?;
    let latency = fleet.latency()?;
    Ok(Measured { cpu, client_cpu, delivery, pushed, latency })
}

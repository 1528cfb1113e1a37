//! The scenarios: what is done to a server or to the floor, what it cost, and whether all of it arrived.

use std::ops::AddAssign;
use std::time::Duration;

use anyhow::Context as _;

use crate::broadcast::Broadcaster;
use crate::clock::wait;
use crate::fleet::Fleet;
use crate::floor::Floor;
use crate::payload::{self, EVERYONE};
use crate::procfs::{CpuTime, cpu_time};
use crate::push::{PushPlan, push};
use crate::server::Server;
use crate::tally::Tally;

/// How long a delivery may take before it counts as lost.
const ARRIVAL: Duration = Duration::from_secs(20);

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
#[derive(Debug, Clone, Copy, Default)]
pub struct Measured {
    /// CPU time of the server, or of the floor.
    pub cpu: CpuTime,
    /// CPU time of the clients meanwhile.
    pub client_cpu: CpuTime,
    /// What arrived.
    pub delivery: Delivery,
    /// Median time from a line to its answer; only known for paced pushes.
    pub median_answer: Duration,
}

impl AddAssign for Measured {
    /// Adds a later slice of the same scenario; the median of the answers is then that slice's.
    fn add_assign(&mut self, later: Self) {
        self.cpu += later.cpu;
        self.client_cpu += later.client_cpu;
        self.delivery.expected += later.delivery.expected;
        self.delivery.refused += later.delivery.refused;
        self.delivery.tally += later.delivery.tally;
        self.median_answer = later.median_answer;
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
fn per_million(cpu: CpuTime, count: u64) -> f64 {
    cpu.total().as_secs_f64() * 1e6 / count.max(1) as f64
}

/// Opens `total` clients on a fresh server and says how many bytes of its memory each one holds.
///
/// # Errors
/// When a client cannot be opened or the server ends.
#[expect(clippy::cast_precision_loss, reason = "bytes and counts are far below 2^52")]
pub fn idle(server: &Server, fleet: &mut Fleet, total: usize) -> anyhow::Result<f64> {
    server.settle()?;
    let before = server.memory()?;
    fleet.open(server.public, total)?;
    server.settle()?;
    let after = server.memory()?;
    Ok((after.pss as f64 - before.pss as f64) / total.max(1) as f64)
}

/// Broadcasts `count` times to a fleet of `receivers`; each starts when the one before has arrived everywhere.
///
/// # Errors
/// When a process ends or the API refuses.
pub fn fanout(
    server: &Server,
    fleet: &mut Fleet,
    receivers: usize,
    count: u64,
    payload_bytes: usize,
) -> anyhow::Result<Measured> {
    let mut api = Broadcaster::connect(server.api, &server.api_key)?;
    measure(server.pid(), fleet, |fleet| {
        let mut delivery = Delivery::default();
        for seq in 1..=count {
            let mut data = Vec::new();
            payload::append(&mut data, EVERYONE, seq, payload_bytes);
            let written = api.broadcast(&String::from_utf8(data)?)?;
            delivery.expected += written;
            delivery.refused += (receivers as u64).saturating_sub(written);
            fleet.await_received(delivery.expected, ARRIVAL)?;
        }
        Ok((delivery, Duration::ZERO))
    })
}

/// Pushes on the text port to a fleet that has at least the plan's uids.
///
/// # Errors
/// When a process ends or the text port fails.
pub fn pushes(server: &Server, fleet: &mut Fleet, plan: &PushPlan) -> anyhow::Result<Measured> {
    measure(server.pid(), fleet, |_| {
        let outcome = push(server.text, plan)?;
        let delivery = Delivery { expected: outcome.ok, refused: outcome.refused, ..Delivery::default() };
        Ok((delivery, outcome.median_answer))
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
    measure(floor.pid(), fleet, |fleet| {
        let mut delivery = Delivery::default();
        for _ in 0..count {
            delivery.expected += floor.send_to_all(payload_bytes)?;
            fleet.await_received(delivery.expected, ARRIVAL)?;
        }
        Ok((delivery, Duration::ZERO))
    })
}

/// The floor of [`pushes`]: sockets in random order.
///
/// # Errors
/// When a process ends.
pub fn floor_push(floor: &mut Floor, fleet: &mut Fleet, plan: &PushPlan) -> anyhow::Result<Measured> {
    measure(floor.pid(), fleet, |_| {
        let expected = floor.send_at_random(plan.count, plan.payload_bytes, plan.seed)?;
        Ok((Delivery { expected, ..Delivery::default() }, Duration::ZERO))
    })
}

/// Wraps `act` in what every scenario shares: fresh counts, CPU before and after, and the last arrivals.
fn measure(
    pid: u32,
    fleet: &mut Fleet,
    act: impl FnOnce(&mut Fleet) -> anyhow::Result<(Delivery, Duration)>,
) -> anyhow::Result<Measured> {
    fleet.reset()?;
    let client_before = cpu_time(fleet.pid())?;
    let before = cpu_time(pid)?;
    let (mut delivery, median_answer) = act(fleet)?;
    fleet.await_received(delivery.expected, ARRIVAL)?;
    let cpu = cpu_time(pid).context("the process under test has ended")? - before;
    let client_cpu = cpu_time(fleet.pid())? - client_before;
    wait(AFTERMATH);
    delivery.tally = fleet.await_received(0, Duration::ZERO)?;
    Ok(Measured { cpu, client_cpu, delivery, median_answer })
}

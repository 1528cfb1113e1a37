//! The scenarios of `doorbell bench`, against any [`Target`].
//!
//! A scenario is a variant of [`Scenario`] and a function here that gets a [`Stage`] and fills an [`Outcome`]; what the
//! clients do is in [`crate::crowd`].

use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::child::ChildCommand;
use crate::churn::ChurnPlan;
use crate::clock::{monotonic_us, wait, wait_until};
use crate::fleet::{Fleet, FleetOptions, Latency};
use crate::histogram::Histogram;
use crate::http::Broadcaster;
use crate::link::Link;
use crate::login::{LoginPlan, logins};
use crate::outcome::Outcome;
use crate::payload::{self, EVERYONE};
use crate::push::{Numbering, Pace, PushOutcome, PushPlan, push};
use crate::scenario::{ARRIVAL, Delivery, Measured, fanout, measure, pushes};
use crate::target::Target;
use crate::tls::Tls;

/// What to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scenario {
    /// Memory of connections that wait.
    Idle,
    /// Pushes to random uids.
    Push,
    /// Broadcasts.
    FanOut,
    /// Everyone is cut and comes back at once.
    Storm,
    /// Clients come, hear one message, and go.
    Churn,
    /// Pushes and new connections while broadcasts run and some clients do not read.
    Fairness,
    /// Logins from the QR code to the result, beside many that wait.
    Login,
}

impl Scenario {
    /// All of them, in the order in which a run makes sense of them.
    pub const ALL: [Self; 7] =
        [Self::Idle, Self::Push, Self::FanOut, Self::Fairness, Self::Storm, Self::Churn, Self::Login];

    /// Its name on a command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Push => "push",
            Self::FanOut => "fan-out",
            Self::Storm => "storm",
            Self::Churn => "churn",
            Self::Fairness => "fairness",
            Self::Login => "login",
        }
    }
}

/// How much of everything.
#[derive(Debug, Clone)]
pub struct SuiteOptions {
    /// How to start client processes.
    pub child: ChildCommand,
    /// Connections.
    pub connections: usize,
    /// The number in the first one's uid.
    pub first: usize,
    /// Client processes; as many as the connections need when `None`.
    pub processes: Option<usize>,
    /// Handshakes under way at once in each process.
    pub concurrency: usize,
    /// The clients' kernel receive buffer in bytes.
    pub receive_buffer: Option<usize>,
    /// Length of every payload.
    pub payload_bytes: usize,
    /// Pushes.
    pub pushes: u64,
    /// How they follow each other.
    pub pace: Pace,
    /// Broadcasts.
    pub broadcasts: u64,
    /// New clients a second under churn.
    pub churn_rate: u32,
    /// Logins that wait while others are taken through.
    pub logins: usize,
    /// Logins a second that are taken through.
    pub login_rate: u32,
    /// How long churn, logins and each half of fairness last.
    pub duration: Duration,
    /// Clients that do not read while fairness is measured.
    pub slow_readers: usize,
}

/// A target with its clients.
struct Stage<'a> {
    target: &'a Target,
    options: &'a SuiteOptions,
    fleet: Fleet,
    open: usize,
    /// The server's descriptors before the first client.
    descriptors: usize,
}

/// Measures one scenario after the other and tells `done` of each.
///
/// # Errors
/// When something fails that is no lost message: a connection that cannot be opened, a process that ends.
pub fn run_suite(
    target: &Target,
    options: &SuiteOptions,
    scenarios: &[Scenario],
    mut done: impl FnMut(&Outcome),
) -> anyhow::Result<bool> {
    let mut sound = true;
    let mut stage = Stage::start(target, options)?;
    for scenario in scenarios {
        let mut outcome = Outcome::new(scenario.name());
        match scenario {
            Scenario::Idle => stage.idle(&mut outcome),
            Scenario::Push => stage.push(&mut outcome),
            Scenario::FanOut => stage.fan_out(&mut outcome),
            Scenario::Storm => stage.storm(&mut outcome),
            Scenario::Churn => stage.churn(&mut outcome),
            Scenario::Fairness => stage.fairness(&mut outcome),
            Scenario::Login => stage.login(&mut outcome),
        }
        .with_context(|| scenario.name())?;
        sound &= outcome.is_sound();
        done(&outcome);
    }
    Ok(sound)
}

impl<'a> Stage<'a> {
    fn start(target: &'a Target, options: &'a SuiteOptions) -> anyhow::Result<Self> {
        let mut fleet = FleetOptions::for_clients(options.connections);
        fleet.processes = options.processes.unwrap_or(fleet.processes);
        fleet.concurrency = options.concurrency;
        fleet.receive_buffer = options.receive_buffer;
        fleet.first = options.first;
        let fleet = Self::fleet(target, &options.child, fleet)?;
        Ok(Self { target, options, fleet, open: 0, descriptors: target.descriptors()? })
    }

    /// Clients that speak as the target wants it.
    fn fleet(target: &Target, child: &ChildCommand, options: FleetOptions) -> anyhow::Result<Fleet> {
        let mut fleet = Fleet::start(child, options)?;
        if let Some(api) = &target.tokens {
            fleet.use_tokens(api)?;
        }
        if let Some(certificate) = &target.tls {
            fleet.use_tls(certificate)?;
        }
        Ok(fleet)
    }

    /// Has everyone there and listening.
    fn ready(&mut self) -> anyhow::Result<()> {
        if self.open < self.options.connections {
            self.fleet.open(&self.target.subscribe, self.options.connections)?;
            self.open = self.options.connections;
            self.target.settle()?;
        }
        Ok(())
    }

    fn knows_server(&self) -> bool {
        !self.target.pids.is_empty()
    }

    #[expect(clippy::cast_precision_loss, reason = "bytes and counts are far below 2^52")]
    fn idle(&mut self, outcome: &mut Outcome) -> anyhow::Result<()> {
        self.fleet.close()?;
        self.open = 0;
        self.target.settle()?;
        let (cpu, memory) = (self.target.cpu_time()?, self.target.memory()?);
        let opened = self.fleet.open(&self.target.subscribe, self.options.connections)?;
        self.open = self.options.connections;
        self.target.settle()?;
        outcome.count("connections", self.open as u64);
        outcome.time("all of them open after", opened.elapsed);
        outcome.times("coming in", &opened.waits);
        if self.knows_server() {
            let grown = self.target.memory()?.pss as f64 - memory.pss as f64;
            outcome.figure("server memory a connection", grown / self.open.max(1) as f64, "bytes");
            outcome.cpu_a_million(
                "server CPU a million connects",
                self.target.cpu_time()? - cpu,
                self.open as u64,
            );
        }
        Ok(())
    }

    fn plan(&self) -> PushPlan {
        PushPlan {
            first: self.options.first,
            uids: self.options.connections,
            count: self.options.pushes,
            payload_bytes: self.options.payload_bytes,
            pace: self.options.pace,
            numbering: Numbering::Sequence,
            seed: 1,
        }
    }

    fn push(&mut self, outcome: &mut Outcome) -> anyhow::Result<()> {
        self.ready()?;
        let plan = self.plan();
        let measured = pushes(self.target, &mut self.fleet, &plan)?;
        outcome.count("connections", self.open as u64);
        outcome.delivery("pushes", &measured.delivery);
        outcome.figure("rate", rate(measured.pushed.ok, measured.pushed.elapsed), "a second");
        outcome.cost(&measured, self.knows_server());
        outcome.times("push to receipt", &measured.latency.pushes);
        outcome.times("push to answer", &measured.pushed.answers);
        Ok(())
    }

    fn fan_out(&mut self, outcome: &mut Outcome) -> anyhow::Result<()> {
        self.ready()?;
        let (connections, payload) = (self.open, self.options.payload_bytes);
        let measured = fanout(self.target, &mut self.fleet, connections, self.options.broadcasts, payload)?;
        outcome.count("connections", connections as u64);
        outcome.count("broadcasts", self.options.broadcasts);
        outcome.delivery("deliveries", &measured.delivery);
        outcome.cost(&measured, self.knows_server());
        outcome.times("broadcast to receipt", &measured.latency.broadcasts);
        Ok(())
    }

    /// Everyone is cut and comes back at once; then everyone is pushed to, and then everyone leaves.
    fn storm(&mut self, outcome: &mut Outcome) -> anyhow::Result<()> {
        self.ready()?;
        let cpu = self.target.cpu_time()?;
        let opened = self.fleet.storm()?;
        self.target.settle()?;
        outcome.count("connections", self.open as u64);
        outcome.time("all of them back after", opened.elapsed);
        outcome.times("coming back", &opened.waits);
        outcome.count("attempts refused and repeated", opened.retried);
        if self.knows_server() {
            let cpu = self.target.cpu_time()? - cpu;
            outcome.cpu_a_million("server CPU a million ends and connects", cpu, self.open as u64);
        }
        if self.target.publish.is_some() {
            // Everyone must be reachable again, under the right uid.
            let plan = PushPlan { count: (self.open as u64).min(self.options.pushes), ..self.plan() };
            let measured = pushes(self.target, &mut self.fleet, &plan)?;
            outcome.delivery("pushes afterwards", &measured.delivery);
        }
        let (cpu, start) = (self.target.cpu_time()?, Instant::now());
        self.fleet.close()?;
        self.open = 0;
        if self.knows_server() {
            while self.target.descriptors()? > self.descriptors && start.elapsed() < ARRIVAL {
                wait(Duration::from_millis(5));
            }
            outcome.time("all of them gone after", start.elapsed());
            self.target.settle()?;
            let cpu = self.target.cpu_time()? - cpu;
            outcome.cpu_a_million("server CPU a million ends", cpu, self.options.connections as u64);
        }
        Ok(())
    }

    #[expect(clippy::cast_precision_loss, reason = "bytes and counts are far below 2^52")]
    fn churn(&mut self, outcome: &mut Outcome) -> anyhow::Result<()> {
        self.fleet.close()?;
        self.open = 0;
        self.target.settle()?;
        let plan = ChurnPlan {
            subscribe: self.target.subscribe.clone(),
            publish: self.target.publish.clone().context("this target has no way to push")?,
            rate: self.options.churn_rate,
            concurrency: self.options.connections,
            duration: self.options.duration,
            payload_bytes: self.options.payload_bytes,
        };
        let (cpu, memory) = (self.target.cpu_time()?, self.target.memory()?);
        let churned = self.fleet.churn(&plan)?;
        outcome.figure("rate", rate(churned.done, plan.duration), "a second");
        outcome.churned(&churned);
        if self.knows_server() {
            self.target.settle()?;
            let cpu = self.target.cpu_time()? - cpu;
            outcome.cpu_a_million("server CPU a million clients", cpu, churned.done);
            let grown = self.target.memory()?.pss as f64 - memory.pss as f64;
            outcome.figure("server memory grown by", grown / 1024.0, "KiB");
            let left = self.target.descriptors()?.saturating_sub(self.descriptors);
            outcome.count("descriptors left open", left as u64);
            if left > 0 {
                outcome.failures.push(format!("churn: descriptors left open: {left}"));
            }
        }
        Ok(())
    }

    /// The fleet makes room: logins have pages of their own.
    fn login(&mut self, outcome: &mut Outcome) -> anyhow::Result<()> {
        self.fleet.close()?;
        self.open = 0;
        self.target.settle()?;
        let way = self.target.logins.as_ref().context("this target has no logins")?;
        let SuiteOptions { logins: waiting, login_rate: rate, duration, .. } = *self.options;
        let plan = LoginPlan { waiting, rate, duration };
        let tls = strangers(self.target)?;
        logins(&self.target.subscribe.endpoint, tls, way, &self.target.pids, &plan, outcome)
    }

    /// Pushes at a steady pace and a new connection every few milliseconds, first by themselves, then while broadcasts
    /// follow each other and some clients do not read. Who is pushed to lives in a process of its own, so that the time
    /// clients take to read a broadcast is not measured.
    fn fairness(&mut self, outcome: &mut Outcome) -> anyhow::Result<()> {
        self.ready()?;
        let way = self.target.publish_to_all.clone().context("this target has no way to reach everyone")?;
        let mut few = self.visitors(FEW_FIRST, None)?;
        few.open(&self.target.subscribe, FEW)?;
        self.target.settle()?;
        let quiet = self.paced(&mut few, None)?;
        outcome.times("alone, push to receipt", &quiet.measured.latency.pushes);
        outcome.times("alone, connect", &quiet.connects);
        let mut lazy = self.visitors(LAZY_FIRST, Some(4096))?;
        lazy.open(&self.target.subscribe, self.options.slow_readers)?;
        self.target.settle()?;
        lazy.sleep(self.options.duration * 2)?;
        let busy = self.paced(&mut few, Some(&mut Broadcaster::connect(&way)?))?;
        outcome.count("broadcasts meanwhile", busy.broadcasts);
        outcome.count("clients that did not read", self.options.slow_readers as u64);
        outcome.times("beside broadcasts, push to receipt", &busy.measured.latency.pushes);
        outcome.times("beside broadcasts, push to answer", &busy.measured.pushed.answers);
        outcome.times("beside broadcasts, connect", &busy.connects);
        outcome.times("broadcast to receipt", &busy.to_all.broadcasts);
        outcome.delivery("messages", &busy.measured.delivery);
        Ok(())
    }

    /// Another fleet in one process.
    fn visitors(&self, first: usize, receive_buffer: Option<usize>) -> anyhow::Result<Fleet> {
        let options = FleetOptions { first, receive_buffer, ..FleetOptions::default() };
        Self::fleet(self.target, &self.options.child, options)
    }

    fn paced(&mut self, few: &mut Fleet, broadcaster: Option<&mut Broadcaster>) -> anyhow::Result<Paced> {
        const RATE: u32 = 1_000;
        let (target, options, open) = (self.target, self.options, self.open as u64);
        let publish = target.publish.as_ref().context("this target has no way to push")?;
        let plan = PushPlan {
            first: FEW_FIRST,
            uids: FEW,
            count: u64::from(RATE) * options.duration.as_secs().max(1),
            pace: Pace::PerSecond(RATE),
            numbering: Numbering::None,
            ..self.plan()
        };
        let over = AtomicBool::new(false);
        let (mut broadcasts, mut connects) = (0, Histogram::default());
        self.fleet.reset()?;
        let mut measured = measure(&target.pids, few, |_| {
            let outcome = std::thread::scope(|scope| -> anyhow::Result<PushOutcome> {
                let connecting = scope.spawn(|| connect_again_and_again(target, &over));
                let broadcasting = broadcaster.map(|broadcaster| {
                    let over = &over;
                    scope.spawn(move || broadcast_again_and_again(broadcaster, options.payload_bytes, over))
                });
                let pushed = push(publish, &plan);
                over.store(true, Ordering::Relaxed);
                connects = connecting.join().unwrap_or_else(|_| bail!("a thread panicked"))?;
                if let Some(broadcasting) = broadcasting {
                    broadcasts = broadcasting.join().unwrap_or_else(|_| bail!("a thread panicked"))?;
                }
                pushed
            })?;
            let expected = outcome.ok + broadcasts * FEW as u64;
            Ok((Delivery { expected, refused: outcome.refused, ..Delivery::default() }, outcome))
        })?;
        // Those who do not read get broadcasts too, but are counted by nobody.
        let expected = broadcasts * open;
        measured.delivery.tally += self.fleet.await_received(expected, ARRIVAL)?;
        measured.delivery.expected += expected;
        Ok(Paced { measured, to_all: self.fleet.latency()?, broadcasts, connects })
    }
}

/// Clients that are pushed to while fairness is measured, and the number of the first.
const FEW: usize = 100;
const FEW_FIRST: usize = 2_000_000;
/// The number of the first client that does not read.
const LAZY_FIRST: usize = 1_000_000;

struct Paced {
    measured: Measured,
    /// How long broadcasts took.
    to_all: Latency,
    broadcasts: u64,
    connects: Histogram,
}

fn broadcast_again_and_again(
    broadcaster: &mut Broadcaster,
    payload_bytes: usize,
    over: &AtomicBool,
) -> anyhow::Result<u64> {
    let mut count = 0;
    let mut payload = Vec::new();
    while !over.load(Ordering::Relaxed) {
        payload.clear();
        payload::append(&mut payload, EVERYONE, 0, monotonic_us(), payload_bytes);
        broadcaster.broadcast(&payload)?;
        count += 1;
        // The clients share the machine: without a pause it would be their backlog that is measured.
        wait(Duration::from_millis(100));
    }
    Ok(count)
}

/// How clients that come once speak TLS, where the target wants it.
fn strangers(target: &Target) -> anyhow::Result<Option<Tls>> {
    let tls = target.tls.as_deref().map(Tls::believing).transpose()?;
    Ok(tls.as_ref().map(Tls::for_strangers))
}

/// Opens a connection, asks, and waits for the first byte of the answer; every 5 ms.
fn connect_again_and_again(target: &Target, over: &AtomicBool) -> anyhow::Result<Histogram> {
    use std::io::{Read as _, Write as _};
    let endpoint = &target.subscribe.endpoint;
    let request = format!(
        "GET /healthz HTTP/1.1\r\nHost: {}\r\nUpgrade: none\r\nConnection: close\r\n\r\n",
        endpoint.host
    );
    let tls = strangers(target)?;
    let mut waits = Histogram::default();
    let mut due = Instant::now();
    while !over.load(Ordering::Relaxed) {
        wait_until(due);
        due = Instant::now() + Duration::from_millis(5);
        let start = Instant::now();
        let socket = TcpStream::connect(endpoint.address)?;
        socket.set_read_timeout(Some(Duration::from_secs(30)))?;
        let mut link = Link::new(socket, tls.as_ref())?;
        link.write_all(request.as_bytes())?;
        let mut first = [0];
        link.read_exact(&mut first).context("a new connection got no answer")?;
        waits.record(start.elapsed());
    }
    Ok(waits)
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn rate(count: u64, elapsed: Duration) -> f64 {
    count as f64 / elapsed.as_secs_f64().max(1e-9)
}

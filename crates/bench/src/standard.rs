//! The standard set: every figure the project has a budget for, measured beside the floor, some rounds over.

use crate::child::ChildCommand;
use crate::clock::today;
use crate::fleet::{Fleet, FleetOptions};
use crate::floor::Floor;
use crate::push::{Numbering, Pace, PushPlan};
use crate::report::{Figure, Report, Row};
use crate::scenario::{Measured, fanout, floor_answers, floor_fanout, floor_push, idle, pushes};
use crate::server::ServerCommand;
use crate::target::{Protocol, Target};

/// How often server and floor take turns within one scenario.
const SLICES: u64 = 4;

/// The sizes of a standard run. [`StandardOptions::new`] has the ones the budgets are written for.
#[derive(Debug, Clone)]
pub struct StandardOptions {
    /// How to start the server.
    pub server: ServerCommand,
    /// How to start fleet and floor.
    pub child: ChildCommand,
    /// How the clients connect.
    pub fleet: FleetOptions,
    /// How often everything is done; the table shows medians.
    pub rounds: usize,
    /// Connections for idle memory and for the far end of "flat".
    pub many: usize,
    /// Connections for fan-out and pushes.
    pub receivers: usize,
    /// Connections for the near end of "flat".
    pub few: usize,
    /// Broadcasts a round.
    pub broadcasts: u64,
    /// Pipelined pushes a round.
    pub pushes: u64,
    /// Unanswered pushes at most.
    pub window: usize,
    /// Pushes a second at a modest pace.
    pub modest_rate: u32,
    /// Pushes a round at a modest pace.
    pub modest_pushes: u64,
    /// Payload of every message.
    pub payload_bytes: usize,
}

impl StandardOptions {
    /// 19,000 idle, 10,000 receivers, 128 bytes, three rounds: about a minute each.
    pub fn new(server: ServerCommand, child: ChildCommand) -> Self {
        Self {
            server,
            child,
            fleet: FleetOptions::default(),
            rounds: 3,
            many: 19_000,
            receivers: 10_000,
            few: 1_000,
            broadcasts: 20,
            pushes: 200_000,
            window: 1_024,
            modest_rate: 2_000,
            modest_pushes: 20_000,
            payload_bytes: 128,
        }
    }
}

/// Runs the standard set and says what it cost and whether everything arrived.
///
/// # Errors
/// When a process cannot be started, ends early or stops answering. Lost messages are no error here
/// but in [`Report::failures`].
pub fn run_standard(options: &StandardOptions) -> anyhow::Result<Report> {
    let rounds: Vec<Round> =
        (0..options.rounds.max(1)).map(|_| Round::run(options)).collect::<Result<_, _>>()?;
    let row = |what, must, aim, figure: &dyn Fn(&Round) -> Figure| Row {
        what,
        figures: rounds.iter().map(figure).collect(),
        must,
        aim,
    };
    let over = |value: &Measured, floor: &Measured| Figure {
        value: value.cpu_per_million(),
        floor: Some(floor.cpu_per_million()),
    };
    let growth = |many: &Measured, few: &Measured| many.cpu_per_million() / few.cpu_per_million();
    let beside_websockets = |value, round: &Round| Figure { value, floor: Some(round.idle_websockets) };
    let rows = vec![
        row("idle: bytes a connection", 1536.0, 512.0, &|r| Figure { value: r.idle_bytes, floor: None }),
        row("idle event streams, beside WebSockets", 1.5, 1.1, &|r| beside_websockets(r.idle_events, r)),
        row("idle long-polls, beside WebSockets", 1.5, 1.1, &|r| beside_websockets(r.idle_polls, r)),
        row("fan-out: CPU-s a million", 1.4, 1.1, &|r| over(&r.fanout, &r.floor_fanout)),
        row("push, pipelined: CPU-s a million", 1.7, 1.3, &|r| over(&r.push, &r.floor_push)),
        row("push at a modest pace: CPU-s a million", 5.0, 3.0, &|r| over(&r.modest, &r.floor_push)),
        // "Flat" leaves 15 % for noise: what the machine's caches cost, the floor pays too.
        row("push, from few to many connections: growth of the cost", 1.15, 1.05, &|r| Figure {
            value: growth(&r.push_many, &r.push_few),
            floor: Some(growth(&r.floor_many, &r.floor_few)),
        }),
    ];
    Ok(Report {
        circumstances: circumstances(options),
        rows,
        notes: notes(&rounds),
        failures: rounds.iter().enumerate().flat_map(|(i, round)| round.failures(i + 1)).collect(),
    })
}

/// Server and floor side by side with a fleet each, asked in turn: a machine that others use too
/// changes its pace within seconds, and a ratio is only worth something when both halves saw the same.
struct Stage<'a> {
    options: &'a StandardOptions,
    fleet: Fleet,
    server: Target,
    floor_fleet: Fleet,
    floor: Floor,
}

impl<'a> Stage<'a> {
    fn start(options: &'a StandardOptions) -> anyhow::Result<Self> {
        Ok(Self {
            options,
            fleet: Fleet::start(&options.child, options.fleet)?,
            server: Target::start(&options.server, Protocol::Plain)?,
            floor_fleet: Fleet::start(&options.child, options.fleet)?,
            floor: Floor::start(&options.child)?,
        })
    }

    fn open(&mut self, total: usize) -> anyhow::Result<()> {
        self.fleet.open(&self.server.subscribe, total)?;
        self.floor_fleet.open(&self.floor.subscribe(), total)?;
        self.server.settle()
    }

    fn plan(&self, uids: usize, count: u64, pace: Pace, seed: u64) -> PushPlan {
        let payload_bytes = self.options.payload_bytes;
        PushPlan { first: 0, uids, count, payload_bytes, pace, numbering: Numbering::Sequence, seed }
    }

    fn pushes(&mut self, uids: usize) -> anyhow::Result<(Measured, Measured)> {
        let o = self.options;
        let pace = Pace::Pipelined(o.window);
        let (mut server, mut floor) = (Measured::default(), Measured::default());
        for (seed, count) in slices(o.pushes) {
            let plan = self.plan(uids, count, pace, seed);
            server += pushes(&self.server, &mut self.fleet, &plan)?;
            floor += floor_push(&mut self.floor, &mut self.floor_fleet, &plan)?;
        }
        Ok((server, floor))
    }

    fn fanout(&mut self) -> anyhow::Result<(Measured, Measured)> {
        let o = self.options;
        let (mut server, mut floor) = (Measured::default(), Measured::default());
        for (_, count) in slices(o.broadcasts) {
            server += fanout(&self.server, &mut self.fleet, o.receivers, count, o.payload_bytes)?;
            floor += floor_fanout(&mut self.floor, &mut self.floor_fleet, count, o.payload_bytes)?;
        }
        Ok((server, floor))
    }

    fn modest(&mut self) -> anyhow::Result<(Measured, Measured)> {
        let o = self.options;
        let pace = Pace::PerSecond(o.modest_rate);
        let (mut server, mut floor) = (Measured::default(), Measured::default());
        for (seed, count) in slices(o.modest_pushes) {
            let plan = self.plan(o.receivers, count, pace, seed);
            server += pushes(&self.server, &mut self.fleet, &plan)?;
            floor += floor_answers(&self.floor, &mut self.floor_fleet, &plan)?;
        }
        Ok((server, floor))
    }
}

/// Parts of `count` with a seed each.
fn slices(count: u64) -> impl Iterator<Item = (u64, u64)> {
    (0..SLICES).map(move |i| (i + 1, (count * (i + 1) / SLICES) - (count * i / SLICES)))
}

struct Round {
    idle_bytes: f64,
    /// Bytes a connection that speaks doorbell.v1, by transport.
    idle_websockets: f64,
    idle_events: f64,
    idle_polls: f64,
    push_many: Measured,
    push_few: Measured,
    fanout: Measured,
    push: Measured,
    modest: Measured,
    floor_few: Measured,
    floor_fanout: Measured,
    floor_push: Measured,
    floor_many: Measured,
    floor_modest: Measured,
}

impl Round {
    fn run(o: &StandardOptions) -> anyhow::Result<Self> {
        let idle_as = |protocol| {
            let server = Target::start(&o.server, protocol)?;
            idle(&server, &mut Fleet::start(&o.child, o.fleet)?, o.many)
        };
        let idle_websockets = idle_as(Protocol::V1)?;
        let (idle_events, idle_polls) = (idle_as(Protocol::Events)?, idle_as(Protocol::Poll)?);

        let mut stage = Stage::start(o)?;
        let idle_bytes = idle(&stage.server, &mut stage.fleet, o.many)?;
        stage.open(o.many)?;
        let (push_many, floor_many) = stage.pushes(o.many)?;
        drop(stage);

        let mut stage = Stage::start(o)?;
        stage.open(o.few)?;
        let (push_few, floor_few) = stage.pushes(o.few)?;
        stage.open(o.receivers)?;
        let (fanout, floor_fanout) = stage.fanout()?;
        let (push, floor_push) = stage.pushes(o.receivers)?;
        let (modest, floor_modest) = stage.modest()?;
        Ok(Self {
            idle_bytes,
            idle_websockets,
            idle_events,
            idle_polls,
            push_many,
            push_few,
            fanout,
            push,
            modest,
            floor_few,
            floor_fanout,
            floor_push,
            floor_many,
            floor_modest,
        })
    }

    fn failures(&self, number: usize) -> Vec<String> {
        let scenarios = [
            ("push to many", &self.push_many),
            ("push to few", &self.push_few),
            ("fan-out", &self.fanout),
            ("push", &self.push),
            ("push at a modest pace", &self.modest),
            ("floor, few", &self.floor_few),
            ("floor, fan-out", &self.floor_fanout),
            ("floor, push", &self.floor_push),
            ("floor, many", &self.floor_many),
            ("floor, modest pace", &self.floor_modest),
        ];
        let failed = scenarios.into_iter().filter(|(_, measured)| !measured.delivery.is_complete());
        failed
            .map(|(name, Measured { delivery, .. })| {
                let (expected, refused, tally) = (delivery.expected, delivery.refused, delivery.tally);
                format!("round {number}, {name}: expected {expected}, refused {refused}, clients saw {tally}")
            })
            .collect()
    }
}

fn circumstances(o: &StandardOptions) -> Vec<String> {
    let system = rustix::system::uname();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    vec![
        format!("{}, {cores} cores, Linux {}", today(), system.release().to_string_lossy()),
        format!(
            "Medians of {} rounds; {}-byte payload; idle at {} connections, flat from {} to {}, the rest at {}; \
             {} broadcasts, {} pipelined pushes ({} unanswered at most), {} pushes at {} a second",
            o.rounds,
            o.payload_bytes,
            o.many,
            o.few,
            o.many,
            o.receivers,
            o.broadcasts,
            o.pushes,
            o.window,
            o.modest_pushes,
            o.modest_rate
        ),
        "Value: the server process's CPU time (/proc/PID/stat, its threads' schedstat) or PSS growth. Floor: a bare loop that writes a \
         ready frame to the same number of sockets, in turn with the server; of event streams and long-polls: a WebSocket \
         that speaks doorbell.v1. The budget is for the ratio where there is one."
            .to_owned(),
    ]
}

fn notes(rounds: &[Round]) -> Vec<String> {
    let Some(last) = rounds.last() else { return Vec::new() };
    let mut modest: Vec<f64> = rounds
        .iter()
        .map(|round| round.modest.cpu_per_million() / round.floor_modest.cpu_per_million())
        .collect();
    modest.sort_unstable_by(f64::total_cmp);
    vec![
        format!(
            "Clients' own CPU-s a million, last round: fan-out {:.2}, push {:.2}, modest {:.2}, floor {:.2}",
            last.fanout.client_cpu_per_million(),
            last.push.client_cpu_per_million(),
            last.modest.client_cpu_per_million(),
            last.floor_push.client_cpu_per_million()
        ),
        format!(
            "Push at {:.2} CPU-s a million with few connections and {:.2} with many; floor {:.2} and {:.2}",
            last.push_few.cpu_per_million(),
            last.push_many.cpu_per_million(),
            last.floor_few.cpu_per_million(),
            last.floor_many.cpu_per_million(),
        ),
        format!(
            "At a modest pace a bare loop that waits, reads, sends a ready frame and answers costs {:.2} CPU-s a million; \
             the server costs {:.2} times as much ({:.2} to {:.2}); median answer {} us, of the bare loop {}",
            last.floor_modest.cpu_per_million(),
            modest[modest.len() / 2],
            modest[0],
            modest[modest.len() - 1],
            last.modest.pushed.answers.quantile(0.5).as_micros(),
            last.floor_modest.pushed.answers.quantile(0.5).as_micros()
        ),
    ]
}

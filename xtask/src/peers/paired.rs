//! `cargo xtask peers --paired`: servers up at the same time, asked in turn in slices of half a second.
//!
//! A machine that others use too changes its pace by a tenth and more within minutes, and servers measured one after the other
//! differ by that much at least. Here each slice asks the same of every server, one right after the other, so that a ratio
//! within a slice is one at the same pace. Who begins changes from slice to slice, and who is started first from round to
//! round. How small a difference shows is what the interval says: on two cores that nothing else used, four rounds had it at 4 to 12 %
//! either side and ten at 3 %.

use std::fmt;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use doorbell_bench::{ChildCommand, Fleet, FleetOptions, Numbering, Pace, PushPlan, Target, fanout, pushes};

use super::estimate::{Estimate, Ratio};
use super::peer::Peer;
use super::stage::Stage;
use super::table::number;
use super::{PeersArgs, machine};

/// Slices at the start of a round that are not counted: servers touch their memory for the first time.
const WARM_UP: u32 = 1;

/// Broadcasts in a slice. With one, waiting for what should not come takes more of the time than the broadcast.
const BROADCASTS: u64 = 4;

const PAYLOAD_BYTES: usize = 128;

/// What a slice asks of a server, in this order.
#[derive(Debug, Clone, Copy)]
enum Kind {
    FanOut,
    Push,
}

impl Kind {
    const ALL: [Self; 2] = [Self::FanOut, Self::Push];

    fn name(self) -> &'static str {
        match self {
            Self::FanOut => "fan-out",
            Self::Push => "push",
        }
    }
}

/// Measures and prints. A lost message ends it: what it cost to deliver the others compares with nothing.
pub(super) fn run(args: &PeersArgs, doorbell: &Path, folder: &Path) -> anyhow::Result<ExitCode> {
    ensure!(args.rounds > 1, "--paired needs at least two rounds: one does not say what is chance");
    let peers = beside_doorbell(&args.paired)?;
    for peer in &peers {
        peer.prepare(folder).with_context(|| peer.name())?;
    }
    let mut rows: Vec<Row> = peers.into_iter().map(Row::new).collect();
    let began = Instant::now();
    for round in 1..=args.rounds {
        eprintln!("{:>4} s: round {round} of {}", began.elapsed().as_secs(), args.rounds);
        measure(&mut rows, args, doorbell, folder)?;
        // Who was started last is the first of the next round.
        rows.reverse();
    }
    eprintln!("{:>4} s: done", began.elapsed().as_secs());
    rows.sort_by_key(|row| row.peer as u8);
    println!("\n{}", Comparison { rows, circumstances: circumstances(args) });
    Ok(ExitCode::SUCCESS)
}

/// Doorbell and those named, each once.
fn beside_doorbell(named: &[Peer]) -> anyhow::Result<Vec<Peer>> {
    let mut peers = vec![Peer::Doorbell];
    for &peer in named {
        if !peers.contains(&peer) {
            peers.push(peer);
        }
    }
    ensure!(peers.len() > 1, "--paired needs the name of another server than Doorbell");
    Ok(peers)
}

/// One round: all servers from their start, in this order, to their end.
fn measure(rows: &mut [Row], args: &PeersArgs, doorbell: &Path, folder: &Path) -> anyhow::Result<()> {
    let started = rows.iter().map(|row| Running::start(row.peer, args, doorbell, folder));
    let mut servers: Vec<Running> = started.collect::<Result<_, _>>()?;
    for slice in 0..WARM_UP + args.slices {
        for kind in Kind::ALL {
            let mut turn: Vec<&mut Running> = servers.iter_mut().collect();
            if slice % 2 == 1 {
                turn.reverse();
            }
            for server in turn {
                let cost = server
                    .cost(kind, args, slice)
                    .with_context(|| format!("{}, {}", server.peer.name(), kind.name()))?;
                if slice >= WARM_UP {
                    server.costs[kind as usize].push(cost);
                }
            }
        }
    }
    for (row, server) in rows.iter_mut().zip(servers) {
        for (rounds, slices) in row.costs.iter_mut().zip(server.costs) {
            rounds.push(slices);
        }
    }
    Ok(())
}

/// A server with its clients. Clients end before it does.
struct Running {
    peer: Peer,
    fleet: Fleet,
    target: Target,
    connections: usize,
    /// Of each [`Kind`] a figure a slice: CPU seconds of the server for a million deliveries.
    costs: [Vec<f64>; 2],
    /// Kept: the server ends with it.
    _stage: Stage,
}

impl Running {
    /// Starts it and has everyone there.
    fn start(peer: Peer, args: &PeersArgs, doorbell: &Path, folder: &Path) -> anyhow::Result<Self> {
        let mut stage = Stage::new(folder, &peer.name())?;
        let spoken_to = peer.start(&mut stage, doorbell, args.connections)?;
        let target = spoken_to.target(stage.server_pids()?)?;
        // The clients are those of `doorbell bench`: optimised, unlike this program.
        let child = ChildCommand { program: doorbell.to_owned(), args: vec!["bench-child".into()] };
        let connections = usize::try_from(args.connections)?;
        let mut fleet = Fleet::start(&child, FleetOptions::for_clients(connections))?;
        fleet.open(&target.subscribe, connections).with_context(|| peer.name())?;
        target.settle()?;
        Ok(Self { peer, fleet, target, connections, costs: Default::default(), _stage: stage })
    }

    /// Asks for the broadcasts or the pushes of a slice, on a connection that is made for it: a server may
    /// close one on which it hears nothing while it is another's turn.
    fn cost(&mut self, kind: Kind, args: &PeersArgs, slice: u32) -> anyhow::Result<f64> {
        let Self { target, fleet, connections, .. } = self;
        let measured = match kind {
            Kind::FanOut => fanout(target, fleet, *connections, BROADCASTS, PAYLOAD_BYTES)?,
            Kind::Push => {
                let plan = PushPlan {
                    first: 0,
                    uids: *connections,
                    count: args.pushes / self.peer.fewer_pushes(),
                    payload_bytes: PAYLOAD_BYTES,
                    pace: Pace::Pipelined(self.peer.window() as usize),
                    numbering: Numbering::Sequence,
                    seed: u64::from(slice),
                };
                pushes(target, fleet, &plan)?
            }
        };
        let delivery = measured.delivery;
        ensure!(
            delivery.is_complete(),
            "expected {}, refused {}, clients saw {}",
            delivery.expected,
            delivery.refused,
            delivery.tally
        );
        let cost = measured.cpu_per_million();
        ensure!(cost > 0.0, "too little to be measured");
        Ok(cost)
    }
}

/// A server and what it cost.
struct Row {
    peer: Peer,
    title: String,
    /// Of each [`Kind`] the slices of every round.
    costs: [Vec<Vec<f64>>; 2],
}

impl Row {
    /// Of one that is prepared: the title has its version.
    fn new(peer: Peer) -> Self {
        Self { peer, title: peer.title(), costs: Default::default() }
    }
}

/// `Display` prints it as Markdown.
struct Comparison {
    /// The first is what the others are compared with.
    rows: Vec<Row>,
    /// How it was measured.
    circumstances: String,
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n", self.circumstances)?;
        write!(f, "| |")?;
        for kind in Kind::ALL {
            write!(f, " {}, CPU-s a million | times Doorbell's |", kind.name())?;
        }
        writeln!(f, "\n|{}", "---|".repeat(1 + 2 * Kind::ALL.len()))?;
        let Some((first, others)) = self.rows.split_first() else { return Ok(()) };
        for row in &self.rows {
            write!(f, "| {} |", row.title)?;
            for (costs, to) in row.costs.iter().zip(&first.costs) {
                let cost = Estimate::of(costs).map_or_else(
                    || "-".to_owned(),
                    |cost| format!("{} ± {}", number(cost.mean, 2), number(cost.standard_error, 2)),
                );
                let ratio = Ratio::of(costs, to).filter(|_| row.peer != first.peer);
                write!(f, " {cost} | {} |", ratio.map_or_else(|| "-".to_owned(), |ratio| ratio.to_string()))?;
            }
            writeln!(f)?;
        }
        writeln!(f)?;
        for row in others {
            for kind in Kind::ALL {
                let Some(ratio) = Ratio::of(&row.costs[kind as usize], &first.costs[kind as usize]) else {
                    continue;
                };
                writeln!(f, "- {}, {}: {}", row.title, kind.name(), verdict(&ratio))?;
            }
        }
        writeln!(f, "- Every message arrived once at its own uid.")
    }
}

fn verdict(ratio: &Ratio) -> &'static str {
    match (ratio.excludes_1(), ratio.ratio > 1.0) {
        (true, true) => "the interval excludes 1: it costs more than Doorbell.",
        (true, false) => "the interval excludes 1: it costs less than Doorbell.",
        (false, _) => "the interval does not exclude 1: no difference from Doorbell is shown.",
    }
}

fn circumstances(args: &PeersArgs) -> String {
    let PeersArgs { rounds, slices, connections, pushes, .. } = args;
    format!(
        "{}; servers up at the same time, {connections} connections of each, 128-byte payload; {rounds} rounds with freshly started \
         servers, {slices} slices in each: {BROADCASTS} broadcasts by every server in turn, then {pushes} pushes without a pause. Means ± \
         standard error; ratios slice by slice, with their 95 % interval.",
        machine(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doorbell_is_always_there_and_first_and_never_alone() {
        assert_eq!(beside_doorbell(&[Peer::Uws]).unwrap(), [Peer::Doorbell, Peer::Uws]);
        let named = [Peer::Ws, Peer::Doorbell, Peer::Ws];
        assert_eq!(beside_doorbell(&named).unwrap(), [Peer::Doorbell, Peer::Ws]);
        assert!(beside_doorbell(&[Peer::Doorbell]).is_err());
    }

    #[test]
    fn a_comparison_says_of_each_server_and_kind_whether_it_differs() {
        let row = |peer, title: &str, fan_out: [f64; 3], push: [f64; 3]| Row {
            peer,
            title: title.to_owned(),
            costs: [fan_out, push].map(|rounds| rounds.map(|cost| vec![cost; 2]).to_vec()),
        };
        let rows = vec![
            row(Peer::Doorbell, "Doorbell", [10.0, 12.0, 14.0], [20.0, 21.0, 22.0]),
            row(Peer::Uws, "Other", [20.0, 24.0, 28.0], [20.0, 22.0, 21.5]),
            row(Peer::Ws, "Third", [5.0, 6.0, 7.0], [1_300.0, 1_350.0, 1_400.0]),
        ];
        let comparison = Comparison { rows, circumstances: "Here.".to_owned() };
        assert_eq!(
            comparison.to_string(),
            "Here.\n\n\
             | | fan-out, CPU-s a million | times Doorbell's | push, CPU-s a million | times Doorbell's |\n\
             |---|---|---|---|---|\n\
             | Doorbell | 12.00 ± 1.15 | - | 21.00 ± 0.58 | - |\n\
             | Other | 24.00 ± 2.31 | 2.000 (2.000 to 2.000) | 21.17 ± 0.60 | 1.008 (0.923 to 1.101) |\n\
             | Third | 6.00 ± 0.58 | 0.500 (0.500 to 0.500) | 1,350 ± 28.87 | 64.305 (62.633 to 66.022) |\n\n\
             - Other, fan-out: the interval excludes 1: it costs more than Doorbell.\n\
             - Other, push: the interval does not exclude 1: no difference from Doorbell is shown.\n\
             - Third, fan-out: the interval excludes 1: it costs less than Doorbell.\n\
             - Third, push: the interval excludes 1: it costs more than Doorbell.\n\
             - Every message arrived once at its own uid.\n"
        );
    }
}

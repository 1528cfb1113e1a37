//! `cargo xtask peers`: Doorbell and others' push servers in turn, by the same clients, in one table; with `--paired` up at the
//! same time.

mod estimate;
mod paired;
mod peer;
mod spoken;
mod stage;
mod table;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use clap::builder::ArgPredicate;
use clap::{Args, ValueEnum as _};

use self::peer::Peer;
use self::stage::{Stage, bound, last_line, raise_descriptor_limit};
use self::table::{Row, Table};
use crate::bench::build;
use crate::step::target;

/// How long one run of `doorbell bench` may take, in seconds; with the default numbers the slowest takes some 40.
const RUN_SECONDS: &str = "180";

/// Measures Doorbell beside others' push servers: idle memory, pushes and fan-out; takes about ten minutes.
///
/// Installs what they need by apt-get, npm and pip when it is missing. What cannot be had is left out, and named.
#[derive(Debug, Args)]
pub(crate) struct PeersArgs {
    /// How often everything is done, each time with freshly started servers [default: 3; with --paired 10].
    #[arg(long, value_name = "N", hide_default_value = true, value_parser = clap::value_parser!(u32).range(1..))]
    #[arg(default_value = "3", default_value_if("paired", ArgPredicate::IsPresent, "10"))]
    rounds: u32,
    /// Connections of each server [default: 10000; with --paired 6000].
    #[arg(long, value_name = "N", hide_default_value = true, value_parser = clap::value_parser!(u64).range(1..))]
    #[arg(default_value = "10000", default_value_if("paired", ArgPredicate::IsPresent, "6000"))]
    connections: u64,
    /// Pushes without a pause; a fifth as many follow at 2,000 a second. With --paired: those of a slice, alone
    /// [default: 50000; with --paired 24000].
    #[arg(long, value_name = "N", hide_default_value = true)]
    #[arg(default_value = "50000", default_value_if("paired", ArgPredicate::IsPresent, "24000"))]
    pushes: u64,
    /// Doorbell and these up at the same time, asked in turn in short slices, and compared slice by slice; takes two to three
    /// minutes for one. It tells apart what the machine's changes of pace hide otherwise, and measures no memory.
    #[arg(long, value_name = "NAME", value_enum, num_args = 1.., conflicts_with_all = ["only", "all"])]
    paired: Vec<Peer>,
    /// Slices in a round, each of them four broadcasts and the pushes.
    #[arg(long, value_name = "N", default_value_t = 4, requires = "paired", value_parser = clap::value_parser!(u32).range(1..))]
    slices: u32,
    /// Only these.
    #[arg(long, value_name = "NAME", value_enum, num_args = 1..)]
    only: Vec<Peer>,
    /// Also what takes long to build: sockudo.
    #[arg(long, conflicts_with = "only")]
    all: bool,
    /// Measure this executable instead of building the release binary.
    #[arg(long, value_name = "PROGRAM")]
    server: Option<PathBuf>,
}

/// Installs, measures and prints. Fails when Doorbell lost something or could not be measured, whatever the others did,
/// and when nothing was measured.
pub(crate) fn run(args: &PeersArgs) -> anyhow::Result<ExitCode> {
    let doorbell = match &args.server {
        Some(program) => program.canonicalize().with_context(|| format!("no {}", program.display()))?,
        None => build()?,
    };
    raise_descriptor_limit()?;
    let folder = target()?.join("peers");
    if !args.paired.is_empty() {
        return paired::run(args, &doorbell, &folder);
    }
    let mut table = Table { rows: Vec::new(), left_out: Vec::new(), circumstances: circumstances(args) };
    for &peer in Peer::value_variants() {
        if !args.only.is_empty() && !args.only.contains(&peer) {
            continue;
        }
        if args.only.is_empty() && !args.all && peer.is_slow_to_build() {
            table.left_out.push(format!("{}: takes long to build, --all has it", peer.name()));
            continue;
        }
        match peer.prepare(&folder) {
            Ok(()) => table.rows.push(Row::new(peer)),
            Err(error) => table.left_out.push(format!("{}: {error:#}", peer.name())),
        }
    }
    let began = Instant::now();
    for round in 1..=args.rounds {
        for row in &mut table.rows {
            eprintln!("{:>4} s: round {round}, {}", began.elapsed().as_secs(), row.peer.name());
            if let Err(error) = measure(row, args, &doorbell, &folder) {
                row.failures.push(format!("{error:#}"));
            }
        }
    }
    eprintln!("{:>4} s: done", began.elapsed().as_secs());
    println!("\n{table}");
    let good = match table.rows.iter().find(|row| row.peer == Peer::Doorbell) {
        Some(ours) => ours.failures.is_empty(),
        None => table.rows.iter().any(Row::is_measured),
    };
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// One round of one server, from its start to its end.
fn measure(row: &mut Row, args: &PeersArgs, doorbell: &Path, folder: &Path) -> anyhow::Result<()> {
    let peer = row.peer;
    let mut stage = Stage::new(folder, &peer.name())?;
    let spoken_to = peer.start(&mut stage, doorbell, args.connections)?.arguments();
    let pids = stage.server_pids()?.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
    let pushes = args.pushes / peer.fewer_pushes();
    let window = peer.window().to_string();
    for (scenarios, pushes, pace) in [
        (&["idle", "push", "fan-out"][..], pushes, ["--window", &window]),
        (&["push"], pushes / 5, ["--rate", "2000"]),
    ] {
        let mut bench = bound("timeout");
        bench.arg(RUN_SECONDS).arg(doorbell).arg("bench").args(scenarios).arg("--json").args(pace);
        bench.args(["--connections", &args.connections.to_string(), "--pushes", &pushes.to_string()]);
        bench.args(["--pid", &pids]).args(&spoken_to);
        let output = bench.output().context("failed to start timeout")?;
        let outcomes = String::from_utf8_lossy(&output.stdout);
        for outcome in outcomes.lines() {
            row.add(outcome, pace[0] == "--rate")?;
        }
        ensure!(
            outcomes.lines().count() == scenarios.len(),
            "{}: {}; {}",
            scenarios.join(", "),
            output.status,
            last_line(&String::from_utf8_lossy(&output.stderr))
        );
    }
    Ok(())
}

/// Cores and kernel.
fn machine() -> String {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let system = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{cores} cores, Linux {}", system.trim())
}

fn circumstances(args: &PeersArgs) -> String {
    let PeersArgs { rounds, connections, pushes, .. } = args;
    format!(
        "{}; {connections} connections, 128-byte payload, {pushes} pushes without a pause, {} at 2,000 a \
         second, 20 broadcasts; medians of {rounds} rounds in which the servers took turns, lowest and highest in brackets.",
        machine(),
        pushes / 5,
    )
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Recipe {
        #[command(flatten)]
        args: PeersArgs,
    }

    fn read(words: &str) -> Result<PeersArgs, clap::Error> {
        Recipe::try_parse_from(["peers"].into_iter().chain(words.split_whitespace()))
            .map(|recipe| recipe.args)
    }

    #[test]
    fn how_much_is_done_depends_on_how_it_is_measured_and_on_what_is_said() {
        let much = |words: &str| {
            let args = read(words).unwrap();
            (args.rounds, args.connections, args.pushes, args.slices)
        };
        assert_eq!(much(""), (3, 10_000, 50_000, 4));
        assert_eq!(much("--paired uws ws"), (10, 6_000, 24_000, 4));
        assert_eq!(much("--paired uws --rounds 2 --slices 5 --connections 100 --pushes 9"), (2, 100, 9, 5));
    }

    #[test]
    fn what_makes_no_sense_together_is_refused() {
        for wrong in [
            "--paired",
            "--paired nobody",
            "--paired uws --only ws",
            "--paired uws --all",
            "--slices 5",
            "--connections 0",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}

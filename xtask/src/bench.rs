//! `cargo xtask bench`: the standard set against the release binary, beside the floor, and the hub alone, in one table.

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use doorbell_bench::{
    ChildCommand, ChildKind, Figure, Report, Row, ServerCommand, StandardOptions, run_child, run_standard,
};
use serde_json::Value;

/// The name under which `main` has to offer [`ChildArgs`], hidden from the help.
pub(crate) const CHILD_SUBCOMMAND: &str = "bench-child";

/// Measures the server beside the physical floor; takes a few minutes.
#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// How often everything is done; the table shows medians.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Connections for idle memory.
    #[arg(long, default_value_t = 19_000)]
    connections: usize,
    /// Connections for fan-out and pushes.
    #[arg(long, default_value_t = 10_000)]
    receivers: usize,
    /// Also write the result to this file, for instance docs/benchmarks.md.
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
    /// Fail when a "must" budget is missed, not only when a message is.
    #[arg(long)]
    enforce: bool,
    /// Measure this executable instead of building the release binary.
    #[arg(long, value_name = "PROGRAM")]
    server: Option<PathBuf>,
    /// Leave out the hub alone, which has a million connections and takes a minute.
    #[arg(long)]
    no_hub: bool,
    /// Arguments for --server in place of `serve --identity open` and listeners on free loopback ports.
    #[arg(last = true, requires = "server")]
    server_args: Vec<OsString>,
}

/// What the benchmark starts this program with, to get its clients and its floor.
#[derive(Debug, Args)]
pub(crate) struct ChildArgs {
    /// `fleet` or `floor`.
    kind: String,
}

/// Builds, measures and prints.
pub(crate) fn run(args: BenchArgs) -> anyhow::Result<()> {
    let mut server = ServerCommand::doorbell(match args.server {
        Some(program) => program,
        None => build()?,
    });
    if !args.server_args.is_empty() {
        server.args = args.server_args;
    }
    let mut options = StandardOptions::new(server, ChildCommand::this_program(CHILD_SUBCOMMAND)?);
    options.rounds = args.rounds;
    options.many = args.connections;
    options.receivers = args.receivers;
    options.few = options.few.min(args.receivers);

    let mut report = run_standard(&options)?;
    if !args.no_hub {
        add_hub_alone(&mut report, args.rounds)?;
    }
    println!("{report}");
    if let Some(path) = args.write {
        let before = fs::read_to_string(&path).unwrap_or_default();
        // What follows the first heading of its own was measured in another way, and stays.
        let rest = before.find("\n## ").map_or("", |at| &before[at..]);
        fs::write(&path, format!("# Benchmarks\n\nMade by `cargo xtask bench --write`.\n\n{report}{rest}"))
            .with_context(|| format!("failed to write {}", path.display()))?;
    }
    ensure!(report.is_sound(), "messages were lost, doubled, misdelivered or refused");
    let missed: Vec<_> =
        report.rows.iter().filter(|row| !row.keeps_must()).map(|row: &Row| row.what).collect();
    ensure!(!args.enforce || missed.is_empty(), "budgets missed: {}", missed.join("; "));
    Ok(())
}

/// What the hub's own benchmark says of one run.
struct HubAlone {
    bytes: f64,
    /// How many times as much a push costs at a million as at a thousand: among others, alone, and its look-up and delivery.
    together: f64,
    alone: f64,
    look_up: f64,
}

/// Runs the hub's own benchmark, for what no process can have sockets enough.
fn add_hub_alone(report: &mut Report, rounds: usize) -> anyhow::Result<()> {
    let runs: Vec<HubAlone> = (0..rounds).map(|_| HubAlone::measure()).collect::<anyhow::Result<_>>()?;
    let row = |what, of: fn(&HubAlone) -> f64, must, aim| {
        let figures = runs.iter().map(|run| Figure { value: of(run), floor: None }).collect();
        Row { what, figures, must, aim }
    };
    report.rows.extend([
        row("the hub alone: bytes of a connection and its uid, at a million", |run| run.bytes, 400.0, 130.0),
        // Pushes that come together, as they do from a busy backend.
        row("the hub alone: growth of a push, from 1,000 to a million", |run| run.together, 1.3, 1.05),
    ]);
    let median = |of| row("", of, f64::INFINITY, f64::INFINITY).result();
    report.notes.push(format!(
        "The hub alone: in-memory outboxes, one thread, lines handled as the text port does. A line that comes alone, \
         with nothing to look ahead at, costs {:.2} times as much at a million; its look-up and delivery {:.2} times",
        median(|run| run.alone),
        median(|run| run.look_up)
    ));
    Ok(())
}

impl HubAlone {
    fn measure() -> anyhow::Result<Self> {
        let output = cargo()
            .args(["bench", "--package", "doorbell-hub", "--bench", "scale", "--", "--json"])
            .stderr(Stdio::inherit())
            .output()
            .context("failed to start cargo")?;
        ensure!(output.status.success(), "the benchmark of the hub failed");
        let printed = String::from_utf8(output.stdout).context("the hub's benchmark prints no text")?;
        let figures =
            printed.lines().find(|line| line.starts_with('{')).context("the hub's benchmark says nothing")?;
        let figures: Value = serde_json::from_str(figures).context("the hub's benchmark says no JSON")?;
        let figure = |name: &str| {
            figures[name].as_f64().with_context(|| format!("no `{name}` from the hub's benchmark"))
        };
        Ok(Self {
            bytes: figure("bytes")?,
            together: figure("together_growth")?,
            alone: figure("alone_growth")?,
            look_up: figure("look_up_growth")?,
        })
    }
}

/// Runs the hidden subcommand.
pub(crate) fn run_bench_child(args: &ChildArgs) -> anyhow::Result<()> {
    run_child(ChildKind::from_name(&args.kind).context("neither `fleet` nor `floor`")?)
}

fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Builds the release binary and says where Cargo has put it.
pub(crate) fn build() -> anyhow::Result<PathBuf> {
    let status = cargo()
        .args(["build", "--release", "--package", "doorbell"])
        .status()
        .context("failed to start cargo")?;
    if !status.success() {
        bail!("the release build failed");
    }
    // This program runs from <target>/<profile>/xtask; the server is beside its profile.
    let own = std::env::current_exe()?;
    let target = own.ancestors().nth(2).context("no target directory")?;
    Ok(target.join("release/doorbell"))
}

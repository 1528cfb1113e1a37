//! `cargo xtask soak`: an hour of churn against one server, whose memory, descriptors and latency must stay flat.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::Args;
use doorbell_bench::{ChildCommand, ChurnPlan, Fleet, FleetOptions, Protocol, ServerCommand, Target};

use crate::bench::{CHILD_SUBCOMMAND, build};

/// Memory may grow by this much from the end of the first slice to the end of the last, in bytes: what an allocator keeps
/// of one slice's crowd and not of another's.
const GROWTH: u64 = 8 << 20;

/// Lets clients connect, hear one push each, and go, for an hour; fails when something is lost or grows.
#[derive(Debug, Args)]
pub(crate) struct SoakArgs {
    /// How long in all.
    #[arg(long, value_name = "MINUTES", default_value_t = 60)]
    minutes: u64,
    /// New clients a second.
    #[arg(long, default_value_t = 500)]
    rate: u32,
    /// How long a slice is, after which the server is looked at.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    slice: u64,
    /// Soak this executable instead of building the release binary.
    #[arg(long, value_name = "PROGRAM")]
    server: Option<PathBuf>,
}

/// Builds, soaks and prints a line a slice.
pub(crate) fn run(args: &SoakArgs) -> anyhow::Result<()> {
    let program = match &args.server {
        Some(program) => program.clone(),
        None => build()?,
    };
    let target = Target::start(&ServerCommand::doorbell(program), Protocol::Plain)?;
    let mut fleet = Fleet::start(&ChildCommand::this_program(CHILD_SUBCOMMAND)?, FleetOptions::default())?;
    let plan = ChurnPlan {
        subscribe: target.subscribe.clone(),
        publish: target.publish.clone().context("a Doorbell has a text port")?,
        rate: args.rate,
        concurrency: 2_000,
        duration: Duration::from_secs(args.slice.max(1)),
        payload_bytes: 128,
    };
    target.settle()?;
    let descriptors = target.descriptors()?;
    println!(
        "| after, s | clients | memory, KiB | descriptors | push to receipt, ms: median | 99 of 100 | longest |"
    );
    println!("|---|---|---|---|---|---|---|");
    let slices = (args.minutes * 60).div_ceil(args.slice.max(1)).max(2);
    let mut first = None;
    for slice in 1..=slices {
        let churned = fleet.churn(&plan)?;
        target.settle()?;
        let (memory, open) = (target.memory()?.pss, target.descriptors()?);
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        println!(
            "| {} | {} | {} | {open} | {:.2} | {:.2} | {:.2} |",
            slice * args.slice.max(1),
            churned.done,
            memory / 1024,
            ms(churned.pushes.quantile(0.5)),
            ms(churned.pushes.quantile(0.99)),
            ms(churned.pushes.max()),
        );
        ensure!(churned.is_complete(), "clients were lost: {churned:?}");
        ensure!(open <= descriptors, "{} descriptors were left open", open - descriptors);
        let first = *first.get_or_insert(memory);
        ensure!(memory <= first + GROWTH, "memory grew from {first} to {memory} bytes");
    }
    Ok(())
}

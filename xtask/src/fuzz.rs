//! `cargo xtask fuzz`: one fuzz target for a while.

use std::process::ExitCode;

use anyhow::ensure;
use clap::Args;

use crate::step::{must, program, repository, works};

/// Runs a fuzz target of fuzz/ on the nightly compiler.
#[derive(Debug, Args)]
pub(crate) struct FuzzArgs {
    /// The target, a name in fuzz/fuzz_targets.
    target: String,
    /// How long, in seconds.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
}

/// Runs it from its seeds; what it finds stays in fuzz/corpus and fuzz/artifacts.
pub(crate) fn run(args: &FuzzArgs) -> anyhow::Result<ExitCode> {
    let cargo = || {
        let mut cargo = program("rustup");
        // Cargo tells its children which toolchain they belong to; this one belongs to another.
        cargo.args(["run", "nightly", "cargo"]).env_remove("CARGO").env_remove("RUSTUP_TOOLCHAIN");
        cargo
    };
    ensure!(
        works(cargo().args(["fuzz", "--version"])),
        "fuzzing needs a nightly compiler and cargo-fuzz: rustup toolchain install nightly && cargo install cargo-fuzz"
    );
    let target = &args.target;
    let corpus = format!("fuzz/corpus/{target}");
    std::fs::create_dir_all(repository().join(&corpus))?;
    let mut fuzz = cargo();
    fuzz.args(["fuzz", "run", target, &corpus]);
    let seeds = format!("fuzz/seeds/{target}");
    if repository().join(&seeds).is_dir() {
        fuzz.arg(seeds);
    }
    must(fuzz.args(["--", &format!("-max_total_time={}", args.seconds)]))?;
    Ok(ExitCode::SUCCESS)
}

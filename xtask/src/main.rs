//! The project's recipes: `cargo xtask test`, `lint`, `bench`, `peers`, `soak`, `fuzz`, `screens`. CI runs the same ones.

mod bench;
mod fuzz;
mod install;
mod lint;
mod peers;
mod screens;
mod soak;
mod step;
mod tally;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The recipes of this repository.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Recipes {
    #[command(subcommand)]
    recipe: Recipe,
}

#[derive(Debug, Subcommand)]
enum Recipe {
    Test(test::TestArgs),
    Lint(lint::LintArgs),
    Fuzz(fuzz::FuzzArgs),
    Bench(bench::BenchArgs),
    Peers(peers::PeersArgs),
    Soak(soak::SoakArgs),
    Screens(screens::ScreensArgs),
    #[command(name = bench::CHILD_SUBCOMMAND, hide = true)]
    BenchChild(bench::ChildArgs),
}

fn main() -> ExitCode {
    let outcome = match Recipes::parse().recipe {
        Recipe::Test(args) => test::run(&args),
        Recipe::Lint(args) => lint::run(&args),
        Recipe::Fuzz(args) => fuzz::run(&args),
        Recipe::Bench(args) => bench::run(args).map(|()| ExitCode::SUCCESS),
        Recipe::Peers(args) => peers::run(&args),
        Recipe::Soak(args) => soak::run(&args).map(|()| ExitCode::SUCCESS),
        Recipe::Screens(args) => screens::run(&args).map(|()| ExitCode::SUCCESS),
        Recipe::BenchChild(args) => bench::run_bench_child(&args).map(|()| ExitCode::SUCCESS),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

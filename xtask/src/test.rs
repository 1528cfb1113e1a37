//! `cargo xtask test`: every suite, and one closing line that sums them up.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::{Args, ValueEnum};

use crate::install;
use crate::step::{build_binaries, cargo, must, program, repository, shown, target};
use crate::tally::Tally;

/// Runs all tests: Rust, the outside world (browser, PHP, sockets), the JavaScript and PHP clients, WebSocket
/// conformance.
///
/// Installs what they need by apt-get, npm and pip when it is missing. Ends with a line for each suite, with its seconds,
/// and `N passed, N failed`.
#[derive(Debug, Args)]
pub(crate) struct TestArgs {
    /// Only this suite.
    #[arg(long, value_enum)]
    only: Option<Suite>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Suite {
    /// `cargo test` over the workspace.
    Rust,
    /// `node --test` over tests/: the real binary with sockets, Chromium and PHP.
    Outside,
    /// clients/js: types, build, package checks, size, then Node.js and Chromium against the real binary.
    Js,
    /// PHPUnit over clients/php, against the real binary.
    Php,
    /// The Autobahn cases against `doorbell echo`.
    Conformance,
    /// The API against its own description, with schemathesis.
    Schema,
}

/// Runs the suites one after the other; a failed one does not stop the next.
pub(crate) fn run(args: &TestArgs) -> anyhow::Result<ExitCode> {
    let all = [Suite::Rust, Suite::Outside, Suite::Js, Suite::Php, Suite::Conformance, Suite::Schema];
    let mut ran = Vec::new();
    for suite in all.into_iter().filter(|suite| args.only.is_none_or(|only| only == *suite)) {
        let began = Instant::now();
        let tally = match suite {
            Suite::Rust => rust(),
            Suite::Outside => outside(),
            Suite::Js => js(),
            Suite::Php => php(),
            Suite::Conformance => conformance(),
            Suite::Schema => schema(),
        };
        let tally = tally.unwrap_or_else(|error| {
            eprintln!("error: {suite:?}: {error:#}");
            Tally::FAILURE
        });
        ran.push((suite, tally, began.elapsed()));
    }
    let sum = summed_up(&ran);
    println!("\n{sum}");
    Ok(if sum.failed == 0 && sum.passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Says how long each suite took, with what it built and installed; answers their sum.
fn summed_up(ran: &[(Suite, Tally, Duration)]) -> Tally {
    let mut sum = Tally::default();
    println!();
    for (suite, tally, took) in ran {
        let name = suite.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned());
        println!("{name:<12}{:>5} s   {tally}", took.as_secs());
        sum += *tally;
    }
    sum
}

fn rust() -> anyhow::Result<Tally> {
    let mut command = cargo();
    command.args(["test", "--workspace", "--no-fail-fast"]).stdout(Stdio::piped());
    println!("\n$ {}", shown(&command));
    let mut child = command.spawn().context("failed to start cargo")?;
    let stdout = child.stdout.take().context("cargo has no stdout")?;
    let mut tally = Tally::default();
    for line in BufReader::new(stdout).lines() {
        let line = line.context("failed to read what cargo says")?;
        println!("{line}");
        tally.add_cargo_line(&line);
    }
    let status = child.wait().context("failed to wait for cargo")?;
    Ok(tally.with_status(status.success()))
}

fn outside() -> anyhow::Result<Tally> {
    install::for_outside()?;
    // One at a time: several of them want the whole machine, or its clipboard.
    node(&repository().join("tests"), &["seed", ".", "browser", "torture"], "outside", 1, &[])
}

fn js() -> anyhow::Result<Tally> {
    install::for_js()?;
    let package = repository().join("clients/js");
    // A package that does not build, type-check or pack as it should fails before its tests run.
    for script in ["typecheck", "build", "lint:package", "size"] {
        must(program("npm").args(["run", "--silent", script]).current_dir(&package))?;
    }
    // They wait more than they work.
    node(&package, &["test"], "js", 2, &[])
}

fn php() -> anyhow::Result<Tally> {
    install::for_php()?;
    build_binaries()?;
    let package = repository().join("clients/php");
    must(program("composer").args(["validate", "--strict", "--no-interaction"]).current_dir(&package))?;
    let report = target()?.join("phpunit.xml");
    let mut command = program("phpunit");
    command.current_dir(&package).arg(format!("--log-junit={}", report.display()));
    command.env("DOORBELL_BIN", target()?.join("debug/doorbell"));
    println!("\n$ {}", shown(&command));
    let status = command.status().context("failed to start phpunit")?;
    let report = fs::read_to_string(&report).with_context(|| format!("no report at {}", report.display()))?;
    Ok(Tally::of_junit(&report).with_status(status.success()))
}

fn conformance() -> anyhow::Result<Tally> {
    let kosoku = install::for_conformance()?;
    node(
        &repository().join("tests"),
        &["conformance"],
        "conformance",
        1,
        &[("KOSOKU_BIN", kosoku.as_os_str())],
    )
}

fn schema() -> anyhow::Result<Tally> {
    let schemathesis = install::for_schema()?;
    node(
        &repository().join("tests"),
        &["schema"],
        "schema",
        1,
        &[("SCHEMATHESIS_BIN", schemathesis.as_os_str())],
    )
}

/// Runs the `*.test.js` files of some folders of `tests`, so many at a time.
fn node(
    tests: &Path,
    folders: &[&str],
    name: &str,
    at_a_time: usize,
    environment: &[(&str, &OsStr)],
) -> anyhow::Result<Tally> {
    build_binaries()?;
    let report = target()?.join(format!("{name}.tap"));
    let mut command = program("node");
    command
        .current_dir(tests)
        .arg("--test")
        .arg(format!("--test-concurrency={at_a_time}"))
        .args(["--test-reporter=spec", "--test-reporter-destination=stdout", "--test-reporter=tap"])
        .arg(format!("--test-reporter-destination={}", report.display()));
    for folder in folders {
        command.args(test_files(tests, folder)?);
    }
    command.env("DOORBELL_BIN", target()?.join("debug/doorbell")).envs(environment.iter().copied());
    println!("\n$ cd {}; node --test {}", tests.display(), folders.join(" "));
    let status = command.status().context("failed to start node")?;
    let report = fs::read_to_string(&report).with_context(|| format!("no report at {}", report.display()))?;
    Ok(Tally::of_tap(&report).with_status(status.success()))
}

/// The test files right in `folder` of `tests`, in the order of their names, relative to `tests`.
fn test_files(tests: &Path, folder: &str) -> anyhow::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(tests.join(folder)).with_context(|| format!("failed to read {folder}"))?;
    let mut files = Vec::new();
    for entry in entries {
        let name = entry.with_context(|| format!("failed to read {folder}"))?.file_name();
        if name.to_string_lossy().ends_with(".test.js") {
            files.push(Path::new(folder).join(name));
        }
    }
    files.sort();
    Ok(files)
}

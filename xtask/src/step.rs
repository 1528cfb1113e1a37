//! Running other programs, and where things are.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};

/// The root of the repository.
pub(crate) fn repository() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// Cargo's target directory: this program is `<target>/<profile>/xtask`.
pub(crate) fn target() -> anyhow::Result<PathBuf> {
    let own = env::current_exe().context("failed to find this program")?;
    Ok(own.ancestors().nth(2).context("no target directory")?.to_owned())
}

/// A program at the root of the repository that never waits for a keyboard.
pub(crate) fn program(name: impl Into<OsString>) -> Command {
    let mut command = Command::new(name.into());
    command.current_dir(repository()).stdin(Stdio::null());
    command
}

/// The Cargo that runs this recipe.
pub(crate) fn cargo() -> Command {
    program(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Runs a step to its end with its output shown; it has to succeed.
///
/// # Errors
/// When the program cannot be started or fails.
pub(crate) fn must(command: &mut Command) -> anyhow::Result<()> {
    let shown = shown(command);
    println!("\n$ {shown}");
    let status = command.status().with_context(|| format!("failed to start {shown}"))?;
    ensure!(status.success(), "{shown}: {status}");
    Ok(())
}

/// Builds the binaries that are run from outside, with the features that `cargo test` over the workspace asks the
/// dependencies for, so that what it has built is not built again: `--examples`, of which there are none, makes Cargo
/// count those of the tests.
///
/// # Errors
/// When they do not build.
pub(crate) fn build_binaries() -> anyhow::Result<()> {
    must(cargo().args(["build", "--workspace", "--bins", "--examples"]))
}

/// Whether a program can be started and succeeds; its output is thrown away.
pub(crate) fn works(command: &mut Command) -> bool {
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// A command as one would type it, without its folder and environment.
pub(crate) fn shown(command: &Command) -> String {
    let program = PathBuf::from(command.get_program());
    let name = program.file_name().unwrap_or(program.as_os_str()).to_string_lossy().into_owned();
    let words = command.get_args().map(|word| word.to_string_lossy().into_owned());
    std::iter::once(name).chain(words).collect::<Vec<_>>().join(" ")
}

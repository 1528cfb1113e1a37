//! `cargo xtask screens`: pictures of every page of a sign-in, taken by `tests/screens.js` with Chromium.

use clap::Args;

use crate::install;
use crate::step::{build_binaries, must, program, repository, target};

/// Takes a picture of each state of a sign-in, at desktop and phone width, light and dark: all into `target/screens`,
/// those that the documentation shows also into `docs/screens`.
#[derive(Debug, Args)]
pub(crate) struct ScreensArgs {}

pub(crate) fn run(_: &ScreensArgs) -> anyhow::Result<()> {
    install::for_outside()?;
    build_binaries()?;
    let target = target()?;
    must(
        program("node")
            .arg("screens.js")
            .arg(target.join("screens"))
            .arg(repository().join("docs/screens"))
            .env("DOORBELL_BIN", target.join("debug/doorbell"))
            .current_dir(repository().join("tests")),
    )
}

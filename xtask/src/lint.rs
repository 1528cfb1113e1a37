//! `cargo xtask lint`: what CI insists on besides tests.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use clap::Args;

use crate::step::{cargo, must, repository, works};

/// Checks formatting, clippy, rustdoc, dependencies and lock files.
#[derive(Debug, Args)]
pub(crate) struct LintArgs {}

const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

type Check = fn() -> anyhow::Result<()>;

/// Runs every check, also after one failed, and names those that did.
pub(crate) fn run(_: &LintArgs) -> anyhow::Result<ExitCode> {
    // Private items are documented too, so a link from a public item to a private one leads somewhere.
    const RUSTDOC: &str = "--deny warnings --allow rustdoc::private_intra_doc_links";
    let checks: [(&str, Check); 6] = [
        ("formatting", || must(cargo().args(["fmt", "--all", "--check"]))),
        ("formatting of fuzz/", format_of_fuzz),
        ("clippy", || {
            must(cargo().args(["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"]))
        }),
        ("rustdoc", || {
            let mut doc = cargo();
            doc.args(["doc", "--workspace", "--no-deps", "--document-private-items"]);
            must(doc.env("RUSTDOCFLAGS", RUSTDOC))
        }),
        ("dependencies", dependencies),
        ("lock files", || lock_files(&repository())),
    ];
    let began = Instant::now();
    let mut failed = Vec::new();
    for (name, check) in checks {
        if let Err(error) = check() {
            eprintln!("error: {name}: {error:#}");
            failed.push(name);
        }
    }
    if failed.is_empty() {
        println!("\nlint: all good, in {} s", began.elapsed().as_secs());
        return Ok(ExitCode::SUCCESS);
    }
    println!("\nlint failed, in {} s: {}", began.elapsed().as_secs(), failed.join(", "));
    Ok(ExitCode::FAILURE)
}

/// The fuzz targets are a workspace of their own, which the first check does not see.
fn format_of_fuzz() -> anyhow::Result<()> {
    let manifest = repository().join("fuzz/Cargo.toml");
    if manifest.is_file() {
        must(cargo().args(["fmt", "--check", "--manifest-path"]).arg(manifest))?;
    }
    Ok(())
}

fn dependencies() -> anyhow::Result<()> {
    if works(cargo().args(["deny", "--version"])) {
        return must(cargo().args(["deny", "check"]));
    }
    println!("\ncargo-deny is not installed: skipped (cargo install cargo-deny)");
    Ok(())
}

/// A lock file that names one machine's mirror works on that machine only.
fn lock_files(root: &Path) -> anyhow::Result<()> {
    let mut locks = Vec::new();
    find_locks(root, &mut locks)?;
    ensure!(!locks.is_empty(), "no lock file found");
    for lock in locks {
        let text = fs::read_to_string(&lock).with_context(|| format!("failed to read {}", lock.display()))?;
        let foreign =
            if lock.ends_with("Cargo.lock") { foreign_source(&text) } else { foreign_address(&text) };
        ensure!(foreign.is_none(), "{} names {}", lock.display(), foreign.unwrap_or_default());
    }
    Ok(())
}

/// The first source in a Cargo.lock that is not crates.io.
fn foreign_source(lock: &str) -> Option<&str> {
    let sources = lock.lines().filter_map(|line| line.strip_prefix("source = "));
    sources.map(|source| source.trim_matches('"')).find(|source| *source != CRATES_IO)
}

/// The first line of a package-lock.json that says where a package was fetched.
fn foreign_address(lock: &str) -> Option<&str> {
    lock.lines().map(str::trim).find(|line| line.starts_with("\"resolved\""))
}

fn find_locks(folder: &Path, found: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("failed to read {}", folder.display()))? {
        let entry = entry.with_context(|| format!("failed to read {}", folder.display()))?;
        let name = entry.file_name();
        if entry.file_type()?.is_dir() {
            let skipped = ["target", "node_modules", ".git"].iter().any(|skipped| name == *skipped);
            if !skipped {
                find_locks(&entry.path(), found)?;
            }
        } else if name == "Cargo.lock" || name == "package-lock.json" {
            found.push(entry.path());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mirror_in_a_lock_file_is_found() {
        assert_eq!(foreign_source(&format!("name = \"a\"\nsource = \"{CRATES_IO}\"\n")), None);
        let mirror = "source = \"registry+https://mirror.example/index\"\n";
        assert_eq!(foreign_source(mirror), Some("registry+https://mirror.example/index"));
        assert_eq!(foreign_address("{\n  \"version\": \"1.0.0\",\n  \"integrity\": \"sha512-x\"\n}"), None);
        assert!(foreign_address("  \"resolved\": \"https://mirror.example/a.tgz\",").is_some());
    }
}

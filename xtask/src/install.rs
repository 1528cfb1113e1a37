//! What the outside tests and the comparison with others' servers need from the machine: checked, and installed where that
//! is possible.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, bail};

use crate::step::{must, program, repository, shown, target, works};

/// A program, or a file by its whole path, and the Debian package that brings it.
struct Need {
    program: &'static str,
    package: &'static str,
}

const FOR_OUTSIDE: &[Need] = &[
    Need { program: "php", package: "php-cli" },
    Need { program: "chromium", package: "chromium" },
    Need { program: "curl", package: "curl" },
    Need { program: "openssl", package: "openssl" },
    Need { program: "nginx", package: "nginx-light" },
    Need { program: "caddy", package: "caddy" },
    Need { program: "python3", package: "python3" },
    Need { program: "faketime", package: "faketime" },
];

const FOR_JS: &[Need] = &[Need { program: "chromium", package: "chromium" }];

const FOR_PHP: &[Need] = &[
    Need { program: "php", package: "php-cli" },
    Need { program: "phpunit", package: "phpunit" },
    Need { program: "composer", package: "composer" },
];

const FOR_NCHAN: &[Need] = &[
    Need { program: "nginx", package: "nginx" },
    Need { program: "/usr/lib/nginx/modules/ngx_nchan_module.so", package: "libnginx-mod-nchan" },
];

const FOR_NATS: &[Need] = &[Need { program: "nats-server", package: "nats-server" }];

const FOR_UWS: &[Need] = &[
    Need { program: "cc", package: "gcc" },
    Need { program: "/usr/lib/x86_64-linux-gnu/libuv.so.1", package: "libuv1" },
];

const FOR_PYPI: &[Need] = &[Need { program: "python3", package: "python3" }];

/// What asks the API whatever its description allows.
const SCHEMATHESIS: &str = "schemathesis==4.32.5";

/// The suite that kosoku's checker in `tests/conformance` was written for.
const KOSOKU: &str = "kosoku==0.1.0";

/// The Python package that has uWebSockets as a library with an interface for C.
pub(crate) const SOCKETIFY: &str = "socketify==0.0.31";

const NODE_AT_LEAST: u32 = 20;

/// Everything `node --test` in `tests/` needs.
///
/// # Errors
/// When something is missing and cannot be installed; the message says what to install.
pub(crate) fn for_outside() -> anyhow::Result<()> {
    node()?;
    packages(missing(FOR_OUTSIDE))?;
    npm_ci(&repository().join("tests"))
}

/// Everything the JavaScript client's build and tests need.
///
/// # Errors
/// As [`for_outside`].
pub(crate) fn for_js() -> anyhow::Result<()> {
    node()?;
    packages(missing(FOR_JS))?;
    // Its tests start the binary and the browser with what is in tests/lib.
    npm_ci(&repository().join("tests"))?;
    npm_ci(&repository().join("clients/js"))
}

/// Everything the PHP client's tests need.
///
/// # Errors
/// As [`for_outside`].
pub(crate) fn for_php() -> anyhow::Result<()> {
    packages(missing(FOR_PHP))
}

/// Everything the WebSocket conformance suite needs; answers where its program is.
///
/// # Errors
/// As [`for_outside`].
pub(crate) fn for_conformance() -> anyhow::Result<PathBuf> {
    node()?;
    from_pypi("kosoku", KOSOKU)
}

/// Everything the check of the API against its description needs; answers where its program is.
///
/// # Errors
/// As [`for_outside`].
pub(crate) fn for_schema() -> anyhow::Result<PathBuf> {
    node()?;
    from_pypi("schemathesis", SCHEMATHESIS)
}

/// Nchan on nginx.
///
/// # Errors
/// As [`for_outside`].
pub(crate) fn for_nchan() -> anyhow::Result<()> {
    packages(missing(FOR_NCHAN))
}

/// The NATS server, and Node.js for its adapter.
///
/// # Errors
/// As [`for_outside`].
pub(crate) fn for_nats() -> anyhow::Result<()> {
    node()?;
    packages(missing(FOR_NATS))
}

/// The servers on Node.js in this folder.
///
/// # Errors
/// As [`for_outside`].
pub(crate) fn for_node_servers(folder: &Path) -> anyhow::Result<()> {
    node()?;
    npm_ci(folder)
}

/// uWebSockets and a C compiler; answers where the library is, of which there is one for Linux on x86-64.
///
/// # Errors
/// As [`for_outside`].
pub(crate) fn for_uws() -> anyhow::Result<PathBuf> {
    if !cfg!(target_arch = "x86_64") {
        bail!("{SOCKETIFY} has no library for this machine");
    }
    packages(missing(FOR_UWS))?;
    let environment = environment("socketify", SOCKETIFY, |environment| uws_library(environment).is_some())?;
    uws_library(&environment).with_context(|| format!("no library in {SOCKETIFY}"))
}

fn uws_library(environment: &Path) -> Option<PathBuf> {
    let pythons = fs::read_dir(environment.join("lib")).ok()?.flatten();
    let library = "site-packages/socketify/libsocketify_linux_amd64.so";
    pythons.map(|python| python.path().join(library)).find(|library| library.is_file())
}

/// A program of a Python package, in an environment of its own.
fn from_pypi(name: &str, package: &str) -> anyhow::Result<PathBuf> {
    let program_in = |environment: &Path| environment.join("bin").join(name);
    let environment =
        environment(name, package, |environment| works(program(program_in(environment)).arg("--help")))?;
    Ok(program_in(&environment))
}

/// A Python environment under `target/` with this package, which is installed unless it is there already.
fn environment(name: &str, package: &str, has_it: impl Fn(&Path) -> bool) -> anyhow::Result<PathBuf> {
    let mut wanted = missing(FOR_PYPI);
    if !works(program("python3").args(["-c", "import ensurepip, venv"])) {
        wanted.push("python3-venv");
    }
    packages(wanted)?;
    let environment = target()?.join(format!("{name}-venv"));
    if !has_it(&environment) {
        must(program("python3").args(["-m", "venv"]).arg(&environment))?;
        must(program(environment.join("bin/pip")).args([
            "install",
            "--quiet",
            "--disable-pip-version-check",
            package,
        ]))?;
    }
    Ok(environment)
}

/// Installs what a folder's lock file names, unless that is there already.
fn npm_ci(folder: &Path) -> anyhow::Result<()> {
    if is_newer(&folder.join("node_modules/.package-lock.json"), &folder.join("package-lock.json")) {
        return Ok(());
    }
    must(program("npm").arg("ci").current_dir(folder))
}

fn node() -> anyhow::Result<()> {
    let advice = || format!("install Node.js {NODE_AT_LEAST} or newer with npm: https://nodejs.org/");
    let output = program("node").arg("--version").stderr(Stdio::null()).output().with_context(advice)?;
    let version = String::from_utf8_lossy(&output.stdout);
    let major = version.trim().trim_start_matches('v').split('.').next().and_then(|major| major.parse().ok());
    if major.is_none_or(|major: u32| major < NODE_AT_LEAST) {
        bail!("node is {}: {}", version.trim(), advice());
    }
    Ok(())
}

fn missing(needs: &[Need]) -> Vec<&'static str> {
    needs.iter().filter(|need| !is_on_path(need.program)).map(|need| need.package).collect()
}

fn is_on_path(name: &str) -> bool {
    // Debian keeps daemons such as nginx where an ordinary user's PATH does not look.
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .any(|folder| folder.join(name).is_file())
}

fn packages(wanted: Vec<&'static str>) -> anyhow::Result<()> {
    if wanted.is_empty() {
        return Ok(());
    }
    let mut install = program("apt-get");
    install.args(["install", "--yes", "--no-install-recommends"]).args(&wanted);
    install.env("DEBIAN_FRONTEND", "noninteractive");
    if !is_root() || !is_on_path("apt-get") {
        bail!("missing: {}. On Debian or Ubuntu: sudo {}", wanted.join(", "), shown(&install));
    }
    must(program("apt-get").args(["update", "--quiet", "--quiet"]))?;
    must(&mut install)
}

fn is_root() -> bool {
    program("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n")
}

fn is_newer(file: &Path, than: &Path) -> bool {
    let modified = |path: &Path| fs::metadata(path).and_then(|metadata| metadata.modified());
    match (modified(file), modified(than)) {
        (Ok(file), Ok(than)) => file >= than,
        _ => false,
    }
}

//! Where a server runs while it is measured: its folder and its processes.
//!
//! Nothing started here outlives this program. A stage ends its processes when it is dropped; when this program is ended by
//! a signal, the kernel ends them, as `setpriv` of util-linux asks it to.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};

use crate::step::{program, shown};

const START_DEADLINE: Duration = Duration::from_secs(20);
const STOP_DEADLINE: Duration = Duration::from_secs(8);

/// See the module's header.
pub(crate) struct Stage {
    /// What is built is in its `bin`.
    peers: PathBuf,
    folder: PathBuf,
    /// The first one is the server that is measured.
    processes: Vec<Child>,
}

impl Stage {
    /// With an empty folder of this name among the others' in `peers`.
    pub(crate) fn new(peers: &Path, name: &str) -> anyhow::Result<Self> {
        let folder = peers.join(name);
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir_all(&folder).with_context(|| format!("failed to make {}", folder.display()))?;
        Ok(Self { peers: peers.to_owned(), folder, processes: Vec::new() })
    }

    /// A program that was built for this.
    pub(crate) fn built(&self, name: &str) -> PathBuf {
        self.peers.join("bin").join(name)
    }

    /// A place in the folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Writes a configuration into the folder, with each of `places` filled in.
    pub(crate) fn config(&self, text: &str, places: &[(&str, String)]) -> anyhow::Result<PathBuf> {
        let path = self.path("config");
        let filled = places.iter().fold(text.to_owned(), |text, (place, with)| text.replace(place, with));
        fs::write(&path, filled).with_context(|| format!("failed to write {}", path.display()))?;
        Ok(path)
    }

    /// Starts a [`bound`] program and waits until it listens on this port. What it says is in the folder's `log`.
    ///
    /// # Errors
    /// When it ends before, or does not listen in time.
    pub(crate) fn start(&mut self, command: &mut Command, port: u16) -> anyhow::Result<()> {
        let log = self.path("log");
        let said = File::options().create(true).append(true).open(&log)?;
        command.stdout(said.try_clone()?).stderr(said);
        let mut child = command.spawn().with_context(|| format!("failed to start {}", shown(command)))?;
        let mut ended = None;
        let in_time = until(START_DEADLINE, || {
            ended = child.try_wait().ok().flatten();
            ended.is_some() || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
        });
        if ended.is_none() {
            self.processes.push(child);
            if in_time {
                return Ok(());
            }
        }
        let status = ended.map_or_else(|| "does not listen".to_owned(), |status| status.to_string());
        let said = fs::read_to_string(&log).unwrap_or_default();
        bail!("{}: {status}; {}", shown(command), last_line(&said))
    }

    /// The process ids of the server and of its children.
    pub(crate) fn server_pids(&self) -> anyhow::Result<Vec<u32>> {
        let pid = self.processes.first().context("no server")?.id();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))
            .context("failed to read which processes the server has")?;
        let children = children.split_whitespace().map(str::parse).collect::<Result<Vec<_>, _>>()?;
        Ok([vec![pid], children].concat())
    }

    /// Waits until the server has a process of its own.
    ///
    /// # Errors
    /// When it has none in time.
    pub(crate) fn has_worker(&self) -> anyhow::Result<()> {
        let has_one = || self.server_pids().is_ok_and(|pids| pids.len() > 1);
        ensure!(until(START_DEADLINE, has_one), "the server has no worker");
        Ok(())
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        for child in &self.processes {
            // Not yet waited for, so the id is still its own.
            if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
                let _ = kill_process(pid, Signal::TERM);
            }
        }
        for child in &mut self.processes {
            until(STOP_DEADLINE, || !matches!(child.try_wait(), Ok(None)));
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Looks again and again whether it is so, until it is or the time is over; answers which.
fn until(deadline: Duration, mut is_so: impl FnMut() -> bool) -> bool {
    let began = Instant::now();
    while !is_so() {
        if began.elapsed() > deadline {
            return false;
        }
        thread::park_timeout(Duration::from_millis(20));
    }
    true
}

/// A program that is ended by SIGTERM when this one ends, however that comes.
pub(crate) fn bound(name: impl AsRef<OsStr>) -> Command {
    let mut command = program("setpriv");
    command.args(["--pdeathsig", "TERM"]).arg(name);
    command
}

/// Loopback ports on which nobody listens now, for programs that take no 0.
pub(crate) fn free_ports<const N: usize>() -> anyhow::Result<[u16; N]> {
    let mut ports = [0; N];
    // All are held until the last is found, so that no two are the same.
    let mut held = Vec::with_capacity(N);
    for port in &mut ports {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port")?;
        *port = listener.local_addr()?.port();
        held.push(listener);
    }
    Ok(ports)
}

/// Allows what is started from now on as many descriptors as this program may allow.
pub(crate) fn raise_descriptor_limit() -> anyhow::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })
        .context("failed to raise the limit of descriptors")
}

/// What a program said last.
pub(crate) fn last_line(said: &str) -> &str {
    said.trim_end().lines().next_back().unwrap_or("it said nothing")
}

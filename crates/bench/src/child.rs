//! The fleet and the floor as child processes, and the line protocol between them and their parent.
//!
//! One command a line on the child's stdin, one answer a line on its stdout; an answer that begins
//! with `error ` is a failure. A child ends when its stdin closes, so it never outlives its parent.

use std::ffi::OsString;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::thread;

use anyhow::{Context as _, bail};
use mio::{Poll, Token, Waker};

use crate::{crowd, floor};

/// The token under which a child's event loop hears of commands.
pub(crate) const COMMANDS: Token = Token(usize::MAX);

/// What a child process is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChildKind {
    /// Many WebSocket clients.
    Fleet,
    /// The bare loop that writes ready frames to raw sockets.
    Floor,
}

impl ChildKind {
    /// The word that names the kind on a command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fleet => "fleet",
            Self::Floor => "floor",
        }
    }

    /// The kind a command line names.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Fleet, Self::Floor].into_iter().find(|kind| kind.name() == name)
    }
}

/// How to start this program again so that it ends up in [`run_child`]; the kind's name is appended.
#[derive(Debug, Clone)]
pub struct ChildCommand {
    /// The executable.
    pub program: PathBuf,
    /// What comes before the kind's name, for instance a hidden subcommand.
    pub args: Vec<OsString>,
}

impl ChildCommand {
    /// The running executable with the hidden subcommand `subcommand`.
    ///
    /// # Errors
    /// When the executable's path is unknown.
    pub fn this_program(subcommand: &str) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("failed to find the own executable")?;
        Ok(Self { program, args: vec![subcommand.into()] })
    }
}

/// Runs a child's side until its stdin closes. Call it from the hidden subcommand and nothing else.
///
/// # Errors
/// When the event loop cannot be made or fails; a failed command is answered, not returned.
pub fn run_child(kind: ChildKind) -> anyhow::Result<()> {
    let poll = Poll::new()?;
    let commands = Commands::from_stdin(&poll)?;
    match kind {
        ChildKind::Fleet => crowd::run(poll, &commands),
        ChildKind::Floor => floor::run(poll, &commands),
    }
}

/// The commands that have arrived, for an event loop that hears of them by [`COMMANDS`].
pub(crate) struct Commands {
    receiver: Receiver<Option<String>>,
    /// Kept: when the last handle goes, so does a wake-up that is still on its way.
    _waker: Arc<Waker>,
}

impl Commands {
    fn from_stdin(poll: &Poll) -> io::Result<Self> {
        let waker = Arc::new(Waker::new(poll.registry(), COMMANDS)?);
        let kept = Arc::clone(&waker);
        let (sender, receiver) = mpsc::channel();
        // Detached: it ends with stdin, and the process ends with it.
        thread::spawn(move || {
            let lines = io::stdin().lock().lines().map_while(Result::ok).map(Some);
            for line in lines.chain([None]) {
                if sender.send(line).is_err() || waker.wake().is_err() {
                    return;
                }
            }
        });
        Ok(Self { receiver, _waker: kept })
    }

    /// The next command; `Some(None)` when there will be none any more.
    pub(crate) fn next(&self) -> Option<Option<String>> {
        self.receiver.try_recv().ok()
    }
}

/// Answers one command.
pub(crate) fn answer(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

/// A running child, ended by closing its stdin when dropped.
#[derive(Debug)]
pub(crate) struct ChildProcess {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl ChildProcess {
    pub(crate) fn start(command: &ChildCommand, kind: ChildKind) -> anyhow::Result<Self> {
        let mut child = Command::new(&command.program)
            .args(&command.args)
            .arg(kind.name())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("failed to start the {} process", kind.name()))?;
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().context("a child without stdout")?);
        Ok(Self { child, stdin, stdout })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends one command and waits for its answer. Every command of a child is bounded in time.
    pub(crate) fn ask(&mut self, command: &str) -> anyhow::Result<String> {
        self.tell(command)?;
        self.hear(command)
    }

    /// Sends one command; [`Self::hear`] has to follow.
    pub(crate) fn tell(&mut self, command: &str) -> anyhow::Result<()> {
        let stdin = self.stdin.as_mut().context("the child's stdin is closed")?;
        writeln!(stdin, "{command}").context("the child has ended")
    }

    /// Waits for the answer to `command`.
    pub(crate) fn hear(&mut self, command: &str) -> anyhow::Result<String> {
        let verb = command.split(' ').next().unwrap_or_default();
        let mut line = String::new();
        if self.stdout.read_line(&mut line)? == 0 {
            bail!("the child ended in the middle of `{verb}`");
        }
        match line.trim_end().strip_prefix("error ") {
            Some(message) => bail!("`{verb}`: {message}"),
            None => Ok(line.trim_end().to_owned()),
        }
    }
}

impl Drop for ChildProcess {
    fn drop(&mut self) {
        drop(self.stdin.take());
        // It has nothing left to do but to leave; an error means that it is gone already.
        let _ = self.child.wait();
    }
}

//! A fleet of WebSocket clients in a process of its own: the parent's handle, and the child's loop.

use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use mio::{Events, Interest, Poll, Token};

use crate::child::{COMMANDS, ChildCommand, ChildKind, ChildProcess, Commands, answer};
use crate::client::{Client, State};
use crate::tally::Tally;

/// How long opening may take before it is a failure.
const OPEN_DEADLINE: Duration = Duration::from_secs(120);

/// How a fleet opens its connections.
#[derive(Debug, Clone, Copy)]
pub struct FleetOptions {
    /// Handshakes under way at once. A few hundred stay well below every listen backlog.
    pub concurrency: usize,
    /// The clients' kernel receive buffer in bytes; the kernel's default when `None`.
    pub receive_buffer: Option<usize>,
}

impl Default for FleetOptions {
    fn default() -> Self {
        Self { concurrency: 200, receive_buffer: None }
    }
}

/// The parent's handle on a fleet. Its clients disconnect when it is dropped.
#[derive(Debug)]
pub struct Fleet {
    process: ChildProcess,
    options: FleetOptions,
}

impl Fleet {
    /// Starts the process, without any client yet.
    ///
    /// # Errors
    /// When the process cannot be started.
    pub fn start(command: &ChildCommand, options: FleetOptions) -> anyhow::Result<Self> {
        Ok(Self { process: ChildProcess::start(command, ChildKind::Fleet)?, options })
    }

    /// The process whose CPU time is the clients'.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Opens clients until there are `total`, with uids `u0`, `u1` and so on, and says how long it took.
    /// Every client has sent its uid then; a plain-dialect server does not say when it has read it.
    ///
    /// # Errors
    /// When one of them could not be opened.
    pub fn open(&mut self, server: SocketAddr, total: usize) -> anyhow::Result<Duration> {
        let start = Instant::now();
        let FleetOptions { concurrency, receive_buffer } = self.options;
        let mut command = format!("open {server} {total} {concurrency}");
        if let Some(bytes) = receive_buffer {
            write!(command, " {bytes}")?;
        }
        self.process.ask(&command)?;
        Ok(start.elapsed())
    }

    /// Forgets all counts and expects sequence numbers from 1 again.
    ///
    /// # Errors
    /// When the process has ended.
    pub fn reset(&mut self) -> anyhow::Result<()> {
        self.process.ask("reset").map(drop)
    }

    /// Waits until `received` frames have come since the reset, or `timeout` has passed, and says what has come.
    ///
    /// # Errors
    /// When the process has ended.
    pub fn await_received(&mut self, received: u64, timeout: Duration) -> anyhow::Result<Tally> {
        self.process.ask(&format!("await {received} {}", timeout.as_millis()))?.parse()
    }
}

enum Task {
    Idle,
    Open {
        server: SocketAddr,
        total: usize,
        concurrency: usize,
        receive_buffer: Option<usize>,
        deadline: Instant,
    },
    Await {
        received: u64,
        deadline: Instant,
    },
}

/// The child's side: all clients in one thread.
pub(crate) fn run(mut poll: Poll, commands: &Commands) -> anyhow::Result<()> {
    let mut events = Events::with_capacity(1024);
    let mut scratch = vec![0; 64 * 1024];
    let mut clients = Clients::default();
    let mut task = Task::Idle;
    loop {
        let timeout = (!matches!(task, Task::Idle)).then_some(Duration::from_millis(20));
        match poll.poll(&mut events, timeout) {
            Err(e) if e.kind() != io::ErrorKind::Interrupted => return Err(e.into()),
            _ => {}
        }
        for event in &events {
            if event.token() != COMMANDS {
                clients.advance(event.token().0, &mut scratch);
                continue;
            }
            while let Some(command) = commands.next() {
                let Some(command) = command else { return Ok(()) };
                match clients.begin(&command) {
                    Ok(begun) => task = begun,
                    Err(e) => answer(&format!("error {e:#}"))?,
                }
            }
        }
        if clients.work(&task, &poll)? {
            task = Task::Idle;
        }
    }
}

#[derive(Default)]
struct Clients {
    slots: Vec<Option<Client>>,
    opening: usize,
    tally: Tally,
    failure: Option<String>,
}

impl Clients {
    fn begin(&mut self, command: &str) -> anyhow::Result<Task> {
        let mut words = command.split_whitespace();
        let verb = words.next().unwrap_or("");
        let mut word = || words.next().context("a word is missing");
        match verb {
            "open" => Ok(Task::Open {
                server: word()?.parse()?,
                total: word()?.parse()?,
                concurrency: word()?.parse()?,
                receive_buffer: word().ok().map(str::parse).transpose()?,
                deadline: Instant::now() + OPEN_DEADLINE,
            }),
            "reset" => {
                self.tally = Tally::default();
                self.slots.iter_mut().flatten().for_each(Client::reset);
                answer("reset")?;
                Ok(Task::Idle)
            }
            "await" => Ok(Task::Await {
                received: word()?.parse()?,
                deadline: Instant::now() + Duration::from_millis(word()?.parse()?),
            }),
            _ => bail!("unknown command"),
        }
    }

    /// Goes on with the task and answers it when it is done, which is what `true` says.
    fn work(&mut self, task: &Task, poll: &Poll) -> io::Result<bool> {
        match *task {
            Task::Idle => return Ok(false),
            Task::Open { server, total, concurrency, receive_buffer, deadline } => {
                while self.failure.is_none() && self.opening < concurrency && self.slots.len() < total {
                    if let Err(e) = self.connect(server, receive_buffer, poll) {
                        self.failure = Some(e.to_string());
                    }
                }
                if let Some(failure) = self.failure.take() {
                    answer(&format!("error client {} of {total}: {failure}", self.slots.len()))?;
                } else if self.opening == 0 && self.slots.len() >= total {
                    answer("opened")?;
                } else if Instant::now() >= deadline {
                    answer(&format!("error {} of {total} still opening at the deadline", self.opening))?;
                } else {
                    return Ok(false);
                }
            }
            Task::Await { received, deadline } => {
                if self.tally.received < received && Instant::now() < deadline {
                    return Ok(false);
                }
                answer(&self.tally.to_string())?;
            }
        }
        Ok(true)
    }

    fn connect(&mut self, server: SocketAddr, receive_buffer: Option<usize>, poll: &Poll) -> io::Result<()> {
        let index = self.slots.len();
        let mut client = Client::connect(server, index, receive_buffer)?;
        let both = Interest::READABLE | Interest::WRITABLE;
        poll.registry().register(&mut client.stream, Token(index), both)?;
        self.slots.push(Some(client));
        self.opening += 1;
        Ok(())
    }

    fn advance(&mut self, index: usize, scratch: &mut [u8]) {
        let Some(slot) = self.slots.get_mut(index) else { return };
        let Some(client) = slot else { return };
        let was_open = client.state == State::Open;
        let result = client.advance(scratch, &mut self.tally);
        let is_open = client.state == State::Open;
        if !was_open && (is_open || result.is_err()) {
            self.opening -= 1;
        }
        if let Err(e) = result {
            // Dropping the socket also takes it out of the poll.
            *slot = None;
            if is_open {
                self.tally.closed += 1;
            } else {
                self.failure = Some(e.to_string());
            }
        }
    }
}

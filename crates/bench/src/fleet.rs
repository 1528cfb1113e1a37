//! A fleet of clients in processes of their own: their parent's handle. The processes' side is [`crate::crowd`].

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::child::{ChildCommand, ChildKind, ChildProcess};
use crate::churn::{ChurnPlan, Churned};
use crate::clock::wait;
use crate::histogram::Histogram;
use crate::procfs::CpuTime;
use crate::tally::Tally;
use crate::target::{Api, Subscribe, cpu_time_of};

/// Clients one process has room for, within the 20,000 descriptors that systems often allow it.
const CLIENTS_A_PROCESS: usize = 19_500;

/// How a fleet opens its connections.
#[derive(Debug, Clone, Copy)]
pub struct FleetOptions {
    /// Processes; client `i` lives in process `i` modulo this.
    pub processes: usize,
    /// Handshakes under way at once in each. A few hundred stay well below every listen backlog.
    pub concurrency: usize,
    /// The clients' kernel receive buffer in bytes; the kernel's default when `None`.
    pub receive_buffer: Option<usize>,
    /// The number in the first client's uid.
    pub first: usize,
}

impl Default for FleetOptions {
    fn default() -> Self {
        Self { processes: 1, concurrency: 200, receive_buffer: None, first: 0 }
    }
}

impl FleetOptions {
    /// As many processes as `clients` need.
    #[must_use]
    pub fn for_clients(clients: usize) -> Self {
        Self { processes: clients.div_ceil(CLIENTS_A_PROCESS).max(1), ..Self::default() }
    }
}

/// How clients came in.
#[derive(Debug, Clone, Default)]
pub struct Opened {
    /// Until the last one was open.
    pub elapsed: Duration,
    /// How long each waited, its attempts and what lay between them included.
    pub waits: Histogram,
    /// Attempts that were refused or failed, and were made again.
    pub retried: u64,
}

/// How long messages took, from push to receipt.
#[derive(Debug, Clone, Default)]
pub struct Latency {
    /// To one uid.
    pub pushes: Histogram,
    /// To everyone.
    pub broadcasts: Histogram,
}

/// See the module's header. The clients disconnect when it is dropped.
#[derive(Debug)]
pub struct Fleet {
    processes: Vec<ChildProcess>,
    options: FleetOptions,
}

impl Fleet {
    /// Starts the processes, without any client yet.
    ///
    /// # Errors
    /// When a process cannot be started.
    pub fn start(command: &ChildCommand, options: FleetOptions) -> anyhow::Result<Self> {
        let processes = (0..options.processes.max(1)).map(|_| ChildProcess::start(command, ChildKind::Fleet));
        Ok(Self { processes: processes.collect::<Result<_, _>>()?, options })
    }

    /// CPU time of the clients so far.
    ///
    /// # Errors
    /// When a process has ended.
    pub fn cpu_time(&self) -> anyhow::Result<CpuTime> {
        cpu_time_of(&self.processes.iter().map(ChildProcess::pid).collect::<Vec<_>>())
    }

    /// Makes clients say who they are by a token that this API mints, and not by their uid.
    ///
    /// # Errors
    /// When a process has ended.
    pub fn use_tokens(&mut self, api: &Api) -> anyhow::Result<()> {
        self.ask_all(|_| format!("tokens {} {}", api.address, api.key)).map(drop)
    }

    /// Makes clients speak TLS and believe the certificate in this file. Those that are opened show no ticket; those that come
    /// back in a storm do.
    ///
    /// # Errors
    /// When it cannot be read, or a process has ended.
    pub fn use_tls(&mut self, certificate: &Path) -> anyhow::Result<()> {
        self.ask_all(|_| format!("tls {}", certificate.display())).map(drop)
    }

    /// Opens clients until there are `total`, with uids `u0`, `u1` and so on.
    /// Every client has said who it is then; a plain-dialect server does not say when it has read it.
    ///
    /// # Errors
    /// When one of them could not be opened.
    pub fn open(&mut self, subscribe: &Subscribe, total: usize) -> anyhow::Result<Opened> {
        let FleetOptions { concurrency, receive_buffer, first, .. } = self.options;
        let (stride, buffer) = (self.processes.len(), receive_buffer.unwrap_or(0));
        self.opened(|process| {
            let share = (total + stride - 1 - process) / stride;
            format!("open {subscribe} {share} {} {stride} {concurrency} {buffer}", first + process)
        })
    }

    /// Cuts every connection and makes all clients come back at once; one that is refused waits as long as it is told
    /// and tries again.
    ///
    /// # Errors
    /// When not all of them are back after two minutes.
    pub fn storm(&mut self) -> anyhow::Result<Opened> {
        self.opened(|_| "storm".to_owned())
    }

    /// Ends every connection.
    ///
    /// # Errors
    /// When a process has ended.
    pub fn close(&mut self) -> anyhow::Result<()> {
        self.ask_all(|_| "close".to_owned()).map(drop)
    }

    /// Reads nothing for that long. Returns at once.
    ///
    /// # Errors
    /// When a process has ended.
    pub fn sleep(&mut self, duration: Duration) -> anyhow::Result<()> {
        self.ask_all(|_| format!("sleep {}", duration.as_millis())).map(drop)
    }

    /// Lets clients come, hear one message each, and go.
    ///
    /// # Errors
    /// When a process has ended.
    pub fn churn(&mut self, plan: &ChurnPlan) -> anyhow::Result<Churned> {
        let stride = self.processes.len();
        let first = self.options.first;
        let answers = self.ask_all(|process| plan.command(first + process, stride))?;
        let mut sum = Churned::default();
        for answer in answers {
            sum += answer.parse()?;
        }
        Ok(sum)
    }

    /// Forgets all counts and expects sequence numbers from 1 again.
    ///
    /// # Errors
    /// When a process has ended.
    pub fn reset(&mut self) -> anyhow::Result<()> {
        self.ask_all(|_| "reset".to_owned()).map(drop)
    }

    /// Waits until `received` frames have come since the reset, or `timeout` has passed, and says what has come.
    ///
    /// # Errors
    /// When a process has ended.
    pub fn await_received(&mut self, received: u64, timeout: Duration) -> anyhow::Result<Tally> {
        if let [only] = &mut *self.processes {
            return only.ask(&format!("await {received} {}", timeout.as_millis()))?.parse();
        }
        let deadline = Instant::now() + timeout;
        loop {
            let mut sum = Tally::default();
            for answer in self.ask_all(|_| "await 0 0".to_owned())? {
                sum += answer.parse()?;
            }
            if sum.received >= received || Instant::now() >= deadline {
                return Ok(sum);
            }
            wait(Duration::from_millis(5));
        }
    }

    /// How long what came since the reset was under way.
    ///
    /// # Errors
    /// When a process has ended.
    pub fn latency(&mut self) -> anyhow::Result<Latency> {
        let mut sum = Latency::default();
        for answer in self.ask_all(|_| "latency".to_owned())? {
            let (pushes, broadcasts) = answer.split_once('|').context("half an answer")?;
            sum.pushes += &pushes.parse()?;
            sum.broadcasts += &broadcasts.parse()?;
        }
        Ok(sum)
    }

    fn opened(&mut self, command: impl Fn(usize) -> String) -> anyhow::Result<Opened> {
        let start = Instant::now();
        let answers = self.ask_all(command)?;
        let mut opened = Opened { elapsed: start.elapsed(), ..Opened::default() };
        for answer in answers {
            let (retried, waits) = answer.split_once('|').context("half an answer")?;
            opened.retried += retried.trim().parse::<u64>()?;
            opened.waits += &waits.parse()?;
        }
        Ok(opened)
    }

    /// Asks all processes before it waits for the first.
    fn ask_all(&mut self, command: impl Fn(usize) -> String) -> anyhow::Result<Vec<String>> {
        let commands: Vec<_> = (0..self.processes.len()).map(command).collect();
        for (process, command) in self.processes.iter_mut().zip(&commands) {
            process.tell(command)?;
        }
        // All are read, whatever the first one says: an answer left behind would be taken for the next one's.
        let answers: Vec<_> = self.processes.iter_mut().zip(&commands).map(|(p, c)| p.hear(c)).collect();
        answers.into_iter().collect()
    }
}

//! The clients of one fleet process: a single thread that opens them, counts what they hear, and answers its parent.

use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use mio::{Events, Interest, Poll, Token};

use crate::child::{COMMANDS, Commands, answer};
use crate::churn::Churn;
use crate::client::{Client, Counts, State};
use crate::clock::{Random, wait};
use crate::histogram::Histogram;
use crate::http::ApiClient;
use crate::target::{Api, Subscribe};
use crate::tls::Tls;

/// How long opening may take before it is a failure.
const OPEN_DEADLINE: Duration = Duration::from_secs(120);

/// How long a client that failed stays away when nobody told it, and how much longer at most, by chance.
const RETRY: Duration = Duration::from_secs(1);

enum Task {
    Idle,
    Open(Opening),
    Await { received: u64, deadline: Instant },
    Churn(Box<Churn>),
}

/// Clients on their way in.
struct Opening {
    /// Slots to connect.
    todo: VecDeque<usize>,
    /// Slots to connect again, and when.
    later: Vec<(Instant, usize)>,
    /// Since when a client has been waiting that begins later than it could; `None` where its own connect counts.
    since: Option<Instant>,
    concurrency: usize,
    /// Whether clients that were refused come back though nobody told them when.
    retry: bool,
    retried: u64,
    waits: Histogram,
    deadline: Instant,
}

/// How clients connect.
#[derive(Clone)]
struct Way {
    subscribe: Subscribe,
    first: usize,
    stride: usize,
    concurrency: usize,
    receive_buffer: Option<usize>,
}

/// The child's side.
pub(crate) fn run(mut poll: Poll, commands: &Commands) -> anyhow::Result<()> {
    raise_descriptor_limit();
    let mut events = Events::with_capacity(1024);
    let mut scratch = vec![0; 64 * 1024];
    let mut crowd = Crowd::default();
    let mut task = Task::Idle;
    loop {
        let timeout = match &task {
            Task::Idle => None,
            Task::Churn(_) => Some(Duration::from_millis(1)),
            _ => Some(Duration::from_millis(20)),
        };
        match poll.poll(&mut events, timeout) {
            Err(e) if e.kind() != io::ErrorKind::Interrupted => return Err(e.into()),
            _ => {}
        }
        for event in &events {
            if event.token() != COMMANDS {
                crowd.advance(event.token().0, &mut scratch, &mut task);
                continue;
            }
            while let Some(command) = commands.next() {
                let Some(command) = command else { return Ok(()) };
                match crowd.begin(&command) {
                    Ok(begun) => task = begun,
                    Err(e) => answer(&format!("error {e:#}"))?,
                }
            }
        }
        if crowd.work(&mut task, &poll)? {
            task = Task::Idle;
        }
    }
}

fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // Without it there is room for fewer clients, which then says so itself.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

#[derive(Default)]
struct Crowd {
    slots: Vec<Option<Client>>,
    /// Clients that are not open yet.
    opening: usize,
    counts: Counts,
    failure: Option<String>,
    way: Option<Way>,
    tokens: Option<ApiClient>,
    tls: Option<Tls>,
    /// A token for each slot, where tokens are used.
    credentials: Vec<String>,
}

impl Crowd {
    fn begin(&mut self, command: &str) -> anyhow::Result<Task> {
        let mut words = command.split_whitespace();
        let verb = words.next().unwrap_or("");
        match verb {
            "tokens" => {
                let mut word = || words.next().context("a word is missing");
                let api = Api { address: word()?.parse()?, key: word()?.to_owned() };
                self.tokens = Some(ApiClient::connect(&api)?);
                answer("tokens")?;
                Ok(Task::Idle)
            }
            "tls" => {
                let file = command.split_once(' ').context("a word is missing")?.1;
                self.tls = Some(Tls::believing(file.as_ref())?);
                answer("tls")?;
                Ok(Task::Idle)
            }
            "open" => {
                self.resume(false);
                let subscribe = Subscribe::from_words(&mut words)?;
                let mut number =
                    || -> anyhow::Result<usize> { Ok(words.next().context("a number is missing")?.parse()?) };
                let total = number()?;
                let (first, stride, concurrency) = (number()?, number()?, number()?);
                let receive_buffer = Some(number()?).filter(|bytes| *bytes > 0);
                let way = Way { subscribe, first, stride, concurrency, receive_buffer };
                let todo = (self.slots.len()..total).collect();
                self.slots.resize_with(total.max(self.slots.len()), || None);
                self.mint(&way)?;
                self.way = Some(way.clone());
                Ok(Task::Open(Opening::new(todo, &way, None)))
            }
            "storm" => {
                let way = self.way.clone().context("nothing was opened yet")?;
                self.resume(true);
                self.slots.iter_mut().for_each(|slot| *slot = None);
                let todo = (0..self.slots.len()).collect();
                let everyone = Way { concurrency: usize::MAX, ..way };
                Ok(Task::Open(Opening::new(todo, &everyone, Some(Instant::now()))))
            }
            "churn" => {
                ensure!(self.slots.iter().all(Option::is_none), "churn begins without clients");
                ensure!(self.tokens.is_none(), "churn uses no tokens");
                self.slots.clear();
                self.counts = Counts::default();
                Ok(Task::Churn(Box::new(Churn::begin(
                    &mut words,
                    self.tls.as_ref().map(Tls::for_strangers),
                )?)))
            }
            "close" => {
                self.slots.clear();
                answer("closed")?;
                Ok(Task::Idle)
            }
            "sleep" => {
                let duration = Duration::from_millis(words.next().context("a number is missing")?.parse()?);
                answer("asleep")?;
                wait(duration);
                Ok(Task::Idle)
            }
            "reset" => {
                self.counts = Counts::default();
                self.slots.iter_mut().flatten().for_each(Client::reset);
                answer("reset")?;
                Ok(Task::Idle)
            }
            "latency" => {
                answer(&format!("{} | {}", self.counts.pushes, self.counts.broadcasts))?;
                Ok(Task::Idle)
            }
            "await" => {
                let mut number =
                    || -> anyhow::Result<u64> { Ok(words.next().context("a number is missing")?.parse()?) };
                let (received, wait) = (number()?, Duration::from_millis(number()?));
                Ok(Task::Await { received, deadline: Instant::now() + wait })
            }
            _ => bail!("unknown command"),
        }
    }

    /// Whether clients that connect from now on come back, as far as TLS is concerned, or are new.
    fn resume(&self, resume: bool) {
        if let Some(tls) = &self.tls {
            tls.resume(resume);
        }
    }

    /// A token for every slot that has none, before the first of them connects.
    fn mint(&mut self, way: &Way) -> anyhow::Result<()> {
        let Some(api) = &mut self.tokens else { return Ok(()) };
        for slot in self.credentials.len()..self.slots.len() {
            self.credentials.push(api.token(&format!("u{}", way.first + slot * way.stride))?);
        }
        Ok(())
    }

    /// Goes on with the task and answers it when it is done, which is what `true` says.
    fn work(&mut self, task: &mut Task, poll: &Poll) -> io::Result<bool> {
        match task {
            Task::Idle => return Ok(false),
            Task::Open(opening) => return self.open(opening, poll),
            Task::Await { received, deadline } => {
                if self.counts.tally.received < *received && Instant::now() < *deadline {
                    return Ok(false);
                }
                answer(&self.counts.tally.to_string())?;
            }
            Task::Churn(churn) => {
                if !churn.work(&mut self.slots, poll) {
                    return Ok(false);
                }
                self.slots.clear();
                answer(&churn.outcome(&self.counts).to_string())?;
            }
        }
        Ok(true)
    }

    fn open(&mut self, opening: &mut Opening, poll: &Poll) -> io::Result<bool> {
        let Some(way) = self.way.clone() else { return Ok(true) };
        let now = Instant::now();
        let due = opening.later.extract_if(.., |(at, _)| *at <= now).map(|(_, slot)| slot);
        opening.todo.extend(due);
        while self.failure.is_none() && self.opening < opening.concurrency {
            let Some(slot) = opening.todo.pop_front() else { break };
            if let Err(e) = self.connect(slot, &way, opening.since.unwrap_or(now), poll) {
                self.failure = Some(e.to_string());
            }
        }
        let waiting = self.opening + opening.todo.len() + opening.later.len();
        if let Some(failure) = self.failure.take() {
            self.opening = 0;
            answer(&format!("error a client could not be opened: {failure}"))?;
        } else if waiting == 0 {
            answer(&format!("{} | {}", opening.retried, opening.waits))?;
        } else if now >= opening.deadline {
            answer(&format!(
                "error {waiting} of {} still on their way in at the deadline",
                self.slots.len()
            ))?;
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    fn connect(&mut self, slot: usize, way: &Way, since: Instant, poll: &Poll) -> io::Result<()> {
        let credential = self.credentials.get(slot).cloned();
        let index = way.first + slot * way.stride;
        let (buffer, tls) = (way.receive_buffer, self.tls.as_ref());
        let mut client = Client::connect(&way.subscribe, index, credential, since, buffer, tls)?;
        let both = Interest::READABLE | Interest::WRITABLE;
        poll.registry().register(&mut client.link.socket, Token(slot), both)?;
        self.slots[slot] = Some(client);
        self.opening += 1;
        Ok(())
    }

    fn advance(&mut self, index: usize, scratch: &mut [u8], task: &mut Task) {
        let Some(slot) = self.slots.get_mut(index) else { return };
        if let Task::Churn(churn) = task {
            churn.advance(slot, index, scratch, &mut self.counts);
            return;
        }
        let Some((client, way)) = slot.as_mut().zip(self.way.as_ref()) else { return };
        let was_open = client.state == State::Open;
        let result = client.advance(&way.subscribe, scratch, &mut self.counts);
        let is_open = client.state == State::Open;
        if !was_open && (is_open || result.is_err()) {
            self.opening = self.opening.saturating_sub(1);
        }
        if let (false, true, Task::Open(opening)) = (was_open, is_open, &mut *task) {
            opening.waits.record(client.since.elapsed());
        }
        if let Err(e) = result {
            let told = client.retry_after;
            // Dropping the socket also takes it out of the poll.
            *slot = None;
            match task {
                _ if was_open => self.counts.tally.closed += 1,
                Task::Open(opening) if opening.retry || told.is_some() => {
                    opening.retry(index, told.unwrap_or(RETRY));
                }
                _ => self.failure = Some(e.to_string()),
            }
        }
    }
}

impl Opening {
    /// With `since`, clients have been waiting since then and try again however they are refused; else only when the
    /// server says when to come back.
    fn new(todo: VecDeque<usize>, way: &Way, since: Option<Instant>) -> Self {
        Self {
            todo,
            later: Vec::new(),
            since,
            concurrency: way.concurrency,
            retry: since.is_some(),
            retried: 0,
            waits: Histogram::default(),
            deadline: Instant::now() + OPEN_DEADLINE,
        }
    }

    fn retry(&mut self, slot: usize, after: Duration) {
        self.retried += 1;
        let chance = Random::new(self.retried).below(1000);
        let spread = RETRY * u32::try_from(chance).unwrap_or(0) / 1000;
        self.later.push((Instant::now() + after + spread, slot));
    }
}

//! Churn: clients come at a rate, hear one message each, and go.

use std::collections::VecDeque;
use std::fmt;
use std::ops::AddAssign;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use mio::{Interest, Poll, Token};

use crate::channel::Channel;
use crate::client::{Client, Counts, State};
use crate::clock::monotonic_us;
use crate::histogram::Histogram;
use crate::payload;
use crate::target::{Publish, Subscribe};
use crate::tls::Tls;

/// How long a client may take, from its connect to its message.
const PATIENCE: Duration = Duration::from_secs(10);

/// How soon a push that nobody heard is made again: a plain client cannot know when it can be reached.
const AGAIN: Duration = Duration::from_millis(1);

/// What to do.
#[derive(Debug, Clone)]
pub struct ChurnPlan {
    /// How clients subscribe.
    pub subscribe: Subscribe,
    /// How their message is pushed.
    pub publish: Publish,
    /// New clients a second, in each process.
    pub rate: u32,
    /// Clients at once at most, in each process.
    pub concurrency: usize,
    /// How long new ones come.
    pub duration: Duration,
    /// Length of the message.
    pub payload_bytes: usize,
}

impl ChurnPlan {
    pub(crate) fn command(&self, first: usize, stride: usize) -> String {
        let Self { subscribe, publish, rate, concurrency, duration, payload_bytes } = self;
        let ms = duration.as_millis();
        format!("churn {subscribe} {publish} {rate} {concurrency} {ms} {payload_bytes} {first} {stride}")
    }
}

/// What became of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Churned {
    /// Clients that came, heard their message, and went.
    pub done: u64,
    /// Clients that could not come in or were cut.
    pub failed: u64,
    /// Clients that heard nothing in time.
    pub lost: u64,
    /// Messages beyond one a client.
    pub duplicated: u64,
    /// Messages for somebody else.
    pub misdelivered: u64,
    /// From connect to being open.
    pub waits: Histogram,
    /// From push to receipt.
    pub pushes: Histogram,
}

impl Churned {
    /// Whether every client that came got what it came for, once.
    pub fn is_complete(&self) -> bool {
        self.failed == 0 && self.lost == 0 && self.duplicated == 0 && self.misdelivered == 0
    }
}

impl AddAssign for Churned {
    fn add_assign(&mut self, other: Self) {
        self.done += other.done;
        self.failed += other.failed;
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.misdelivered += other.misdelivered;
        self.waits += &other.waits;
        self.pushes += &other.pushes;
    }
}

impl fmt::Display for Churned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { done, failed, lost, duplicated, misdelivered, waits, pushes } = self;
        write!(f, "{done} {failed} {lost} {duplicated} {misdelivered} | {waits} | {pushes}")
    }
}

impl FromStr for Churned {
    type Err = anyhow::Error;

    fn from_str(line: &str) -> Result<Self, Self::Err> {
        let mut parts = line.split('|');
        let mut part = || parts.next().context("half an answer");
        let counts: Vec<u64> = part()?.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
        let [done, failed, lost, duplicated, misdelivered] =
            <[u64; 5]>::try_from(counts).ok().context("not five counts")?;
        Ok(Self {
            done,
            failed,
            lost,
            duplicated,
            misdelivered,
            waits: part()?.parse()?,
            pushes: part()?.parse()?,
        })
    }
}

/// The fleet process's side.
pub(crate) struct Churn {
    subscribe: Subscribe,
    tls: Option<Tls>,
    rate: u32,
    concurrency: usize,
    first: usize,
    stride: usize,
    started: Instant,
    until: Instant,
    begun: usize,
    live: usize,
    free: Vec<usize>,
    outcome: Churned,
    /// Uids that can be pushed to.
    open: Sender<String>,
    /// Pushes that failed for good.
    unpushed: Arc<AtomicU64>,
}

impl Churn {
    pub(crate) fn begin<'a>(
        words: &mut impl Iterator<Item = &'a str>,
        tls: Option<Tls>,
    ) -> anyhow::Result<Self> {
        let subscribe = Subscribe::from_words(words)?;
        let publish = Publish::from_words(words)?;
        let mut number =
            || -> anyhow::Result<u64> { Ok(words.next().context("a number is missing")?.parse()?) };
        let (rate, concurrency) = (u32::try_from(number()?)?, usize::try_from(number()?)?);
        let duration = Duration::from_millis(number()?);
        let payload_bytes = usize::try_from(number()?)?;
        let (first, stride) = (usize::try_from(number()?)?, usize::try_from(number()?)?);
        let channel = Channel::connect(&publish)?;
        let (open, receiver) = mpsc::channel();
        let unpushed = Arc::new(AtomicU64::new(0));
        let failures = Arc::clone(&unpushed);
        // Ends with its sender, which this owns.
        thread::spawn(move || push_to_all(&receiver, channel, payload_bytes, &failures));
        let started = Instant::now();
        Ok(Self {
            subscribe,
            tls,
            rate,
            concurrency,
            first,
            stride,
            started,
            until: started + duration,
            begun: 0,
            live: 0,
            free: Vec::new(),
            outcome: Churned::default(),
            open,
            unpushed,
        })
    }

    /// Lets in whoever is due; whether all is over.
    pub(crate) fn work(&mut self, slots: &mut Vec<Option<Client>>, poll: &Poll) -> bool {
        let now = Instant::now();
        if now >= self.until {
            return self.live == 0 || now >= self.until + PATIENCE;
        }
        let due = self.started.elapsed().as_millis() * u128::from(self.rate) / 1000;
        while (self.begun as u128) < due && self.live < self.concurrency {
            let slot = self.free.pop().unwrap_or_else(|| {
                slots.push(None);
                slots.len() - 1
            });
            let index = self.first + self.begun * self.stride;
            self.begun += 1;
            let both = Interest::READABLE | Interest::WRITABLE;
            let client = Client::connect(&self.subscribe, index, None, now, None, self.tls.as_ref());
            let connected = client.and_then(|mut client| {
                poll.registry().register(&mut client.link.socket, Token(slot), both)?;
                Ok(client)
            });
            match connected {
                Ok(client) => {
                    slots[slot] = Some(client);
                    self.live += 1;
                }
                Err(_) => {
                    self.outcome.failed += 1;
                    self.free.push(slot);
                }
            }
        }
        false
    }

    pub(crate) fn advance(
        &mut self,
        slot: &mut Option<Client>,
        index: usize,
        scratch: &mut [u8],
        counts: &mut Counts,
    ) {
        let Some(client) = slot else { return };
        let (was_open, before) = (client.state == State::Open, counts.tally.received);
        let result = client.advance(&self.subscribe, scratch, counts);
        if !was_open && client.state == State::Open {
            self.outcome.waits.record(client.since.elapsed());
            // The thread is there until this sender goes.
            let _ = self.open.send(client.uid.clone());
        }
        let heard = counts.tally.received - before;
        if heard > 0 {
            self.outcome.done += 1;
            self.outcome.duplicated += heard - 1;
        } else if result.is_err() {
            self.outcome.failed += 1;
        } else {
            return;
        }
        *slot = None;
        self.live -= 1;
        self.free.push(index);
    }

    pub(crate) fn outcome(&self, counts: &Counts) -> Churned {
        let mut outcome = self.outcome.clone();
        outcome.lost = (self.live as u64).max(self.unpushed.load(Ordering::Relaxed));
        outcome.misdelivered = counts.tally.misdelivered;
        outcome.pushes = counts.pushes.clone();
        outcome
    }
}

/// Pushes to each uid once somebody hears it.
fn push_to_all(open: &Receiver<String>, mut channel: Channel, payload_bytes: usize, failures: &AtomicU64) {
    let mut waiting: VecDeque<(Instant, Instant, String)> = VecDeque::new();
    loop {
        let now = Instant::now();
        let next = match waiting.front() {
            Some((due, _, _)) if *due <= now => waiting.pop_front().map(|(_, since, uid)| (since, uid)),
            Some((due, _, _)) => match open.recv_timeout(*due - now) {
                Ok(uid) => Some((now, uid)),
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => return,
            },
            None => match open.recv() {
                Ok(uid) => Some((now, uid)),
                Err(_) => return,
            },
        };
        let Some((since, uid)) = next else { continue };
        let mut payload = Vec::new();
        payload::append(&mut payload, &uid, 1, monotonic_us(), payload_bytes);
        match channel.push(&uid, &payload) {
            Ok(true) => {}
            Ok(false) if since.elapsed() < PATIENCE => waiting.push_back((now + AGAIN, since, uid)),
            Ok(false) | Err(_) => {
                failures.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_survives_its_line() {
        let mut outcome =
            Churned { done: 9, failed: 1, lost: 2, duplicated: 3, misdelivered: 4, ..Churned::default() };
        outcome.waits.record(Duration::from_millis(3));
        assert_eq!(outcome.to_string().parse::<Churned>().unwrap(), outcome);
        assert!(!outcome.is_complete() && Churned { done: 5, ..Churned::default() }.is_complete());
    }
}

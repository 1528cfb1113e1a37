//! Pushes to uids drawn at random, on one connection.

use std::time::{Duration, Instant};

use crate::channel::Channel;
use crate::clock::{Random, monotonic_us, wait_until};
use crate::histogram::Histogram;
use crate::payload;
use crate::target::Publish;

/// How pushes follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// As fast as answers come, with at most this many unanswered.
    Pipelined(usize),
    /// That many a second, each waiting for its answer; late ones follow at once.
    PerSecond(u32),
}

/// Whether a receiver can check the order of what it gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Numbering {
    /// Messages of one uid count from 1.
    Sequence,
    /// They carry no number: something else numbers the same receivers' messages.
    None,
}

/// What to push.
#[derive(Debug, Clone, Copy)]
pub struct PushPlan {
    /// The number in the first uid.
    pub first: usize,
    /// That many uids, drawn at random.
    pub uids: usize,
    /// Number of pushes.
    pub count: u64,
    /// Length of a payload.
    pub payload_bytes: usize,
    /// How they follow each other.
    pub pace: Pace,
    /// Whether they are numbered.
    pub numbering: Numbering,
    /// The same seed draws the same uids.
    pub seed: u64,
}

/// What came back.
#[derive(Debug, Clone, Default)]
pub struct PushOutcome {
    /// Pushes that somebody heard.
    pub ok: u64,
    /// The others.
    pub refused: u64,
    /// From the first push to the last answer.
    pub elapsed: Duration,
    /// From push to answer; only known when paced.
    pub answers: Histogram,
}

/// Carries out a plan.
///
/// # Errors
/// When the connection fails or an answer takes more than 30 seconds.
pub fn push(publish: &Publish, plan: &PushPlan) -> anyhow::Result<PushOutcome> {
    let mut channel = Channel::connect(publish)?;
    let mut pushes = Pushes {
        plan: *plan,
        random: Random::new(plan.seed),
        sent: vec![0; plan.uids],
        left: plan.count,
        payload: Vec::new(),
    };
    let start = Instant::now();
    let mut outcome = match plan.pace {
        Pace::Pipelined(window) => pipelined(&mut channel, &mut pushes, window)?,
        Pace::PerSecond(rate) => paced(&mut channel, &mut pushes, rate)?,
    };
    outcome.elapsed = start.elapsed();
    Ok(outcome)
}

fn pipelined(channel: &mut Channel, pushes: &mut Pushes, window: usize) -> anyhow::Result<PushOutcome> {
    // Written in quarters of the window, so that the server always has some of it to work on.
    let chunk = (window / 4).max(1);
    let mut buffer = Vec::new();
    let mut unanswered = 0;
    let mut outcome = PushOutcome::default();
    while pushes.left > 0 || unanswered > 0 {
        while pushes.left > 0 && unanswered + chunk as u64 <= window.max(1) as u64 {
            buffer.clear();
            for _ in 0..chunk {
                unanswered += u64::from(pushes.append_next(channel, &mut buffer));
            }
            channel.send(&buffer)?;
        }
        let answered = channel.read()?;
        outcome.ok += answered.ok;
        outcome.refused += answered.refused;
        unanswered = unanswered.saturating_sub(answered.total());
    }
    Ok(outcome)
}

fn paced(channel: &mut Channel, pushes: &mut Pushes, rate: u32) -> anyhow::Result<PushOutcome> {
    let interval = Duration::from_secs(1) / rate.max(1);
    let mut due = Instant::now();
    let mut buffer = Vec::new();
    let mut outcome = PushOutcome::default();
    while pushes.left > 0 {
        wait_until(due);
        buffer.clear();
        pushes.append_next(channel, &mut buffer);
        let sent = Instant::now();
        channel.send(&buffer)?;
        loop {
            let answered = channel.read()?;
            outcome.ok += answered.ok;
            outcome.refused += answered.refused;
            if answered.total() > 0 {
                break;
            }
        }
        outcome.answers.record(sent.elapsed());
        due += interval;
    }
    Ok(outcome)
}

struct Pushes {
    plan: PushPlan,
    random: Random,
    /// Last sequence number of each uid.
    sent: Vec<u32>,
    left: u64,
    payload: Vec<u8>,
}

impl Pushes {
    /// Appends one push, or says that there is none left.
    fn append_next(&mut self, channel: &Channel, out: &mut Vec<u8>) -> bool {
        if self.left == 0 {
            return false;
        }
        self.left -= 1;
        let index = self.random.below(self.sent.len());
        self.sent[index] += 1;
        let seq = match self.plan.numbering {
            Numbering::Sequence => u64::from(self.sent[index]),
            Numbering::None => 0,
        };
        let uid = format!("u{}", self.plan.first + index);
        self.payload.clear();
        payload::append(&mut self.payload, &uid, seq, monotonic_us(), self.plan.payload_bytes);
        channel.append(out, &uid, &self.payload);
        true
    }
}

//! Pushes as lines on one connection to the text port.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::clock::{Random, wait_until};
use crate::payload;

/// How pushes follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// As fast as answers come, with at most this many unanswered.
    Pipelined(usize),
    /// That many a second, each waiting for its answer; late ones follow at once.
    PerSecond(u32),
}

/// What to push.
#[derive(Debug, Clone, Copy)]
pub struct PushPlan {
    /// Uids `u0` to one below this, drawn at random.
    pub uids: usize,
    /// Number of pushes.
    pub count: u64,
    /// Length of a line without its line ending.
    pub payload_bytes: usize,
    /// How they follow each other.
    pub pace: Pace,
    /// The same seed draws the same uids.
    pub seed: u64,
}

/// What came back.
#[derive(Debug, Clone, Copy, Default)]
pub struct PushOutcome {
    /// Pushes answered `ok`.
    pub ok: u64,
    /// Pushes answered with anything else.
    pub refused: u64,
    /// From the first line to the last answer.
    pub elapsed: Duration,
    /// Median time from line to answer; only known when paced.
    pub median_answer: Duration,
}

/// Carries out a plan.
///
/// # Errors
/// When the connection fails or an answer takes more than 30 seconds.
pub fn push(text: SocketAddr, plan: &PushPlan) -> anyhow::Result<PushOutcome> {
    let stream = TcpStream::connect(text).context("failed to connect to the text port")?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    let mut lines =
        Lines { plan: *plan, random: Random::new(plan.seed), sent: vec![0; plan.uids], left: plan.count };
    let start = Instant::now();
    let mut answers = Answers { stream: &stream, counted: PushOutcome::default(), partial: Vec::new() };
    match plan.pace {
        Pace::Pipelined(window) => pipelined(&stream, &mut lines, &mut answers, window)?,
        Pace::PerSecond(rate) => paced(&stream, &mut lines, &mut answers, rate)?,
    }
    Ok(PushOutcome { elapsed: start.elapsed(), ..answers.counted })
}

fn pipelined(
    mut stream: &TcpStream,
    lines: &mut Lines,
    answers: &mut Answers<'_>,
    window: usize,
) -> anyhow::Result<()> {
    // Written in quarters of the window, so that the server always has some of it to work on.
    let chunk = (window / 4).max(1);
    let mut buffer = Vec::new();
    let mut unanswered = 0;
    while lines.left > 0 || unanswered > 0 {
        while lines.left > 0 && unanswered + chunk <= window.max(1) {
            buffer.clear();
            for _ in 0..chunk {
                unanswered += usize::from(lines.append_next(&mut buffer));
            }
            stream.write_all(&buffer).context("failed to send lines")?;
        }
        unanswered -= answers.read()?;
    }
    Ok(())
}

fn paced(
    mut stream: &TcpStream,
    lines: &mut Lines,
    answers: &mut Answers<'_>,
    rate: u32,
) -> anyhow::Result<()> {
    let interval = Duration::from_secs(1) / rate.max(1);
    let mut due = Instant::now();
    let mut buffer = Vec::new();
    let mut times = Vec::new();
    while lines.append_next(&mut buffer) {
        wait_until(due);
        let sent = Instant::now();
        stream.write_all(&buffer).context("failed to send a line")?;
        while answers.read()? == 0 {}
        times.push(sent.elapsed());
        buffer.clear();
        due += interval;
    }
    times.sort_unstable();
    answers.counted.median_answer = times.get(times.len() / 2).copied().unwrap_or_default();
    Ok(())
}

struct Lines {
    plan: PushPlan,
    random: Random,
    /// Last sequence number of each uid.
    sent: Vec<u32>,
    left: u64,
}

impl Lines {
    /// Appends one line, or says that there is none left.
    fn append_next(&mut self, out: &mut Vec<u8>) -> bool {
        if self.left == 0 {
            return false;
        }
        self.left -= 1;
        let index = self.random.below(self.sent.len());
        self.sent[index] += 1;
        payload::append(out, &format!("u{index}"), u64::from(self.sent[index]), self.plan.payload_bytes);
        out.push(b'\n');
        true
    }
}

struct Answers<'a> {
    stream: &'a TcpStream,
    counted: PushOutcome,
    partial: Vec<u8>,
}

impl Answers<'_> {
    /// Reads once and says how many answers that completed.
    fn read(&mut self) -> anyhow::Result<usize> {
        let mut buffer = [0; 16 * 1024];
        let n = self.stream.read(&mut buffer).context("no answer")?;
        if n == 0 {
            bail!("the text port closed the connection");
        }
        self.partial.extend_from_slice(&buffer[..n]);
        let mut used = 0;
        let mut count = 0;
        while let Some(end) = self.partial[used..].iter().position(|b| *b == b'\n') {
            match &self.partial[used..used + end] {
                b"ok" => self.counted.ok += 1,
                _ => self.counted.refused += 1,
            }
            used += end + 1;
            count += 1;
        }
        self.partial.drain(..used);
        Ok(count)
    }
}

//! The hub by itself, from a thousand connections to a million: memory, and what bind, push, broadcast and unbind cost.
//!
//! `cargo bench -p doorbell-hub --bench scale`; with `-- --json`, one line for programs. A connection here is what the
//! server keeps for the hub's sake: a uid, and the outbound side behind its lock. Its sink takes every frame and copies
//! it, as a socket would, so that nothing but memory is measured. Times are the thread's CPU time, medians of rounds in
//! which all sizes take turns.
//!
//! A push is measured in three ways: the hub's part alone (look up, deliver), a whole line as the text port handles one
//! that comes alone (find the end and the uid, encode, push, answer), and the same for lines that come together.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::hint::black_box;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use doorbell_hub::{
    AHEAD, Body, Bound, CatchUp, Delivered, Encoding, Hub, Message, Outbound, Outbox, Post, Sent, Sink,
};
use doorbell_protocol::frame::{Opcode, encode};
use doorbell_protocol::{Uid, line};
use parking_lot::Mutex;

/// The largest comes first: what others gave back would hide its memory.
const SIZES: [usize; 4] = [1_000_000, 100_000, 10_000, 1_000];
const ROUNDS: usize = 7;
/// Pushes a round, in reads of so many lines: about 64 KiB.
const PUSHES: usize = 200_000;
const READ: usize = 500;
const BOUND: Bound = Bound { bytes: 1 << 20, messages: 1_000 };

thread_local! {
    /// What the sinks copy into.
    static TAKEN: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

#[derive(Debug)]
struct Virtual {
    uid: Uid,
    outbound: Mutex<Outbound>,
}

struct Memory;

impl Sink for Memory {
    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        TAKEN.with_borrow_mut(|copy| {
            copy.clear();
            copy.extend_from_slice(bytes);
        });
        Ok(bytes.len())
    }
}

impl Outbox for Virtual {
    fn uid(&self) -> Option<&Uid> {
        Some(&self.uid)
    }

    fn deliver(&self, message: &Message<'_>) -> Sent {
        self.outbound.lock().send(&Memory, message, Encoding::Plain, BOUND)
    }
}

/// A hub of one size, and what its operations cost in nanoseconds.
struct Crowd {
    hub: Hub<Virtual>,
    connections: Vec<Arc<Virtual>>,
    /// Memory of a connection and its uid.
    bytes: f64,
    bind: f64,
    /// A figure a round in each of these.
    look_up: Vec<f64>,
    alone: Vec<f64>,
    together: Vec<f64>,
    broadcast: f64,
    unbind: f64,
}

fn main() {
    // As in the server, where connections come on a loop's thread and not on the first one: an allocator gives them memory of
    // another kind.
    std::thread::spawn(measure).join().expect("it prints what it measured");
}

fn measure() {
    let json = std::env::args().any(|argument| argument == "--json");
    let mut random = 1;
    let mut crowds: Vec<Crowd> = SIZES.into_iter().map(Crowd::gather).collect();
    for _ in 0..ROUNDS {
        for crowd in &mut crowds {
            crowd.push(&mut random);
        }
    }
    for crowd in &mut crowds {
        crowd.broadcast();
    }
    for crowd in &mut crowds {
        crowd.part(&mut random);
    }
    black_box(TAKEN.with_borrow(Vec::len));

    let (Some(most), Some(fewest)) = (crowds.first(), crowds.last()) else { return };
    let growth = |of: fn(&Crowd) -> &[f64]| median(of(most)) / median(of(fewest));
    let (look_up, alone, together) =
        (growth(|it| &it.look_up), growth(|it| &it.alone), growth(|it| &it.together));
    if json {
        println!(
            "{{\"connections\":{},\"bytes\":{:.1},\"look_up_growth\":{look_up:.3},\"alone_growth\":{alone:.3},\
             \"together_growth\":{together:.3}}}",
            most.connections.len(),
            most.bytes,
        );
        return;
    }
    println!(
        "| connections | bytes each, with uid | bind, ns | look-up and delivery, ns | push alone, ns | \
         push among others, ns | broadcast, ns a connection | unbind, ns |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for crowd in &crowds {
        println!(
            "| {} | {:.0} | {:.0} | {:.0} | {:.0} | {:.0} | {:.0} | {:.0} |",
            crowd.connections.len(),
            crowd.bytes,
            crowd.bind,
            median(&crowd.look_up),
            median(&crowd.alone),
            median(&crowd.together),
            crowd.broadcast,
            crowd.unbind
        );
    }
    println!(
        "\nfrom {} to {}: look-up and delivery {look_up:.2} times, push alone {alone:.2}, among others {together:.2}",
        fewest.connections.len(),
        most.connections.len()
    );
}

impl Crowd {
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    fn gather(size: usize) -> Self {
        let before = resident();
        let hub = Hub::new();
        let mut connections = Vec::with_capacity(size);
        let start = cpu_time();
        for index in 0..size {
            let uid = Uid::new(&format!("user-{index}")).expect("a uid");
            let connection = Arc::new(Virtual { uid, outbound: Mutex::new(Outbound::new()) });
            hub.bind(&connection, 100, CatchUp::Nothing, 0, |_| {}).expect("binds");
            connections.push(connection);
        }
        let bind = each(start, size);
        // The list of all connections is the loops' business, and eight bytes each.
        let bytes = resident().saturating_sub(before) as f64 / size as f64 - 8.0;
        let (look_up, alone, together) = (Vec::new(), Vec::new(), Vec::new());
        Self { hub, connections, bytes, bind, look_up, alone, together, broadcast: 0.0, unbind: 0.0 }
    }

    /// One round of pushes to uids drawn at random, outside the measured time.
    fn push(&mut self, random: &mut u64) {
        let mut spent = [0.0; 3];
        let mut lines = String::new();
        for _ in 0..PUSHES / READ {
            for (way, spent) in spent.iter_mut().enumerate() {
                lines.clear();
                for _ in 0..READ {
                    let index = next(random) as usize % self.connections.len();
                    let pad = "x".repeat(60);
                    writeln!(lines, "{{\"uid\":\"user-{index}\",\"percent\":\"88%\",\"pad\":\"{pad}\"}}")
                        .expect("a String takes it");
                }
                *spent += match way {
                    0 => self.look_up(lines.as_bytes()),
                    1 => self.handle(lines.as_bytes(), 1),
                    _ => self.handle(lines.as_bytes(), AHEAD),
                };
            }
        }
        let [look_up, alone, together] = spent.map(|spent| spent / (PUSHES / READ) as f64);
        self.look_up.push(look_up);
        self.alone.push(alone);
        self.together.push(together);
    }

    /// The hub's part, with everything else done before.
    fn look_up(&self, lines: &[u8]) -> f64 {
        let mut frame = Vec::new();
        let mut uids = Vec::with_capacity(READ);
        for line in lines.split_inclusive(|byte| *byte == b'\n') {
            frame.clear();
            encode(Opcode::Text, line, &mut frame);
            uids.push(line::uid_of(line).expect("a good line"));
        }
        let mut delivered = 0;
        let start = cpu_time();
        for uid in &uids {
            delivered += self.hub.push(uid, &post(&frame, &frame, &self.hub), 0).written;
        }
        let spent = each(start, READ);
        assert_eq!(delivered, READ);
        spent
    }

    /// What the text port does with what it has read, a handful of lines at a time.
    fn handle(&self, mut lines: &[u8], handful: usize) -> f64 {
        let mut coming: Vec<(&[u8], Uid)> = Vec::with_capacity(handful);
        let (mut frames, mut answers) = (Vec::new(), Vec::with_capacity(READ * 3));
        let mut answer = |delivered: Delivered| {
            answers.extend_from_slice(if delivered.written > 0 { b"ok\n" } else { b"fail\n" });
        };
        let start = cpu_time();
        while !lines.is_empty() {
            while coming.len() < handful
                && let Some((line, used)) = line::next_line(lines)
            {
                lines = &lines[used..];
                coming.push((line, line::uid_of(line).expect("a good line")));
            }
            self.hub.look_ahead(coming.iter().map(|(_, uid)| uid.as_str()));
            frames.clear();
            if let [(line, uid)] = &*coming {
                encode(Opcode::Text, line, &mut frames);
                answer(self.hub.push(uid, &post(&frames, line, &self.hub), 0));
            } else {
                let mut parts = Vec::with_capacity(coming.len());
                for (line, uid) in &coming {
                    let start = frames.len();
                    encode(Opcode::Text, line, &mut frames);
                    parts.push((uid, *line, start..frames.len()));
                }
                let posts =
                    parts.into_iter().map(|(uid, line, frame)| (uid, post(&frames[frame], line, &self.hub)));
                self.hub.push_each(&posts.collect::<Vec<_>>(), 0, &mut answer);
            }
            coming.clear();
        }
        let spent = each(start, READ);
        assert_eq!(answers, b"ok\n".repeat(READ));
        spent
    }

    fn broadcast(&mut self) {
        let size = self.connections.len();
        let rounds = (1_000_000 / size).max(3);
        let start = cpu_time();
        for _ in 0..rounds {
            assert_eq!(self.hub.broadcast(&Message::new(&[b'x'; 130])).written, size);
        }
        self.broadcast = each(start, size * rounds);
    }

    /// Everyone goes, in another order than they came.
    fn part(&mut self, random: &mut u64) {
        for index in (1..self.connections.len()).rev() {
            self.connections.swap(index, next(random) as usize % (index + 1));
        }
        let start = cpu_time();
        for connection in &self.connections {
            assert!(self.hub.unbind(connection, 0));
        }
        self.unbind = each(start, self.connections.len());
    }
}

fn post<'a>(frame: &'a [u8], data: &'a [u8], hub: &'a Hub<Virtual>) -> Post<'a> {
    Post { frame, body: Body { id: "", data, epoch: hub.epoch() }, ttl: Duration::ZERO }
}

/// Nanoseconds each of so many things took since then.
#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn each(start: Duration, count: usize) -> f64 {
    (cpu_time() - start).as_secs_f64() * 1e9 / count as f64
}

fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// What this thread has used of the processor.
fn cpu_time() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// xorshift64*
fn next(state: &mut u64) -> u32 {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    u32::try_from(state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32).expect("32 bits")
}

/// Anonymous memory of this process, in bytes.
fn resident() -> usize {
    let rollup = std::fs::read_to_string("/proc/self/smaps_rollup").expect("Linux");
    let line = rollup.lines().find(|line| line.starts_with("Pss_Anon:")).expect("a kernel of this decade");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<usize>().ok()).expect("a number") * 1024
}

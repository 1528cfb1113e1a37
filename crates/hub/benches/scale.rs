//! The hub by itself, from a thousand connections to a million: memory, and what bind, push, broadcast and unbind cost.
//!
//! `cargo bench -p doorbell-hub --bench scale`; with `-- --json`, one line for programs. A connection here is what the
//! server keeps for the hub's sake: a uid, and the outbound side behind its lock. Its sink takes every frame and copies
//! it, as a socket would, so that nothing but memory is measured. Times are the thread's CPU time.

use std::cell::{Cell, RefCell};
use std::hint::black_box;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use doorbell_hub::{Body, Bound, CatchUp, Encoding, Hub, Message, Outbound, Outbox, Post, Sent, Sink};
use doorbell_protocol::Uid;
use doorbell_protocol::frame::{Opcode, encode};
use parking_lot::Mutex;

/// The largest comes first: what it gives back would hide the memory of those after it.
const SIZES: [usize; 4] = [1_000_000, 100_000, 10_000, 1_000];
const PUSHES: usize = 2_000_000;
const BOUND: Bound = Bound { bytes: 1 << 20, messages: 1_000 };

thread_local! {
    /// What the sinks copy into, and how many frames they took.
    static TAKEN: (RefCell<Vec<u8>>, Cell<u64>) = const { (RefCell::new(Vec::new()), Cell::new(0)) };
}

#[derive(Debug)]
struct Virtual {
    uid: Uid,
    outbound: Mutex<Outbound>,
}

struct Memory;

impl Sink for Memory {
    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        TAKEN.with(|(copy, count)| {
            let mut copy = copy.borrow_mut();
            copy.clear();
            copy.extend_from_slice(bytes);
            count.set(count.get() + 1);
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

struct Cost {
    connections: usize,
    bytes: f64,
    bind: f64,
    push: f64,
    broadcast: f64,
    unbind: f64,
}

fn main() {
    let json = std::env::args().any(|argument| argument == "--json");
    if !json {
        println!(
            "| connections | bytes each, with uid | bind, ns | push, ns | broadcast, ns a connection | unbind, ns |"
        );
        println!("|---|---|---|---|---|---|");
    }
    let costs: Vec<Cost> = SIZES.into_iter().map(measure).collect();
    for Cost { connections, bytes, bind, push, broadcast, unbind } in &costs {
        if !json {
            println!("| {connections} | {bytes:.0} | {bind:.0} | {push:.0} | {broadcast:.0} | {unbind:.0} |");
        }
    }
    let (Some(last), Some(first)) = (costs.first(), costs.last()) else { return };
    let growth = last.push / first.push;
    if json {
        println!("{{\"bytes\":{:.1},\"push_growth\":{growth:.3}}}", last.bytes);
    } else {
        println!("\na push at {} costs {growth:.2} of one at {}", last.connections, first.connections);
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn measure(connections: usize) -> Cost {
    let before = resident();
    let hub = Hub::new();
    let start = cpu_time();
    let mut all = Vec::with_capacity(connections);
    for index in 0..connections {
        let uid = Uid::new(&format!("user-{index}")).expect("a uid");
        let connection = Arc::new(Virtual { uid, outbound: Mutex::new(Outbound::new()) });
        hub.bind(&connection, 100, CatchUp::Nothing, 0, |_| {}).expect("binds");
        all.push(connection);
    }
    let bind = cpu_time() - start;
    // The list of all connections is the loops' business, and eight bytes each.
    let bytes = resident().saturating_sub(before) as f64 / connections as f64 - 8.0;

    let line = b"{\"uid\":\"user-123456\",\"percent\":\"88%\",\"pad\":\"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\"}";
    let mut random = 1u64;
    let mut uids: Vec<String> = Vec::new();
    let mut push = Duration::ZERO;
    let mut delivered = 0;
    let mut frame = Vec::new();
    for _ in 0..PUSHES / 10_000 {
        // Drawn outside the measured time.
        uids.clear();
        uids.extend((0..10_000).map(|_| format!("user-{}", next(&mut random) as usize % connections)));
        let start = cpu_time();
        for uid in &uids {
            frame.clear();
            encode(Opcode::Text, line, &mut frame);
            let body = Body { id: "", data: line, epoch: hub.epoch() };
            delivered += hub.push(uid, &Post { frame: &frame, body, ttl: Duration::ZERO }, 0).written;
        }
        push += cpu_time() - start;
    }
    assert_eq!(delivered, PUSHES);

    let start = cpu_time();
    let rounds = (1_000_000 / connections).max(3);
    for _ in 0..rounds {
        assert_eq!(hub.broadcast(&Message::new(&frame)).written, connections);
    }
    let broadcast = (cpu_time() - start) / u32::try_from(rounds).expect("small");
    black_box(TAKEN.with(|(_, count)| count.get()));

    // In another order than they came.
    for index in (1..all.len()).rev() {
        all.swap(index, next(&mut random) as usize % (index + 1));
    }
    let start = cpu_time();
    for connection in &all {
        assert!(hub.unbind(connection, 0));
    }
    let unbind = cpu_time() - start;
    let each = |time: Duration, count: usize| time.as_secs_f64() * 1e9 / count as f64;
    Cost {
        connections,
        bytes,
        bind: each(bind, connections),
        push: each(push, PUSHES),
        broadcast: each(broadcast, connections),
        unbind: each(unbind, connections),
    }
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

//! Among many connections, memory is asked for in huge pages. In a file, and so a process, of its own: what is seen is the
//! whole process's.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use doorbell_hub::{CatchUp, Hub, Message, Outbox, Sent};
use doorbell_protocol::Uid;

#[derive(Debug)]
struct Page(Uid);

impl Outbox for Page {
    fn uid(&self) -> Option<&Uid> {
        Some(&self.0)
    }

    fn deliver(&self, _: &Message<'_>) -> Sent {
        Sent::Written
    }
}

/// Kilobytes of this process in mappings for which huge pages were asked for (`hg` in proc_pid_smaps(5)).
fn asked_for() -> usize {
    let smaps = fs::read_to_string("/proc/self/smaps").expect("Linux");
    let (mut size, mut sum) = (0, 0);
    for line in smaps.lines() {
        let mut words = line.split_ascii_whitespace();
        match words.next() {
            Some("Size:") => size = words.next().and_then(|word| word.parse().ok()).unwrap_or(0),
            Some("VmFlags:") if words.any(|flag| flag == "hg") => sum += size,
            _ => {}
        }
    }
    sum
}

fn bind(hub: &Hub<Page>, numbers: std::ops::Range<usize>) {
    for number in numbers {
        let page = Arc::new(Page(Uid::new(&format!("user-{number}")).expect("a uid")));
        hub.bind(&page, 1, CatchUp::Nothing, 0, |_| {}).expect("binds");
    }
}

#[test]
fn a_crowd_asks_for_huge_pages_and_few_do_not() {
    if !Path::new("/sys/kernel/mm/transparent_hugepage").exists() {
        return;
    }
    // As in the server, not by the thread in whose memory everything is.
    thread::spawn(|| {
        let hub = Hub::new();
        bind(&hub, 0..60_000);
        assert_eq!(asked_for(), 0);
        bind(&hub, 60_000..70_000);
        let deadline = Instant::now() + Duration::from_secs(20);
        while asked_for() < 2_048 {
            assert!(Instant::now() < deadline, "nothing was asked for");
            thread::yield_now();
        }
    })
    .join()
    .expect("the test's own thread");
}

//! A process's CPU time and memory, as the kernel accounts them.

use std::fs;
use std::ops::{AddAssign, Sub};
use std::time::Duration;

use anyhow::{Context as _, bail};

/// CPU time of all threads of a process, living and ended. Time in the kernel on the program's behalf, which includes
/// delivering over loopback, is in it. Resolution: a nanosecond while no thread has ended, else at worst two clock ticks (20 ms).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CpuTime(Duration);

impl CpuTime {
    /// As a duration.
    pub fn total(&self) -> Duration {
        self.0
    }
}

impl AddAssign for CpuTime {
    fn add_assign(&mut self, other: Self) {
        self.0 += other.0;
    }
}

impl Sub for CpuTime {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self(self.0.saturating_sub(earlier.0))
    }
}

/// User-space memory of a process in bytes. Socket buffers are the kernel's and not in it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Memory {
    /// Proportional set size, swapped-out pages included.
    pub pss: u64,
    /// The anonymous part of it: heap and stacks, without pages of the program file.
    pub anonymous: u64,
}

/// Reads the CPU time of process `pid` from `/proc/PID`: its `stat`, which counts every thread but in ticks, or the
/// `schedstat` of its threads, which counts nanoseconds but forgets a thread that has ended. Both count the same running
/// time from below, so the larger one is right.
///
/// # Errors
/// When the process has ended.
pub fn cpu_time(pid: u32) -> anyhow::Result<CpuTime> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).context("failed to read the CPU time")?;
    let ticks = parse_stat(&stat).context("an unreadable /proc stat line")?;
    let all = Duration::from_secs(ticks) / clock_ticks_per_second();
    Ok(CpuTime(all.max(time_of_living_threads(pid))))
}

/// Zero where the kernel does not say (`CONFIG_SCHED_INFO`).
fn time_of_living_threads(pid: u32) -> Duration {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    // One that ends meanwhile cannot be read any more.
    let schedstats = threads.filter_map(|thread| fs::read_to_string(thread.path().join("schedstat")).ok());
    schedstats.filter_map(|schedstat| parse_schedstat(&schedstat)).sum()
}

/// Reads the memory of process `pid` from `/proc/PID/smaps_rollup`.
///
/// # Errors
/// When the process has ended or belongs to another user.
pub fn memory(pid: u32) -> anyhow::Result<Memory> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let rollup = fs::read_to_string(path).context("failed to read the memory")?;
    let field = |name| parse_rollup(&rollup, name);
    let Some(pss) = field("Pss:") else { bail!("no Pss in smaps_rollup") };
    let swapped = field("SwapPss:").unwrap_or(0);
    Ok(Memory { pss: pss + swapped, anonymous: field("Pss_Anon:").unwrap_or(0) + swapped })
}

/// How many descriptors process `pid` has open: sockets, files and pipes. What a thread has to wait or to send with, an epoll set or a
/// ring, comes and goes with threads and not with clients, and is not counted (`anon_inode:`, proc_pid_fd(5)).
///
/// # Errors
/// When the process has ended or belongs to another user.
pub fn descriptors(pid: u32) -> anyhow::Result<usize> {
    let all = fs::read_dir(format!("/proc/{pid}/fd")).context("failed to count the descriptors")?;
    // One that was closed meanwhile leads nowhere.
    let targets = all.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    Ok(targets.filter(|target| !target.as_os_str().as_encoded_bytes().starts_with(b"anon_inode:")).count())
}

fn clock_ticks_per_second() -> u32 {
    u32::try_from(rustix::param::clock_ticks_per_second()).unwrap_or(100)
}

/// utime and stime together: fields 14 and 15, counted behind the command name, which may itself hold spaces.
fn parse_stat(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

/// The first field: nanoseconds on a CPU.
fn parse_schedstat(schedstat: &str) -> Option<Duration> {
    schedstat.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
}

fn parse_rollup(rollup: &str, name: &str) -> Option<u64> {
    let line = rollup.lines().find(|line| line.starts_with(name))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};
    use std::thread;
    use std::time::Instant;

    use rustix::time::{ClockId, clock_gettime};

    use super::*;

    #[test]
    fn stat_is_read_behind_a_name_with_spaces_and_brackets() {
        let stat = "7 (a (b) c) S 1 7 7 0 -1 4194560 1 2 3 4 150 25 0 0 20 0 1 0 9 9 9";
        assert_eq!(parse_stat(stat), Some(175));
    }

    #[test]
    fn schedstat_begins_with_the_time_on_a_cpu() {
        assert_eq!(parse_schedstat("203499 3353446 2\n"), Some(Duration::from_nanos(203_499)));
        assert_eq!(parse_schedstat(""), None);
    }

    #[test]
    fn cpu_time_is_finer_than_a_tick() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        let mut used = Duration::ZERO;
        while used.is_zero() && Instant::now() < deadline {
            used = cpu_time(child.id()).unwrap().total();
        }
        drop(child.stdin.take());
        child.wait().unwrap();
        assert_ne!(used.as_nanos() % 1_000_000, 0, "{used:?}");
        assert!(cpu_time(child.id()).is_err(), "it has ended");
    }

    #[test]
    fn cpu_time_of_a_thread_that_has_ended_stays() {
        let own = || cpu_time(std::process::id()).unwrap();
        let before = own();
        let used = Duration::from_millis(100);
        let worker =
            thread::spawn(
                move || {
                    while Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap() < used {}
                },
            );
        worker.join().unwrap();
        let two_ticks = Duration::from_secs(2) / clock_ticks_per_second();
        assert!((own() - before).total() + two_ticks >= used, "{before:?} to {:?}", own());
    }

    #[test]
    fn own_memory_is_readable() {
        let memory = memory(std::process::id()).unwrap();
        assert!(memory.pss >= memory.anonymous && memory.anonymous > 0);
    }
}

//! A process's CPU time and memory, as the kernel accounts them.

use std::fs;
use std::ops::{AddAssign, Sub};
use std::time::Duration;

use anyhow::{Context as _, bail};

/// CPU time of all threads of a process, living and ended. Resolution: one clock tick (10 ms).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CpuTime {
    /// Time in the program itself.
    pub user: Duration,
    /// Time in the kernel on the program's behalf, which includes delivering over loopback.
    pub system: Duration,
}

impl CpuTime {
    /// User and system time together.
    pub fn total(&self) -> Duration {
        self.user + self.system
    }
}

impl AddAssign for CpuTime {
    fn add_assign(&mut self, other: Self) {
        self.user += other.user;
        self.system += other.system;
    }
}

impl Sub for CpuTime {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            user: self.user.saturating_sub(earlier.user),
            system: self.system.saturating_sub(earlier.system),
        }
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

/// Reads the CPU time of process `pid` from `/proc/PID/stat`.
///
/// # Errors
/// When the process has ended.
pub fn cpu_time(pid: u32) -> anyhow::Result<CpuTime> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).context("failed to read the CPU time")?;
    let (user, system) = parse_stat(&stat).context("an unreadable /proc stat line")?;
    let tick = |ticks: u64| Duration::from_secs(ticks) / clock_ticks_per_second();
    Ok(CpuTime { user: tick(user), system: tick(system) })
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

/// How many descriptors process `pid` has open.
///
/// # Errors
/// When the process has ended or belongs to another user.
pub fn descriptors(pid: u32) -> anyhow::Result<usize> {
    Ok(fs::read_dir(format!("/proc/{pid}/fd")).context("failed to count the descriptors")?.count())
}

fn clock_ticks_per_second() -> u32 {
    u32::try_from(rustix::param::clock_ticks_per_second()).unwrap_or(100)
}

/// utime and stime: fields 14 and 15, counted behind the command name, which may itself hold spaces.
fn parse_stat(stat: &str) -> Option<(u64, u64)> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

fn parse_rollup(rollup: &str, name: &str) -> Option<u64> {
    let line = rollup.lines().find(|line| line.starts_with(name))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_is_read_behind_a_name_with_spaces_and_brackets() {
        let stat = "7 (a (b) c) S 1 7 7 0 -1 4194560 1 2 3 4 150 25 0 0 20 0 1 0 9 9 9";
        assert_eq!(parse_stat(stat), Some((150, 25)));
    }

    #[test]
    fn own_cpu_time_and_memory_are_readable() {
        let pid = std::process::id();
        assert!(cpu_time(pid).is_ok());
        let memory = memory(pid).unwrap();
        assert!(memory.pss >= memory.anonymous && memory.anonymous > 0);
    }
}

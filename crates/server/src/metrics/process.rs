//! The process as Prometheus's own clients show it (`process_*`), read from `/proc` when somebody asks.

use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};
use rustix::process::{Resource, getrlimit};

/// See the module's header. What cannot be read is left out.
#[derive(Debug)]
struct Process;

pub(super) fn register(registry: &mut Registry) {
    registry.register_collector(Box::new(Process));
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        if let Some(seconds) = cpu_seconds() {
            let about = "User and system time spent";
            let counter = ConstCounter::new(seconds);
            let unit = Unit::Seconds;
            counter.encode(encoder.encode_descriptor(
                "process_cpu",
                about,
                Some(&unit),
                counter.metric_type(),
            )?)?;
        }
        let bytes = Unit::Bytes;
        let gauges = [
            ("process_resident_memory", "Memory in use", Some(&bytes), resident_bytes()),
            ("process_open_fds", "Descriptors in use", None, open_descriptors()),
            ("process_max_fds", "Descriptors there may be", None, max_descriptors()),
        ];
        for (name, about, unit, value) in gauges {
            if let Some(value) = value.and_then(|value| i64::try_from(value).ok()) {
                let gauge = ConstGauge::new(value);
                gauge.encode(encoder.encode_descriptor(name, about, unit, gauge.metric_type())?)?;
            }
        }
        Ok(())
    }
}

/// proc_pid_stat(5): fields 14 and 15, in ticks; the second field is the name, in parentheses.
fn cpu_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let ticks = fields.next()?.parse::<f64>().ok()? + fields.next()?.parse::<f64>().ok()?;
    Some(ticks / f64::from(u32::try_from(rustix::param::clock_ticks_per_second()).ok()?))
}

/// proc_pid_statm(5): the second field, in pages.
fn resident_bytes() -> Option<u64> {
    let statm = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    pages.checked_mul(u64::try_from(rustix::param::page_size()).ok()?)
}

/// Since Linux 6.2 the directory's size is the number of its entries; before it is 0, and they are counted.
fn open_descriptors() -> Option<u64> {
    match fs::metadata("/proc/self/fd").ok()?.len() {
        0 => u64::try_from(fs::read_dir("/proc/self/fd").ok()?.count()).ok(),
        entries => Some(entries),
    }
}

fn max_descriptors() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

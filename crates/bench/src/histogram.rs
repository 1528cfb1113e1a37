//! Durations as counts in buckets, so that millions of them can be kept, added up and sent over a line.

use std::fmt;
use std::ops::AddAssign;
use std::str::FromStr;
use std::time::Duration;

use anyhow::Context as _;

/// Buckets per power of two: a quantile is at most three percent off.
const STEPS: u64 = 32;

/// A distribution of durations, in microseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
    max: u64,
}

impl Histogram {
    /// Counts one duration.
    pub fn record(&mut self, duration: Duration) {
        self.record_us(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX));
    }

    pub(crate) fn record_us(&mut self, us: u64) {
        let bucket = bucket(us);
        if self.counts.len() <= bucket {
            self.counts.resize(bucket + 1, 0);
        }
        self.counts[bucket] += 1;
        self.total += 1;
        self.max = self.max.max(us);
    }

    /// How many durations were counted.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The longest one.
    pub fn max(&self) -> Duration {
        Duration::from_micros(self.max)
    }

    /// The duration that this share of all, from 0 to 1, did not exceed; zero when there are none.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "counts are far below 2^52 and the share is between 0 and 1"
    )]
    pub fn quantile(&self, share: f64) -> Duration {
        let rank = ((self.total as f64 * share.clamp(0.0, 1.0)).ceil() as u64).max(1);
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return Duration::from_micros(upper(bucket).min(self.max));
            }
        }
        Duration::ZERO
    }
}

/// The bucket of a value: exact below [`STEPS`], then that many for each power of two.
fn bucket(us: u64) -> usize {
    let shift = u64::from((us | STEPS).ilog2() - STEPS.ilog2());
    usize::try_from(shift * STEPS + (us >> shift)).unwrap_or(usize::MAX)
}

/// The largest value of a bucket.
fn upper(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < 2 * STEPS {
        return bucket;
    }
    let shift = bucket / STEPS - 1;
    ((bucket - shift * STEPS) << shift) + ((1 << shift) - 1)
}

impl AddAssign<&Self> for Histogram {
    fn add_assign(&mut self, other: &Self) {
        if self.counts.len() < other.counts.len() {
            self.counts.resize(other.counts.len(), 0);
        }
        self.counts.iter_mut().zip(&other.counts).for_each(|(count, more)| *count += more);
        self.total += other.total;
        self.max = self.max.max(other.max);
    }
}

/// One line: the longest, then `bucket:count` for every bucket that is not empty.
impl fmt::Display for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.max)?;
        let used = self.counts.iter().enumerate().filter(|(_, count)| **count > 0);
        used.into_iter().try_for_each(|(bucket, count)| write!(f, " {bucket}:{count}"))
    }
}

impl FromStr for Histogram {
    type Err = anyhow::Error;

    fn from_str(line: &str) -> Result<Self, Self::Err> {
        let mut words = line.split_whitespace();
        let mut histogram = Self { max: words.next().context("no histogram")?.parse()?, ..Self::default() };
        for word in words {
            let (bucket, count) = word.split_once(':').context("a bucket without a count")?;
            let (bucket, count): (usize, u64) = (bucket.parse()?, count.parse()?);
            anyhow::ensure!(bucket <= self::bucket(u64::MAX), "no such bucket");
            if histogram.counts.len() <= bucket {
                histogram.counts.resize(bucket + 1, 0);
            }
            histogram.counts[bucket] += count;
            histogram.total += count;
        }
        Ok(histogram)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_follow_each_other_and_hold_their_values() {
        let mut last = 0;
        for us in (0..100_000).chain([u64::MAX / 3, u64::MAX]) {
            let bucket = bucket(us);
            assert!(bucket >= last, "{us}");
            assert!(
                upper(bucket) >= us && (us < 64 || upper(bucket) - us <= us / 16),
                "{us}: {}",
                upper(bucket)
            );
            last = bucket;
        }
    }

    #[test]
    fn quantiles_survive_their_line() {
        let mut histogram = Histogram::default();
        (1..=1000).for_each(|ms| histogram.record(Duration::from_millis(ms)));
        let back: Histogram = histogram.to_string().parse().unwrap();
        assert_eq!(back, histogram);
        let median = back.quantile(0.5).as_millis();
        assert!((500..=516).contains(&median), "{median}");
        assert_eq!(back.quantile(1.0), Duration::from_secs(1));
        assert_eq!((back.max(), back.total()), (Duration::from_secs(1), 1000));
        assert_eq!(Histogram::default().quantile(0.99), Duration::ZERO);
    }
}

//! What a fleet has seen, as counts that can be sent over a line and added up.

use std::fmt;
use std::ops::AddAssign;
use std::str::FromStr;

use anyhow::{Context as _, bail};

/// Counts of one fleet since its last reset.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Data frames received, right or wrong.
    pub received: u64,
    /// Frames that name another uid, or are not a payload of ours at all.
    pub misdelivered: u64,
    /// Frames whose sequence number was already seen on that connection.
    pub duplicated: u64,
    /// Sequence numbers that were skipped on a connection: lost, or overtaken and then counted as duplicated.
    pub skipped: u64,
    /// Connections that ended although nobody asked them to.
    pub closed: u64,
}

impl Tally {
    /// Whether exactly `expected` frames came and every one of them was right.
    pub fn is_exactly(&self, expected: u64) -> bool {
        *self == Self { received: expected, ..Self::default() }
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.received += other.received;
        self.misdelivered += other.misdelivered;
        self.duplicated += other.duplicated;
        self.skipped += other.skipped;
        self.closed += other.closed;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "received={} misdelivered={} duplicated={} skipped={} closed={}",
            self.received, self.misdelivered, self.duplicated, self.skipped, self.closed
        )
    }
}

impl FromStr for Tally {
    type Err = anyhow::Error;

    fn from_str(line: &str) -> Result<Self, Self::Err> {
        let mut tally = Self::default();
        for word in line.split_whitespace() {
            let (name, value) = word.split_once('=').context("a count without a name")?;
            let value = value.parse()?;
            match name {
                "received" => tally.received = value,
                "misdelivered" => tally.misdelivered = value,
                "duplicated" => tally.duplicated = value,
                "skipped" => tally.skipped = value,
                "closed" => tally.closed = value,
                _ => bail!("unknown count {name}"),
            }
        }
        Ok(tally)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tally_survives_its_line() {
        let tally = Tally { received: 5, misdelivered: 4, duplicated: 3, skipped: 2, closed: 1 };
        assert_eq!(tally.to_string().parse::<Tally>().unwrap(), tally);
        assert!(!tally.is_exactly(5));
        assert!(Tally { received: 5, ..Tally::default() }.is_exactly(5));
    }
}

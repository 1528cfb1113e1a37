//! How many tests passed and failed, read from what the test runners print.

use std::fmt;
use std::ops::AddAssign;

/// Tests that passed and failed. Ignored and skipped ones count as neither.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Tally {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
}

impl Tally {
    /// One failure, for a suite that ended badly without naming a test: it did not compile, say.
    pub(crate) const FAILURE: Self = Self { passed: 0, failed: 1 };

    /// Adds what one line of `cargo test` says: `test result: ok. 12 passed; 0 failed; …`.
    pub(crate) fn add_cargo_line(&mut self, line: &str) {
        let Some(result) = line.trim_start().strip_prefix("test result: ") else { return };
        let Some((_, counts)) = result.split_once(". ") else { return };
        for count in counts.split(';') {
            match count.trim().split_once(' ') {
                Some((number, "passed")) => self.passed += number.parse().unwrap_or(0),
                Some((number, "failed")) => self.failed += number.parse().unwrap_or(0),
                _ => {}
            }
        }
    }

    /// Reads the closing lines of a TAP report by `node --test`: `# pass 12`, `# fail 0`, `# cancelled 0`.
    pub(crate) fn of_tap(report: &str) -> Self {
        let mut tally = Self::default();
        for line in report.lines() {
            match line.strip_prefix("# ").and_then(|line| line.split_once(' ')) {
                Some(("pass", number)) => tally.passed += number.parse().unwrap_or(0),
                Some(("fail" | "cancelled", number)) => tally.failed += number.parse().unwrap_or(0),
                _ => {}
            }
        }
        tally
    }

    /// Reads the outermost suite of a JUnit report, as PHPUnit writes it:
    /// `<testsuite tests="140" errors="0" warnings="0" failures="0" skipped="1" …>`.
    pub(crate) fn of_junit(report: &str) -> Self {
        let suite = report.lines().find(|line| line.trim_start().starts_with("<testsuite ")).unwrap_or("");
        let count = |name: &str| -> u64 {
            let (_, rest) = suite.split_once(&format!(" {name}=\"")).unwrap_or_default();
            rest.split('"').next().and_then(|number| number.parse().ok()).unwrap_or(0)
        };
        let failed = count("errors") + count("failures") + count("warnings");
        Self { passed: count("tests").saturating_sub(failed + count("skipped")), failed }
    }

    /// A suite whose runner says it failed has at least one failure.
    pub(crate) fn with_status(self, succeeded: bool) -> Self {
        if succeeded || self.failed > 0 { self } else { Self { failed: 1, ..self } }
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_results_add_up() {
        let mut tally = Tally::default();
        for line in [
            "running 3 tests",
            "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s",
            "test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s",
        ] {
            tally.add_cargo_line(line);
        }
        assert_eq!(tally.to_string(), "15 passed, 2 failed");
    }

    #[test]
    fn a_junit_report_begins_with_its_counts() {
        let report = "<?xml version=\"1.0\"?>\n<testsuites>\n  <testsuite name=\"\" tests=\"140\" assertions=\"605\" \
                      errors=\"1\" warnings=\"0\" failures=\"2\" skipped=\"3\" time=\"14\">\n    \
                      <testsuite name=\"inner\" tests=\"7\">";
        assert_eq!(Tally::of_junit(report).to_string(), "134 passed, 3 failed");
        assert_eq!(Tally::of_junit("").to_string(), "0 passed, 0 failed");
    }

    #[test]
    fn a_tap_report_ends_with_its_counts() {
        let report =
            "ok 1 - x\n1..3\n# tests 5\n# pass 2\n# fail 1\n# cancelled 1\n# skipped 1\n# duration_ms 7\n";
        assert_eq!(Tally::of_tap(report), Tally { passed: 2, failed: 2 });
    }

    #[test]
    fn a_suite_that_ends_badly_fails_once_at_least() {
        assert_eq!(Tally::default().with_status(false), Tally::FAILURE);
        assert_eq!(Tally { passed: 1, failed: 3 }.with_status(false), Tally { passed: 1, failed: 3 });
        assert_eq!(Tally { passed: 1, failed: 0 }.with_status(true), Tally { passed: 1, failed: 0 });
    }
}

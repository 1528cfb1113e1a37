//! What was measured, as a Markdown table of medians and ranges.

use std::fmt;

use anyhow::Context as _;
use serde_json::Value;

use super::peer::Peer;

/// The columns, and how many decimals their figures have: rounds differ by more than the next.
const COLUMNS: [(&str, usize); 4] = [
    ("bytes a connection", 0),
    ("push, CPU-s a million", 1),
    ("at 2,000/s", 0),
    ("fan-out, CPU-s a million", 1),
];

/// A server and its figures.
pub(crate) struct Row {
    pub(crate) peer: Peer,
    /// What was lost, doubled, misdelivered or refused, and what could not be measured.
    pub(crate) failures: Vec<String>,
    title: String,
    /// A figure a round in each column.
    figures: [Vec<f64>; COLUMNS.len()],
}

impl Row {
    pub(crate) fn new(peer: Peer) -> Self {
        Self { peer, failures: Vec::new(), title: peer.title(), figures: Default::default() }
    }

    /// Whether there is a figure in it.
    pub(crate) fn is_measured(&self) -> bool {
        self.figures.iter().any(|column| !column.is_empty())
    }

    /// Takes what `doorbell bench --json` says of one scenario; of pushes, whether they were paced.
    ///
    /// # Errors
    /// When it says something else.
    pub(crate) fn add(&mut self, outcome: &str, paced: bool) -> anyhow::Result<()> {
        let outcome: Value = serde_json::from_str(outcome).context("`doorbell bench` says no JSON")?;
        let (column, name) = match (outcome["scenario"].as_str(), paced) {
            (Some("idle"), _) => (0, "server memory a connection"),
            (Some("push"), false) => (1, "server CPU a million"),
            (Some("push"), true) => (2, "server CPU a million"),
            _ => (3, "server CPU a million"),
        };
        let figure =
            outcome["figures"][name].as_f64().with_context(|| format!("no `{name}` in {outcome}"))?;
        let failures = outcome["failures"].as_array().map_or(&[][..], Vec::as_slice);
        // What it cost says nothing when part of it was not done.
        if failures.is_empty() {
            self.figures[column].push(figure);
        }
        self.failures.extend(failures.iter().filter_map(Value::as_str).map(str::to_owned));
        Ok(())
    }
}

/// Every row, and what is not in any. `Display` prints it as Markdown.
pub(crate) struct Table {
    pub(crate) rows: Vec<Row>,
    /// Which server is not here and why, a line each.
    pub(crate) left_out: Vec<String>,
    /// How it was measured.
    pub(crate) circumstances: String,
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n", self.circumstances)?;
        writeln!(
            f,
            "| | {} |\n|{}",
            COLUMNS.map(|(title, _)| title).join(" | "),
            "---|".repeat(1 + COLUMNS.len())
        )?;
        let lowest = std::array::from_fn(|column| {
            self.rows.iter().filter_map(|row| median(&row.figures[column])).fold(f64::INFINITY, f64::min)
        });
        for row in &self.rows {
            let failed = if row.failures.is_empty() { "" } else { ", **with failures**" };
            writeln!(f, "| {}{failed} | {} |", row.title, cells(row, &lowest).join(" | "))?;
        }
        writeln!(f)?;
        for row in &self.rows {
            row.failures.iter().try_for_each(|failure| writeln!(f, "- **{}**: {failure}", row.title))?;
        }
        if self.rows.iter().all(|row| row.failures.is_empty()) {
            writeln!(f, "- Every message arrived once at its own uid.")?;
        }
        self.left_out.iter().try_for_each(|left_out| writeln!(f, "- Left out: {left_out}"))
    }
}

/// Median, lowest and highest in each column; a median that is the lowest of all rows is bold.
fn cells(row: &Row, lowest: &[f64; COLUMNS.len()]) -> [String; COLUMNS.len()] {
    std::array::from_fn(|column| {
        let figures = &row.figures[column];
        let Some(median) = median(figures) else { return "-".to_owned() };
        let shown = |figure| number(figure, COLUMNS[column].1);
        let bold = if median <= lowest[column] { "**" } else { "" };
        let low = figures.iter().copied().fold(f64::INFINITY, f64::min);
        let high = figures.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        format!("{bold}{}{bold} ({} to {})", shown(median), shown(low), shown(high))
    })
}

/// The middle one, or halfway between the two in the middle.
fn median(figures: &[f64]) -> Option<f64> {
    let mut sorted = figures.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let high = *sorted.get(sorted.len() / 2)?;
    let low = sorted[(sorted.len() - 1) / 2];
    Some(f64::midpoint(low, high))
}

/// Thousands apart by commas; from a hundred on without decimals.
pub(super) fn number(figure: f64, decimals: usize) -> String {
    let decimals = if figure >= 100.0 { 0 } else { decimals };
    let plain = format!("{figure:.decimals$}");
    let whole = plain.find('.').unwrap_or(plain.len());
    let digit = |at: usize| plain.as_bytes().get(at).is_some_and(u8::is_ascii_digit);
    let mut grouped = String::new();
    for (at, character) in plain.char_indices() {
        if at < whole && (whole - at) % 3 == 0 && at > 0 && digit(at - 1) {
            grouped.push(',');
        }
        grouped.push(character);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(scenario: &str, figure: f64, failures: &[&str]) -> String {
        let name = if scenario == "idle" { "server memory a connection" } else { "server CPU a million" };
        serde_json::json!({ "scenario": scenario, "figures": { name: figure }, "failures": failures })
            .to_string()
    }

    fn row(peer: Peer, title: &str, rounds: &[[f64; 4]], failures: &[&str]) -> Row {
        let mut row = Row { title: title.to_owned(), ..Row::new(peer) };
        for [idle, push, paced, fan_out] in rounds {
            for (scenario, figure, is_paced) in [
                ("idle", idle, false),
                ("push", push, false),
                ("fan-out", fan_out, false),
                ("push", paced, true),
            ] {
                let failures = if is_paced { failures } else { &[] };
                row.add(&outcome(scenario, *figure, failures), is_paced).unwrap();
            }
        }
        row
    }

    #[test]
    fn a_table_has_medians_ranges_failures_and_who_is_not_there() {
        let rounds = [[253.4, 14.62, 54.6, 13.3], [244.0, 10.58, 161.4, 11.9], [265.0, 15.2, 50.0, 14.0]];
        let ours = row(Peer::Doorbell, "Doorbell", &rounds, &[]);
        let theirs =
            row(Peer::Nats, "Other", &[[154_901.0, 99.96, 9.0, 1_234_567.0]; 2], &["push: pushes lost: 4"]);
        let never = row(Peer::Nchan, "Never", &[], &[]);
        let table = Table {
            rows: vec![ours, theirs, never],
            left_out: vec!["sockudo: takes minutes".to_owned()],
            circumstances: "Here.".to_owned(),
        };
        assert_eq!(
            table.to_string(),
            "Here.\n\n\
             | | bytes a connection | push, CPU-s a million | at 2,000/s | fan-out, CPU-s a million |\n\
             |---|---|---|---|---|\n\
             | Doorbell | **253** (244 to 265) | **14.6** (10.6 to 15.2) | **55** (50 to 161) | **13.3** (11.9 to 14.0) |\n\
             | Other, **with failures** | 154,901 (154,901 to 154,901) | 100.0 (100.0 to 100.0) | - | 1,234,567 (1,234,567 to 1,234,567) |\n\
             | Never | - | - | - | - |\n\n\
             - **Other**: push: pushes lost: 4\n\
             - **Other**: push: pushes lost: 4\n\
             - Left out: sockudo: takes minutes\n"
        );
    }

    #[test]
    fn the_median_of_an_even_number_lies_between_the_middle_two() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[4.0, 1.0, 100.0]), Some(4.0));
        assert_eq!(median(&[4.0, 1.0, 100.0, 2.0]), Some(3.0));
    }

    #[test]
    fn an_outcome_without_its_figure_is_refused() {
        let mut row = Row::new(Peer::Doorbell);
        assert!(row.add("", false).is_err());
        assert!(row.add(r#"{"scenario":"idle","figures":{}}"#, false).is_err());
    }
}

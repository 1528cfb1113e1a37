//! The table a run ends with, for a terminal and for a Markdown file alike.

use std::fmt;

/// One round's numbers for one row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Figure {
    /// The server's number.
    pub value: f64,
    /// The floor's in the same round, where there is one.
    pub floor: Option<f64>,
}

impl Figure {
    fn ratio(&self) -> Option<f64> {
        self.floor.map(|floor| self.value / floor)
    }
}

/// One line of the table: what was measured in every round, and its budget.
#[derive(Debug, Clone)]
pub struct Row {
    /// What, and in which unit.
    pub what: &'static str,
    /// A figure for every round.
    pub figures: Vec<Figure>,
    /// The budget that has to be kept; for the ratio where there is a floor, else for the value.
    pub must: f64,
    /// The budget that is aimed for.
    pub aim: f64,
}

impl Row {
    /// The median over the rounds of what the budget is for.
    pub fn result(&self) -> f64 {
        self.median(|figure| Some(figure.ratio().unwrap_or(figure.value))).unwrap_or(f64::NAN)
    }

    /// Whether the budget is kept.
    pub fn keeps_must(&self) -> bool {
        self.result() <= self.must
    }

    /// Whether the aim is reached.
    pub fn reaches_aim(&self) -> bool {
        self.result() <= self.aim
    }

    fn median(&self, of: impl Fn(&Figure) -> Option<f64>) -> Option<f64> {
        let mut values: Vec<f64> = self.figures.iter().filter_map(of).collect();
        values.sort_unstable_by(f64::total_cmp);
        values.get(values.len() / 2).copied()
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cell = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), number);
        let results = self.figures.iter().map(|figure| figure.ratio().unwrap_or(figure.value));
        let (low, high) = results.fold((f64::MAX, f64::MIN), |(low, high), r| (low.min(r), high.max(r)));
        let verdict = match (self.reaches_aim(), self.keeps_must()) {
            (true, _) => "aim",
            (false, true) => "must",
            (false, false) => "**missed**",
        };
        write!(
            f,
            "| {} | {} | {} | {} | {} to {} | {} | {} | {verdict} |",
            self.what,
            cell(self.median(|figure| Some(figure.value))),
            cell(self.median(|figure| figure.floor)),
            cell(self.median(Figure::ratio)),
            number(low),
            number(high),
            number(self.must),
            number(self.aim),
        )
    }
}

/// What a run has shown. `Display` prints it as Markdown.
#[derive(Debug, Clone)]
pub struct Report {
    /// Date, machine and method, a line each.
    pub circumstances: Vec<String>,
    /// The table.
    pub rows: Vec<Row>,
    /// Numbers beside the table, a line each.
    pub notes: Vec<String>,
    /// Every scenario that lost, doubled, misdelivered or refused something.
    pub failures: Vec<String>,
}

impl Report {
    /// Whether everything arrived; budgets are [`Row::keeps_must`]'s business.
    pub fn is_sound(&self) -> bool {
        self.failures.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.circumstances {
            writeln!(f, "- {line}")?;
        }
        writeln!(f)?;
        writeln!(f, "| what | value | floor | ratio | lowest to highest | must | aim | reached |")?;
        writeln!(f, "|---|---|---|---|---|---|---|---|")?;
        self.rows.iter().try_for_each(|row| writeln!(f, "{row}"))?;
        writeln!(f)?;
        let short: Vec<_> = self.rows.iter().filter(|row| !row.reaches_aim()).map(|row| row.what).collect();
        let (all, reached) = (self.rows.len(), self.rows.len() - short.len());
        write!(f, "- The aim is reached in {reached} of {all} rows")?;
        writeln!(f, "{}{}", if short.is_empty() { "" } else { "; not in: " }, short.join("; "))?;
        self.notes.iter().try_for_each(|note| writeln!(f, "- {note}"))?;
        if self.is_sound() {
            writeln!(f, "- Delivery: every push and every broadcast arrived exactly once, at its own uid.")
        } else {
            self.failures.iter().try_for_each(|failure| writeln!(f, "- **Delivery failed**: {failure}"))
        }
    }
}

/// Two decimals for ratios and small times, none for bytes.
fn number(value: f64) -> String {
    if value >= 100.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(values: &[f64], floor: Option<f64>) -> Row {
        let figures = values.iter().map(|value| Figure { value: *value, floor }).collect();
        Row { what: "x", figures, must: 1.5, aim: 1.1 }
    }

    #[test]
    fn the_budget_is_for_the_ratio_where_there_is_a_floor() {
        assert!(row(&[9.0, 12.0, 99.0], Some(10.0)).keeps_must());
        assert!(!row(&[9.0, 12.0, 99.0], None).keeps_must());
    }

    #[test]
    fn a_report_names_the_rows_that_fall_short_of_their_aim() {
        let report = |rows| {
            let (circumstances, notes, failures) = (Vec::new(), Vec::new(), Vec::new());
            Report { circumstances, rows, notes, failures }.to_string()
        };
        let (far, near) = (Row { what: "far", ..row(&[1.3], None) }, row(&[1.0], None));
        assert!(report(vec![near.clone()]).contains("- The aim is reached in 1 of 1 rows\n"));
        assert!(report(vec![far, near]).contains("- The aim is reached in 1 of 2 rows; not in: far\n"));
    }

    #[test]
    fn a_row_prints_medians_range_and_verdict() {
        let text = row(&[12.0, 10.0, 14.0], Some(10.0)).to_string();
        assert_eq!(text, "| x | 12.00 | 10.00 | 1.20 | 1.00 to 1.40 | 1.50 | 1.10 | must |");
    }
}

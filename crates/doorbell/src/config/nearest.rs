//! The nearest known name to a mistyped one.

/// The candidate with the fewest edits from `name`, when that is few enough to be a slip of the hand: at most a third
/// of the letters, its section's not counted, and at least two.
pub(crate) fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // A hostile name of megabytes must not cost a megabyte-wide matrix; no key is longer than this.
    if name.len() > 64 {
        return None;
    }
    candidates
        .into_iter()
        .map(|candidate| (edits(name, candidate), candidate))
        .filter(|(distance, candidate)| {
            let own = candidate.rsplit('.').next().unwrap_or(candidate);
            *distance <= (own.len() / 3).max(2)
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Damerau-Levenshtein distance (optimal string alignment) in characters: a swap of neighbours is one edit.
fn edits(from: &str, to: &str) -> usize {
    let from: Vec<char> = from.chars().collect();
    let to: Vec<char> = to.chars().collect();
    let mut rows = vec![vec![0; to.len() + 1]; from.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    rows[0] = (0..=to.len()).collect();
    for i in 1..=from.len() {
        for j in 1..=to.len() {
            let cost = usize::from(from[i - 1] != to[j - 1]);
            let mut best = (rows[i - 1][j] + 1).min(rows[i][j - 1] + 1).min(rows[i - 1][j - 1] + cost);
            if i > 1 && j > 1 && from[i - 1] == to[j - 2] && from[i - 2] == to[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[from.len()][to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_slips_and_leaves_strangers_alone() {
        let names = ["public.listen", "text.listen", "limits.queue_bytes"];
        assert_eq!(nearest("public.listn", names), Some("public.listen"));
        assert_eq!(nearest("public.lisetn", names), Some("public.listen"));
        assert_eq!(nearest("limits.queue_byte", names), Some("limits.queue_bytes"));
        assert_eq!(nearest("something.else", names), None);
        assert_eq!(nearest(&"x".repeat(1_000_000), names), None);
    }

    #[test]
    fn counts_edits() {
        assert_eq!(
            [edits("", "abc"), edits("abc", "abc"), edits("acb", "abc"), edits("abd", "abc")],
            [3, 0, 1, 1]
        );
    }
}

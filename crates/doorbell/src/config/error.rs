//! Where a configured value came from, and what is wrong with it.

use std::fmt;
use std::sync::Arc;

/// Where a value was given, so that whoever reads the message can go there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In the configuration file.
    File {
        /// The file's name as it was asked for.
        file: Arc<str>,
        /// Counted from 1.
        line: usize,
        /// Counted from 1, in characters.
        column: usize,
    },
    /// In this environment variable.
    Environment(String),
    /// By this flag, or by a command that sets it (`demo`).
    Flag(&'static str),
    /// Nowhere: it is the default.
    Default,
}

impl Place {
    /// The place of byte `offset` of `text`.
    pub(crate) fn in_file(file: &Arc<str>, text: &str, offset: usize) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Self::File {
            file: Arc::clone(file),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }

    /// Whether both are the same layer: two values of one layer contradict each other, a later layer just wins.
    pub(crate) fn same_layer(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }

    /// The one of the two that overrides the other.
    pub(crate) fn later<'p>(&'p self, other: &'p Self) -> &'p Self {
        if self.order().0 >= other.order().0 { self } else { other }
    }

    /// Files first, by position; then the environment, then flags.
    fn order(&self) -> (u8, usize, usize) {
        match self {
            Self::File { line, column, .. } => (0, *line, *column),
            Self::Environment(_) => (1, 0, 0),
            Self::Flag(_) => (2, 0, 0),
            Self::Default => (3, 0, 0),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { file, line, column } => write!(f, "{file}:{line}:{column}"),
            Self::Environment(name) => f.write_str(name),
            Self::Flag(name) => f.write_str(name),
            Self::Default => f.write_str("default"),
        }
    }
}

/// One thing wrong with the configuration. Prints as `place: message`; never contains a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// Where.
    pub place: Place,
    /// What is wrong and what would be right.
    pub message: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place {
            Place::Default => f.write_str(&self.message),
            _ => write!(f, "{}: {}", self.place, self.message),
        }
    }
}

impl std::error::Error for ConfigError {}

/// Collects errors, so that all of them are told at once.
#[derive(Debug, Default)]
pub(crate) struct Errors(Vec<ConfigError>);

impl Errors {
    pub(crate) fn push(&mut self, place: &Place, message: impl Into<String>) {
        self.0.push(ConfigError { place: place.clone(), message: message.into() });
    }

    /// Whether anything is wrong at that place already.
    pub(crate) fn at(&self, place: &Place) -> bool {
        self.0.iter().any(|error| error.place == *place)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// In the order in which a reader meets the places.
    pub(crate) fn into_sorted(mut self) -> Vec<ConfigError> {
        self.0.sort_by_key(|error| error.place.order());
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_count_characters_and_lines_count_from_one() {
        let file: Arc<str> = "f".into();
        let text = "a\né = 1\n";
        let at = |offset| Place::in_file(&file, text, offset).to_string();
        assert_eq!([at(0), at(2), at(4), at(999)], ["f:1:1", "f:2:1", "f:2:2", "f:3:1"]);
    }
}

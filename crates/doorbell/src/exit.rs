//! How the program ends: the exit codes, and what is said on stderr when a command fails.

use std::process::ExitCode;

use crate::config::ConfigError;

/// A failure at run time.
pub(crate) const FAILURE: u8 = 1;
/// `push`: nobody heard it.
pub(crate) const NOBODY: u8 = 1;
/// `push` and `broadcast`: the server could not be asked, or did not do it.
pub(crate) const COULD_NOT_ASK: u8 = 2;
/// Usage or configuration errors: `EX_USAGE` of sysexits(3).
pub(crate) const USAGE: u8 = 64;

/// Why a command failed, and with that its exit code.
pub(crate) enum Failure {
    /// Used wrongly: 64.
    Usage(anyhow::Error),
    /// Configured wrongly: 64.
    Config(Vec<ConfigError>),
    /// Went wrong while running: 1.
    Runtime(anyhow::Error),
    /// `push` and `broadcast`, which keep 1 for their own answer: 2.
    CouldNotAsk(anyhow::Error),
}

impl From<Vec<ConfigError>> for Failure {
    fn from(errors: Vec<ConfigError>) -> Self {
        Self::Config(errors)
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Runtime(error)
    }
}

impl Failure {
    /// Says on stderr what is wrong, and gives the exit code.
    pub(crate) fn report(self) -> ExitCode {
        let (code, error) = match self {
            Self::Config(errors) => {
                for error in &errors {
                    eprintln!("error: {error}");
                }
                let count = errors.len();
                eprintln!("{count} error{} in the configuration", if count == 1 { "" } else { "s" });
                return ExitCode::from(USAGE);
            }
            Self::Usage(error) => (USAGE, error),
            Self::Runtime(error) => (FAILURE, error),
            Self::CouldNotAsk(error) => (COULD_NOT_ASK, error),
        };
        eprintln!("error: {error:#}");
        ExitCode::from(code)
    }
}

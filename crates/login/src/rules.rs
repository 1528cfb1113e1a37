//! What logins go by: times, limits, and the sites that may ask.

use std::time::Duration;

use crate::secret::{Digest, USER_CODES};

/// Hits that guessing typed codes may expect to make a day, at most.
const GUESSES_A_DAY: f64 = 1e-4;

/// Times, limits and clients; exchangeable as a whole.
#[derive(Debug, Clone)]
pub struct Rules {
    /// How long a login waits for a scan.
    pub created_ttl: Duration,
    /// How long it waits for the answer after the scan.
    pub scanned_ttl: Duration,
    /// How long its result waits to be fetched.
    pub approved_ttl: Duration,
    /// How often the QR token changes while nobody has scanned it.
    pub rotate: Duration,
    /// How long the one before still works.
    pub rotate_grace: Duration,
    /// How long a login whose page was connected waits for that page to come back; zero is for ever.
    pub abandoned: Duration,
    /// Logins under way from one address (IPv6: one /64).
    pub attempts_per_ip: u32,
    /// Logins under way in all.
    pub attempts: usize,
    /// Typed codes that may be live at once for [`Rules::wrong_codes`] to be the budget; more use it up faster.
    pub typed_codes: u32,
    /// Wrong typed codes a day.
    pub wrong_codes: u32,
    /// The sites.
    pub clients: Vec<Client>,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            created_ttl: Duration::from_secs(120),
            scanned_ttl: Duration::from_secs(60),
            approved_ttl: Duration::from_secs(60),
            rotate: Duration::from_secs(30),
            rotate_grace: Duration::from_secs(5),
            abandoned: Duration::from_secs(30),
            attempts_per_ip: 100,
            attempts: 100_000,
            typed_codes: 1_000,
            wrong_codes: 2_560,
            clients: Vec::new(),
        }
    }
}

/// Why rules cannot be gone by.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RulesError {
    /// Typed codes could be guessed.
    #[error(
        "{wrong_codes} wrong typed codes a day with {typed_codes} live ones let a guesser hit {hits:.1e} a day, and 1e-4 is the most: their product may be 2560000"
    )]
    Guessable {
        /// The setting.
        wrong_codes: u32,
        /// The setting.
        typed_codes: u32,
        /// What guessing could expect.
        hits: f64,
    },
    /// Two clients have one id.
    #[error("two clients are called \"{0}\"")]
    TwoClients(String),
}

impl Rules {
    /// Checks what no single value shows.
    ///
    /// # Errors
    /// [`RulesError`]
    pub fn check(&self) -> Result<(), RulesError> {
        let Self { wrong_codes, typed_codes, .. } = *self;
        let hits = f64::from(wrong_codes) * f64::from(typed_codes) / USER_CODES as f64;
        if hits > GUESSES_A_DAY * (1.0 + 1e-9) {
            return Err(RulesError::Guessable { wrong_codes, typed_codes, hits });
        }
        for (index, client) in self.clients.iter().enumerate() {
            if self.clients[..index].iter().any(|other| other.id == client.id) {
                return Err(RulesError::TwoClients(client.id.clone()));
            }
        }
        Ok(())
    }

    /// The client of that id.
    #[must_use]
    pub fn client(&self, id: &str) -> Option<&Client> {
        self.clients.iter().find(|client| client.id == id)
    }
}

/// A site whose visitors log in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// Its `client_id`.
    pub id: String,
    /// SHA-256 of its secret; none for a client that cannot keep one and therefore must use PKCE.
    pub secret: Option<Digest>,
    /// What the phone calls it.
    pub name: String,
    /// A picture for the phone, as an address or a `data:` URL.
    pub icon: Option<String>,
    /// Where its browser may be sent, compared byte for byte.
    pub redirect_uris: Vec<String>,
    /// Sections of the providers its visitors may use; empty allows all.
    pub providers: Vec<String>,
    /// Whether the two screens are compared, and how.
    pub number_match: NumberMatch,
    /// Whether the two devices must be near each other.
    pub proximity: Proximity,
    /// How the uid of whoever logged in is made; see [`crate::Identity::uid`].
    pub uid: Option<String>,
}

impl Client {
    /// A client of that id and name, with nothing special about it.
    #[must_use]
    pub fn new(id: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            secret: None,
            name: name.into(),
            icon: None,
            redirect_uris: Vec::new(),
            providers: Vec::new(),
            number_match: NumberMatch::Off,
            proximity: Proximity::Signal,
            uid: None,
        }
    }

    /// Whether its visitors may use this provider.
    #[must_use]
    pub fn allows(&self, provider: &str) -> bool {
        self.providers.is_empty() || self.providers.iter().any(|allowed| allowed == provider)
    }
}

/// How the two screens are compared (BCP 247, "request initiation verification" and its lesser form).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NumberMatch {
    /// Not at all.
    #[default]
    Off,
    /// The computer shows two digits, the phone types them.
    ToPhone,
    /// The phone shows six digits, the computer types them before the result is released.
    ToBrowser,
}

impl NumberMatch {
    /// Its name in the configuration and on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::ToPhone => "to_phone",
            Self::ToBrowser => "to_browser",
        }
    }
}

/// What is made of the two devices' networks: the same IPv4 /24 or IPv6 /48.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Proximity {
    /// Nothing.
    Off,
    /// The phone says when they differ.
    #[default]
    Signal,
    /// The phone cannot agree when they differ.
    Require,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_that_let_codes_be_guessed_are_refused() {
        assert_eq!(Rules::default().check(), Ok(()));
        let rules = Rules { wrong_codes: 2_561, ..Rules::default() };
        assert!(matches!(rules.check(), Err(RulesError::Guessable { .. })));
        let rules = Rules { wrong_codes: 25, typed_codes: 100_000, ..Rules::default() };
        assert_eq!(rules.check(), Ok(()));
    }
}

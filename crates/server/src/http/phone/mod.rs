//! The phone's page: which site and which computer ask, and the owner's answer.
//!
//! [`View`] is all that a page depends on, and [`View::response`] makes it; nothing in here knows the state machine, so
//! every page can be looked at alone. The page works as plain forms. Its script only saves a tap, counts the seconds
//! and looks whether the page is still true.

mod language;
mod name;
mod page;
mod texts;
mod view;

pub(crate) use self::language::Language;
pub(crate) use self::view::{Asking, Consent, Number, Site, Step, View, Way};

//! The configuration file, on any text.

/// A text is understood or refused with reasons, each on one line and with its place; never a panic, never a secret.
pub(crate) fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Err(errors) = doorbell::config::parse(text) {
        assert!(!errors.is_empty(), "refused without a reason");
        for error in errors {
            let message = error.to_string();
            assert!(!message.is_empty() && !message.contains("hunter2"), "{message}");
        }
    }
}

//! What people, pages and backends send as a login's secrets and names, on any text: each line is taken for all of them.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use doorbell_login::{Digest, LoginId, Token, UserCode, describe, masked};

/// What is read is written back as it came, and nothing else is read.
pub(crate) fn check(data: &[u8]) {
    for line in String::from_utf8_lossy(data).lines() {
        check_line(line);
    }
}

fn check_line(text: &str) {
    if let Some(token) = Token::parse(text) {
        assert_eq!(token.expose(), text);
        assert!(token.digest().matches(text));
        assert!(!format!("{token:?}").contains(text));
    }
    if let Some(login) = LoginId::parse(text) {
        assert_eq!(login.to_string(), text);
    }
    if let Some(code) = UserCode::parse(text) {
        let shown = code.to_string();
        assert_eq!(UserCode::parse(&shown), Some(code));
        let letters = |text: &str| text.replace(|c: char| !c.is_ascii_alphabetic(), "").to_ascii_uppercase();
        assert!(letters(text).starts_with(&letters(&shown)), "{text:?} read as {shown}");
    }
    if let Some(challenge) = Digest::parse(text) {
        assert_eq!(URL_SAFE_NO_PAD.encode(challenge.as_bytes()), text, "one spelling for one challenge");
    }
    if let Some(secret) = Digest::from_hex(text) {
        let hex: String = secret.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, text.to_ascii_lowercase());
    }

    // What a computer calls itself is never shown, only what it is known as.
    let computer = describe(text);
    for known in [computer.browser, computer.system].into_iter().flatten() {
        assert!(known.chars().all(|c| c.is_ascii_alphabetic() || c == ' '), "{known}");
    }
    let mask = masked(text);
    assert!(mask.chars().skip(1).all(|c| c == '*') && mask.chars().count() <= 4, "{mask:?}");
    assert!(!mask.contains(char::is_control));
}

use secrecy::SecretString;
use serde_json::json;

use super::*;

const SECRET: &str = "an-hs256-secret-of-32-bytes-or-so";
const NOW: u64 = 1_800_000_000;

// Keys made for these tests with `openssl genpkey`; they guard nothing.
const EC_PRIVATE: &str = "-----BEGIN PRIVATE KEY-----\n\
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgqTWad5JJ3XSCbkXB\n\
jp2bX/1OES9f9BXVQxa2YuZvaeChRANCAATmMv7IL899I4q+6+MBkaWXDfDinKId\n\
GnxJPJj7fXTNdx+1hWBd+0S+WRuvgSG4nXsVOjGYXKMaQtadeipj/5Kd\n\
-----END PRIVATE KEY-----\n";
const EC_PUBLIC: &str = "-----BEGIN PUBLIC KEY-----\n\
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE5jL+yC/PfSOKvuvjAZGllw3w4pyi\n\
HRp8STyY+310zXcftYVgXftEvlkbr4EhuJ17FToxmFyjGkLWnXoqY/+SnQ==\n\
-----END PUBLIC KEY-----\n";
const ED_PRIVATE: &str = "-----BEGIN PRIVATE KEY-----\n\
MC4CAQAwBQYDK2VwBCIEIBwrLVqUTx7ujWgYI0VOWMBRfGKo25ei0zkQrqF59jkY\n\
-----END PRIVATE KEY-----\n";
const ED_PUBLIC: &str = "-----BEGIN PUBLIC KEY-----\n\
MCowBQYDK2VwAyEA1DBSMRdj53uZylCYLI68+9Os6kKcagujt6ycmmE8MRQ=\n\
-----END PUBLIC KEY-----\n";
const P384_PRIVATE: &str = "-----BEGIN PRIVATE KEY-----\n\
MIG2AgEAMBAGByqGSM49AgEGBSuBBAAiBIGeMIGbAgEBBDATGCZaSSZiNmCf1FVl\n\
zPHWIqO5uBJZbSNGUKCOahBUOJrj7mvQ36YGDaWnnnibuvmhZANiAASV4zLbttrn\n\
7i98gpK9QSkOzuOhHaLA9ag+26Wrm1zY1BtfzGDR490ANDESBnPeEBI4WEPsRtO7\n\
3negCjcNl308L6OcSo7ENGTUT9xQT/Ek3Ch24t6b+AfCZbpk8TeJy84=\n\
-----END PRIVATE KEY-----\n";
const P384_PUBLIC: &str = "-----BEGIN PUBLIC KEY-----\n\
MHYwEAYHKoZIzj0CAQYFK4EEACIDYgAEleMy27ba5+4vfIKSvUEpDs7joR2iwPWo\n\
Ptulq5tc2NQbX8xg0ePdADQxEgZz3hASOFhD7EbTu953oAo3DZd9PC+jnEqOxDRk\n\
1E/cUE/xJNwoduLem/gHwmW6ZPE3icvO\n\
-----END PUBLIC KEY-----\n";
const SEC1_PRIVATE: &str = "-----BEGIN EC PRIVATE KEY-----\n\
MHcCAQEEIIZyrC7WaLnDCAcp89gnmPiV1KvMesP7z9ld0HGXQ0anoAoGCCqGSM49\n\
AwEHoUQDQgAE9eLTodklIY8joc21liekyDRZCfizqmTNhQukk5vEGuCfAWqO1wB1\n\
Hn7wZtXu46uzcAJuSH+NPrfD0iRkpnl5sg==\n\
-----END EC PRIVATE KEY-----\n";

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

fn tokens(algorithm: TokenAlgorithm, key: &str) -> Tokens {
    Tokens { algorithm, key: Some(SecretString::from(key)), ..Tokens::default() }
}

fn keys(algorithm: TokenAlgorithm, key: &str) -> TokenKeys {
    TokenKeys::new(&tokens(algorithm, key)).expect("a good key")
}

fn hs256() -> TokenKeys {
    keys(TokenAlgorithm::Hs256, SECRET)
}

/// A token with exactly these claims, signed as HS256 keys of these tests sign.
fn signed(claims: &serde_json::Value) -> String {
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &key).expect("signs")
}

fn verdict(claims: &serde_json::Value) -> Result<Claims, TokenError> {
    hs256().verify(signed(claims).as_bytes(), at(NOW))
}

fn uid(text: &str) -> Uid {
    Uid::new(text).expect("a uid")
}

#[test]
fn a_minted_token_verifies_with_every_algorithm() {
    for (algorithm, private, public) in [
        (TokenAlgorithm::Hs256, SECRET, SECRET),
        (TokenAlgorithm::Es256, EC_PRIVATE, EC_PUBLIC),
        (TokenAlgorithm::EdDsa, ED_PRIVATE, ED_PUBLIC),
    ] {
        let token =
            keys(algorithm, private).mint(&uid("u1"), Duration::from_secs(60), at(NOW)).expect("mints");
        for key in [private, public] {
            let claims = keys(algorithm, key).verify(token.as_bytes(), at(NOW)).expect("verifies");
            assert_eq!(
                claims,
                Claims { uid: uid("u1"), expires: NOW + 60, issued: Some(NOW), id: None },
                "{algorithm:?}"
            );
        }
    }
}

#[test]
fn the_example_of_rfc_7515_appendix_a_1_verifies() {
    // The RFC's key is raw bytes, which no text file can hold: the signature is checked below the text layer.
    let token =
        b"eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA\
        6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    let mut keys = hs256();
    let key = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";
    let jwk = serde_json::from_value(json!({"kty": "oct", "k": key})).expect("a JWK");
    keys.verifying = DecodingKey::from_jwk(&jwk).expect("a key");
    // No subject in the RFC's claims, and long expired: both verdicts come after the signature's.
    assert_eq!(keys.verify(token, at(1_300_819_379)), Err(TokenError::BadSubject));
    assert_eq!(keys.verify(token, at(1_300_819_380)), Err(TokenError::Expired));
}

#[test]
fn every_single_changed_byte_is_refused() {
    let token = hs256().mint(&uid("u1"), Duration::from_secs(60), at(NOW)).expect("mints").into_bytes();
    for index in 0..token.len() {
        let mut tampered = token.clone();
        tampered[index] = if tampered[index] == b'A' { b'B' } else { b'A' };
        assert!(hs256().verify(&tampered, at(NOW)).is_err(), "byte {index}");
    }
}

#[test]
fn a_signature_by_another_key_is_a_bad_signature() {
    let other = keys(TokenAlgorithm::Hs256, "another secret of at least 32 bytes!");
    let token = other.mint(&uid("u1"), Duration::from_secs(60), at(NOW)).expect("mints");
    assert_eq!(hs256().verify(token.as_bytes(), at(NOW)), Err(TokenError::BadSignature));
}

#[test]
fn alg_none_is_refused_signed_or_not() {
    // {"alg":"none"} and {"sub":"u1","exp":1800000060}
    let unsigned = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ1MSIsImV4cCI6MTgwMDAwMDA2MH0.";
    assert_eq!(hs256().verify(unsigned.as_bytes(), at(NOW)), Err(TokenError::WrongAlgorithm));
    let signature = signed(&json!({"sub": "u1", "exp": NOW + 60})).rsplit('.').next().map(str::to_owned);
    let signed = format!("{unsigned}{}", signature.expect("has one"));
    assert_eq!(hs256().verify(signed.as_bytes(), at(NOW)), Err(TokenError::WrongAlgorithm));
}

#[test]
fn a_public_key_used_as_a_shared_secret_opens_nothing() {
    let claims = json!({"sub": "admin", "exp": NOW + 60});
    for (algorithm, public) in [(TokenAlgorithm::Es256, EC_PUBLIC), (TokenAlgorithm::EdDsa, ED_PUBLIC)] {
        let secret = EncodingKey::from_secret(public.as_bytes());
        let forged = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &secret).expect("signs");
        assert_eq!(
            keys(algorithm, public).verify(forged.as_bytes(), at(NOW)),
            Err(TokenError::WrongAlgorithm)
        );
    }
    let pem_as_secret = TokenKeys::new(&tokens(TokenAlgorithm::Hs256, EC_PUBLIC)).map(|_| ());
    assert_eq!(pem_as_secret, Err(TokenKeyError::PemForHs256));
}

#[test]
fn another_hmac_of_the_same_family_is_refused() {
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    let claims = json!({"sub": "u1", "exp": NOW + 60});
    let token = jsonwebtoken::encode(&Header::new(Algorithm::HS512), &claims, &key).expect("signs");
    assert_eq!(hs256().verify(token.as_bytes(), at(NOW)), Err(TokenError::WrongAlgorithm));
}

#[test]
fn a_critical_extension_is_refused() {
    let mut header = Header::new(Algorithm::HS256);
    header.crit = Some(vec!["http://example.com/UNDEFINED".into()]);
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    let claims = json!({"sub": "u1", "exp": NOW + 60});
    let token = jsonwebtoken::encode(&header, &claims, &key).expect("signs");
    assert_eq!(hs256().verify(token.as_bytes(), at(NOW)), Err(TokenError::Malformed));
}

#[test]
fn claims_are_judged_one_by_one() {
    let later = NOW + 60;
    for (claims, expected) in [
        (json!({"sub": "u1", "exp": later}), Ok(later)),
        (json!({"sub": "u1", "exp": NOW + 1}), Ok(NOW + 1)),
        (json!({"sub": "u1", "exp": NOW as f64 + 1.9}), Ok(NOW + 1)),
        (json!({"sub": "u1", "exp": u64::MAX}), Ok(u64::MAX)),
        (json!({"sub": "u1", "exp": 1e300}), Ok(u64::MAX)),
        (json!({"sub": "u1", "exp": NOW}), Err(TokenError::Expired)),
        (json!({"sub": "u1", "exp": NOW as f64 + 0.5}), Err(TokenError::Expired)),
        (json!({"sub": "u1", "exp": 0}), Err(TokenError::Expired)),
        (json!({"sub": "u1", "exp": -1}), Err(TokenError::Malformed)),
        (json!({"sub": "u1", "exp": later.to_string()}), Err(TokenError::Malformed)),
        (json!({"sub": "u1", "exp": null}), Err(TokenError::MissingExpiry)),
        (json!({"sub": "u1"}), Err(TokenError::MissingExpiry)),
        (json!({"exp": later}), Err(TokenError::BadSubject)),
        (json!({"sub": "", "exp": later}), Err(TokenError::BadSubject)),
        (json!({"sub": 1, "exp": later}), Err(TokenError::BadSubject)),
        (json!({"sub": "u".repeat(129), "exp": later}), Err(TokenError::BadSubject)),
        (json!({"sub": "u1", "exp": later, "nbf": NOW - 9}), Ok(later)),
        (json!({"sub": "u1", "exp": later, "nbf": NOW + 5}), Ok(later)),
        (json!({"sub": "u1", "exp": later, "nbf": NOW + 6}), Err(TokenError::NotYetValid)),
        (json!({"sub": "u1", "exp": later, "nbf": "soon"}), Err(TokenError::Malformed)),
        (json!({"sub": "u1", "exp": later, "aud": "someone", "iss": "x"}), Ok(later)),
        (json!(["sub", "u1"]), Err(TokenError::Malformed)),
    ] {
        assert_eq!(verdict(&claims).map(|claims| claims.expires), expected, "{claims}");
    }
}

#[test]
fn issuer_and_audience_must_match_when_configured() {
    let mut settings = tokens(TokenAlgorithm::Hs256, SECRET);
    settings.issuer = Some("shop".into());
    settings.audience = Some("doorbell".into());
    let strict = TokenKeys::new(&settings).expect("a good key");
    for (issuer, audience, expected) in [
        (json!("shop"), json!("doorbell"), None),
        (json!("shop"), json!(["other", "doorbell"]), None),
        (json!("shop"), json!("other"), Some(TokenError::WrongAudience)),
        (json!("shop"), json!([]), Some(TokenError::WrongAudience)),
        (json!("shop"), json!(null), Some(TokenError::WrongAudience)),
        (json!("shop "), json!("doorbell"), Some(TokenError::WrongIssuer)),
        (json!(null), json!("doorbell"), Some(TokenError::WrongIssuer)),
        (json!("shop"), json!(7), Some(TokenError::Malformed)),
    ] {
        let claims = json!({"sub": "u1", "exp": NOW + 60, "iss": issuer, "aud": audience});
        assert_eq!(strict.verify(signed(&claims).as_bytes(), at(NOW)).err(), expected, "{claims}");
    }
    let own = strict.mint(&uid("u1"), Duration::from_secs(60), at(NOW)).expect("mints");
    assert!(strict.verify(own.as_bytes(), at(NOW)).is_ok());
}

#[test]
fn noise_is_malformed() {
    let long = vec![b'a'; MAX_TOKEN_BYTES + 1];
    for noise in [&b""[..], b".", b"..", b"a.b.c", b"uid1", b"\xff\xfe", b"{\"alg\":\"HS256\"}", &long] {
        assert_eq!(hs256().verify(noise, at(NOW)), Err(TokenError::Malformed));
    }
    let token = hs256().mint(&uid("u1"), Duration::from_secs(60), at(NOW)).expect("mints");
    for spoilt in [format!("{token}="), format!("{token}\n"), format!(" {token}"), format!("{token}.x")] {
        assert!(hs256().verify(spoilt.as_bytes(), at(NOW)).is_err(), "{spoilt:?}");
    }
}

#[test]
fn a_key_file_may_end_in_a_newline() {
    let token = hs256().mint(&uid("u1"), Duration::from_secs(60), at(NOW)).expect("mints");
    let padded = keys(TokenAlgorithm::Hs256, &format!("\n{SECRET}\r\n"));
    assert!(padded.verify(token.as_bytes(), at(NOW)).is_ok());
}

#[test]
fn wrong_keys_are_told_apart_and_never_shown() {
    use TokenAlgorithm::{EdDsa, Es256, Hs256};
    let short = TokenKeys::new(&tokens(Hs256, " hunter2hunter2hunter2hunter2hun ")).expect_err("31 bytes");
    assert_eq!(short, TokenKeyError::TooShort { found: 31 });
    assert!(!short.to_string().contains("hunter2"));
    assert_eq!(TokenKeys::new(&Tokens::default()).expect_err("no key"), TokenKeyError::Missing);
    for (algorithm, key) in [
        (Es256, SECRET),
        (Es256, ED_PRIVATE),
        (Es256, ED_PUBLIC),
        (Es256, P384_PRIVATE),
        (Es256, P384_PUBLIC),
        (Es256, SEC1_PRIVATE),
        (EdDsa, SECRET),
        (EdDsa, EC_PRIVATE),
        (EdDsa, EC_PUBLIC),
        (EdDsa, "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"),
    ] {
        let error = TokenKeys::new(&tokens(algorithm, key)).map(|_| ()).expect_err("not such a key");
        assert!(matches!(error, TokenKeyError::NotAKey { .. }), "{algorithm:?}: {error}");
        assert!(error.to_string().contains("openssl"), "{error}");
    }
}

#[test]
fn a_public_key_checks_but_does_not_mint() {
    let public = keys(TokenAlgorithm::Es256, EC_PUBLIC);
    assert!(!public.can_mint());
    assert!(matches!(
        public.mint(&uid("u1"), Duration::from_secs(60), at(NOW)),
        Err(MintError::PublicKeyOnly)
    ));
}

#[test]
fn a_token_that_could_never_be_used_is_not_minted() {
    for ttl in [Duration::ZERO, Duration::from_millis(999), Duration::MAX] {
        assert!(matches!(hs256().mint(&uid("u1"), ttl, at(NOW)), Err(MintError::Ttl)), "{ttl:?}");
    }
}

#[test]
fn debug_shows_no_key() {
    let text = format!("{:?}", hs256());
    assert!(!text.contains("secret-of-32"), "{text}");
}

//! Standard Webhooks signatures (github.com/standard-webhooks/standard-webhooks, "Verifying webhook authenticity"):
//! HMAC-SHA256 over `id.timestamp.body`, in base64 behind `v1,`. Their verification libraries accept these.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret as _, SecretString};

use super::WebhooksError;

/// The key that signs. `aws_lc_rs` wipes it and keeps it out of `Debug`.
#[derive(Debug)]
pub(super) struct SigningKey(hmac::Key);

impl SigningKey {
    /// A secret in the form `whsec_<base64>` stands for the bytes behind it, any other for its own bytes.
    pub(super) fn new(secret: &SecretString) -> Result<Self, WebhooksError> {
        let text = secret.expose_secret();
        let key = match text.strip_prefix("whsec_") {
            None => hmac::Key::new(hmac::HMAC_SHA256, text.as_bytes()),
            Some(encoded) => {
                let bytes = STANDARD.decode(encoded).map_err(|_| WebhooksError::Secret)?;
                hmac::Key::new(hmac::HMAC_SHA256, &bytes)
            }
        };
        Ok(Self(key))
    }

    /// The value of `webhook-signature`.
    pub(super) fn sign(&self, id: &str, timestamp: u64, body: &[u8]) -> String {
        let mut signed = hmac::Context::with_key(&self.0);
        signed.update(format!("{id}.{timestamp}.").as_bytes());
        signed.update(body);
        format!("v1,{}", STANDARD.encode(signed.sign()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_as_the_standard_shows() {
        // The example of the specification, verified with Python's hmac.
        let key = SigningKey::new(&"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".into()).expect("base64");
        let signature = key.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        assert!(SigningKey::new(&"whsec_no base64".into()).is_err());
    }

    #[test]
    fn another_secret_is_its_own_bytes() {
        let plain = SigningKey::new(&"secret".into()).expect("text");
        let encoded = SigningKey::new(&"whsec_c2VjcmV0".into()).expect("base64");
        assert_eq!(plain.sign("w", 1, b"{}"), encoded.sign("w", 1, b"{}"));
        assert_ne!(plain.sign("w", 1, b"{}"), plain.sign("w", 2, b"{}"));
    }
}

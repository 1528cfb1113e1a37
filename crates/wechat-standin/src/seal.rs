//! Message encryption, written apart from `doorbell-wechat`: CBC by hand over single blocks.

use aes::Aes256;
use aes::cipher::{Array, BlockCipherDecrypt as _, BlockCipherEncrypt as _, KeyInit as _};
use base64::Engine as _;
use base64::alphabet::STANDARD as ALPHABET;
use base64::engine::general_purpose::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use sha1::{Digest as _, Sha1};

use crate::world::random_bytes;

fn key_of(encoding_aes_key: &str) -> Option<[u8; 32]> {
    let config = GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireNone);
    GeneralPurpose::new(&ALPHABET, config).decode(encoding_aes_key).ok()?.try_into().ok()
}

/// Encrypts; none when the key is none.
pub(crate) fn seal(encoding_aes_key: &str, appid: &str, message: &str) -> Option<String> {
    let key = key_of(encoding_aes_key)?;
    let cipher = Aes256::new(&key.into());
    let mut plain = random_bytes(16);
    plain.extend(u32::try_from(message.len()).ok()?.to_be_bytes());
    plain.extend(message.as_bytes());
    plain.extend(appid.as_bytes());
    let pad = 32 - plain.len() % 32;
    plain.extend(std::iter::repeat_n(u8::try_from(pad).ok()?, pad));
    let mut last: [u8; 16] = key[..16].try_into().ok()?;
    let mut out = Vec::with_capacity(plain.len());
    for block in plain.chunks_exact(16) {
        let mut mixed = Array::from(last);
        mixed.iter_mut().zip(block).for_each(|(mixed, byte)| *mixed ^= byte);
        cipher.encrypt_block(&mut mixed);
        last = mixed.into();
        out.extend(last);
    }
    Some(STANDARD.encode(out))
}

/// Decrypts what was sealed for `appid`.
pub(crate) fn open(encoding_aes_key: &str, appid: &str, sealed: &str) -> Option<String> {
    let key = key_of(encoding_aes_key)?;
    let cipher = Aes256::new(&key.into());
    let data = STANDARD.decode(sealed).ok()?;
    let mut last = key[..16].to_vec();
    let mut plain = Vec::with_capacity(data.len());
    for block in data.chunks_exact(16) {
        let mut mixed = Array::from(<[u8; 16]>::try_from(block).ok()?);
        cipher.decrypt_block(&mut mixed);
        plain.extend(mixed.iter().zip(&last).map(|(mixed, last)| mixed ^ last));
        last = block.to_vec();
    }
    let pad = usize::from(*plain.last()?);
    plain.truncate(plain.len().checked_sub(pad)?);
    let length = u32::from_be_bytes(plain.get(16..20)?.try_into().ok()?);
    let end = 20 + usize::try_from(length).ok()?;
    (plain.get(end..)? == appid.as_bytes()).then(|| String::from_utf8(plain[20..end].to_vec()).ok())?
}

/// Sorted, joined, hashed.
pub(crate) fn sign(parts: &[&str]) -> String {
    let mut parts = parts.to_vec();
    parts.sort_unstable_by(|one, other| one.as_bytes().cmp(other.as_bytes()));
    Sha1::digest(parts.concat().as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_is_opened_for_its_account_alone() {
        let key = "jWmYm7qr5nMoAUwZRjGtBxmz3KA1tkAj3ykkR6q2B2C";
        for length in 0..40 {
            let message = "x".repeat(length);
            let sealed = seal(key, "wx1", &message).expect("a key");
            assert_eq!(open(key, "wx1", &sealed).as_deref(), Some(&*message));
            assert_eq!(open(key, "wx2", &sealed), None);
        }
    }

    #[test]
    fn a_published_message_is_opened() {
        let plain = open(
            "jWmYm7qr5nMoAUwZRjGtBxmz3KA1tkAj3ykkR6q2B2C",
            "wx5823bf96d3bd56c7",
            "P9nAzCzyDtyTWESHep1vC5X9xho/qYX3Zpb4yKa9SKld1DsH3Iyt3tP3zNdtp+4RPcs8TgAE7OaBO+FZXvnaqQ==",
        );
        assert_eq!(plain.as_deref(), Some("1616140317555161061"));
    }
}

//! Signatures and encryption as WeChat does them: official accounts, mini programs, the Open Platform and WeCom alike.

use std::fmt;

use aes::Aes256;
use base64::Engine as _;
use base64::alphabet;
use base64::engine::general_purpose::STANDARD;
use base64::engine::{GeneralPurpose, GeneralPurposeConfig};
use cbc::cipher::block_padding::NoPadding;
use cbc::cipher::{BlockModeDecrypt as _, BlockModeEncrypt as _, KeyIvInit as _};
use sha1::{Digest as _, Sha1};
use subtle::ConstantTimeEq as _;
use thiserror::Error;

/// Messages are padded to multiples of this, not of AES's 16.
const PAD_BLOCK: usize = 32;
/// Random bytes before every message.
const RANDOM_BYTES: usize = 16;
/// Random bytes and the length of the message.
const HEAD_BYTES: usize = RANDOM_BYTES + 4;

/// Decodes keys whose last character has spare bits that are not zero: most real keys do.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);

/// An `EncodingAESKey`.
#[derive(Clone)]
pub struct AesKey([u8; 32]);

impl fmt::Debug for AesKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AesKey([redacted])")
    }
}

/// Why a text is no `EncodingAESKey`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("an EncodingAESKey has 43 letters and digits")]
pub struct BadAesKey;

/// Why a ciphertext is not accepted. For logs alone: whoever sent it learns nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DecryptError {
    /// Not base64.
    #[error("the ciphertext is not base64")]
    Base64,
    /// Not a multiple of 32 bytes, or none.
    #[error("the ciphertext has an impossible length")]
    Length,
    /// Not every pad byte is right.
    #[error("the padding is wrong")]
    Pad,
    /// The message's length reaches beyond what is there.
    #[error("the message's length is wrong")]
    MessageLength,
    /// For another account.
    #[error("the message is for another account")]
    ReceiveId,
}

impl AesKey {
    /// Reads the 43 characters shown in WeChat's console.
    ///
    /// # Errors
    /// When they are not 43 letters and digits.
    pub fn parse(text: &str) -> Result<Self, BadAesKey> {
        if text.len() != 43 || !text.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(BadAesKey);
        }
        let key = LENIENT.decode(format!("{text}=")).map_err(|_| BadAesKey)?;
        Ok(Self(key.try_into().map_err(|_| BadAesKey)?))
    }

    fn iv(&self) -> &[u8] {
        &self.0[..16]
    }

    /// Decrypts a message for `receive_id`: an appid, or a WeCom CorpID.
    ///
    /// # Errors
    /// See [`DecryptError`]. Check the signature before.
    pub fn decrypt(&self, encrypted: &str, receive_id: &str) -> Result<Vec<u8>, DecryptError> {
        let mut data = STANDARD.decode(encrypted).map_err(|_| DecryptError::Base64)?;
        if data.is_empty() || !data.len().is_multiple_of(PAD_BLOCK) {
            return Err(DecryptError::Length);
        }
        cbc::Decryptor::<Aes256>::new_from_slices(&self.0, self.iv())
            .map_err(|_| DecryptError::Length)?
            .decrypt_padded::<NoPadding>(&mut data)
            .map_err(|_| DecryptError::Length)?;
        let pad = data.last().copied().map_or(0, usize::from);
        if !(1..=PAD_BLOCK).contains(&pad) {
            return Err(DecryptError::Pad);
        }
        let unpadded = data.len() - pad;
        // Every byte is looked at, wherever the first wrong one is.
        let wrong = data[unpadded..].iter().fold(0, |wrong, byte| wrong | (usize::from(*byte) ^ pad));
        if wrong != 0 {
            return Err(DecryptError::Pad);
        }
        data.truncate(unpadded);
        let (head, rest) = data.split_at_checked(HEAD_BYTES).ok_or(DecryptError::MessageLength)?;
        let length = head[RANDOM_BYTES..].iter().fold(0, |length, byte| (length << 8) | usize::from(*byte));
        let (message, id) = rest.split_at_checked(length).ok_or(DecryptError::MessageLength)?;
        if id != receive_id.as_bytes() {
            return Err(DecryptError::ReceiveId);
        }
        Ok(message.to_vec())
    }

    /// Encrypts a message from `receive_id`, with 16 random bytes of the caller's.
    pub fn encrypt(&self, message: &[u8], receive_id: &str, random: [u8; RANDOM_BYTES]) -> String {
        // Messages are built here and bounded by their limits, far below 4 GiB.
        let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
        let mut data = Vec::with_capacity(HEAD_BYTES + message.len() + receive_id.len() + PAD_BLOCK);
        data.extend_from_slice(&random);
        data.extend_from_slice(&length.to_be_bytes());
        data.extend_from_slice(message);
        data.extend_from_slice(receive_id.as_bytes());
        let pad = PAD_BLOCK - data.len() % PAD_BLOCK;
        data.resize(data.len() + pad, u8::try_from(pad).unwrap_or_default());
        let length = data.len();
        let encrypted = cbc::Encryptor::<Aes256>::new_from_slices(&self.0, self.iv())
            .ok()
            .and_then(|cipher| cipher.encrypt_padded::<NoPadding>(&mut data, length).ok().map(<[u8]>::to_vec))
            .expect("a 32-byte key, a 16-byte vector and whole blocks are what the cipher takes");
        STANDARD.encode(encrypted)
    }
}

/// WeChat's signature: SHA-1 over the parts, sorted by their bytes and joined; lower-case hex.
pub fn signature(parts: &[&str]) -> String {
    let mut parts: Vec<&[u8]> = parts.iter().map(|part| part.as_bytes()).collect();
    parts.sort_unstable();
    sha1_hex(&parts)
}

/// Whether `claimed` is the signature of the parts, in constant time.
pub fn is_signature(claimed: &str, parts: &[&str]) -> bool {
    signature(parts).as_bytes().ct_eq(claimed.as_bytes()).into()
}

pub(crate) fn sha1_hex(parts: &[&[u8]]) -> String {
    let mut hash = Sha1::new();
    for part in parts {
        hash.update(part);
    }
    let mut hex = String::with_capacity(40);
    for byte in hash.finalize() {
        hex.push(char::from(b"0123456789abcdef"[usize::from(byte >> 4)]));
        hex.push(char::from(b"0123456789abcdef"[usize::from(byte & 15)]));
    }
    hex
}

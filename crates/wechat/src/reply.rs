//! Answers to callbacks.

use std::time::{SystemTime, UNIX_EPOCH};

use secrecy::ExposeSecret as _;
use serde_json::json;
use thiserror::Error;

use crate::crypto::signature;
use crate::{Callback, Format, Received};

/// The answer that says nothing; not encrypted in any mode.
const NOTHING: &str = "success";

/// The body of an answer to a callback.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The body.
    pub body: String,
    /// Its type.
    pub content_type: &'static str,
}

/// The system has no randomness, so nothing can be encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the system has no randomness")]
pub struct BadReply;

impl Reply {
    /// Says nothing to the person.
    pub fn nothing() -> Self {
        Self { body: NOTHING.to_owned(), content_type: "text/plain; charset=utf-8" }
    }

    /// Says `text` to the person, in WeChat. Addresses in it can be tapped; so can `<a href="…">`.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn text(callback: &Callback, to: &Received, text: &str, now: SystemTime) -> Result<Self, BadReply> {
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(|_| BadReply)?;
        let time = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let keys = callback.keys();
        let (person, account) = (&to.message.openid, &to.message.account);
        let format = to.message.format;
        let plain = match format {
            Format::Xml => format!(
                "<xml><ToUserName>{}</ToUserName><FromUserName>{}</FromUserName><CreateTime>{time}</CreateTime>\
                 <MsgType><![CDATA[text]]></MsgType><Content>{}</Content></xml>",
                cdata(person),
                cdata(account),
                cdata(text)
            ),
            Format::Json => json!({
                "ToUserName": person, "FromUserName": account, "CreateTime": time,
                "MsgType": "text", "Content": text,
            })
            .to_string(),
        };
        let encrypted = to.key.encrypt(plain.as_bytes(), &keys.appid, random);
        let (timestamp, nonce) = (time.to_string(), &to.nonce);
        let signature = signature(&[keys.token.expose_secret(), &timestamp, nonce, &encrypted]);
        Ok(match format {
            Format::Xml => Self {
                body: format!(
                    "<xml><Encrypt>{}</Encrypt><MsgSignature>{}</MsgSignature>\
                     <TimeStamp>{timestamp}</TimeStamp><Nonce>{}</Nonce></xml>",
                    cdata(&encrypted),
                    cdata(&signature),
                    cdata(nonce)
                ),
                content_type: "application/xml; charset=utf-8",
            },
            Format::Json => Self {
                body: json!({
                    "Encrypt": encrypted, "MsgSignature": signature, "TimeStamp": time, "Nonce": nonce,
                })
                .to_string(),
                content_type: "application/json; charset=utf-8",
            },
        })
    }
}

/// Text as CDATA; its own end inside it is split in two.
fn cdata(text: &str) -> String {
    format!("<![CDATA[{}]]>", text.replace("]]>", "]]]]><![CDATA[>"))
}

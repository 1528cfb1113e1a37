//! What WeChat tells: events and messages.

use crate::fields::Fields;
use crate::{FieldsError, Format};

/// One event or message of a person to the account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The account's own id, `gh_…`.
    pub account: String,
    /// The person's openid.
    pub openid: String,
    /// WeChat's clock, in seconds since the Unix epoch.
    pub created: u64,
    /// What happened.
    pub kind: MessageKind,
    /// The account's setting; replies follow it.
    pub format: Format,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum MessageKind {
    /// A parametric QR code was scanned, by someone who follows the account now.
    Scan {
        /// The scene, without the `qrscene_` that new followers' events have.
        scene: String,
        /// The code's ticket.
        ticket: String,
        /// Whether following came with the scan.
        subscribed: bool,
    },
    /// Someone followed the account without a code.
    Subscribe,
    /// Someone wrote.
    Text {
        /// What they wrote.
        content: String,
        /// Names the message.
        id: String,
    },
    /// Anything else.
    Other {
        /// Names it among the messages of one person and second.
        name: String,
    },
}

impl Message {
    /// Reads a decrypted body.
    ///
    /// # Errors
    /// When it cannot be read, or does not say who did what and when.
    pub fn parse(body: &[u8]) -> Result<Self, FieldsError> {
        let (fields, format) = Fields::parse(body)?;
        let field = |name: &str| fields.get(name).unwrap_or_default();
        let required = |name: &str| fields.get(name).ok_or(FieldsError::Malformed).map(str::to_owned);
        let kind = match (field("MsgType"), field("Event")) {
            ("event", "SCAN") if !field("Ticket").is_empty() => MessageKind::Scan {
                scene: field("EventKey").to_owned(),
                ticket: field("Ticket").to_owned(),
                subscribed: false,
            },
            ("event", "subscribe") => match field("EventKey").strip_prefix("qrscene_") {
                Some(scene) => MessageKind::Scan {
                    scene: scene.to_owned(),
                    ticket: field("Ticket").to_owned(),
                    subscribed: true,
                },
                None => MessageKind::Subscribe,
            },
            ("text", _) => {
                MessageKind::Text { content: field("Content").to_owned(), id: field("MsgId").to_owned() }
            }
            (kind, event) => {
                let (key, id) = (field("EventKey"), field("MsgId"));
                MessageKind::Other { name: format!("{kind} {event} {key} {id}") }
            }
        };
        Ok(Self {
            account: required("ToUserName")?,
            openid: required("FromUserName")?,
            created: required("CreateTime")?.trim().parse().map_err(|_| FieldsError::Malformed)?,
            kind,
            format,
        })
    }

    /// The same for every delivery of one message: events have no id of their own.
    pub fn identity(&self) -> String {
        let what = match &self.kind {
            MessageKind::Scan { scene, subscribed, .. } => format!("scan {subscribed} {scene}"),
            MessageKind::Subscribe => "subscribe".to_owned(),
            MessageKind::Text { id, .. } => format!("text {id}"),
            MessageKind::Other { name } => name.clone(),
        };
        format!("{} {} {what}", self.openid, self.created)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn xml(event: &str, rest: &str) -> String {
        format!(
            "<xml><ToUserName><![CDATA[gh_1]]></ToUserName><FromUserName><![CDATA[oA]]></FromUserName>\
             <CreateTime>123456789</CreateTime><MsgType><![CDATA[event]]></MsgType>\
             <Event><![CDATA[{event}]]></Event>{rest}</xml>"
        )
    }

    #[test]
    fn scans_of_followers_and_of_new_followers_name_the_same_scene() {
        let scan =
            Message::parse(xml("SCAN", "<EventKey>S</EventKey><Ticket>T</Ticket>").as_bytes()).expect("read");
        let follow =
            Message::parse(xml("subscribe", "<EventKey>qrscene_S</EventKey><Ticket>T</Ticket>").as_bytes())
                .expect("read");
        for (message, subscribed) in [(&scan, false), (&follow, true)] {
            let expected = MessageKind::Scan { scene: "S".into(), ticket: "T".into(), subscribed };
            assert_eq!((message.openid.as_str(), &message.kind), ("oA", &expected));
        }
        assert_ne!(scan.identity(), follow.identity());
        let json = br#"{"ToUserName":"gh_1","FromUserName":"oA","CreateTime":123456789,"MsgType":"event","Event":"SCAN","EventKey":"S","Ticket":"T"}"#;
        let json = Message::parse(json).expect("read");
        assert_eq!((json.identity(), json.format), (scan.identity(), Format::Json));
    }

    #[test]
    fn a_plain_follow_is_no_scan() {
        for rest in ["", "<EventKey></EventKey>", "<EventKey>S</EventKey>"] {
            let message = Message::parse(xml("subscribe", rest).as_bytes()).expect("read");
            assert_eq!(message.kind, MessageKind::Subscribe, "{rest}");
        }
    }

    #[test]
    fn a_message_says_who_and_when() {
        for gone in ["ToUserName", "FromUserName", "CreateTime"] {
            let body = xml("SCAN", "<EventKey>S</EventKey><Ticket>T</Ticket>").replace(gone, "X");
            assert_eq!(Message::parse(body.as_bytes()), Err(FieldsError::Malformed), "{gone}");
        }
        let body = xml("SCAN", "").replace("123456789", "-1");
        assert_eq!(Message::parse(body.as_bytes()), Err(FieldsError::Malformed));
    }
}

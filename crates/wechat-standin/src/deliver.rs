//! Callbacks to an account's server: up to three tries of five seconds, and what came back.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::Shared;
use crate::seal::{open, seal, sign};
use crate::world::{Account, CallbackSetting, Format, Mode, Retry, openid, random_bytes};

const TRIES: usize = 3;
/// How many deliveries are remembered for the control API.
const REMEMBERED: usize = 10_000;

/// Something an account is told about a person.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Event {
    pub(crate) appid: String,
    pub(crate) person: String,
    /// `SCAN`, `subscribe`, …; empty for a text message.
    #[serde(default)]
    pub(crate) event: String,
    #[serde(default)]
    pub(crate) key: String,
    #[serde(default)]
    pub(crate) ticket: String,
    /// The text of a message.
    #[serde(default)]
    pub(crate) content: String,
    /// WeChat's clock by default.
    #[serde(default)]
    pub(crate) create_time: Option<u64>,
    /// Makes the encryption's padding have this length, 1 to 32.
    #[serde(default)]
    pub(crate) pad: Option<usize>,
}

/// One try and its answer.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Delivery {
    pub(crate) appid: String,
    pub(crate) person: String,
    pub(crate) event: String,
    /// The query and body as sent, so that a test can send them again.
    pub(crate) url: String,
    pub(crate) body: String,
    /// The HTTP status; none when there was no answer in time.
    pub(crate) status: Option<u16>,
    pub(crate) ms: u128,
    pub(crate) answer: String,
    /// The text that the person reads.
    pub(crate) reply: Option<String>,
}

struct Sealed {
    url: String,
    body: String,
}

/// Delivers an event; the last try's record.
pub(crate) async fn deliver(shared: &Shared, event: Event) -> Result<Delivery, String> {
    let (account, time, timeout) = {
        let world = shared.world.lock();
        let account = world.accounts.get(&event.appid).cloned().ok_or("no such account")?;
        (account, world.callback_time(), Duration::from_millis(world.settings.callback_timeout_ms))
    };
    let callback = account.callback.clone().ok_or("the account has no callback")?;
    let created = event.create_time.unwrap_or(time);
    let plain = plain_body(&account, &callback, &event, created);
    let mut sealed = seal_up(&account, &callback, &plain, &event.person, time)?;
    let mut last = None;
    for attempt in 0..TRIES {
        if attempt > 0 && callback.retry == Retry::Fresh {
            let time = shared.world.lock().callback_time();
            sealed = seal_up(&account, &callback, &plain, &event.person, time)?;
        }
        let delivery = attempt_once(shared, &account, &callback, &event, &sealed, timeout).await;
        let answered = delivery.status == Some(200);
        {
            let mut world = shared.world.lock();
            if world.deliveries.len() < REMEMBERED {
                world.deliveries.push(delivery.clone());
            }
            if let Some(reply) = &delivery.reply {
                let line = (account.name.clone(), reply.clone());
                world.chats.entry(event.person.clone()).or_default().push(line);
            }
        }
        last = Some(delivery);
        if answered {
            break;
        }
    }
    last.ok_or_else(|| "not delivered".to_owned())
}

fn plain_body(account: &Account, callback: &CallbackSetting, event: &Event, created: u64) -> String {
    let id = openid(&account.appid, &event.person);
    let gh = format!("gh_{}", account.appid);
    let is_event = !event.event.is_empty();
    let kind = if is_event { "event" } else { "text" };
    let mut fields: Vec<(&str, Value)> = vec![
        ("ToUserName", json!(gh)),
        ("FromUserName", json!(id)),
        ("CreateTime", json!(created)),
        ("MsgType", json!(kind)),
    ];
    if is_event {
        fields.push(("Event", json!(event.event)));
        fields.push(("EventKey", json!(event.key)));
        if !event.ticket.is_empty() {
            fields.push(("Ticket", json!(event.ticket)));
        }
    } else {
        fields.push(("Content", json!(event.content)));
        fields.push(("MsgId", json!(u64::from_be_bytes([1, 2, 3, 4, 5, 6, 7, 8]) + created)));
    }
    let mut body = match callback.format {
        Format::Json => {
            let fields: serde_json::Map<String, Value> =
                fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
            Value::Object(fields).to_string()
        }
        Format::Xml => {
            let inside: String = fields.iter().map(|(name, value)| xml_field(name, value)).collect();
            format!("<xml>{inside}</xml>")
        }
    };
    // Whitespace at the end changes nothing but the length.
    if let Some(pad) = event.pad {
        while 32 - (20 + body.len() + account.appid.len()) % 32 != pad.clamp(1, 32) {
            body.push('\n');
        }
    }
    body
}

fn xml_field(name: &str, value: &Value) -> String {
    match value {
        Value::String(text) => {
            format!("<{name}><![CDATA[{}]]></{name}>", text.replace("]]>", "]]]]><![CDATA[>"))
        }
        other => format!("<{name}>{other}</{name}>"),
    }
}

fn seal_up(
    account: &Account,
    callback: &CallbackSetting,
    plain: &str,
    person: &str,
    time: u64,
) -> Result<Sealed, String> {
    let timestamp = time.to_string();
    let nonce = u32::from_be_bytes(random_bytes(4).try_into().unwrap_or_default()).to_string();
    let id = openid(&account.appid, person);
    let signature = sign(&[&callback.token, &timestamp, &nonce]);
    let join = if callback.url.contains('?') { '&' } else { '?' };
    let mut url = format!(
        "{}{join}signature={signature}&timestamp={timestamp}&nonce={nonce}&openid={id}",
        callback.url
    );
    if callback.mode == Mode::Plain {
        return Ok(Sealed { url, body: plain.to_owned() });
    }
    let encrypted = seal(&callback.encoding_aes_key, &account.appid, plain).ok_or("the key is none")?;
    let msg_signature = sign(&[&callback.token, &timestamp, &nonce, &encrypted]);
    url.push_str(&format!("&encrypt_type=aes&msg_signature={msg_signature}"));
    let gh = format!("gh_{}", account.appid);
    let body = match (callback.format, callback.mode) {
        (Format::Xml, Mode::Compatible) => plain.trim_end().replacen(
            "</xml>",
            &format!("<Encrypt><![CDATA[{encrypted}]]></Encrypt></xml>"),
            1,
        ),
        (Format::Json, Mode::Compatible) => {
            let mut body: Value = serde_json::from_str(plain).map_err(|error| error.to_string())?;
            body["Encrypt"] = json!(encrypted);
            body.to_string()
        }
        (Format::Xml, _) => format!(
            "<xml>\n    <ToUserName><![CDATA[{gh}]]></ToUserName>\n    <Encrypt><![CDATA[{encrypted}]]></Encrypt>\n</xml>\n"
        ),
        (Format::Json, _) => json!({ "ToUserName": gh, "Encrypt": encrypted }).to_string(),
    };
    Ok(Sealed { url, body })
}

async fn attempt_once(
    shared: &Shared,
    account: &Account,
    callback: &CallbackSetting,
    event: &Event,
    sealed: &Sealed,
    timeout: Duration,
) -> Delivery {
    let kind = if callback.format == Format::Xml { "text/xml" } else { "application/json" };
    let started = Instant::now();
    let sent = shared
        .http
        .post(&sealed.url)
        .header("Content-Type", kind)
        .header("User-Agent", "Mozilla/4.0")
        .timeout(timeout)
        .body(sealed.body.clone())
        .send()
        .await;
    let (status, answer) = match sent {
        Ok(response) => (Some(response.status().as_u16()), response.text().await.unwrap_or_default()),
        Err(_) => (None, String::new()),
    };
    Delivery {
        appid: account.appid.clone(),
        person: event.person.clone(),
        event: event.event.clone(),
        url: sealed.url.clone(),
        body: sealed.body.clone(),
        status,
        ms: started.elapsed().as_millis(),
        reply: reply_text(account, callback, &answer),
        answer,
    }
}

/// What the person reads of an answer; nothing of `success`, of nothing, and of what is wrongly signed or sealed.
fn reply_text(account: &Account, callback: &CallbackSetting, answer: &str) -> Option<String> {
    let plain = if callback.mode == Mode::Plain {
        answer.to_owned()
    } else {
        let field = |name: &str| field_of(answer, name);
        let (sealed, timestamp, nonce) = (field("Encrypt")?, field("TimeStamp")?, field("Nonce")?);
        if sign(&[&callback.token, &timestamp, &nonce, &sealed]) != field("MsgSignature")? {
            return None;
        }
        open(&callback.encoding_aes_key, &account.appid, &sealed)?
    };
    field_of(&plain, "Content")
}

/// A field of XML or JSON that this program's counterpart wrote.
fn field_of(text: &str, name: &str) -> Option<String> {
    if text.trim_start().starts_with('{') {
        let value: Value = serde_json::from_str(text).ok()?;
        return match &value[name] {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        };
    }
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    let (inside, _) = rest.split_once(&format!("</{name}>"))?;
    let inside = inside.replace("]]]]><![CDATA[>", "]]>");
    let bare = inside.strip_prefix("<![CDATA[").and_then(|inside| inside.strip_suffix("]]>"));
    Some(bare.map_or_else(|| inside.clone(), str::to_owned))
}

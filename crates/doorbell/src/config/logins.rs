//! `[[login.clients]]` and `[providers.<name>]`.

use std::collections::BTreeMap;

use doorbell_server::settings::{
    Digest, LoginClient, MiniProgramEdition, NumberMatch, ProviderSettings, Proximity, WeChatScope,
};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{Errors, Place};
use super::file::{Source, clip};
use super::nearest::nearest;
use super::table::{CLIENT_FIELDS, PROVIDER_FIELDS};
use super::value::{Raw, Value};
use super::{Config, Secret};

/// The kinds of provider there are.
const KINDS: &[&str] = &["demo", "wechat-web", "wechat-open", "wechat-mp", "wechat-miniprogram", "feishu"];
/// Characters of a name on the phone.
const MAX_NAME: usize = 64;

/// One configured client, its secret not yet read.
#[derive(Debug, Clone)]
pub(crate) struct ClientEntry {
    pub(crate) client: LoginClient,
    pub(crate) secret: Option<Secret>,
    pub(crate) place: Place,
}

/// One configured provider, its secrets not yet read.
#[derive(Debug, Clone)]
pub(crate) struct ProviderEntry {
    pub(crate) provider: ProviderSettings,
    pub(crate) secret: Option<Secret>,
    pub(crate) token: Option<Secret>,
    pub(crate) encoding_aes_key: Option<Secret>,
    pub(crate) previous_encoding_aes_key: Option<Secret>,
    pub(crate) place: Place,
}

type Given<'f> = BTreeMap<&'f str, Value>;

/// Reads `login.clients` of a file.
pub(crate) fn clients(
    config: &mut Config,
    source: &Source<'_>,
    place: &Place,
    value: &Spanned<DeValue<'_>>,
    errors: &mut Errors,
) {
    let usage =
        "`login.clients` is a list of tables: write [[login.clients]] above each client's id and name";
    let DeValue::Array(items) = value.get_ref() else { return errors.push(place, usage) };
    for item in items.iter() {
        let place = source.place(item.span().start);
        let DeValue::Table(fields) = item.get_ref() else {
            errors.push(&place, usage);
            continue;
        };
        let given = given(source, fields, CLIENT_FIELDS, "[[login.clients]]", errors);
        if let Some(entry) = client(&given, &place, errors) {
            if config.clients.iter().any(|other| other.client.id == entry.client.id) {
                errors.push(&place, format!("two clients are called \"{}\"", entry.client.id));
                continue;
            }
            config.clients.push(entry);
        }
    }
}

/// Reads `providers` of a file.
pub(crate) fn providers(
    config: &mut Config,
    source: &Source<'_>,
    place: &Place,
    value: &Spanned<DeValue<'_>>,
    errors: &mut Errors,
) {
    let usage = "`providers` is a section of sections: write [providers.<name>] above each provider's kind";
    let DeValue::Table(sections) = value.get_ref() else { return errors.push(place, usage) };
    for (name, value) in sections {
        let place = source.place(name.span().start);
        let DeValue::Table(fields) = value.get_ref() else {
            errors.push(&place, usage);
            continue;
        };
        let name = name.get_ref().as_ref();
        if !is_name(name) || name == "app" {
            let message = "a provider's name has 1 to 64 letters, digits, - _ and . and is not \"app\", which is the site's own app";
            errors.push(&place, message);
            continue;
        }
        let heading = format!("[providers.{name}]");
        let given = given(source, fields, PROVIDER_FIELDS, &heading, errors);
        config.providers.extend(provider(name, &given, &place, errors));
    }
}

fn given<'f>(
    source: &Source<'_>,
    fields: &'f DeTable<'_>,
    known: &[(&str, &str, &str)],
    heading: &str,
    errors: &mut Errors,
) -> Given<'f> {
    let mut given = BTreeMap::new();
    for (field, value) in fields {
        let name = field.get_ref().as_ref();
        if known.iter().any(|(known, ..)| *known == name) {
            given.insert(name, source.value(value));
            continue;
        }
        let near = nearest(name, known.iter().map(|(known, ..)| *known));
        let hint = near.map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
        let message = format!("unknown key `{}` in {heading}{hint}", clip(name));
        errors.push(&source.place(field.span().start), message);
    }
    given
}

fn is_name(name: &str) -> bool {
    let named = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    (1..=64).contains(&name.len()) && name.chars().all(named)
}

fn client(given: &Given<'_>, place: &Place, errors: &mut Errors) -> Option<ClientEntry> {
    let (id, name) = (required(given, "id", place, errors), required(given, "name", place, errors));
    let (id, name) = (id?, name?);
    if !is_name(&id) {
        return given["id"].refuse("an id has 1 to 64 letters, digits, - _ and .", errors);
    }
    if name.chars().count() > MAX_NAME || name.chars().any(char::is_control) {
        return given["name"].refuse(format!("a name has up to {MAX_NAME} characters"), errors);
    }
    let mut client = LoginClient::new(id, name);
    let secret = secret(given, "secret", errors);
    if let Some(value) = given.get("secret_hash") {
        if secret.is_some() {
            return value.refuse("`secret_hash` is given besides a secret; keep one", errors);
        }
        client.secret = Some(hash(value, errors)?);
    }
    if let Some(value) = given.get("icon") {
        client.icon = Some(icon(value, errors)?);
    }
    if let Some(value) = given.get("redirect_uris") {
        client.redirect_uris = redirect_uris(value, errors)?;
    }
    if let Some(value) = given.get("providers") {
        client.providers = value.strings(errors)?;
    }
    if let Some(value) = given.get("number_match") {
        let words = [
            ("off", NumberMatch::Off),
            ("to_phone", NumberMatch::ToPhone),
            ("to_browser", NumberMatch::ToBrowser),
        ];
        client.number_match = value.word(&words, errors)?;
    }
    if let Some(value) = given.get("proximity") {
        let words = [("off", Proximity::Off), ("signal", Proximity::Signal), ("require", Proximity::Require)];
        client.proximity = value.word(&words, errors)?;
    }
    if let Some(value) = given.get("uid") {
        client.uid = Some(uid_template(value, errors)?);
    }
    Some(ClientEntry { client, secret, place: place.clone() })
}

fn provider(name: &str, given: &Given<'_>, place: &Place, errors: &mut Errors) -> Option<ProviderEntry> {
    let kind = required(given, "kind", place, errors)?;
    if !KINDS.contains(&kind.as_str()) {
        let kinds: Vec<String> = KINDS.iter().map(|kind| format!("\"{kind}\"")).collect();
        return given["kind"].refuse(format!("expected {}", kinds.join(" or ")), errors);
    }
    let text = |name: &str, errors: &mut Errors| given.get(name).and_then(|value| value.string(errors));
    let needed: &[&str] = match kind.as_str() {
        "demo" => &[],
        "wechat-mp" => &["appid", "secret", "token", "encoding_aes_key"],
        _ => &["appid", "secret"],
    };
    for name in needed {
        if !given.contains_key(name) && !given.contains_key(format!("{name}_file").as_str()) {
            errors.push(place, format!("`{name}` is missing: a provider of kind \"{kind}\" needs it"));
        }
    }
    let flag = |name: &str, errors: &mut Errors| given.get(name).and_then(|value| value.boolean(errors));
    let scopes = [("base", WeChatScope::Base), ("userinfo", WeChatScope::UserInfo)];
    let editions = [
        ("release", MiniProgramEdition::Release),
        ("trial", MiniProgramEdition::Trial),
        ("develop", MiniProgramEdition::Develop),
    ];
    let provider = ProviderSettings {
        name: name.to_owned(),
        appid: text("appid", errors),
        api_base: text("api_base", errors),
        open_base: text("open_base", errors),
        scope: given.get("scope").and_then(|value| value.word(&scopes, errors)).unwrap_or_default(),
        any_browser: flag("any_browser", errors).unwrap_or_default(),
        page: given.get("page").and_then(|value| page(value, errors)),
        edition: given.get("edition").and_then(|value| value.word(&editions, errors)).unwrap_or_default(),
        scan_is_consent: flag("scan_is_consent", errors).unwrap_or_default(),
        kind,
        ..ProviderSettings::default()
    };
    Some(ProviderEntry {
        provider,
        secret: secret(given, "secret", errors),
        token: secret(given, "token", errors),
        encoding_aes_key: secret(given, "encoding_aes_key", errors),
        previous_encoding_aes_key: secret(given, "previous_encoding_aes_key", errors),
        place: place.clone(),
    })
}

/// As WeChat wants it: without a `/` before it, and without parameters.
fn page(value: &Value, errors: &mut Errors) -> Option<String> {
    let page = value.string(errors)?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte);
    if !page.starts_with('/') && (1..=128).contains(&page.len()) && page.bytes().all(plain) {
        return Some(page);
    }
    value.refuse(
        "expected a page such as \"pages/login/login\", without a `/` before it or parameters",
        errors,
    )
}

fn required(given: &Given<'_>, name: &str, place: &Place, errors: &mut Errors) -> Option<String> {
    match given.get(name) {
        Some(value) => value.string(errors),
        None => {
            errors.push(place, format!("`{name}` is missing"));
            None
        }
    }
}

/// A secret as it is, or the file that holds it.
fn secret(given: &Given<'_>, name: &str, errors: &mut Errors) -> Option<Secret> {
    let file = format!("{name}_file");
    match (given.get(name), given.get(file.as_str())) {
        (Some(value), None) => value.secret(errors).map(Secret::Inline),
        (None, Some(value)) => value.path(errors).map(Secret::File),
        (None, None) => None,
        (Some(_), Some(value)) => {
            value.refuse(format!("`{name}` and `{file}` are both given; keep one"), errors)
        }
    }
}

/// 64 hexadecimal digits.
fn hash(value: &Value, errors: &mut Errors) -> Option<Digest> {
    let usage = "expected the secret's SHA-256 as 64 hexadecimal digits, as `sha256sum` prints it";
    let Raw::Text(text) = &value.raw else { return value.refuse(usage, errors) };
    let digest = (text.len() == 64).then(|| Digest::from_hex(text)).flatten();
    digest.or_else(|| value.refuse(usage, errors))
}

fn icon(value: &Value, errors: &mut Errors) -> Option<String> {
    let icon = value.string(errors)?;
    let known = icon.starts_with("https://") || icon.starts_with("data:image/");
    if known && icon.len() <= 16 * 1_024 && icon.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Some(icon);
    }
    value.refuse("expected an https: address or a data:image/ URL of up to 16KiB", errors)
}

/// Absolute addresses without a fragment (RFC 6749 section 3.1.2); custom schemes are for apps.
fn redirect_uris(value: &Value, errors: &mut Errors) -> Option<Vec<String>> {
    let uris = value.strings(errors)?;
    let good = |uri: &String| {
        let scheme = uri.split_once(':').map_or("", |(scheme, _)| scheme);
        let scheme =
            !scheme.is_empty() && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
        let harmless = !uri.starts_with("javascript:") && !uri.starts_with("data:");
        scheme && harmless && !uri.contains('#') && uri.bytes().all(|byte| byte.is_ascii_graphic())
    };
    match uris.iter().find(|uri| !good(uri)) {
        None => Some(uris),
        Some(bad) => {
            let message = format!("\"{}\" is not an absolute address without a fragment", clip(bad));
            value.refuse(message, errors)
        }
    }
}

fn uid_template(value: &Value, errors: &mut Errors) -> Option<String> {
    let template = value.string(errors)?;
    let mut rest = template.as_str();
    while let Some((_, after)) = rest.split_once('{') {
        match after.split_once('}') {
            Some(("provider" | "appid" | "id" | "unionid" | "account", after)) => rest = after,
            _ => {
                return value
                    .refuse("expected {provider}, {appid}, {id}, {unionid} or {account} in braces", errors);
            }
        }
    }
    if template.contains("{id}") || template.contains("{unionid}") || template.contains("{account}") {
        return Some(template);
    }
    value.refuse("without {id}, {unionid} or {account} all people would share one uid", errors)
}

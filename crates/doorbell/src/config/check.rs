//! What one key cannot know: rules between keys, and the secrets' files. Still before any port opens.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use doorbell_server::identity::TokenKeys;
use doorbell_server::places::Places;
use doorbell_server::settings::{ApiKey, Digest, IdentityMode, TokenAlgorithm};
use doorbell_server::tls::Certificate;
use doorbell_server::webhooks;
use secrecy::{ExposeSecret, SecretString};

use super::error::{Errors, Place};
use super::value::check_secret;
use super::{Config, Files, Secret};

/// The public listener's port, when no other is given.
const PUBLIC_PORT: u16 = 19_999;

/// Fills in what depends on other keys, then checks the rules between keys.
pub(crate) fn finish(config: &mut Config, files: Files, errors: &mut Errors) {
    let open = config.settings.public.identity == IdentityMode::Open;
    if config.place("public.listen") == Place::Default {
        let host = if open { Ipv4Addr::LOCALHOST } else { Ipv4Addr::UNSPECIFIED };
        config.settings.public.listen = SocketAddr::from((host, PUBLIC_PORT));
    }
    // A refused address has its error already; the default in its place must not cause another.
    let listen_refused = errors.at(&config.place("public.listen"));
    let exposed = open && !is_loopback(config.settings.public.listen) && !listen_refused;
    if exposed && !config.settings.public.open_identity_acknowledged {
        let message = "open identity lets anyone claim any uid: listen on 127.0.0.1, use identity = \"token\", or \
                       set public.open_identity_acknowledged = true";
        errors.push(&config.place("public.listen"), message);
    }
    if !is_loopback(config.settings.text.listen) && !config.given("text.key") {
        let message = "the text port beyond loopback needs text.key or text.key_file";
        errors.push(&config.place("text.listen"), message);
    }
    one_port_each(config, errors);
    if config.settings.tokens.algorithm != TokenAlgorithm::Hs256 && !config.given("tokens.key") {
        let message = "this algorithm needs tokens.key or tokens.key_file";
        errors.push(&config.place("tokens.algorithm"), message);
    }
    read_secrets(config, files, errors);
    certificate(config, files, errors);
    logins(config, files, errors);
}

/// Whether only this machine reaches an address, by the server's own rule.
pub(crate) fn is_loopback(address: SocketAddr) -> bool {
    address.ip().is_loopback()
}

/// The certificate and its key, and whether they belong together.
fn certificate(config: &Config, files: Files, errors: &mut Errors) {
    let public = &config.settings.public;
    let half = public.tls_cert.is_some() != public.tls_key.is_some();
    if half || matches!(files, Files::Read) {
        let key = if public.tls_cert.is_some() { "public.tls_cert" } else { "public.tls_key" };
        if let Err(error) = Certificate::of(public) {
            errors.push(&config.place(key), error.to_string());
        }
    }
}

/// Clients and providers, and what their rules say together.
fn logins(config: &mut Config, files: Files, errors: &mut Errors) {
    for entry in &config.clients {
        let mut client = entry.client.clone();
        if let Some(secret) = &entry.secret {
            // A file that is not read leaves a client that cannot be authenticated, not one that need not be.
            let read = read_secret(secret, files, &entry.place, errors);
            let text = read.as_ref().map_or("", |secret| secret.expose_secret());
            client.secret = Some(Digest::of(text));
        }
        config.settings.login.rules.clients.push(client);
    }
    if let Some(Err(error)) = config.settings.login.places_file.as_deref().map(Places::open) {
        let source = error.source.to_string();
        errors.push(&config.place("login.places_file"), format!("{error}: {source}"));
    }
    if let Err(error) = config.settings.login.rules.check() {
        errors.push(&config.place("login.wrong_codes"), error.to_string());
    }
    let on_loopback = is_loopback(config.settings.public.listen);
    for entry in &config.providers {
        let mut provider = entry.provider.clone();
        let mut read = |secret: &Option<Secret>| {
            secret.as_ref().and_then(|secret| read_secret(secret, files, &entry.place, errors))
        };
        provider.secret = read(&entry.secret);
        provider.token = read(&entry.token);
        provider.encoding_aes_key = read(&entry.encoding_aes_key);
        provider.previous_encoding_aes_key = read(&entry.previous_encoding_aes_key);
        if provider.kind == "demo" && !on_loopback {
            errors.push(&entry.place, "a provider of kind \"demo\" lets anyone be anyone: only on loopback");
        }
        for problem in provider.problems() {
            errors.push(&entry.place, problem);
        }
        config.settings.providers.push(provider);
    }
}

fn one_port_each(config: &Config, errors: &mut Errors) {
    let settings = &config.settings;
    let listeners = [
        ("public.listen", settings.public.listen),
        ("text.listen", settings.text.listen),
        ("api.listen", settings.api.listen),
    ];
    for (index, (key, address)) in listeners.iter().enumerate() {
        for (other, taken) in &listeners[..index] {
            if address == taken && address.port() != 0 {
                errors.push(&config.place(key), format!("{address} is already {other}"));
            }
        }
    }
}

fn read_secrets(config: &mut Config, files: Files, errors: &mut Errors) {
    if let Some(secret) = &config.text_key {
        let place = config.place("text.key");
        config.settings.text.key = read_secret(secret, files, &place, errors);
    }
    if let Some(secret) = &config.webhook_secret {
        let place = config.place("webhooks.secret");
        config.settings.webhooks.secret = read_secret(secret, files, &place, errors);
    }
    check_webhooks(config, errors);
    for entry in &config.api_keys {
        if let Some(secret) = read_secret(&entry.secret, files, &entry.place, errors) {
            let (name, expires) = (entry.name.clone(), entry.expires);
            config.settings.api.keys.push(ApiKey { name, secret, expires });
        }
    }
    if let Some(secret) = &config.token_key {
        let place = config.place("tokens.key");
        let key = match secret {
            Secret::Inline(text) => Some(text.clone()),
            Secret::File(path) => read_file(path, files, &place, errors),
        };
        if key.is_some() {
            config.settings.tokens.key = key;
            if let Err(error) = TokenKeys::new(&config.settings.tokens) {
                errors.push(&place, error.to_string());
            }
        }
    }
}

fn check_webhooks(config: &Config, errors: &mut Errors) {
    let webhooks = &config.settings.webhooks;
    // A secret in a file may not have been read.
    let key = if config.given("webhooks.secret") { "webhooks.secret" } else { "webhooks.urls" };
    if webhooks.secret.is_none() && config.given("webhooks.secret") {
        return;
    }
    if let Err(error) = webhooks::check(webhooks) {
        errors.push(&config.place(key), error.to_string());
    }
}

/// A secret that must be one line of visible ASCII, which an inline one is known to be.
fn read_secret(secret: &Secret, files: Files, place: &Place, errors: &mut Errors) -> Option<SecretString> {
    let path = match secret {
        Secret::Inline(text) => return Some(text.clone()),
        Secret::File(path) => path,
    };
    let text = read_file(path, files, place, errors)?;
    let trimmed = text.expose_secret().trim();
    match check_secret(trimmed) {
        Ok(()) => Some(SecretString::from(trimmed)),
        Err(why) => {
            errors.push(place, format!("{}: {why}", path.display()));
            None
        }
    }
}

fn read_file(path: &Path, files: Files, place: &Place, errors: &mut Errors) -> Option<SecretString> {
    if matches!(files, Files::Skip) {
        return None;
    }
    match crate::bounded::read_text(path, crate::bounded::SECRET_FILE_BYTES) {
        Ok(text) => Some(SecretString::from(text)),
        Err(error) => {
            errors.push(place, format!("cannot read {}: {error}", path.display()));
            None
        }
    }
}

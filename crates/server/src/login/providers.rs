//! The providers of one server, by their sections in the configuration.
//!
//! A new kind is a type that implements [`Provider`] and an arm in [`build`].

use std::sync::Arc;

use doorbell_login::{Begun, Errand, Identity, Outcome, Provider, ProviderError, Request, Work};

use self::feishu::Feishu;
use self::wechat::{MiniProgram, Mp, Open, Web};
use crate::settings::{ProviderSettings, Settings};

mod feishu;
mod wechat;

/// See the module's header.
#[derive(Debug, Default)]
pub(super) struct Providers(Vec<(ProviderSettings, Arc<dyn Provider>)>);

impl Providers {
    /// The providers of the settings. Those of `before` whose section is as it was are kept: they remember what must not
    /// come twice.
    pub(super) fn new(settings: &Settings, before: Option<&Self>) -> Self {
        let kept = |section: &ProviderSettings| {
            let before = before?.0.iter().find(|(before, _)| before.is_same(section))?;
            Some(Arc::clone(&before.1))
        };
        let one = |section: &ProviderSettings| {
            let provider = kept(section).or_else(|| build(section))?;
            Some((section.clone(), provider))
        };
        Self(settings.providers.iter().filter_map(one).collect())
    }

    fn all(&self) -> impl Iterator<Item = &Arc<dyn Provider>> {
        self.0.iter().map(|(_, provider)| provider)
    }

    pub(super) fn find(&self, name: &str) -> Option<Arc<dyn Provider>> {
        self.all().find(|provider| provider.name() == name).map(Arc::clone)
    }

    pub(super) fn suiting(&self, user_agent: &str) -> Vec<Arc<dyn Provider>> {
        self.all().filter(|provider| provider.suits(user_agent)).map(Arc::clone).collect()
    }
}

/// The provider that a section describes; none for kinds that are not asked on the phone's page.
fn build(settings: &ProviderSettings) -> Option<Arc<dyn Provider>> {
    fn shared<P: Provider + 'static>(provider: Option<P>) -> Option<Arc<dyn Provider>> {
        provider.map(|provider| -> Arc<dyn Provider> { Arc::new(provider) })
    }
    match settings.kind.as_str() {
        "demo" => shared(Some(DemoProvider { name: settings.name.clone() })),
        "wechat-web" => shared(Web::new(settings)),
        "wechat-open" => shared(Open::new(settings)),
        "wechat-mp" => shared(Mp::new(settings)),
        "wechat-miniprogram" => shared(MiniProgram::new(settings)),
        "feishu" => shared(Feishu::new(settings)),
        _ => None,
    }
}

/// Believes what is typed on the phone's page. For trying things out: the server runs it on loopback only.
#[derive(Debug)]
struct DemoProvider {
    name: String,
}

impl Provider for DemoProvider {
    fn name(&self) -> &str {
        &self.name
    }

    fn label(&self) -> &str {
        "Demo"
    }

    fn shows_refusal(&self) -> bool {
        true
    }

    fn begin<'a>(&'a self, errand: &'a Errand<'a>) -> Work<'a, Result<Begun, ProviderError>> {
        let typed = errand.form.iter().find(|(field, _)| field == "name").map(|(_, name)| name.trim());
        let name = typed.filter(|name| !name.is_empty()).unwrap_or("Demo");
        let name: String = name.chars().filter(|character| !character.is_control()).take(64).collect();
        let identity = Identity {
            provider: self.name.clone(),
            appid: None,
            id: name.to_lowercase().replace(char::is_whitespace, "-"),
            unionid: None,
            name: Some(name),
            picture: None,
        };
        Box::pin(std::future::ready(Ok(Begun::Identity(identity))))
    }

    fn callback<'a>(&'a self, _: &'a Request<'a>) -> Work<'a, Result<Outcome, ProviderError>> {
        Box::pin(std::future::ready(Err(ProviderError::Forged("nobody is sent anywhere"))))
    }
}

//! Who agreed on the phone.

use serde::{Deserialize, Serialize};

/// A person as a provider knows them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The provider's section in the configuration.
    pub provider: String,
    /// The provider's name for the application that asked; ids of two applications are never compared.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub appid: Option<String>,
    /// Stable within `provider` and `appid`.
    pub id: String,
    /// The same person across the applications of one owner, where the provider has such a thing.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub unionid: Option<String>,
    /// What they call themselves.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub name: Option<String>,
    /// The address of a picture.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub picture: Option<String>,
}

impl Identity {
    /// The uid this person's pages connect as: `template` with `{provider}`, `{appid}`, `{id}`, `{unionid}` and
    /// `{account}` filled in, where `{account}` is `unionid` where there is one, else `appid:id`. Without a template,
    /// `provider:appid:id`, or `provider:id` where there is no appid.
    ///
    /// A part that is missing makes no uid: two people must never share one because both lack it.
    #[must_use]
    pub fn uid(&self, template: Option<&str>) -> Option<String> {
        let own = || match &self.appid {
            Some(appid) => format!("{appid}:{}", self.id),
            None => self.id.clone(),
        };
        let Some(mut rest) = template else { return Some(format!("{}:{}", self.provider, own())) };
        let mut uid = String::new();
        while let Some((before, after)) = rest.split_once('{') {
            uid.push_str(before);
            let (name, after) = after.split_once('}')?;
            match name {
                "provider" => uid.push_str(&self.provider),
                "appid" => uid.push_str(self.appid.as_deref()?),
                "id" => uid.push_str(&self.id),
                "unionid" => uid.push_str(self.unionid.as_deref()?),
                "account" => match &self.unionid {
                    Some(unionid) => uid.push_str(unionid),
                    None => uid.push_str(&own()),
                },
                _ => return None,
            }
            rest = after;
        }
        uid.push_str(rest);
        Some(uid)
    }
}

/// A name of which only the first character shows, for a screen others may see.
#[must_use]
pub fn masked(name: &str) -> String {
    let mut characters = name.chars().filter(|character| !character.is_control());
    let Some(first) = characters.next() else { return String::new() };
    let hidden = characters.count().clamp(1, 3);
    std::iter::once(first).chain(std::iter::repeat_n('*', hidden)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(appid: Option<&str>, unionid: Option<&str>) -> Identity {
        Identity {
            provider: "wechat-mp".into(),
            appid: appid.map(Into::into),
            id: "o1".into(),
            unionid: unionid.map(Into::into),
            name: None,
            picture: None,
        }
    }

    #[test]
    fn uids_follow_their_template_and_never_join_two_people() {
        let (alone, joined) = (identity(Some("wx1"), None), identity(Some("wx1"), Some("u1")));
        for (identity, template, expected) in [
            (&alone, None, Some("wechat-mp:wx1:o1")),
            (&identity(None, None), None, Some("wechat-mp:o1")),
            (&alone, Some("{account}"), Some("wx1:o1")),
            (&joined, Some("{account}"), Some("u1")),
            (&joined, Some("wx-{unionid}!"), Some("wx-u1!")),
            (&alone, Some("{unionid}"), None),
            (&alone, Some("{nobody}"), None),
            (&alone, Some("{id"), None),
        ] {
            assert_eq!(identity.uid(template).as_deref(), expected, "{template:?}");
        }
    }

    #[test]
    fn only_the_first_character_of_a_name_shows() {
        for (name, expected) in
            [("Ada", "A**"), ("王小明", "王**"), ("A", "A*"), ("", ""), ("Alexandra", "A***")]
        {
            assert_eq!(masked(name), expected);
        }
    }
}

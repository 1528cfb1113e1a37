//! People who follow an official account.

use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;

use crate::api::{Call, unreadable};
use crate::oauth::is_id;
use crate::{Api, CallError, Endpoint};

#[derive(Deserialize)]
struct Answer {
    openid: String,
    unionid: Option<String>,
}

impl Api {
    /// The unionid of a person who follows the account; none where the account is bound to no Open Platform account, or
    /// the person does not follow it. A name and a picture are not to be had here any more: since 2021 WeChat leaves
    /// them out.
    ///
    /// # Errors
    /// 48001 when the account has no right to it, 40003 for an openid of another account.
    pub async fn unionid(&self, token: &SecretString, openid: &str) -> Result<Option<String>, CallError> {
        let endpoint = Endpoint::Follower;
        let query = [("access_token", token.expose_secret()), ("openid", openid), ("lang", "zh_CN")];
        let answer: Answer = self.json(Call { endpoint, query: &query, body: None }).await?;
        if answer.openid != openid {
            return Err(unreadable(endpoint, "about someone else"));
        }
        Ok(answer.unionid.filter(|unionid| is_id(unionid)))
    }
}

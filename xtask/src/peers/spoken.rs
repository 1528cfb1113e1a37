//! How a server that runs is spoken to: as `doorbell bench` is told, and as this program's own measurements are.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context as _;
use doorbell_bench::{
    Api, Conversation, Endpoint, Post, Protocol, Publish, PublishToAll, Subscribe, Target, Template,
};

/// See the module's header. URLs and messages have `{uid}` in them.
pub(crate) enum SpokenTo {
    /// A Doorbell, in its plain dialect.
    Doorbell {
        /// Its listeners.
        public: SocketAddr,
        text: SocketAddr,
        api: SocketAddr,
        /// A file with a key of its API.
        key_file: PathBuf,
    },
    /// Another server.
    Other {
        /// Where a page connects by WebSocket.
        subscribe: String,
        talk: &'static Talk,
        publish: PublishTo,
        /// Where a message to everyone is POSTed.
        publish_to_all: String,
    },
}

/// What a page says and hears. `\xNN` is the byte with that number.
#[derive(Debug)]
pub(crate) struct Talk {
    /// Once it is connected.
    pub(crate) hello: &'static [&'static str],
    /// What tells it that it has subscribed.
    pub(crate) subscribed: Option<&'static str>,
    /// The server's own ping and the answer to it.
    pub(crate) reply: Option<(&'static str, &'static str)>,
}

/// Where a message to a uid goes.
pub(crate) enum PublishTo {
    /// As a line.
    Text(SocketAddr),
    /// By POST.
    Url(String),
}

impl SpokenTo {
    /// The arguments of `doorbell bench`.
    pub(crate) fn arguments(&self) -> Vec<String> {
        match self {
            Self::Doorbell { public, text, api, key_file } => vec![
                "--public".to_owned(),
                public.to_string(),
                "--text".to_owned(),
                text.to_string(),
                "--api".to_owned(),
                api.to_string(),
                "--key-file".to_owned(),
                key_file.display().to_string(),
            ],
            Self::Other { subscribe, talk, publish, publish_to_all } => {
                let mut arguments = vec!["--subscribe".to_owned(), subscribe.clone()];
                let mut add = |flag: &str, value: String| arguments.extend([flag.to_owned(), value]);
                talk.hello.iter().for_each(|&message| add("--hello", message.to_owned()));
                talk.subscribed.into_iter().for_each(|part| add("--subscribed", part.to_owned()));
                talk.reply.into_iter().for_each(|(heard, said)| add("--reply", format!("{heard}={said}")));
                match publish {
                    PublishTo::Text(address) => add("--text", address.to_string()),
                    PublishTo::Url(url) => add("--publish", url.clone()),
                }
                add("--publish-to-all", publish_to_all.clone());
                arguments
            }
        }
    }

    /// A target whose CPU time is that of these processes.
    ///
    /// # Errors
    /// When the key cannot be read, or a URL or a message is none.
    pub(crate) fn target(&self, pids: Vec<u32>) -> anyhow::Result<Target> {
        let mut target = match self {
            Self::Doorbell { public, text, api, key_file } => {
                let key = fs::read_to_string(key_file)
                    .with_context(|| format!("failed to read {}", key_file.display()))?;
                let api = Api { address: *api, key: key.trim().to_owned() };
                Target::new(Subscribe::to_doorbell(Protocol::Plain, *public))
                    .publishing(Some(Publish::Text(*text)))
                    .publishing_to_all(Some(PublishToAll::Api(api)))
            }
            Self::Other { subscribe, talk, publish, publish_to_all } => {
                let endpoint = subscribe.parse()?;
                let conversation = talk.conversation()?;
                let publish = match publish {
                    PublishTo::Text(address) => Publish::Text(*address),
                    PublishTo::Url(url) => Publish::Url(Post::new(url.parse::<Endpoint>()?)),
                };
                let publish_to_all = PublishToAll::Url(Post::new(publish_to_all.parse()?));
                Target::new(Subscribe { protocol: Protocol::UrlWebSocket, endpoint, conversation })
                    .publishing(Some(publish))
                    .publishing_to_all(Some(publish_to_all))
            }
        };
        target.pids = pids;
        Ok(target)
    }
}

impl Talk {
    fn conversation(&self) -> anyhow::Result<Conversation> {
        let read = |text: &str| text.parse::<Template>();
        Ok(Conversation {
            hello: self.hello.iter().map(|message| read(message)).collect::<Result<_, _>>()?,
            until: self.subscribed.map(read).transpose()?,
            replies: self
                .reply
                .map(|(heard, said)| anyhow::Ok((read(heard)?, read(said)?)))
                .transpose()?
                .into_iter()
                .collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_told_alike_to_doorbell_bench_and_to_this_program() {
        const TALK: Talk =
            Talk { hello: &[r"SUB {uid}\x0d", "PING"], subscribed: Some("OK"), reply: Some(("2", "3")) };
        let text = SocketAddr::from(([127, 0, 0, 1], 2));
        let other = SpokenTo::Other {
            subscribe: "ws://127.0.0.1:1/{uid}".to_owned(),
            talk: &TALK,
            publish: PublishTo::Text(text),
            publish_to_all: "http://127.0.0.1:3/".to_owned(),
        };
        assert_eq!(
            other.arguments().join(" "),
            r"--subscribe ws://127.0.0.1:1/{uid} --hello SUB {uid}\x0d --hello PING --subscribed OK --reply 2=3 --text 127.0.0.1:2 --publish-to-all http://127.0.0.1:3/"
        );
        let target = other.target(vec![7]).unwrap();
        assert_eq!(target.subscribe.endpoint.path, "/{uid}");
        let template = |text: &str| text.parse::<Template>().unwrap();
        assert_eq!(
            target.subscribe.conversation,
            Conversation {
                hello: vec![template(r"SUB {uid}\x0d"), template("PING")],
                until: Some(template("OK")),
                replies: vec![(template("2"), template("3"))],
            }
        );
        assert_eq!((target.publish, target.pids), (Some(Publish::Text(text)), vec![7]));
        assert!(
            matches!(target.publish_to_all, Some(PublishToAll::Url(post)) if post.endpoint.address.port() == 3)
        );
    }
}

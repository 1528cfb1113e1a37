//! The servers: what each needs, how it is started, and how it is spoken to.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use clap::ValueEnum;
use serde_json::Value;

use super::spoken::{PublishTo, SpokenTo, Talk};
use super::stage::{Stage, bound, free_ports};
use crate::install::{self, SOCKETIFY};
use crate::step::{cargo, must, program, repository};

/// A server that is measured, in the order of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Peer {
    /// The server of this repository.
    Doorbell,
    /// uWebSockets, with a server in C.
    Uws,
    /// `ws` on Node.js.
    Ws,
    /// Nchan on nginx.
    Nchan,
    /// Socket.IO on Node.js.
    #[value(name = "socketio")]
    SocketIo,
    /// NATS by WebSocket.
    Nats,
    /// sockudo, which speaks Pusher's protocol.
    Sockudo,
}

/// The version of sockudo.
const SOCKUDO: &str = "5.2.0";

/// Application, key and secret, as sockudo and the adapter are told.
const APP: [&str; 3] = ["bench", "benchkey", "benchsecret"];

const UID_IN_URL: Talk = Talk { hello: &[], subscribed: None, reply: None };

const UID_FIRST: Talk = Talk { hello: &["{uid}"], subscribed: None, reply: None };

const SOCKET_IO: Talk =
    Talk { hello: &[r#"40{"uid":"{uid}"}"#], subscribed: Some("40{"), reply: Some(("2", "3")) };

const NATS: Talk = Talk {
    hello: &[r#"CONNECT {"verbose":false}\x0d\x0aSUB {uid} 1\x0d\x0aSUB everyone 2\x0d\x0aPING\x0d\x0a"#],
    subscribed: Some("PONG"),
    reply: Some((r"PING\x0d\x0a", r"PONG\x0d\x0a")),
};

const PUSHER: Talk = Talk {
    hello: &[
        r#"{"event":"pusher:subscribe","data":{"channel":"{uid}"}}"#,
        r#"{"event":"pusher:subscribe","data":{"channel":"everyone"}}"#,
    ],
    subscribed: Some(r#""channel":"everyone""#),
    reply: Some((r#"{"event":"pusher:ping","data":{}}"#, r#"{"event":"pusher:pong","data":{}}"#)),
};

impl Peer {
    /// As `--only` has it.
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// As the table has it, with the version that is installed.
    pub(crate) fn title(self) -> String {
        match self {
            Self::Doorbell => "Doorbell, plain dialect".to_owned(),
            Self::Uws => {
                format!("uWebSockets of {}, C, one thread, over libuv", SOCKETIFY.replace("==", " "))
            }
            Self::Ws => format!("Node.js {} `ws` {}, a Map and a line port", node_version(), npm("ws")),
            Self::Nchan => {
                format!("Nchan {} on nginx {}, one worker", debian("libnginx-mod-nchan"), debian("nginx"))
            }
            Self::SocketIo => format!("Socket.IO {}, a room a user", npm("socket.io")),
            Self::Nats => format!("NATS server {}, WebSocket, a subject a user", debian("nats-server")),
            Self::Sockudo => format!("sockudo {SOCKUDO}, Pusher protocol"),
        }
    }

    /// Whether it is measured only when asked for.
    pub(crate) fn is_slow_to_build(self) -> bool {
        self == Self::Sockudo
    }

    /// It gets one of so many pushes, where each costs so much that a round would take minutes.
    pub(crate) fn fewer_pushes(self) -> u64 {
        if self == Self::Sockudo { 5 } else { 1 }
    }

    /// Unanswered pushes at most: fewer where each is a request of HTTP.
    pub(crate) fn window(self) -> u32 {
        if matches!(self, Self::Nchan | Self::Sockudo) { 16 } else { 1024 }
    }

    /// Installs what it needs; what is built is in `folder`'s `bin`.
    ///
    /// # Errors
    /// When something is missing and cannot be installed.
    pub(crate) fn prepare(self, folder: &Path) -> anyhow::Result<()> {
        match self {
            Self::Doorbell => Ok(()),
            Self::Uws => {
                let library = install::for_uws()?;
                let beside = library.parent().context("a library without a folder")?;
                fs::create_dir_all(folder.join("bin"))?;
                let mut compile = program("cc");
                compile.args(["-O2", "-o"]).arg(folder.join("bin/uws")).arg(source("uws.c"));
                must(compile.arg(&library).arg(format!("-Wl,-rpath,{}", beside.display())))
            }
            Self::Ws | Self::SocketIo => install::for_node_servers(&sources()),
            Self::Nchan => install::for_nchan(),
            Self::Nats => install::for_nats(),
            Self::Sockudo => {
                let mut install = cargo();
                install.args(["install", "sockudo", "--version", SOCKUDO, "--locked", "--root"]).arg(folder);
                must(install.args(["--no-default-features", "--features", "local"]))
            }
        }
    }

    /// Starts it, and the adapter that pushes to it where it takes no lines; answers how it is spoken to. Its
    /// settings are its defaults but for what its file or its line here says.
    ///
    /// # Errors
    /// When it does not start.
    pub(crate) fn start(
        self,
        stage: &mut Stage,
        doorbell: &Path,
        connections: u64,
    ) -> anyhow::Result<SpokenTo> {
        // `own` is where an adapter speaks to its server.
        let [public, text, api, own] = free_ports()?;
        let at = |port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let node = |file: &str, ports: &[u16]| {
            let mut command = bound("node");
            command.arg(source(file)).args(ports.iter().map(u16::to_string));
            command
        };
        let (path, talk): (&str, &'static Talk) = match self {
            Self::Doorbell => {
                let mut serve = bound(doorbell);
                serve.args(["serve", "--identity", "open"]).arg("--data-dir").arg(stage.path("data"));
                for (flag, port) in [("--public", public), ("--text", text), ("--api", api)] {
                    serve.arg(flag).arg(at(port).to_string());
                }
                stage.start(&mut serve, api)?;
                let key_file = stage.path("data/api.key");
                return Ok(SpokenTo::Doorbell { public: at(public), text: at(text), api: at(api), key_file });
            }
            Self::Uws => {
                let mut uws = bound(stage.built("uws"));
                uws.args([public, text, api].map(|port| port.to_string())).arg(connections.to_string());
                stage.start(&mut uws, text)?;
                ("/", &UID_FIRST)
            }
            Self::Ws => {
                stage.start(&mut node("ws.js", &[public, text, api]), api)?;
                ("/", &UID_FIRST)
            }
            Self::SocketIo => {
                stage.start(&mut node("socketio.js", &[public, text, api]), api)?;
                ("/socket.io/?EIO=4&transport=websocket", &SOCKET_IO)
            }
            Self::Nchan => {
                let folder = stage.path("").display().to_string();
                let places = [("PORT", public.to_string()), ("FOLDER", folder)];
                let config = stage.config(include_str!("../../peers/nchan.conf"), &places)?;
                stage.start(bound("nginx").arg("-c").arg(config), public)?;
                stage.has_worker()?;
                ("/sub/{uid}", &UID_IN_URL)
            }
            Self::Nats => {
                let places = [("PUBLIC", public.to_string()), ("OWN", own.to_string())];
                let config = stage.config(include_str!("../../peers/nats.conf"), &places)?;
                // It listens for its own protocol last.
                stage.start(bound("nats-server").arg("-c").arg(config), own)?;
                stage.start(&mut node("nats.js", &[text, api, own]), api)?;
                ("/", &NATS)
            }
            Self::Sockudo => {
                let [app, key, secret] = APP;
                let mut sockudo = bound(stage.built("sockudo"));
                sockudo.envs([
                    ("HOST", "127.0.0.1"),
                    ("PORT", &public.to_string()),
                    ("METRICS_HOST", "127.0.0.1"),
                    ("METRICS_PORT", &own.to_string()),
                    ("RUST_LOG", "error"),
                    ("RATE_LIMITER_ENABLED", "false"),
                    ("SOCKUDO_DEFAULT_APP_ID", app),
                    ("SOCKUDO_DEFAULT_APP_KEY", key),
                    ("SOCKUDO_DEFAULT_APP_SECRET", secret),
                    ("SOCKUDO_DEFAULT_APP_MAX_CONNECTIONS", "100000"),
                    ("SOCKUDO_DEFAULT_APP_MAX_BACKEND_EVENTS_PER_SECOND", "100000000"),
                ]);
                stage.start(&mut sockudo, public)?;
                stage.start(node("pusher.js", &[text, api, public]).args(APP), api)?;
                ("/app/benchkey?protocol=7", &PUSHER)
            }
        };
        let (publish, publish_to_all) = if self == Self::Nchan {
            let to = |channel: &str| format!("http://{}/pub/{channel}", at(public));
            (PublishTo::Url(to("{uid}")), to("everyone"))
        } else {
            (PublishTo::Text(at(text)), format!("http://{}/", at(api)))
        };
        let subscribe = format!("ws://{}{path}", at(public));
        Ok(SpokenTo::Other { subscribe, talk, publish, publish_to_all })
    }
}

/// Where the servers and adapters of this repository are.
fn sources() -> PathBuf {
    repository().join("xtask/peers")
}

fn source(file: &str) -> PathBuf {
    sources().join(file)
}

/// The version of a Debian package without what Debian adds to it; `?` elsewhere.
fn debian(package: &str) -> String {
    let version = said(program("dpkg-query").args(["--show", "--showformat", "${Version}", package]));
    let upstream = version.split_once(':').map_or(version.as_str(), |(_, upstream)| upstream);
    upstream.split(['-', '+']).next().filter(|version| !version.is_empty()).unwrap_or("?").to_owned()
}

/// The version of an npm package that is installed here.
fn npm(package: &str) -> String {
    let description = fs::read(source("node_modules").join(package).join("package.json"));
    let description: Option<Value> = description.ok().and_then(|json| serde_json::from_slice(&json).ok());
    description.and_then(|json| json["version"].as_str().map(str::to_owned)).unwrap_or_else(|| "?".to_owned())
}

fn node_version() -> String {
    said(program("node").arg("--version")).trim_start_matches('v').to_owned()
}

/// What a program prints, without the line's end; nothing when it cannot be run.
fn said(command: &mut Command) -> String {
    let output = command.output().map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&output).trim().to_owned()
}

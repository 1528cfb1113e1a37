//! `doorbell demo`: the server on loopback with the demo pages, and on stdout what to try. With `--lan` phones in the
//! network may sign in too, but not use the page that pushes.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::process::ExitCode;

use anyhow::anyhow;
use doorbell_server::Addresses;
use doorbell_server::settings::{Demo, IdentityMode, LoginClient, ProviderSettings, Settings};

use super::demo_wechat::WeChat;
use super::running::{self, Unread};
use super::{print, terminal_login};
use crate::cli::{DemoArgs, ServeArgs};
use crate::config::{Config, Environment, Overrides, is_loopback, load};
use crate::data_dir::API_KEY_FILE;
use crate::exit::Failure;
use crate::logging;

/// The listeners: key, flag, and where they are without a flag.
const LISTENERS: [(&str, &str); 3] = [
    ("public.listen", "127.0.0.1:19999"),
    ("text.listen", "127.0.0.1:10002"),
    ("api.listen", "127.0.0.1:10003"),
];

/// The id of the demonstration's client, and the name of its provider.
const SITE: &str = "demo";

pub(crate) fn run(args: &DemoArgs, program: &str, environment: &Environment) -> Result<ExitCode, Failure> {
    let DemoArgs { serve: args, lan, wechat } = args;
    let mut presets = Overrides::default();
    let flags = [&args.public, &args.text, &args.api];
    let mut moved = Vec::new();
    for ((key, default), flag) in LISTENERS.into_iter().zip(flags) {
        if flag.is_none() {
            let default =
                if *lan && key == "public.listen" { in_network(default)? } else { default.to_owned() };
            let address = free_address(&default);
            if address != default {
                moved.push(format!("{default} is taken, so {key} is another port"));
            }
            presets.set(key, "demo", address);
        }
    }
    presets.extend(args.overrides());
    let sources = args.place.sources(environment, presets);
    let config = load(&sources)?;
    let public = config.settings.public.listen;
    if !lan && !is_loopback(public) {
        return Err(Failure::Usage(anyhow!(
            "the demo serves on loopback only, and --public {public} is not; --lan lets phones in"
        )));
    }
    if *lan && config.settings.public.identity == IdentityMode::Open {
        return Err(Failure::Usage(anyhow!(
            "--lan lets others in the network in, and with public.identity = \"open\" any of them could be anyone"
        )));
    }
    logging::start(&config.log);
    for note in &moved {
        tracing::warn!("{note}");
    }
    let data_dir = args.place.data_dir(environment);
    let key_file = data_dir.path().join(API_KEY_FILE);
    let demo = Demo {
        push_command: push_command(args, program),
        // What `push` would ask by itself.
        push_asks: load(&args.place.sources(environment, Overrides::default()))
            .ok()
            .map(|plain| plain.settings.api.listen),
        // Absolute, so that the one-liner works in a terminal that is elsewhere.
        key_file: std::path::absolute(&key_file).unwrap_or(key_file).display().to_string(),
        lan: *lan,
    };
    let wechat = wechat.then(WeChat::start).transpose().map_err(Failure::Usage)?;
    let complete = |config: &Config| {
        let mut settings = data_dir.complete(config)?;
        settings.demo = Some(demo.clone());
        add_site(&mut settings, wechat.as_ref());
        anyhow::Ok(settings)
    };
    let settings = complete(&config)?;
    let reread = || complete(&load(&sources).map_err(Unread::Wrong)?).map_err(Unread::NoKey);
    running::serve(settings, &reread, |addresses| {
        let addresses = Addresses { public: reachable(addresses.public), ..*addresses };
        let tls = config.settings.public.tls_cert.is_some();
        let scheme = if tls { "https" } else { "http" };
        let text_is_open = config.settings.text.key.is_none();
        print(&introduction(scheme, &addresses, &demo, text_is_open, wechat.as_ref()));
        if !terminal_login::is_attended() {
            return;
        }
        if tls {
            print(
                "  Under TLS the terminal itself does not sign in: it speaks plain HTTP, and the page does.\n",
            );
        } else if let Err(error) = terminal_login::begin(addresses.public, SITE) {
            tracing::warn!(%error, "failed to begin the terminal's login");
        }
    })
}

/// The site that the demonstration is, and the provider whose people are whom they say; both unless configured.
fn add_site(settings: &mut Settings, wechat: Option<&WeChat>) {
    let clients = &mut settings.login.rules.clients;
    if clients.iter().all(|client| client.id != SITE) {
        let mut site = LoginClient::new(SITE, "Doorbell demo");
        site.providers = vec![SITE.to_owned()];
        clients.push(site);
    }
    if settings.providers.iter().all(|provider| provider.name != SITE) {
        let believing = || ProviderSettings {
            name: SITE.to_owned(),
            kind: "demo".to_owned(),
            ..ProviderSettings::default()
        };
        let provider = wechat.map_or_else(believing, |wechat| wechat.provider(SITE));
        settings.providers.push(provider);
    }
}

/// The address of this machine in its network, if it has one.
fn own_address() -> Option<IpAddr> {
    // Connecting a UDP socket sends nothing: it asks the system from which address it would. The far address is one
    // for documentation (RFC 5737).
    let own = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))
        .and_then(|socket| socket.connect(("192.0.2.1", 9)).and_then(|()| socket.local_addr()));
    own.ok().map(|own| own.ip()).filter(|own| !own.is_loopback() && !own.is_unspecified())
}

/// Where others find a listener: one that listens on every address is found on the machine's own in its network.
fn reachable(listener: SocketAddr) -> SocketAddr {
    if !listener.ip().is_unspecified() {
        return listener;
    }
    SocketAddr::new(own_address().unwrap_or_else(|| Ipv4Addr::LOCALHOST.into()), listener.port())
}

/// The address of this machine in its network, with the port of `wanted`.
fn in_network(wanted: &str) -> Result<String, Failure> {
    let own = own_address().ok_or_else(|| {
        Failure::Usage(anyhow!("this machine has no address in a network; name one with --public ADDR:PORT"))
    })?;
    let port = wanted.parse::<SocketAddr>().map_or(0, |wanted| wanted.port());
    Ok(SocketAddr::new(own, port).to_string())
}

/// The wanted address or, when another process has it, the same one with port 0: the system then finds a free one.
fn free_address(wanted: &str) -> String {
    let Ok(address) = wanted.parse::<SocketAddr>() else { return wanted.to_owned() };
    if TcpListener::bind(address).is_ok() {
        return wanted.to_owned();
    }
    SocketAddr::new(address.ip(), 0).to_string()
}

/// The command that pushes to this server from another terminal in the same directory, to be followed by UID and DATA.
fn push_command(args: &ServeArgs, program: &str) -> String {
    let mut command = format!("{} push", quoted(program));
    for (flag, path) in [("--config", &args.place.config), ("--data-dir", &args.place.data_dir)] {
        if let Some(path) = path {
            let _ = write!(command, " {flag} {}", quoted(&path.display().to_string()));
        }
    }
    command
}

/// A word as a POSIX shell reads it back.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// The URLs, and three ways to ring the page.
fn introduction(
    scheme: &str,
    addresses: &Addresses,
    demo: &Demo,
    text_is_open: bool,
    wechat: Option<&WeChat>,
) -> String {
    let Addresses { public, text, api } = addresses;
    let url = format!("{scheme}://{public}/");
    let mut page = format!("\n  Sign in by a scan:  {url}\n\n");
    page.push_str(if demo.lan {
        "  Open the page on this computer, and scan the code that it shows with a phone in the same network.\n  \
         Everyone in the network can open it; pushing stays for this machine.\n"
    } else {
        "  The page opens the phone's page in a window. To scan with a real phone: doorbell demo --lan\n"
    });
    if let Some(wechat) = wechat {
        let phone = wechat.phone();
        let _ = write!(
            page,
            "\n  With WeChat: agree in that window, then allow it as WeChat would ask. Its phone, to be someone else: {phone}\n"
        );
    }
    let _ = writeln!(
        page,
        "\n  Push to a page:  {url}push\n\n  Connect there as uid1, then ring it from another terminal:\n"
    );
    let _ = writeln!(page, "  {} uid1 '{{\"percent\":\"88%\"}}'\n", demo.push_command(*api));
    if text_is_open {
        let _ = writeln!(
            page,
            "  php -r '$s = stream_socket_client(\"tcp://{text}\"); \
             fwrite($s, json_encode([\"uid\" => \"uid1\", \"percent\" => \"88%\"]).\"\\n\"); echo fgets($s);'\n"
        );
    }
    let key = quoted(&demo.key_file);
    let _ = writeln!(
        page,
        "  curl -H \"Authorization: Bearer $(cat {key})\" -H 'Content-Type: application/json' \
         -d '{{\"uid\":\"uid1\",\"data\":{{\"percent\":\"88%\"}}}}' http://{api}/v1/push\n\n  Ctrl-C stops.\n"
    );
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_avoided() {
        let taken = TcpListener::bind("127.0.0.1:0").expect("binds");
        let address = taken.local_addr().expect("bound").to_string();
        let other = free_address(&address);
        assert_eq!(other, "127.0.0.1:0");
    }

    #[test]
    fn words_survive_the_shell() {
        assert_eq!(quoted("target/release/doorbell"), "target/release/doorbell");
        assert_eq!(quoted("/a b/it's"), r"'/a b/it'\''s'");
        assert_eq!(quoted(""), "''");
    }

    #[test]
    fn the_introduction_has_the_urls_and_three_ways() {
        let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let addresses = Addresses { public: address(1), text: address(2), api: address(3) };
        let demo = Demo {
            push_command: "doorbell push".into(),
            push_asks: Some(address(3)),
            key_file: "/data dir/api.key".into(),
            lan: false,
        };
        let page = introduction("http", &addresses, &demo, true, None);
        for part in [
            "http://127.0.0.1:1/",
            "http://127.0.0.1:1/push",
            "doorbell push uid1 '{\"percent\":\"88%\"}'",
            "tcp://127.0.0.1:2",
            "http://127.0.0.1:3/v1/push",
            "$(cat '/data dir/api.key')",
        ] {
            assert!(page.contains(part), "{part}\n{page}");
        }
        assert!(!introduction("http", &addresses, &demo, false, None).contains("php"));
        let everyone = introduction("http", &addresses, &Demo { lan: true, ..demo }, true, None);
        assert!(everyone.contains("Everyone in the network"), "{everyone}");
    }

    #[test]
    fn a_listener_on_every_address_is_shown_on_one_that_leads_to_it() {
        let address = |text: &str| text.parse::<SocketAddr>().expect("an address");
        for everywhere in ["0.0.0.0:19999", "[::]:19999"] {
            let found = reachable(address(everywhere));
            assert!(!found.ip().is_unspecified(), "{found}");
            assert_eq!(found.port(), 19_999);
        }
        assert_eq!(reachable(address("127.0.0.1:1")), address("127.0.0.1:1"));
    }

    #[test]
    fn the_address_in_the_network_is_none_that_only_this_machine_has() {
        if let Ok(address) = in_network("127.0.0.1:19999") {
            let address: SocketAddr = address.parse().expect("an address");
            assert!(!address.ip().is_loopback() && !address.ip().is_unspecified(), "{address}");
            assert_eq!(address.port(), 19_999);
        }
    }
}

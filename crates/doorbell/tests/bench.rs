//! `doorbell bench` against a real server, in every dialect, and against one that loses messages.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};
use std::thread;

use doorbell_bench::{Server, ServerCommand};
use serde_json::Value;

/// Runs `doorbell bench` with `--json`; its exit code and an object for each scenario.
fn bench(args: &str) -> (i32, Vec<Value>) {
    let Output { status, stdout, stderr } = Command::new(env!("CARGO_BIN_EXE_doorbell"))
        .args(["bench", "--json"])
        .args(args.split_whitespace())
        .env_clear()
        .output()
        .expect("starts");
    let stdout = String::from_utf8(stdout).expect("text");
    let outcomes = stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    (status.code().unwrap_or_else(|| panic!("{}", String::from_utf8_lossy(&stderr))), outcomes)
}

fn figure(outcome: &Value, name: &str) -> f64 {
    outcome["figures"][name].as_f64().unwrap_or_else(|| panic!("no {name} in {outcome}"))
}

#[test]
fn every_dialect_delivers_everything_in_every_scenario_also_over_tls() {
    let dir = tempfile::tempdir().expect("a directory");
    let (certificate, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    std::fs::write(&certificate, made.cert.pem()).expect("a file");
    std::fs::write(&key, made.signing_key.serialize_pem()).expect("a file");
    let tls = format!("--tls {} --tls-key {}", certificate.display(), key.display());
    for (dialect, tls) in [("plain", ""), ("v1", ""), ("sse", ""), ("plain", &*tls), ("sse", &*tls)] {
        let (code, outcomes) = bench(&format!(
            "--dialect {dialect} {tls} -n 60 --processes 2 --pushes 1200 --broadcasts 3 --churn-rate 100 --duration 1s \
             --slow-readers 2 --logins 40 --login-rate 50"
        ));
        assert_eq!(code, 0, "{dialect} {tls}: {outcomes:?}");
        let names: Vec<_> =
            outcomes.iter().map(|outcome| outcome["scenario"].as_str().expect("a name")).collect();
        assert_eq!(
            names,
            ["idle", "push", "fan-out", "fairness", "storm", "churn", "login"],
            "{dialect} {tls}"
        );
        assert_eq!(figure(&outcomes[1], "pushes delivered"), 1200.0, "{dialect} {tls}");
        assert_eq!(figure(&outcomes[2], "deliveries delivered"), 180.0, "{dialect} {tls}");
        assert_eq!(figure(&outcomes[4], "pushes afterwards delivered"), 60.0, "{dialect} {tls}");
        assert!(figure(&outcomes[5], "clients that came, heard and went") > 0.0, "{dialect} {tls}");
        let login = &outcomes[6];
        for step in ["begun", "scanned", "approved", "told to their own page", "redeemed"] {
            assert_eq!(figure(login, &format!("logins {step}")), 50.0, "{dialect} {tls}: {step}");
        }
        assert_eq!(figure(login, "logins asked for again and refused"), 5.0, "{dialect} {tls}");
        assert_eq!(figure(login, "waiting logins alive at the end"), 40.0, "{dialect} {tls}");
    }
}

#[test]
fn a_server_that_delivers_all_by_url_passes_and_one_that_loses_doubles_or_mixes_up_fails() {
    for (fault, name) in [
        (Fault::None, None),
        (Fault::Lose, Some("pushes lost")),
        (Fault::Double, Some("pushes duplicated")),
        (Fault::MixUp, Some("pushes misdelivered")),
    ] {
        let server = by_url(fault);
        let (code, outcomes) = bench(&format!(
            "push -n 8 --pushes 200 --subscribe http://{server}/sub/{{uid}} --publish http://{server}/pub/{{uid}}"
        ));
        assert_eq!(code, i32::from(name.is_some()), "{fault:?}: {outcomes:?}");
        if let Some(name) = name {
            assert_eq!(figure(&outcomes[0], name), 1.0, "{fault:?}: {outcomes:?}");
        }
    }
}

#[test]
fn any_server_is_spoken_to_by_the_headers_messages_and_bodies_that_are_given() {
    let server = Server::start(&ServerCommand::doorbell(env!("CARGO_BIN_EXE_doorbell"))).expect("starts");
    let Server { public, text, api, api_key, .. } = &server;
    let v1 = format!(
        r#"push -n 8 --pushes 200 --first-uid 500 --subscribe ws://{public}/
        --subscribe-header Sec-WebSocket-Protocol:\x20doorbell.v1
        --hello {{"type":"hello","token":"{{uid}}"}} --subscribed "welcome" --publish http://{api}/v1/push
        --publish-body {{"uid":"{{uid}}","data":{{payload-quoted}}}}"#
    );
    let (code, outcomes) = bench(&format!(r"{v1} --publish-header Authorization:\x20Bearer\x20{api_key}"));
    assert_eq!(code, 0, "{outcomes:?}");
    assert_eq!(figure(&outcomes[0], "pushes delivered"), 200.0, "{outcomes:?}");

    let (code, outcomes) = bench(&v1);
    assert_eq!(code, 1, "without a key: {outcomes:?}");
    assert_eq!(figure(&outcomes[0], "pushes refused"), 200.0, "{outcomes:?}");

    let plain = format!("push -n 8 --pushes 200 --subscribe ws://{public}/ --hello {{uid}} --text {text}");
    let (code, outcomes) = bench(&plain);
    assert_eq!(code, 0, "{outcomes:?}");
    assert_eq!(figure(&outcomes[0], "pushes delivered"), 200.0, "{outcomes:?}");
}

#[test]
fn logins_that_end_while_they_should_wait_are_noticed_at_a_server_that_runs_already() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = dir.path().join("doorbell.toml");
    let text = "[login]\ncreated_ttl = \"1s\"\n\n[[login.clients]]\nid = \"shop\"\nname = \"Shop\"\n";
    std::fs::write(&config, text).expect("a file");
    let mut command = ServerCommand::doorbell(env!("CARGO_BIN_EXE_doorbell"));
    command.args.extend(["--config".into(), config.into()]);
    let server = Server::start(&command).expect("starts");
    let key = dir.path().join("key");
    std::fs::write(&key, &server.api_key).expect("a file");
    let (code, outcomes) = bench(&format!(
        "login --logins 20 --login-rate 20 --duration 3s --login-client shop --public {} --api {} --key-file {}",
        server.public,
        server.api,
        key.display()
    ));
    assert_eq!(code, 1, "{outcomes:?}");
    assert_eq!(figure(&outcomes[0], "logins redeemed"), 60.0, "{outcomes:?}");
    assert_eq!(figure(&outcomes[0], "waiting logins lost"), 20.0, "{outcomes:?}");
    assert_eq!(outcomes[0]["failures"], serde_json::json!(["login: waiting logins lost: 20"]));
    assert_eq!(bench(&format!("login --public {}", server.public)).0, 64, "no client, no API");
}

#[test]
fn what_the_target_cannot_do_is_a_usage_error() {
    assert_eq!(bench("fan-out --subscribe ws://127.0.0.1:1/{uid}").0, 64);
    assert_eq!(bench("push --subscribe wss://127.0.0.1:1/").0, 64);
    assert_eq!(bench("idle --subscribe http://127.0.0.1:1/ --hello {uid}").0, 64, "nothing to say it on");
    assert_eq!(bench("push --text 127.0.0.1:1").0, 64, "lines for whom?");
    assert_eq!(bench("idle --concurrency 0").0, 64, "nobody would ever come in");
}

/// What a server does wrong, once, with its hundredth message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    Lose,
    Double,
    MixUp,
}

#[derive(Default)]
struct Subscribers {
    streams: HashMap<String, TcpStream>,
    messages: usize,
}

/// A server of the kind where a GET subscribes to server-sent events and a POST publishes.
fn by_url(fault: Fault) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
    let address = listener.local_addr().expect("bound");
    let subscribers = Arc::new(Mutex::new(Subscribers::default()));
    // Ends with the test's process.
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let subscribers = Arc::clone(&subscribers);
            thread::spawn(move || converse(stream, &subscribers, fault));
        }
    });
    address
}

fn converse(stream: TcpStream, subscribers: &Mutex<Subscribers>, fault: Fault) -> Option<()> {
    let mut writer = stream.try_clone().ok()?;
    let mut reader = BufReader::new(stream);
    loop {
        let mut request = String::new();
        reader.read_line(&mut request).ok().filter(|length| *length > 0)?;
        let mut length = 0;
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok()?;
            if line.trim().is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("Content-Length: ") {
                length = value.trim().parse().ok()?;
            }
        }
        let uid = request.split(' ').nth(1)?.rsplit('/').next()?.to_owned();
        let mut all = subscribers.lock().ok()?;
        if request.starts_with("GET") {
            writer.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n").ok()?;
            all.streams.insert(uid, writer);
            return Some(());
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        all.messages += 1;
        let times = match fault {
            Fault::Lose if all.messages == 100 => 0,
            Fault::Double if all.messages == 100 => 2,
            _ => 1,
        };
        let to = if fault == Fault::MixUp && all.messages == 100 {
            all.streams.keys().find(|other| **other != uid)?.clone()
        } else {
            uid
        };
        let event = [b"data: ", &body[..], b"\n\n"].concat().repeat(times);
        all.streams.get_mut(&to)?.write_all(&event).ok()?;
        drop(all);
        writer.write_all(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n").ok()?;
    }
}

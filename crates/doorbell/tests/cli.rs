//! The built program, run as its users run it: exit codes, what goes to stdout and what to stderr.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdout, Command, Output, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use doorbell_server::identity::TokenKeys;
use doorbell_server::settings::Tokens;
use secrecy::SecretString;
use tempfile::TempDir;

/// A directory of its own, in which the program finds nothing of the machine's.
struct Home(TempDir);

impl Home {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.path().join(name);
        std::fs::write(&path, text).expect("writes");
        path.display().to_string()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_doorbell"));
        command
            .args(arguments)
            .env_clear()
            .env("HOME", self.path())
            .current_dir(self.path())
            .stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        Ran::of(&self.command(arguments).output().expect("runs"))
    }

    /// Starts a server and waits until it listens.
    fn serve(&self, arguments: &[&str]) -> Served {
        let mut command = self.command(arguments);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("runs");
        let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
        let mut line = String::new();
        stdout.read_line(&mut line).expect("reads");
        let stderr = BufReader::new(child.stderr.take().expect("piped"));
        let mut served = Served { child, stdout, stderr, line };
        if !served.line.starts_with("listening ") {
            let log = served.rest_of_stderr();
            panic!("{:?}\n{log}", served.line);
        }
        served
    }
}

#[derive(Debug)]
struct Ran {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Ran {
    fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }
}

struct Served {
    child: Child,
    stdout: BufReader<ChildStdout>,
    stderr: BufReader<ChildStderr>,
    line: String,
}

impl Served {
    /// The address behind `name=` in the listening line.
    fn address(&self, name: &str) -> SocketAddr {
        let part = self.line.split_whitespace().find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
        part.and_then(|address| address.parse().ok()).unwrap_or_else(|| panic!("{}", self.line))
    }

    fn signal(&self, name: &str) {
        let kill = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
        assert!(kill.expect("kill runs").success());
    }

    /// Reads stderr until a line holds `text`.
    fn wait_for_log(&mut self, text: &str) -> String {
        let mut seen = String::new();
        while !seen.contains(text) {
            assert!(self.stderr.read_line(&mut seen).expect("reads") > 0, "no {text:?} in\n{seen}");
        }
        seen
    }

    fn rest_of_stderr(&mut self) -> String {
        let mut text = String::new();
        let _ = self.stderr.read_to_string(&mut text);
        text
    }

    fn end(mut self) -> (Option<i32>, String) {
        let stderr = self.rest_of_stderr();
        (self.child.wait().expect("ends").code(), stderr)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An API that answers one request with `answer` and hands back what it was asked.
fn one_answer(answer: &'static str) -> (SocketAddr, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
    let address = listener.local_addr().expect("bound");
    let thread = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("accepts");
        let mut reader = BufReader::new(stream.try_clone().expect("clones"));
        let mut request = String::new();
        let mut length = 0;
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).expect("reads");
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().expect("a number");
            }
            request.push_str(&line);
            if line == "\r\n" {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).expect("reads");
        stream.write_all(answer.as_bytes()).expect("writes");
        request + &String::from_utf8(body).expect("UTF-8")
    });
    (address, thread)
}

#[test]
fn help_and_version_are_answers_and_unknown_flags_are_usage_errors() {
    let home = Home::new();
    for arguments in [&["--help"][..], &["--version"], &["push", "--help"], &["help", "token"]] {
        let ran = home.run(arguments);
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{arguments:?}");
        assert!(!ran.stdout.is_empty());
    }
    assert!(home.run(&["--help"]).stdout.contains("Examples:"));
    for arguments in [
        &["--nonsense"][..],
        &["nonsense"],
        &["push"],
        &["token", "u", "--ttl", "1x"],
        &["echo", "--listen", "x"],
    ] {
        let ran = home.run(arguments);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(64), ""), "{arguments:?}");
        assert!(ran.stderr.contains("error"), "{}", ran.stderr);
    }
}

#[test]
fn check_config_tells_every_error_with_its_place() {
    let home = Home::new();
    home.file("doorbell.toml", "[public]\nlistn = \"x\"\nidentity = \"opne\"\n[limits]\nhead = \"1\"\n");
    let ran = home.run(&["check-config"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(64), ""));
    let expected = "\
error: doorbell.toml:2:1: unknown key `public.listn`; did you mean `public.listen`?
error: doorbell.toml:3:12: expected \"token\" or \"open\"
error: doorbell.toml:5:8: must be from 1KiB to 1MiB
3 errors in the configuration
";
    assert_eq!(ran.stderr, expected);
    let mut with_env = home.command(&["check-config"]);
    let ran = Ran::of(&with_env.env("DOORBELL_PUBLIC_LISTN", "x").output().expect("runs"));
    assert!(ran.stderr.contains("DOORBELL_PUBLIC_LISTN: unknown variable"), "{}", ran.stderr);
}

#[test]
fn check_config_writes_nothing() {
    let home = Home::new();
    let good = home.file("good.toml", "[public]\nlisten = \"127.0.0.1:0\"\n");
    let ran = home.run(&["check-config", "--config", &good]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    assert_eq!(ran.stdout, format!("{good}: ok\n"));
    let files = std::fs::read_dir(home.path()).expect("lists").count();
    assert_eq!(files, 1, "no data directory was made");
    let ran = home.run(&["check-config", "--config", "missing.toml"]);
    assert_eq!(ran.code, Some(64));
    assert!(ran.stderr.contains("cannot read missing.toml"), "{}", ran.stderr);
}

#[test]
fn the_printed_defaults_are_a_valid_configuration() {
    let home = Home::new();
    let ran = home.run(&["check-config", "--print-default"]);
    home.file("doorbell.toml", &ran.stdout);
    assert_eq!(home.run(&["check-config"]).code, Some(0));
}

#[test]
fn serve_refuses_a_wrong_configuration_before_it_listens() {
    let home = Home::new();
    for arguments in [
        &["--identity", "open", "--public", "0.0.0.0:0"][..],
        &["serve", "--text", "0.0.0.0:0"],
        &["--max-message", "much"],
        &["--origin", "https://a.example/"],
        &["demo", "--public", "0.0.0.0:0"],
        &["demo", "--lan", "--identity", "open", "--public", "127.0.0.1:0"],
    ] {
        let ran = home.run(arguments);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(64), ""), "{arguments:?} {}", ran.stderr);
    }
}

#[test]
fn token_mints_what_the_server_s_key_verifies() {
    let home = Home::new();
    let ran = home.run(&["token", "uid1", "--ttl", "10m", "--data-dir", "d"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    let key = std::fs::read_to_string(home.path().join("d/token.key")).expect("was made");
    let keys =
        TokenKeys::new(&Tokens { key: Some(SecretString::from(key)), ..Tokens::default() }).expect("a key");
    let now = SystemTime::now();
    let claims = keys.verify(ran.stdout.trim_end().as_bytes(), now).expect("valid");
    assert_eq!(claims.uid.as_str(), "uid1");
    let left = SystemTime::UNIX_EPOCH + Duration::from_secs(claims.expires);
    let left = left.duration_since(now).expect("in the future").as_secs();
    assert!((590..=600).contains(&left), "{left}");
}

#[test]
fn token_says_why_it_cannot_mint() {
    let home = Home::new();
    assert_eq!(home.run(&["token", ""]).code, Some(64));
    assert_eq!(home.run(&["token", &"u".repeat(129)]).code, Some(64));
    let ran = home.run(&["token", "u", "--ttl", "1ms"]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("at least one second"), "{}", ran.stderr);
}

#[test]
fn push_asks_as_documented_and_prints_the_answer() {
    let home = Home::new();
    let key = home.file("key", "a-key-of-sixteen-or-more\n");
    let body = "{\"id\":\"m_1\",\"connections\":2,\"written\":2}\n";
    let answer: &'static str =
        format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()).leak();
    let (address, asked) = one_answer(answer);
    let data = r#"{"b":1, "a":"\u00e9"}"#;
    let ran = home.run(&["push", "uid1", data, "--api", &address.to_string(), "--key-file", &key]);
    assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (Some(0), body, ""));
    let asked = asked.join().expect("no panic");
    assert!(asked.starts_with("POST /v1/push HTTP/1.1\r\n"), "{asked}");
    assert!(asked.contains("\r\nauthorization: Bearer a-key-of-sixteen-or-more\r\n"), "{asked}");
    assert!(asked.contains("\r\ncontent-type: application/json\r\n"), "{asked}");
    assert!(asked.ends_with(&format!("{{\"uid\":\"uid1\",\"data\":{data}}}")), "{asked}");
}

#[test]
fn push_reads_stdin_without_its_last_newline() {
    let home = Home::new();
    let (address, asked) = one_answer("HTTP/1.1 200 OK\r\ncontent-length: 13\r\n\r\n{\"written\":1}");
    let mut command = home.command(&["push", "uid1", "-", "--api", &address.to_string()]);
    command.env("DOORBELL_API_KEY", "a-key-of-sixteen-or-more").stdin(Stdio::piped()).stdout(Stdio::null());
    let mut child = command.spawn().expect("runs");
    child.stdin.take().expect("piped").write_all(b"two\nlines\n").expect("writes");
    assert_eq!(child.wait().expect("ends").code(), Some(0));
    assert!(asked.join().expect("no panic").ends_with(r#""data":"two\nlines"}"#));
}

#[test]
fn push_tells_nobody_from_could_not_ask() {
    let home = Home::new();
    let key = home.file("key", "a-key-of-sixteen-or-more\n");
    let nobody = "HTTP/1.1 200 OK\r\ncontent-length: 13\r\n\r\n{\"written\":0}";
    let refused = "HTTP/1.1 401 Unauthorized\r\ncontent-length: 18\r\n\r\n{\"title\":\"no key\"}";
    let closed = "";
    let text_port = "fail\n";
    for (answer, code, said) in [
        (nobody, 1, ""),
        (refused, 2, "refused the key (no key)"),
        (closed, 2, "name the api listener with --api ADDR"),
        (text_port, 2, "name the api listener with --api ADDR"),
    ] {
        let (address, asked) = one_answer(answer);
        let ran = home.run(&["push", "u", "x", "--api", &address.to_string(), "--key-file", &key]);
        assert_eq!(ran.code, Some(code), "{answer:?} {ran:?}");
        assert!(ran.stderr.contains(said), "{ran:?}");
        asked.join().expect("no panic");
    }
    let closed =
        TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port");
    let ran = home.run(&["push", "u", "x", "--api", &closed.to_string(), "--key-file", &key]);
    assert_eq!(ran.code, Some(2));
    assert!(ran.stderr.contains("no server at"), "{}", ran.stderr);
    let ran = home.run(&["push", "u", "x"]);
    assert_eq!(ran.code, Some(2));
    assert!(ran.stderr.contains("no API key"), "{}", ran.stderr);
}

#[test]
fn completions_are_printed() {
    let ran = Home::new().run(&["completions", "bash"]);
    assert_eq!(ran.code, Some(0));
    assert!(ran.stdout.contains("broadcast"));
}

const ANYWHERE: [&str; 6] = ["--public", "127.0.0.1:0", "--text", "127.0.0.1:0", "--api", "127.0.0.1:0"];

#[test]
fn serve_prints_where_it_listens_and_push_finds_its_key() {
    let home = Home::new();
    let served = home.serve(&[&ANYWHERE[..], &["--data-dir", "d"]].concat());
    for name in ["public", "text", "api"] {
        assert!(TcpStream::connect(served.address(name)).is_ok(), "{name}");
    }
    let api = served.address("api").to_string();
    let ran = home.run(&["push", "uid1", "{}", "--api", &api, "--data-dir", "d"]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.stdout.contains("\"written\":0"), "{ran:?}");
    let ran = home.run(&["broadcast", "hello", "--api", &api, "--data-dir", "d"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let wrong = home.file("wrong", "not-the-key-of-that-server\n");
    let ran = home.run(&["push", "uid1", "{}", "--api", &api, "--key-file", &wrong]);
    assert_eq!(ran.code, Some(2), "{ran:?}");
    served.signal("TERM");
    let (code, log) = served.end();
    assert_eq!(code, Some(0), "{log}");
    for name in ["api.key", "token.key"] {
        let key = std::fs::read_to_string(home.path().join("d").join(name)).expect("was made");
        assert!(!log.contains(key.trim()), "{name} is in the log");
    }
}

/// A page with an event stream, welcomed.
fn page(served: &Served, uid: &str) -> BufReader<TcpStream> {
    let mut stream = TcpStream::connect(served.address("public")).expect("connects");
    let ask = format!("GET /v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {uid}\r\n\r\n");
    stream.write_all(ask.as_bytes()).expect("writes");
    let mut page = BufReader::new(stream);
    let mut line = String::new();
    while !line.starts_with("event: welcome") {
        line.clear();
        assert!(page.read_line(&mut line).expect("reads") > 0, "welcomed");
    }
    page
}

#[test]
fn why_tells_what_became_of_a_message() {
    let home = Home::new();
    let served = home.serve(&[&ANYWHERE[..], &["--identity", "open", "--data-dir", "d"]].concat());
    let api = served.address("api").to_string();
    let ask = |arguments: &[&str]| home.run(&[arguments, &["--api", &api, "--data-dir", "d"]].concat());
    let push = |uid: &str| {
        let answer: serde_json::Value =
            serde_json::from_str(&ask(&["push", uid, "hello"]).stdout).expect("JSON");
        answer["id"].as_str().expect("an id").to_owned()
    };

    let held = push("nobody");
    let ran = ask(&["why", &held]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    for expected in [&*format!("{held} to nobody, number "), "accepted", "held", "so: it waits for the page"]
    {
        assert!(ran.stdout.contains(expected), "{expected}: {}", ran.stdout);
    }

    let _page = page(&served, "u");
    let written = push("u");
    let ran = ask(&["why", &written, "--uid", "u"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    for expected in ["Z  ", "written to c_", "so: the page was sent it and has not said that it handled it"] {
        assert!(ran.stdout.contains(expected), "{expected}: {}", ran.stdout);
    }
    let ran = ask(&["why", &written, "--json"]);
    let answer: serde_json::Value = serde_json::from_str(&ran.stdout).expect("JSON");
    assert_eq!(answer["trails"][0]["steps"][1]["step"], "written");

    let ran = ask(&["why", "m_0/../x"]);
    assert_eq!((ran.code, ran.stdout.contains("nothing is remembered")), (Some(1), true), "{ran:?}");
    assert_eq!(ask(&["why", ""]).code, Some(64));
    assert_eq!(home.run(&["why", &held, "--api", "127.0.0.1:1", "--data-dir", "d"]).code, Some(2));
}

#[test]
fn a_taken_port_is_a_failure_that_names_it() {
    let home = Home::new();
    let taken = TcpListener::bind("127.0.0.1:0").expect("binds");
    let address = taken.local_addr().expect("bound").to_string();
    let ran = home.run(&["--public", &address, "--text", "127.0.0.1:0", "--api", "127.0.0.1:0"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""));
    assert!(ran.stderr.contains(&address), "{}", ran.stderr);
}

#[test]
fn hang_up_reloads_what_is_right_and_keeps_what_was() {
    let home = Home::new();
    let listen =
        "public.listen = \"127.0.0.1:0\"\ntext.listen = \"127.0.0.1:0\"\napi.listen = \"127.0.0.1:0\"\n";
    home.file("doorbell.toml", listen);
    let mut served = home.serve(&[]);
    home.file("doorbell.toml", "[public]\nlistn = \"x\"\n");
    served.signal("HUP");
    let log = served.wait_for_log("not reloaded");
    assert!(log.contains("did you mean `public.listen`?"), "{log}");
    home.file("doorbell.toml", &format!("{listen}[limits]\nmessage = \"1MiB\"\n"));
    served.signal("HUP");
    let log = served.wait_for_log("reloaded");
    assert!(log.contains("limits"), "{log}");
    served.signal("INT");
    assert_eq!(served.end().0, Some(0));
}

#[test]
fn a_second_signal_does_not_wait_for_the_drain() {
    let home = Home::new();
    let mut served = home.serve(&[&ANYWHERE[..], &["--identity", "open"]].concat());
    // A page that never answers the goodbye, so that the drain takes its whole window.
    let mut page = TcpStream::connect(served.address("public")).expect("connects");
    let upgrade = "GET / HTTP/1.1\r\nhost: 127.0.0.1\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
                   sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    page.write_all(upgrade.as_bytes()).expect("writes");
    page.read_exact(&mut [0; 12]).expect("is upgraded");
    served.signal("TERM");
    served.wait_for_log("draining");
    served.signal("TERM");
    assert_eq!(served.end().0, Some(1));
}

#[test]
fn json_logs_are_one_object_a_line() {
    let home = Home::new();
    let served = home.serve(&[&ANYWHERE[..], &["--log-format", "json"]].concat());
    served.signal("TERM");
    let (code, log) = served.end();
    assert_eq!(code, Some(0));
    assert!(!log.is_empty());
    for line in log.lines() {
        assert!(serde_json::from_str::<serde_json::Value>(line).is_ok_and(|line| line.is_object()), "{line}");
    }
}

#[test]
fn a_connection_s_life_is_in_the_log_without_its_uid() {
    let home = Home::new();
    let level = "info,doorbell_server=debug";
    let flags = ["--log-format", "json", "--log-level", level, "--identity", "open", "--data-dir", "d"];
    let served = home.serve(&[&ANYWHERE[..], &flags].concat());
    let api = served.address("api").to_string();
    let secret = "uid-that-no-log-may-hold";
    let mut page = page(&served, secret);
    let asked = ["push", secret, "hello", "--api", &api, "--data-dir", "d"];
    assert_eq!(home.run(&asked).code, Some(0));
    served.signal("TERM");
    let mut rest = String::new();
    page.read_to_string(&mut rest).expect("the stream ends");
    drop(page);
    let (_, log) = served.end();
    assert!(!log.contains(secret), "{log}");
    let lines: Vec<serde_json::Value> =
        log.lines().map(|line| serde_json::from_str(line).expect("one object a line")).collect();
    let find = |message: &str, key: &str| {
        lines
            .iter()
            .find(|line| line["message"] == message && line.get(key).is_some())
            .unwrap_or_else(|| panic!("{message}: {log}"))
    };
    let bound = find("connection bound", "uid_hash");
    assert_eq!((bound["level"].as_str(), bound["transport"].as_str()), (Some("DEBUG"), Some("sse")));
    assert_eq!(bound["uid_hash"].as_str().map(str::len), Some(12));
    let of_it = |message: &str| {
        lines.iter().find(|line| line["message"] == message && line["connection"] == bound["connection"])
    };
    assert!(of_it("connection opened").is_some_and(|line| line["listener"] == "public"), "{log}");
    assert!(of_it("connection gone").is_some_and(|line| line["uid_hash"] == bound["uid_hash"]), "{log}");
}

#[test]
fn demo_shows_the_page_and_ways_to_ring_it() {
    let home = Home::new();
    let mut served = home.serve(&[&["demo"], &ANYWHERE[..]].concat());
    let (public, api) = (served.address("public"), served.address("api"));
    let mut shown = String::new();
    while !shown.contains("Ctrl-C") {
        assert!(served.stdout.read_line(&mut shown).expect("reads") > 0, "{shown}");
    }
    assert!(shown.contains(&format!("http://{public}/")), "{shown}");
    assert!(shown.contains(&format!("push --api {api} uid1 ")), "{shown}");
    let mut stream = TcpStream::connect(public).expect("connects");
    write!(stream, "GET / HTTP/1.1\r\nhost: {public}\r\nconnection: close\r\n\r\n").expect("writes");
    let mut page = String::new();
    stream.read_to_string(&mut page).expect("reads");
    assert!(page.starts_with("HTTP/1.1 200"), "{page}");
    served.signal("INT");
    assert_eq!(served.end().0, Some(0));
}

#[test]
fn echo_listens_and_stops() {
    let served = Home::new().serve(&["echo", "--listen", "127.0.0.1:0", "--max-message", "16MiB"]);
    assert!(TcpStream::connect(served.address("echo")).is_ok());
    served.signal("TERM");
    assert_eq!(served.end().0, Some(0));
}

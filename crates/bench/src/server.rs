//! A server of our own, started to be measured.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tempfile::TempDir;

use crate::clock::wait;

const START_DEADLINE: Duration = Duration::from_secs(20);
const STOP_DEADLINE: Duration = Duration::from_secs(5);

/// How to start a server. `--data-dir` and a fresh directory are appended.
#[derive(Debug, Clone)]
pub struct ServerCommand {
    /// The executable.
    pub program: PathBuf,
    /// Everything but the data directory.
    pub args: Vec<OsString>,
    /// The client for which people can log in; none has no logins.
    pub login_client: Option<&'static str>,
    /// The certificate and the key with which its public listener speaks TLS.
    pub tls: Option<(PathBuf, PathBuf)>,
}

impl ServerCommand {
    /// `program serve` with open identity and every listener on a free loopback port.
    pub fn doorbell(program: impl Into<PathBuf>) -> Self {
        let args = "serve --identity open --public 127.0.0.1:0 --text 127.0.0.1:0 --api 127.0.0.1:0";
        Self {
            program: program.into(),
            args: args.split(' ').map(OsString::from).collect(),
            login_client: None,
            tls: None,
        }
    }

    /// With logins that wait for a scan for an hour, so that none expires while it is measured. Loopback is exempt from
    /// the limits that count by address.
    #[must_use]
    pub fn with_logins(self) -> Self {
        Self { login_client: Some("bench"), ..self }
    }
}

/// A server that listens. It is ended when this is dropped.
#[derive(Debug)]
pub struct Server {
    /// WebSocket clients connect here.
    pub public: SocketAddr,
    /// Pushes go here, a line each.
    pub text: SocketAddr,
    /// Broadcasts go here.
    pub api: SocketAddr,
    /// The API's key.
    pub api_key: String,
    child: Child,
    /// Kept: what is in it goes with the server.
    _dir: TempDir,
}

impl Server {
    /// Starts a server and waits for its `listening public=… text=… api=…` line.
    ///
    /// # Errors
    /// When it ends or stays silent; what it wrote on stderr is part of the error.
    pub fn start(command: &ServerCommand) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir().context("failed to make a data directory")?;
        let data_dir = dir.path().join("data");
        fs::create_dir(&data_dir)?;
        let log = dir.path().join("stderr");
        let mut server = Command::new(&command.program);
        if let Some(client) = command.login_client {
            let config = dir.path().join("doorbell.toml");
            let text = format!(
                "[login]\ncreated_ttl = \"1h\"\n\n[[login.clients]]\nid = \"{client}\"\nname = \"{client}\"\n"
            );
            fs::write(&config, text)?;
            server.env("DOORBELL_CONFIG", &config);
        }
        if let Some((certificate, key)) = &command.tls {
            server.env("DOORBELL_PUBLIC_TLS_CERT", certificate).env("DOORBELL_PUBLIC_TLS_KEY", key);
        }
        let mut child = server
            .args(&command.args)
            .arg("--data-dir")
            .arg(&data_dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(&log)?)
            .spawn()
            .with_context(|| format!("failed to start {}", command.program.display()))?;
        match Self::meet(&mut child, &data_dir) {
            Ok((addresses, api_key)) => {
                let [public, text, api] = addresses;
                Ok(Self { public, text, api, api_key, child, _dir: dir })
            }
            Err(e) => {
                let _ = child.kill();
                let _ = child.wait();
                let log = fs::read_to_string(&log).unwrap_or_default();
                Err(e.context(format!("the server did not start; it said: {}", log.trim())))
            }
        }
    }

    /// The process whose CPU time and memory are the server's.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    fn meet(child: &mut Child, data_dir: &Path) -> anyhow::Result<([SocketAddr; 3], String)> {
        let stdout = child.stdout.take().context("a server without stdout")?;
        let (sender, receiver) = mpsc::channel();
        // Reads on after the line, so that a talkative server never blocks; ends with its stdout.
        thread::spawn(move || {
            let lines = BufReader::new(stdout).lines().map_while(Result::ok);
            for line in lines.filter(|line| line.starts_with("listening ")) {
                let _ = sender.send(line);
            }
        });
        let line = receiver.recv_timeout(START_DEADLINE).context("no `listening` line on stdout")?;
        let address = |name: &str| -> anyhow::Result<SocketAddr> {
            let word = line.split_whitespace().find_map(|word| word.strip_prefix(name));
            word.with_context(|| format!("no {name} in `{line}`"))?.parse().context("not an address")
        };
        let addresses = [address("public=")?, address("text=")?, address("api=")?];
        let key = fs::read_to_string(data_dir.join("api.key")).context("no api.key in the data directory")?;
        Ok((addresses, key.trim().to_owned()))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let child = &mut self.child;
        // Asked first, so that it may drain; then told.
        if let Some(pid) = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let deadline = Instant::now() + STOP_DEADLINE;
        while Instant::now() < deadline {
            if matches!(child.try_wait(), Ok(Some(_)) | Err(_)) {
                return;
            }
            wait(Duration::from_millis(20));
        }
        let _ = child.kill();
        let _ = child.wait();
    }
}

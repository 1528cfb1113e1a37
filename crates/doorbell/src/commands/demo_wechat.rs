//! `doorbell demo --wechat`: a stand-in for WeChat beside the demonstration, and the provider that asks it.
//!
//! The stand-in is a program of its own, `doorbell-wechat-standin`, and no part of a release. It is looked for beside
//! this program, where `cargo build` puts both.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};

use anyhow::{Context as _, anyhow, bail};
use doorbell_server::settings::{ProviderSettings, WeChatScope};

/// The stand-in's program.
const PROGRAM: &str = "doorbell-wechat-standin";
/// The official account that the stand-in knows from its start, and its secret.
const APPID: &str = "wx00000000000000a1";
const SECRET: &str = "standin-secret-of-wx00000000000000a1";

/// A running stand-in; it ends with this.
#[derive(Debug)]
pub(super) struct WeChat {
    child: Child,
    /// Kept, so that the stand-in can always write.
    stdout: BufReader<ChildStdout>,
    base: String,
}

impl WeChat {
    /// Starts the stand-in on a free port of this machine.
    pub(super) fn start() -> anyhow::Result<Self> {
        let program = beside()?;
        let mut child = Command::new(&program)
            .args(["--listen", "127.0.0.1:0", "--any-browser", "--ends-with-input"])
            // Held open by this process alone: however it ends, the stand-in does too.
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("failed to start {}", program.display()))?;
        let stdout = child.stdout.take().context("the stand-in has no stdout")?;
        let mut started = Self { child, stdout: BufReader::new(stdout), base: String::new() };
        let mut line = String::new();
        // Its first line, or its end.
        started.stdout.read_line(&mut line).context("failed to read what the stand-in says")?;
        match line.trim().strip_prefix("listening wechat=") {
            Some(address) => started.base = format!("http://{address}"),
            None => bail!("the stand-in for WeChat ended before it listened"),
        }
        Ok(started)
    }

    /// The phone to click.
    pub(super) fn phone(&self) -> String {
        format!("{}/phone", self.base)
    }

    /// The provider, as a section `[providers.<name>]` would describe it.
    pub(super) fn provider(&self, name: &str) -> ProviderSettings {
        ProviderSettings {
            name: name.to_owned(),
            kind: "wechat-web".to_owned(),
            appid: Some(APPID.to_owned()),
            secret: Some(SECRET.into()),
            api_base: Some(self.base.clone()),
            open_base: Some(self.base.clone()),
            scope: WeChatScope::UserInfo,
            any_browser: true,
            ..ProviderSettings::default()
        }
    }
}

impl Drop for WeChat {
    fn drop(&mut self) {
        // It may have ended by itself; there is nobody to tell.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn beside() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("failed to find this program")?;
    let program = own.with_file_name(PROGRAM);
    if program.is_file() {
        return Ok(program);
    }
    Err(anyhow!(
        "--wechat needs the stand-in for WeChat at {}; it is part of the sources: cargo build --package {PROGRAM}",
        program.display()
    ))
}

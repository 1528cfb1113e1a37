//! `doorbell-wechat-standin`: see the library.

use std::io::Write as _;
use std::net::SocketAddr;

use anyhow::ensure;
use clap::Parser;
use doorbell_wechat_standin::Browsers;
use tokio::net::TcpListener;

/// Stands in for WeChat, for tests and demonstrations.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// Where to listen; loopback only. Port 0 lets the system choose.
    #[arg(long, default_value = "127.0.0.1:19900")]
    listen: SocketAddr,
    /// Take every browser for a phone's WeChat, for demonstrations on one computer.
    #[arg(long)]
    any_browser: bool,
    /// End when standard input does, so that whoever started this never leaves it behind.
    #[arg(long)]
    ends_with_input: bool,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    let Args { listen, any_browser, ends_with_input } = Args::parse();
    let browsers = if any_browser { Browsers::Any } else { Browsers::WeChat };
    ensure!(
        listen.ip().is_loopback(),
        "the stand-in gives everything to everyone, so it serves on loopback only"
    );
    let listener = TcpListener::bind(listen).await?;
    let address = listener.local_addr()?;
    let mut out = std::io::stdout();
    writeln!(out, "listening wechat={address}\nphone http://{address}/phone")?;
    out.flush()?;
    tokio::select! {
        served = doorbell_wechat_standin::serve(listener, browsers) => served,
        stopped = stop() => stopped,
        () = input_ended(), if ends_with_input => Ok(()),
    }
}

/// A thread reads, since a task that waits for standard input would keep the runtime from ending.
async fn input_ended() {
    let (ended, waiting) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        let _ = ended.send(());
    });
    let _ = waiting.await;
}

async fn stop() -> anyhow::Result<()> {
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => Ok(interrupted?),
        _ = terminate.recv() => Ok(()),
    }
}

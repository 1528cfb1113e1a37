//! `doorbell-wechat-standin`: see the library.

use std::io::Write as _;
use std::net::SocketAddr;

use anyhow::ensure;
use clap::Parser;
use tokio::net::TcpListener;

/// Stands in for WeChat, for tests and demonstrations.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// Where to listen; loopback only. Port 0 lets the system choose.
    #[arg(long, default_value = "127.0.0.1:19900")]
    listen: SocketAddr,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    let Args { listen } = Args::parse();
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
        served = doorbell_wechat_standin::serve(listener) => served,
        stopped = stop() => stopped,
    }
}

async fn stop() -> anyhow::Result<()> {
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => Ok(interrupted?),
        _ = terminate.recv() => Ok(()),
    }
}

//! The arguments of `bench`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::builder::RangedU64ValueParser;
use clap::{ArgGroup, Args, ValueEnum};
use doorbell_bench::Template;

use super::duration;

/// What to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum BenchScenario {
    /// Memory of connections that wait
    Idle,
    /// Pushes to random uids
    Push,
    /// Broadcasts
    FanOut,
    /// Pushes and new connections beside broadcasts and clients that do not read
    Fairness,
    /// Everyone is cut and comes back at once, then leaves
    Storm,
    /// Clients come, hear one message each, and go
    Churn,
    /// Logins from the QR code to the result, beside many that wait to be scanned
    Login,
}

/// How clients and server speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum BenchDialect {
    /// WebSocket, first message the uid or token, messages as they are; pushes by lines on the text port
    Plain,
    /// WebSocket with doorbell.v1
    V1,
    /// Server-sent events with doorbell.v1
    Sse,
}

/// The arguments of `bench`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("running").args(["public", "subscribe"]))]
#[command(after_help = "\
Without --public, --subscribe or --server it starts a server of its own on loopback. Clients on 127.0.0.1 connect from
many addresses of 127.0.0.0/8, so that more than one port range is theirs.

Every message names its uid and carries a number: what is lost, doubled, out of order or at the wrong uid is counted.
Logins at a running Doorbell need a client of [[login.clients]] without a secret and without number_match. What waits must
not expire (login.created_ttl) and find room (login.attempts); from an address outside limits.exempt also
login.attempts_per_ip, limits.connections_per_ip and limits.accept_rate have to allow it.

Of any other server the URLs of --subscribe and --publish, headers, messages and bodies say how it is spoken to: {uid} is filled
in, and \\xNN is the byte with that number. What needs more, such as a signature, may go through an adapter at --text, whose
CPU time is not the server's. Messages without one of ours are then the server's own affair; ours are found in them as they
are or as a JSON string.

Exit codes: 0 everything arrived, 1 something did not or failed, 64 usage error.

Examples:
  doorbell bench                                   everything, 1,000 connections
  doorbell bench idle push -n 19000                two scenarios
  doorbell bench push --dialect sse --rate 2000    a steady pace over server-sent events
  doorbell bench storm -n 10000 --public 127.0.0.1:19999 --text 127.0.0.1:10002 --pid 4711
  doorbell bench idle storm --tls cert.pem --tls-key key.pem      what TLS costs: full handshakes, then resumed ones
  doorbell bench login --public 127.0.0.1:19999 --api 127.0.0.1:10003 --key-file api.key --login-client shop
  doorbell bench push --subscribe ws://127.0.0.1:8080/sub/{uid} --publish http://127.0.0.1:8080/pub/{uid} --pid 42,43
  doorbell bench push --subscribe ws://127.0.0.1:8080/ --hello 'SUB {uid}' --subscribed OK --publish http://127.0.0.1:8081/ \\
    --publish-header 'X-Key: k' --publish-body '{\"to\":\"{uid}\",\"data\":{payload}}'")]
pub struct BenchArgs {
    /// What to measure; all that the target can do when none is named
    #[arg(value_enum)]
    pub scenarios: Vec<BenchScenario>,
    /// How clients and server speak
    #[arg(long, value_enum, default_value = "plain", conflicts_with = "subscribe")]
    pub dialect: BenchDialect,
    /// Connections
    #[arg(short = 'n', long, value_name = "N", default_value_t = 1_000)]
    pub connections: usize,
    /// The number in the first uid: they are called u0, u1 and so on
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub first_uid: usize,
    /// Client processes [default: one for every 19,500 connections]
    #[arg(long, value_name = "N")]
    pub processes: Option<usize>,
    /// Handshakes under way at once, in each client process; a storm is all at once
    #[arg(long, value_name = "N", default_value = "200", value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    pub concurrency: usize,
    /// Kernel receive buffer of each client, in bytes [default: the system's]
    #[arg(long, value_name = "BYTES")]
    pub receive_buffer: Option<usize>,
    /// Bytes of every message
    #[arg(long, value_name = "BYTES", default_value_t = 128)]
    pub payload: usize,
    /// Pushes
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    pub pushes: u64,
    /// Pushes a second, one unanswered at a time [default: as fast as answers come]
    #[arg(long, value_name = "N", conflicts_with = "window")]
    pub rate: Option<u32>,
    /// Unanswered pushes at most, without --rate [default: 1024 on a text port, 16 by HTTP]
    #[arg(long, value_name = "N")]
    pub window: Option<usize>,
    /// Broadcasts
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub broadcasts: u64,
    /// New clients a second under churn
    #[arg(long, value_name = "N", default_value_t = 500)]
    pub churn_rate: u32,
    /// Logins that wait to be scanned, under login
    #[arg(long, value_name = "N", default_value_t = 20_000)]
    pub logins: usize,
    /// Logins a second that are taken from the QR code to the result
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..))]
    pub login_rate: u32,
    /// The client for whose site people log in at a running Doorbell
    #[arg(long, value_name = "ID", requires = "api")]
    pub login_client: Option<String>,
    /// How long churn, fairness and logins last
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = duration)]
    pub duration: Duration,
    /// Clients that do not read, under fairness
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub slow_readers: usize,
    /// The public listener of a running Doorbell, or where a server of the Workerman sample's protocol listens
    #[arg(long, value_name = "ADDR", conflicts_with = "subscribe")]
    pub public: Option<SocketAddr>,
    /// Its text port; or what takes such lines, answers each with ok or fail, and passes them on to the server of --subscribe
    #[arg(long, value_name = "ADDR", requires = "running", conflicts_with = "publish")]
    pub text: Option<SocketAddr>,
    /// Its API, for broadcasts and tokens
    #[arg(long, value_name = "ADDR", requires_all = ["public", "key_file"])]
    pub api: Option<SocketAddr>,
    /// A file with a key of its API
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
    /// Clients show a token that the API mints, and not their uid
    #[arg(long, requires = "api")]
    pub tokens: bool,
    /// Any server: where a uid subscribes, by WebSocket (ws://) or server-sent events (http://)
    #[arg(long, value_name = "URL")]
    pub subscribe: Option<String>,
    /// A header line of whoever subscribes; may be given again
    #[arg(long, value_name = "LINE", requires = "subscribe")]
    pub subscribe_header: Vec<Template>,
    /// What a client says on its WebSocket once that is open; may be given again. Not UTF-8: as a binary message
    #[arg(long, value_name = "MESSAGE", requires = "subscribe")]
    pub hello: Vec<Template>,
    /// It has subscribed once it hears a message that contains this [default: once it has said hello]
    #[arg(long, value_name = "PART", requires = "hello")]
    pub subscribed: Option<Template>,
    /// The server's own pings: when a client hears the one message it says the other; may be given again
    #[arg(long, value_name = "HEARD=SAID", requires = "hello", value_parser = reply)]
    pub reply: Vec<(Template, Template)>,
    /// Where a message to a uid is POSTed
    #[arg(long, value_name = "URL", requires = "subscribe")]
    pub publish: Option<String>,
    /// Where a message to everyone is POSTed, {uid} being *
    #[arg(long, value_name = "URL", requires = "subscribe")]
    pub publish_to_all: Option<String>,
    /// A header line of both; may be given again
    #[arg(long, value_name = "LINE", requires = "subscribe")]
    pub publish_header: Vec<Template>,
    /// The body of both: {payload} is the message, {payload-quoted} the message as a JSON string [default: the message]
    #[arg(long, value_name = "BODY", requires = "subscribe")]
    pub publish_body: Option<Template>,
    /// Clients speak TLS and believe this certificate, a PEM file, whatever its name. Only those that come back in a storm show
    /// a ticket. With a server of its own, also --tls-key
    #[arg(long, value_name = "FILE", conflicts_with = "subscribe")]
    pub tls: Option<PathBuf>,
    /// The key of that certificate, for a server of its own
    #[arg(long, value_name = "FILE", requires = "tls", conflicts_with = "public")]
    pub tls_key: Option<PathBuf>,
    /// The server's processes, to account their CPU time and memory
    #[arg(long, value_name = "PID", value_delimiter = ',')]
    pub pid: Vec<u32>,
    /// Start this Doorbell in place of the program itself
    #[arg(long, value_name = "PROGRAM", conflicts_with_all = ["public", "subscribe"])]
    pub server: Option<PathBuf>,
    /// Print one JSON object a scenario
    #[arg(long)]
    pub json: bool,
}

/// What `bench` starts its client processes with.
#[derive(Debug, Args)]
pub struct BenchChildArgs {
    /// The kind of process
    pub kind: String,
}

/// Reads `HEARD=SAID`.
fn reply(text: &str) -> anyhow::Result<(Template, Template)> {
    let (heard, said) = text.split_once('=').context("there is no = in it")?;
    Ok((heard.parse()?, said.parse()?))
}

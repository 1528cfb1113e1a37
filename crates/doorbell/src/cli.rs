//! The command line: what can be typed, and its help. What it does is in `commands`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

use crate::config::{Environment, Overrides, Sources, parse_duration};
use crate::data_dir::DataDir;

mod bench;

pub use self::bench::{BenchArgs, BenchChildArgs, BenchDialect, BenchScenario};

const EXAMPLES: &str = "\
Examples:
  doorbell demo                              try it: sign in by a scan, and three ways to ring a page
  doorbell --identity open                   a drop-in for the article's server, on loopback
  doorbell --config /etc/doorbell.toml       serve as configured
  doorbell push uid1 '{\"percent\":\"88%\"}'     ring uid1; exit 0 when a page got it
  doorbell why m_64c840e09349f885f01137cf    what became of a message
  doorbell token uid1 --ttl 1h               a token with which a page may connect as uid1
  doorbell check-config                      all that is wrong with the configuration, at once

Configuration: a TOML file, overridden by DOORBELL_<SECTION>_<KEY> in the environment, overridden by flags.
`doorbell check-config --print-default` prints every key with its default.

Exit codes: 0 clean, 1 run-time failure, 64 usage or configuration error. push: 0 delivered, 1 nobody heard it, \
2 could not ask. SIGTERM drains and stops; SIGHUP reloads keys, certificate, limits and origins.";

/// Rings a browser: pushes from your backend to exactly the page that waits.
#[derive(Debug, Parser)]
#[command(name = "doorbell", version, after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// What to do; without one, serve.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// The flags of `serve`, which need not be named.
    #[command(flatten)]
    pub serve: ServeArgs,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve until told to stop; the default command
    Serve(ServeArgs),
    /// Serve on loopback with the demo pages; prints their URL, a QR code, and ways to ring them
    Demo(DemoArgs),
    /// Push to every connection of one uid, by the API of a running server
    Push(PushArgs),
    /// Push to every connection there is; prints how many it reached
    Broadcast(BroadcastArgs),
    /// Say what became of a message, by the API of a running server
    Why(WhyArgs),
    /// Mint a connection token and print it
    Token(TokenArgs),
    /// Say all that is wrong with the configuration, and where; opens no port
    CheckConfig(CheckConfigArgs),
    /// Echo WebSocket messages through the server's own connection code, for conformance suites
    Echo(EchoArgs),
    /// Measure an installation, this program's own or another: memory, CPU time, latency, and whether all arrives
    Bench(Box<BenchArgs>),
    /// The clients of `bench`
    #[command(hide = true)]
    BenchChild(BenchChildArgs),
    /// Print a completion script, for example: doorbell completions bash > /etc/bash_completion.d/doorbell
    Completions {
        /// The shell to complete for
        shell: Shell,
    },
}

/// Where the configuration and the made keys are.
#[derive(Debug, Clone, Default, Args)]
pub struct PlaceArgs {
    /// The configuration file [env: DOORBELL_CONFIG] [default: ./doorbell.toml, if it exists]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where the first run leaves api.key and token.key [env: DOORBELL_DATA_DIR] [default: $STATE_DIRECTORY,
    /// $XDG_STATE_HOME/doorbell or ~/.local/state/doorbell]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
}

impl PlaceArgs {
    /// The layers of the configuration, with these flags' overrides.
    pub fn sources(&self, environment: &Environment, overrides: Overrides) -> Sources {
        Sources { file: self.config.clone(), environment: environment.clone(), overrides }
    }

    /// The data directory.
    pub fn data_dir(&self, environment: &Environment) -> DataDir {
        DataDir::locate(self.data_dir.as_deref(), environment)
    }
}

/// The flags of `serve` and `demo`. Values are read by the configuration, so that a flag takes what a key takes.
#[derive(Debug, Clone, Default, Args)]
pub struct ServeArgs {
    /// Where the configuration and the made keys are.
    #[command(flatten)]
    pub place: PlaceArgs,
    /// Where browsers connect; port 0 takes a free one [default: 0.0.0.0:19999, or 127.0.0.1:19999 with open identity]
    #[arg(long, value_name = "ADDR")]
    pub public: Option<String>,
    /// Where backends push one JSON object a line [default: 127.0.0.1:10002]
    #[arg(long, value_name = "ADDR")]
    pub text: Option<String>,
    /// Where the HTTP API listens [default: 127.0.0.1:10003]
    #[arg(long, value_name = "ADDR")]
    pub api: Option<String>,
    /// What a page says first: token (checked) or open (the uid itself; anyone can claim any) [default: token]
    #[arg(long, value_name = "token|open")]
    pub identity: Option<String>,
    /// A web origin whose pages may connect, besides the listener's own host; repeatable
    #[arg(long, value_name = "ORIGIN")]
    pub origin: Vec<String>,
    /// The longest WebSocket message from a page [default: 64KiB]
    #[arg(long, value_name = "SIZE")]
    pub max_message: Option<String>,
    /// The longest line on the text port [default: 1MiB]
    #[arg(long, value_name = "SIZE")]
    pub max_line: Option<String>,
    /// What is logged to stderr: error, warn, info, debug, trace [default: info]
    #[arg(long, value_name = "LEVEL")]
    pub log_level: Option<String>,
    /// How a log line looks: human or json [default: human]
    #[arg(long, value_name = "human|json")]
    pub log_format: Option<String>,
}

impl ServeArgs {
    /// The flags that were given, as a layer of the configuration.
    pub fn overrides(&self) -> Overrides {
        let mut overrides = Overrides::default();
        let origins = Some(self.origin.join(",")).filter(|origins| !origins.is_empty());
        for (key, flag, value) in [
            ("public.listen", "--public", &self.public),
            ("text.listen", "--text", &self.text),
            ("api.listen", "--api", &self.api),
            ("public.identity", "--identity", &self.identity),
            ("public.origins", "--origin", &origins),
            ("limits.message", "--max-message", &self.max_message),
            ("limits.line", "--max-line", &self.max_line),
            ("log.level", "--log-level", &self.log_level),
            ("log.format", "--log-format", &self.log_format),
        ] {
            if let Some(value) = value {
                overrides.set(key, flag, value);
            }
        }
        overrides
    }
}

/// The flags of `demo`.
#[derive(Debug, Clone, Default, Args)]
#[command(
    after_help = "Examples:\n  doorbell demo           everything on this machine: the phone's page opens in a window\n  \
    doorbell demo --lan     sign in with a real phone in the same network\n  \
    doorbell demo --wechat  sign in with WeChat, of which a stand-in is started"
)]
pub struct DemoArgs {
    /// The flags of `serve`.
    #[command(flatten)]
    pub serve: ServeArgs,
    /// Listen on this machine's address in its network, so that a real phone can scan. Pushing stays for this machine
    #[arg(long)]
    pub lan: bool,
    /// Sign in with WeChat, of which a stand-in is started; needs `cargo build -p doorbell-wechat-standin`
    #[arg(long, conflicts_with = "lan")]
    pub wechat: bool,
}

/// How a command finds the running server and a key for it.
#[derive(Debug, Clone, Default, Args)]
pub struct ServerArgs {
    /// Where the configuration and the made keys are.
    #[command(flatten)]
    pub place: PlaceArgs,
    /// The API listener to ask [default: the configuration's, else 127.0.0.1:10003]
    #[arg(long, value_name = "ADDR")]
    pub api: Option<SocketAddr>,
    /// A file with the API key [default: DOORBELL_API_KEY, else the configuration's, else the data directory's]
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
}

/// How `push` and `broadcast` ask the server.
#[derive(Debug, Clone, Default, Args)]
pub struct AskArgs {
    /// Whom to ask.
    #[command(flatten)]
    pub server: ServerArgs,
    /// Send DATA as a string even when it is valid JSON
    #[arg(long)]
    pub string: bool,
}

/// The arguments of `push`.
#[derive(Debug, Args)]
#[command(after_help = "Prints the server's answer, one JSON line.\n\
    Exit codes: 0 delivered, 1 nobody heard it, 2 could not ask, 64 usage or configuration error.\n\n\
    Examples:\n  doorbell push uid1 '{\"percent\":\"88%\"}'\n  doorbell push uid1 hello\n  \
    tail -n1 report.json | doorbell push uid1 -")]
pub struct PushArgs {
    /// Whom to ring
    pub uid: String,
    /// What to send: valid JSON is sent as it stands, anything else as a string; - reads stdin, without its last
    /// newline
    #[arg(allow_negative_numbers = true)]
    pub data: String,
    /// How to ask.
    #[command(flatten)]
    pub ask: AskArgs,
}

/// The arguments of `broadcast`.
#[derive(Debug, Args)]
#[command(after_help = "Exit codes: 0 asked and answered, 2 could not ask, 64 usage or configuration error.")]
pub struct BroadcastArgs {
    /// What to send: valid JSON is sent as it stands, anything else as a string; - reads stdin, without its last
    /// newline
    #[arg(allow_negative_numbers = true)]
    pub data: String,
    /// How to ask.
    #[command(flatten)]
    pub ask: AskArgs,
}

/// The arguments of `why`.
#[derive(Debug, Args)]
#[command(
    after_help = "Prints, for each uid the message was for, what happened when: accepted, held, written, acked, \
    dropped.\nTimes are UTC.\n\n\
    Exit codes: 0 a page has it, 1 none has or nothing is remembered of it, 2 could not ask, 64 usage or \
    configuration error.\n\nExample:\n  doorbell why m_64c840e09349f885f01137cf --uid uid1"
)]
pub struct WhyArgs {
    /// The message: the id in the answer to its push
    pub id: String,
    /// Only what became of it for this uid
    #[arg(long)]
    pub uid: Option<String>,
    /// Print the server's answer, one JSON line
    #[arg(long)]
    pub json: bool,
    /// Whom to ask.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// The arguments of `token`.
#[derive(Debug, Args)]
#[command(
    after_help = "Needs no running server: the token is signed with the configured key, else with token.key in \
    the data\ndirectory, which the server uses as well.\n\nExample:\n  doorbell token uid1 --ttl 10m"
)]
pub struct TokenArgs {
    /// Who the page is to be: 1 to 128 bytes
    pub uid: String,
    /// How long the token, and a connection opened with it, lives
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = duration)]
    pub ttl: Duration,
    /// Where the configuration and the made keys are.
    #[command(flatten)]
    pub place: PlaceArgs,
}

/// The arguments of `check-config`.
#[derive(Debug, Args)]
#[command(after_help = "Reads the file, the environment and the files they name; writes nothing.\n\
    Exit codes: 0 nothing is wrong, 64 something is, each with its place on stderr.")]
pub struct CheckConfigArgs {
    /// Where the configuration and the made keys are.
    #[command(flatten)]
    pub place: PlaceArgs,
    /// Print every key with its default and meaning, as a file to start from
    #[arg(long)]
    pub print_default: bool,
}

/// The arguments of `echo`.
#[derive(Debug, Args)]
#[command(after_help = "Prints one line, listening echo=ADDR, on stdout once it listens.\n\n\
    Example:\n  doorbell echo --listen 127.0.0.1:9001 --max-message 64MiB")]
pub struct EchoArgs {
    /// Where to listen; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9001")]
    pub listen: SocketAddr,
    /// The longest message [default: 64KiB]
    #[arg(long, value_name = "SIZE")]
    pub max_message: Option<String>,
    /// Accept permessage-deflate
    #[arg(long)]
    pub compression: bool,
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "expected a duration such as 30s, 10m, 1h or 7d".into())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn serve_is_the_default_and_takes_its_flags_either_way() {
        for line in
            [&["doorbell", "--public", "127.0.0.1:0"][..], &["doorbell", "serve", "--public", "127.0.0.1:0"]]
        {
            let cli = Cli::try_parse_from(line).expect("parses");
            let args = match cli.command {
                Some(Command::Serve(args)) => args,
                None => cli.serve,
                Some(other) => panic!("{other:?}"),
            };
            assert_eq!(args.public.as_deref(), Some("127.0.0.1:0"));
        }
        // A flag of serve before another command would be ignored in silence.
        assert!(Cli::try_parse_from(["doorbell", "--public", "127.0.0.1:0", "push", "u", "x"]).is_err());
    }

    #[test]
    fn data_may_be_a_dash_or_a_negative_number() {
        for data in ["-", "-5", "-0.5"] {
            let cli = Cli::try_parse_from(["doorbell", "push", "u", data]).expect("parses");
            assert!(
                matches!(cli.command, Some(Command::Push(PushArgs { data: given, .. })) if given == data)
            );
        }
    }
}

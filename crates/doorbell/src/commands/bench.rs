//! `doorbell bench`: measures an installation from outside; the work is [`doorbell_bench`]'s.

use std::fs;
use std::process::ExitCode;

use anyhow::{Context as _, anyhow, ensure};
use doorbell_bench::{
    Api, ChildCommand, ChildKind, Conversation, Endpoint, Logins, Pace, Post, Protocol, Publish,
    PublishToAll, Scenario, ServerCommand, Subscribe, SuiteOptions, Target, Template, run_suite,
};

use super::print;
use crate::cli::{BenchArgs, BenchChildArgs, BenchDialect, BenchScenario};
use crate::exit::{FAILURE, Failure};

/// The hidden command that client processes are started with.
const CHILD: &str = "bench-child";

pub(crate) fn run(args: &BenchArgs) -> Result<ExitCode, Failure> {
    let target = target(args)?;
    let scenarios = scenarios(args, &target)?;
    let window = args.window.unwrap_or(match target.publish {
        Some(Publish::Url(_)) => 16,
        _ => 1024,
    });
    let options = SuiteOptions {
        child: ChildCommand::this_program(CHILD)?,
        connections: args.connections,
        first: args.first_uid,
        processes: args.processes,
        concurrency: args.concurrency,
        receive_buffer: args.receive_buffer,
        payload_bytes: args.payload,
        pushes: args.pushes,
        pace: args.rate.map_or(Pace::Pipelined(window), Pace::PerSecond),
        broadcasts: args.broadcasts,
        churn_rate: args.churn_rate,
        logins: args.logins,
        login_rate: args.login_rate,
        duration: args.duration,
        slow_readers: args.slow_readers,
    };
    let sound = run_suite(&target, &options, &scenarios, |outcome| {
        if args.json {
            print(&format!("{}\n", outcome.to_json()));
        } else {
            print(&outcome.to_string());
        }
        for failure in &outcome.failures {
            eprintln!("{failure}");
        }
    })?;
    Ok(if sound { ExitCode::SUCCESS } else { ExitCode::from(FAILURE) })
}

/// Runs a client process.
pub(crate) fn run_child(args: &BenchChildArgs) -> Result<ExitCode, Failure> {
    let kind =
        ChildKind::from_name(&args.kind).ok_or_else(|| Failure::Usage(anyhow!("no such kind of process")))?;
    doorbell_bench::run_child(kind)?;
    Ok(ExitCode::SUCCESS)
}

fn target(args: &BenchArgs) -> Result<Target, Failure> {
    let protocol = match args.dialect {
        BenchDialect::Plain => Protocol::Plain,
        BenchDialect::V1 => Protocol::V1,
        BenchDialect::Sse => Protocol::Events,
    };
    let mut target = if let Some(url) = &args.subscribe {
        any_server(args, url).map_err(Failure::Usage)?
    } else if let Some(public) = args.public {
        let api = args.api.zip(args.key_file.as_ref()).map(|(address, file)| {
            let key = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
            anyhow::Ok(Api { address, key: key.trim().to_owned() })
        });
        let api = api.transpose()?;
        let mut target = Target::new(Subscribe::to_doorbell(protocol, public))
            .publishing(args.text.map(Publish::Text))
            .publishing_to_all(api.clone().map(PublishToAll::Api));
        target.logins =
            api.clone().zip(args.login_client.clone()).map(|(api, client_id)| Logins { api, client_id });
        target.tokens = api.filter(|_| args.tokens);
        target.tls.clone_from(&args.tls);
        target
    } else {
        let program = match &args.server {
            Some(program) => program.clone(),
            None => std::env::current_exe().context("cannot find the own program")?,
        };
        let mut command = ServerCommand::doorbell(program).with_logins();
        command.tls = match (&args.tls, &args.tls_key) {
            (None, _) => None,
            (Some(certificate), Some(key)) => Some((certificate.clone(), key.clone())),
            (Some(_), None) => {
                return Err(Failure::Usage(anyhow!("a server of its own needs --tls-key with --tls")));
            }
        };
        return Ok(Target::start(&command, protocol)?);
    };
    target.pids.clone_from(&args.pid);
    Ok(target)
}

/// A server that only its URLs and templates tell of.
fn any_server(args: &BenchArgs, subscribe: &str) -> anyhow::Result<Target> {
    let endpoint = |flag: &str, url: &str, headers: &[Template]| {
        let endpoint = url.parse::<Endpoint>().with_context(|| format!("{flag} {url}"))?;
        anyhow::Ok(Endpoint { headers: headers.to_vec(), ..endpoint })
    };
    let post = |flag: &str, url: &str| {
        let post = Post::new(endpoint(flag, url, &args.publish_header)?);
        anyhow::Ok(Post { body: args.publish_body.clone().unwrap_or(post.body), endpoint: post.endpoint })
    };
    let protocol = if subscribe.starts_with("ws://") { Protocol::UrlWebSocket } else { Protocol::UrlEvents };
    ensure!(
        protocol == Protocol::UrlWebSocket || args.hello.is_empty(),
        "--hello needs a WebSocket to say it on: ws://"
    );
    let subscribe = Subscribe {
        protocol,
        endpoint: endpoint("--subscribe", subscribe, &args.subscribe_header)?,
        conversation: Conversation {
            hello: args.hello.clone(),
            until: args.subscribed.clone(),
            replies: args.reply.clone(),
        },
    };
    let publish = args.publish.as_ref().map(|url| post("--publish", url)).transpose()?;
    let to_all = args.publish_to_all.as_ref().map(|url| post("--publish-to-all", url)).transpose()?;
    Ok(Target::new(subscribe)
        .publishing(publish.map(Publish::Url).or_else(|| args.text.map(Publish::Text)))
        .publishing_to_all(to_all.map(PublishToAll::Url)))
}

/// What was asked for, or all that the target has a way for.
fn scenarios(args: &BenchArgs, target: &Target) -> Result<Vec<Scenario>, Failure> {
    let can = |scenario: Scenario| match scenario {
        Scenario::Idle | Scenario::Storm => true,
        Scenario::Push | Scenario::Churn => target.publish.is_some(),
        Scenario::FanOut => target.publish_to_all.is_some(),
        Scenario::Fairness => target.publish.is_some() && target.publish_to_all.is_some(),
        Scenario::Login => target.logins.is_some(),
    };
    if args.scenarios.is_empty() {
        return Ok(Scenario::ALL.into_iter().filter(|scenario| can(*scenario)).collect());
    }
    let asked: Vec<_> = args.scenarios.iter().map(|asked| scenario(*asked)).collect();
    match asked.iter().find(|scenario| !can(**scenario)) {
        None => Ok(asked),
        Some(Scenario::Login) => {
            Err(Failure::Usage(anyhow!("login needs --login-client and --api with --public")))
        }
        Some(scenario) => Err(Failure::Usage(anyhow!(
            "{} needs a way to publish: --text and --api with --public, --publish or --text and --publish-to-all with --subscribe",
            scenario.name()
        ))),
    }
}

const fn scenario(asked: BenchScenario) -> Scenario {
    match asked {
        BenchScenario::Idle => Scenario::Idle,
        BenchScenario::Push => Scenario::Push,
        BenchScenario::FanOut => Scenario::FanOut,
        BenchScenario::Fairness => Scenario::Fairness,
        BenchScenario::Storm => Scenario::Storm,
        BenchScenario::Churn => Scenario::Churn,
        BenchScenario::Login => Scenario::Login,
    }
}

//! One file for each command.

mod ask;
mod bench;
mod broadcast;
mod check_config;
mod demo;
mod demo_wechat;
mod echo;
mod push;
mod running;
mod serve;
mod terminal_login;
mod token;
mod why;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::CommandFactory;

use crate::cli::{Cli, Command};
use crate::config::Environment;
use crate::exit::Failure;

/// Does what the command line says. `program` is the name the program was called by.
pub(crate) fn run(cli: Cli, program: &str, environment: &Environment) -> Result<ExitCode, Failure> {
    match cli.command.unwrap_or(Command::Serve(cli.serve)) {
        Command::Serve(args) => serve::run(&args, environment),
        Command::Demo(args) => demo::run(&args, program, environment),
        Command::Push(args) => push::run(&args, environment),
        Command::Broadcast(args) => broadcast::run(&args, environment),
        Command::Why(args) => why::run(&args, environment),
        Command::Token(args) => token::run(&args, environment),
        Command::CheckConfig(args) => check_config::run(&args, environment),
        Command::Echo(args) => echo::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::BenchChild(args) => bench::run_child(&args),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "doorbell", &mut script);
            print(&String::from_utf8_lossy(&script));
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Writes to stdout at once. A reader that has gone away has what it wanted.
fn print(text: &str) {
    let mut stdout = io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}

/// Writes one line to stdout at once, so that whoever waits for it can go on.
fn print_line(line: &str) {
    print(&format!("{line}\n"));
}

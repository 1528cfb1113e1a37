//! A small fleet on the real floor: what is sent is what is counted.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use doorbell_bench::{
    ChildCommand, ChildKind, Fleet, FleetOptions, Floor, Protocol, Subscribe, floor_fanout, run_child,
};

const CHILD_SUBCOMMAND: &str = "bench-child";
const CLIENTS: usize = 300;

fn main() -> anyhow::Result<()> {
    let args: Vec<_> = std::env::args().collect();
    match args.get(1).map(String::as_str) {
        Some(CHILD_SUBCOMMAND) => {
            let kind = args.get(2).and_then(|name| ChildKind::from_name(name)).context("no such child")?;
            run_child(kind)
        }
        // Test runners that ask for a list get an empty one.
        Some("--list") => Ok(()),
        _ => every_frame_is_counted_and_a_missing_one_is_noticed(),
    }
}

fn every_frame_is_counted_and_a_missing_one_is_noticed() -> anyhow::Result<()> {
    let child = ChildCommand::this_program(CHILD_SUBCOMMAND)?;
    let mut floor = Floor::start(&child)?;
    let mut fleet = Fleet::start(
        &child,
        FleetOptions { processes: 2, concurrency: 50, receive_buffer: Some(4096), first: 0 },
    )?;
    fleet.open(&floor.subscribe(), CLIENTS)?;

    let measured = floor_fanout(&mut floor, &mut fleet, 3, 128)?;
    ensure!(measured.delivery.is_complete(), "{:?}", measured.delivery);
    ensure!(measured.delivery.expected == 3 * CLIENTS as u64);

    let tally = fleet.await_received(3 * CLIENTS as u64 + 1, Duration::from_millis(50))?;
    ensure!(!tally.is_exactly(3 * CLIENTS as u64 + 1), "a frame that was never sent was counted");

    let nobody = Subscribe::new(Protocol::Plain, "ws://127.0.0.1:1/".parse()?);
    ensure!(fleet.open(&nobody, CLIENTS + 2).is_err(), "a refused connection went unnoticed");
    Ok(())
}

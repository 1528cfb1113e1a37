//! The physical floor: accept N raw sockets, then write a ready frame to each in a bare loop.
//!
//! No registry, no queue, no parsing, no answer: what is left is the price of the system calls, which
//! over loopback includes delivering to the receiver. A server's cost is quoted as a multiple of it.
//!
//! At a modest pace waking up costs more than sending. To tell the two apart, the floor also answers lines: for each it
//! writes a ready frame to a socket drawn at random, and `ok`.

use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, bail};
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

use crate::child::{COMMANDS, ChildCommand, ChildKind, ChildProcess, Commands, answer};
use crate::client::ACCEPT;
use crate::clock::{Random, wait};
use crate::payload::{self, EVERYONE};
use crate::target::{Endpoint, Protocol, Publish, Subscribe};

const LISTENER: Token = Token(usize::MAX - 1);

/// The parent's handle on a floor process, which ends when it is dropped.
#[derive(Debug)]
pub struct Floor {
    process: ChildProcess,
    address: SocketAddr,
}

impl Floor {
    /// Starts the process and learns where it listens.
    ///
    /// # Errors
    /// When the process cannot be started.
    pub fn start(command: &ChildCommand) -> anyhow::Result<Self> {
        let mut process = ChildProcess::start(command, ChildKind::Floor)?;
        let address = process.ask("address")?.parse()?;
        Ok(Self { process, address })
    }

    /// The process whose CPU time is the floor's.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// How a fleet opens its clients.
    pub fn subscribe(&self) -> Subscribe {
        Subscribe::new(Protocol::Plain, Endpoint::at(self.address, "/"))
    }

    /// Where lines go that it answers, one unanswered at a time.
    pub fn publish(&self) -> Publish {
        Publish::Text(self.address)
    }

    /// Writes one ready frame to every socket, in the order they came, and says to how many.
    ///
    /// # Errors
    /// When the process has ended.
    pub fn send_to_all(&mut self, payload_bytes: usize) -> anyhow::Result<u64> {
        Ok(self.process.ask(&format!("all {payload_bytes}"))?.parse()?)
    }

    /// Writes `count` ready frames, each to a socket drawn at random.
    ///
    /// # Errors
    /// When the process has ended.
    pub fn send_at_random(&mut self, count: u64, payload_bytes: usize, seed: u64) -> anyhow::Result<u64> {
        Ok(self.process.ask(&format!("random {payload_bytes} {count} {seed}"))?.parse()?)
    }
}

/// The child's side.
pub(crate) fn run(mut poll: Poll, commands: &Commands) -> anyhow::Result<()> {
    let mut listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    let address = listener.local_addr()?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut events = Events::with_capacity(1024);
    let mut sockets = Vec::new();
    // The first so many sockets; after them come backends.
    let mut clients = 0;
    let mut random = Random::new(1);
    loop {
        match poll.poll(&mut events, None) {
            Err(e) if e.kind() != io::ErrorKind::Interrupted => return Err(e.into()),
            _ => {}
        }
        for event in &events {
            match event.token() {
                LISTENER => accept(&listener, &mut sockets, &poll)?,
                COMMANDS => {
                    while let Some(command) = commands.next() {
                        let Some(command) = command else { return Ok(()) };
                        match obey(&command, address, &mut sockets[..clients]) {
                            Ok(line) => answer(&line)?,
                            Err(e) => answer(&format!("error {e:#}"))?,
                        }
                    }
                }
                Token(index) if index < sockets.len() => {
                    read(index, &mut sockets, &mut clients, &mut random)?
                }
                Token(_) => {}
            }
        }
    }
}

fn accept(listener: &TcpListener, sockets: &mut Vec<TcpStream>, poll: &Poll) -> anyhow::Result<()> {
    loop {
        match listener.accept() {
            Ok((mut socket, _)) => {
                socket.set_nodelay(true)?;
                poll.registry().register(&mut socket, Token(sockets.len()), Interest::READABLE)?;
                sockets.push(socket);
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(e) => return Err(e).context("failed to accept"),
        }
    }
}

/// Answers an upgrade request and a backend's line, and takes anything else (the uid's frame) as read.
fn read(
    index: usize,
    sockets: &mut [TcpStream],
    clients: &mut usize,
    random: &mut Random,
) -> anyhow::Result<()> {
    let mut buffer = [0; 1024];
    match sockets[index].read(&mut buffer) {
        Ok(n) if buffer[..n].starts_with(b"GET ") => {
            let head = format!(
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Accept: {ACCEPT}\r\n\r\n"
            );
            *clients += 1;
            Ok(sockets[index].write_all(head.as_bytes())?)
        }
        Ok(n) if buffer[..n].starts_with(b"{") && *clients > 0 => {
            send(&mut sockets[random.below(*clients)], &ready_frame(n as u64 - 1)?)?;
            Ok(sockets[index].write_all(b"ok\n")?)
        }
        // A client that left is not the floor's business: it is found missing when counted.
        _ => Ok(()),
    }
}

fn obey(command: &str, address: SocketAddr, sockets: &mut [TcpStream]) -> anyhow::Result<String> {
    let mut words = command.split_whitespace();
    let verb = words.next().unwrap_or("");
    let mut number = || -> anyhow::Result<u64> { Ok(words.next().context("a number is missing")?.parse()?) };
    match verb {
        "address" => Ok(address.to_string()),
        "all" => {
            let frame = ready_frame(number()?)?;
            sockets.iter_mut().try_for_each(|socket| send(socket, &frame))?;
            Ok(sockets.len().to_string())
        }
        "random" => {
            let (frame, count, mut random) = (ready_frame(number()?)?, number()?, Random::new(number()?));
            if sockets.is_empty() {
                bail!("no sockets");
            }
            for _ in 0..count {
                send(&mut sockets[random.below(sockets.len())], &frame)?;
            }
            Ok(count.to_string())
        }
        _ => bail!("unknown command"),
    }
}

fn ready_frame(payload_bytes: u64) -> anyhow::Result<Vec<u8>> {
    let mut payload = Vec::new();
    payload::append(&mut payload, EVERYONE, 0, 0, usize::try_from(payload_bytes)?);
    let mut frame = Vec::new();
    payload::append_server_frame(&mut frame, &payload);
    Ok(frame)
}

/// One non-blocking send. A full socket is waited for, up to a second: the floor loses nothing either.
fn send(socket: &mut TcpStream, frame: &[u8]) -> anyhow::Result<()> {
    for _ in 0..1000 {
        match socket.write(frame) {
            Ok(n) if n == frame.len() => return Ok(()),
            Ok(_) => bail!("a frame was cut"),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => wait(Duration::from_millis(1)),
            Err(e) => return Err(e).context("failed to send"),
        }
    }
    bail!("a receiver does not read")
}

//! Logins whose QR code nobody scans. They must stay what they are, and their pages hear of nobody else's.

use std::io::{self, Read as _, Write as _};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use parking_lot::Mutex;

use super::THREADS;
use super::page::{Begun, Browser, PATIENCE, Page, take_envelope, watch_frame};
use crate::link::Link;

/// Pages that ask at once, at the end, what their login is: the server answers a bounded number of such questions at a
/// time and refuses the others.
const ASKING: usize = 32;

/// See the module's header.
#[derive(Debug)]
pub(super) struct Waiting<'a> {
    browser: &'a Browser,
    /// Watched ones that the keeper has yet to take in.
    fresh: Mutex<Vec<(Begun, Page)>>,
    /// Those nobody watches.
    unwatched: Vec<Begun>,
}

/// How those that were watched have fared.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// Still pending at the end, as their own page was told.
    pub(super) alive: u64,
    /// Envelopes about another login.
    pub(super) misdelivered: u64,
}

struct Held {
    begun: Begun,
    link: Link<TcpStream>,
    partial: Vec<u8>,
    cut: bool,
    asked: bool,
    alive: bool,
}

impl<'a> Waiting<'a> {
    /// Begins those that nobody will watch.
    pub(super) fn new(browser: &'a Browser, unwatched: usize) -> anyhow::Result<Self> {
        let begun = Mutex::new(Vec::with_capacity(unwatched));
        each(unwatched, |index| {
            let one = browser.begin(index)?;
            begun.lock().push(one);
            Ok(())
        })?;
        Ok(Self { browser, fresh: Mutex::default(), unwatched: begun.into_inner() })
    }

    /// Begins logins that are watched from then on.
    pub(super) fn begin(&self, watched: usize) -> anyhow::Result<()> {
        each(watched, |index| {
            let begun = self.browser.begin(index)?;
            let mut page = self.browser.watch(&begun, index)?;
            let first = page.next()?;
            if first["state"] != "pending" || first["login"] != begun.login {
                bail!("a login that has just begun is {first}");
            }
            self.fresh.lock().push((begun, page));
            Ok(())
        })
    }

    /// Asks how those stand that nobody watches; how many are pending.
    pub(super) fn alive_by_http(&self) -> anyhow::Result<u64> {
        let alive = AtomicUsize::new(0);
        each(self.unwatched.len(), |index| {
            let begun = &self.unwatched[index];
            // One that is unknown by now is an error of the call, and is lost.
            if let Ok(now) = self.browser.current(begun, index)
                && now["state"] == "pending"
                && now["login"] == begun.login
            {
                alive.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        })?;
        Ok(alive.into_inner() as u64)
    }

    /// Keeps the connections alive until `over`, then asks each once more what its login is.
    pub(super) fn keep(&self, over: &AtomicBool) -> anyhow::Result<Kept> {
        let mut poll = Poll::new()?;
        let mut events = Events::with_capacity(1024);
        let (mut held, mut kept) = (Vec::<Held>::new(), Kept::default());
        let (mut deadline, mut to_ask) = (None, 0);
        loop {
            let fresh = std::mem::take(&mut *self.fresh.lock());
            for (begun, page) in fresh {
                page.link.socket.set_nonblocking(true)?;
                let mut link = page.link.map(TcpStream::from_std);
                poll.registry().register(&mut link.socket, Token(held.len()), Interest::READABLE)?;
                let partial = page.partial;
                let mut one = Held { begun, link, partial, cut: false, asked: false, alive: false };
                // Under TLS what was read from the socket already may hold more than the page has heard.
                one.cut = one.hear(&mut kept).is_err();
                held.push(one);
            }
            if deadline.is_none() && over.load(Ordering::Acquire) {
                deadline = Some(Instant::now() + PATIENCE);
            }
            if deadline.is_some() {
                let unanswered = held[..to_ask].iter().filter(|one| !one.alive && !one.cut).count();
                let more = ASKING.saturating_sub(unanswered).min(held.len() - to_ask);
                for one in &mut held[to_ask..to_ask + more] {
                    one.asked = true;
                    one.cut |= one.link.write_all(&watch_frame(&one.begun)).is_err();
                }
                to_ask += more;
            }
            if let Some(deadline) = deadline
                && (held.iter().all(|one| one.alive || one.cut) || Instant::now() > deadline)
            {
                kept.alive = held.iter().filter(|one| one.alive).count() as u64;
                return Ok(kept);
            }
            match poll.poll(&mut events, Some(Duration::from_millis(100))) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                other => other.context("failed to wait for events")?,
            }
            for event in &events {
                if let Some(one) = held.get_mut(event.token().0)
                    && !one.cut
                {
                    one.cut = one.hear(&mut kept).is_err();
                }
            }
        }
    }
}

impl Held {
    /// Reads all there is. An error is final.
    fn hear(&mut self, kept: &mut Kept) -> anyhow::Result<()> {
        let mut buffer = [0; 4096];
        loop {
            match self.link.read(&mut buffer) {
                Ok(0) => bail!("the connection ended"),
                Ok(n) => self.partial.extend_from_slice(&buffer[..n]),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e.into()),
            }
        }
        let mut answers = Vec::new();
        while let Some(envelope) = take_envelope(&mut self.partial, &mut answers)? {
            // A new QR code is told of as well: that is another version of what is still pending.
            if envelope["login"] == self.begun.login {
                self.alive = self.asked && envelope["state"] == "pending";
            } else if envelope["login"].is_string() {
                kept.misdelivered += 1;
            }
        }
        self.link.write_all(&answers)?;
        Ok(())
    }
}

/// Does `act` for every number below `count`, in a few threads; the first error ends it.
fn each(count: usize, act: impl Fn(usize) -> anyhow::Result<()> + Sync) -> anyhow::Result<()> {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS.min(count))
            .map(|_| {
                scope.spawn(|| {
                    loop {
                        let index = next.fetch_add(1, Ordering::Relaxed);
                        if index >= count {
                            return Ok(());
                        }
                        if let Err(error) = act(index) {
                            next.store(count, Ordering::Relaxed);
                            return Err(error);
                        }
                    }
                })
            })
            .collect();
        let mut done = Ok(());
        for thread in threads {
            let ended = thread.join().unwrap_or_else(|_| bail!("a thread panicked"));
            done = done.and(ended);
        }
        done
    })
}

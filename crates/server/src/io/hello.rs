//! Hello: how a connection says who it is, is bound and welcomed, and what a page says afterwards in doorbell.v1.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use doorbell_hub::{BindError, CatchUp, Outbox as _};
use doorbell_protocol::Uid;
use doorbell_protocol::close::CloseCode;
use doorbell_protocol::envelope::{
    self, FromPage, Position, Welcome, write_event, write_pong, write_welcome,
};
use doorbell_protocol::frame::{Opcode, encode};

use super::clock::Tick;
use super::connection::{Connection, Dialect};
use super::event_loop::Unbindable;
use super::life::{Next, Standing};
use super::tools::Tools;
use crate::context::{REVOKED, unix_seconds};
use crate::revocation::Proof;

/// What is wrong with a first message.
pub(super) struct Unwelcome {
    pub(super) code: CloseCode,
    pub(super) reason: &'static str,
}

/// Whom a credential names, until when, and what shows it.
pub(super) fn identify(credential: &[u8], tools: &Tools) -> Result<(Uid, Tick, Proof), Unwelcome> {
    let identified = tools.context.identify(credential, &tools.policy.identity);
    let identified = identified.map_err(|reason| Unwelcome { code: CloseCode::BAD_TOKEN, reason })?;
    let expires = identified.expires.map_or(Tick::NEVER, |expires| {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        tools.after(Duration::from_secs(expires).saturating_sub(now))
    });
    Ok((identified.uid, expires, identified.proof))
}

/// Finds out who a connection is, and makes it reachable.
pub(super) fn name(
    connection: &Arc<Connection>,
    credential: &[u8],
    catch_up: CatchUp,
    tools: &Tools,
) -> Result<Tick, Unwelcome> {
    let (uid, expires, proof) = identify(credential, tools)?;
    bind(connection, uid, proof, catch_up, tools)?;
    Ok(expires)
}

/// Makes a connection reachable as `uid`, welcomed and caught up.
pub(super) fn bind(
    connection: &Arc<Connection>,
    uid: Uid,
    proof: Proof,
    catch_up: CatchUp,
    tools: &Tools,
) -> Result<(), Unwelcome> {
    connection.prove(proof);
    connection.name(uid);
    let limit = tools.policy.limits.connections_per_uid as usize;
    let bound = tools.context.hub.bind(connection, limit, catch_up, tools.now_ms, |greeting| {
        if connection.dialect != Dialect::Plain {
            connection.begin_after(greeting.seq);
            if matches!(catch_up, CatchUp::After(_) | CatchUp::Lost) {
                tools.context.metrics.recovery(greeting.recovered);
            }
            let frame = welcome(connection, greeting.seq, greeting.recovered, tools);
            if greeting.catching_up {
                connection.send(&frame, connection.bound());
            } else {
                connection.enqueue(&frame);
            }
        }
    });
    // A failed socket shows again when it is next read.
    let _ = connection.flush();
    bound.map_err(|error| match error {
        BindError::TooMany { .. } | BindError::Unnamed => {
            Unwelcome { code: CloseCode::POLICY, reason: "connections_per_uid" }
        }
        BindError::Overtaken => Unwelcome { code: CloseCode::TOO_SLOW, reason: "overtaken" },
    })?;
    tracing::debug!(
        connection = %connection.id(),
        uid_hash = tools.context.log_names.of(connection.uid()),
        transport = connection.dialect.transport(),
        dialect = connection.dialect.name(),
        "connection bound"
    );
    still_good(connection, tools)
}

/// Looks once more, now that whoever revokes finds the connection: before, it may have looked in vain.
fn still_good(connection: &Connection, tools: &Tools) -> Result<(), Unwelcome> {
    let revoked =
        connection.uid().is_some_and(|uid| tools.context.revocations.is_revoked(uid, connection.proof()));
    if revoked { Err(Unwelcome { code: CloseCode::BAD_TOKEN, reason: REVOKED }) } else { Ok(()) }
}

/// A `welcome` as the connection's dialect writes it; nothing for a poll, which has it in its answer.
fn welcome(connection: &Connection, seq: u64, recovered: bool, tools: &Tools) -> Vec<u8> {
    let mut text = Vec::with_capacity(160);
    let welcome = Welcome {
        uid: connection.uid().map(Uid::as_str),
        connection: &connection.id().to_string(),
        epoch: tools.context.hub.epoch(),
        seq,
        recovered,
        ping_interval: tools.policy.limits.ping_interval.as_secs(),
    };
    write_welcome(&welcome, &mut text);
    let mut frame = Vec::with_capacity(text.len() + 48);
    match connection.dialect {
        Dialect::Poll => connection.begin_poll(seq, recovered),
        Dialect::Events => {
            write_event("welcome", Some((tools.context.hub.epoch(), seq)), &text, &mut frame);
        }
        _ => encode(Opcode::Text, &text, &mut frame),
    }
    frame
}

/// What a page said in doorbell.v1.
pub(super) fn hear(
    connection: &Arc<Connection>,
    text: &[u8],
    standing: &mut Standing,
    expires: &mut Tick,
    tools: &mut Tools,
) -> Result<(), Unwelcome> {
    let unclear = || Unwelcome { code: CloseCode::POLICY, reason: "not_an_envelope" };
    match envelope::read(text).map_err(|_| unclear())? {
        FromPage::Hello { token, resume } => hello(connection, token, resume, standing, expires, tools)?,
        FromPage::Ack { seq } => {
            if let (Some(uid), Some(range)) = (connection.uid(), connection.acknowledge(seq)) {
                tools.context.acked(uid, connection.id(), range);
            }
        }
        FromPage::Ping => {
            let mut pong = Vec::with_capacity(16);
            write_pong(&mut pong);
            encode(Opcode::Text, &pong, &mut tools.frame);
        }
        FromPage::LoginWatch { device_code } => {
            if *standing == Standing::Unnamed {
                // A page that wants to log in has no token yet.
                wait_to_be_bound(connection, None, standing, expires, tools);
            }
            match tools.context.login.get() {
                Some(service) => service.watch(connection, device_code),
                None => tracing::debug!("nobody serves logins here"),
            }
        }
        FromPage::Unknown => {}
    }
    Ok(())
}

/// Lets a page in that cannot say who it is yet.
fn wait_to_be_bound(
    connection: &Arc<Connection>,
    resume: Option<&Position>,
    standing: &mut Standing,
    expires: &mut Tick,
    tools: &Tools,
) {
    *standing = Standing::Unbound(Place::note(connection, resume, tools));
    *expires = tools.after(tools.policy.limits.unbound_timeout);
    connection.send(&welcome(connection, 0, true, tools), connection.bound());
}

/// The first hello says who it is and where it left off; a later one brings a new token.
fn hello(
    connection: &Arc<Connection>,
    token: Option<String>,
    resume: Option<Position>,
    standing: &mut Standing,
    expires: &mut Tick,
    tools: &Tools,
) -> Result<(), Unwelcome> {
    let Some(token) = token else {
        if *standing == Standing::Unnamed {
            wait_to_be_bound(connection, resume.as_ref(), standing, expires, tools);
        }
        return Ok(());
    };
    if let (Standing::Listening, Some(uid)) = (*standing, connection.uid()) {
        let (new, end, proof) = identify(token.as_bytes(), tools)?;
        if new != *uid {
            return Err(Unwelcome { code: CloseCode::BAD_TOKEN, reason: "another_uid" });
        }
        connection.prove(proof);
        still_good(connection, tools)?;
        *expires = end.after(tools.policy.limits.token_grace);
        let frame = welcome(connection, connection.seen().unwrap_or_default(), true, tools);
        connection.send(&frame, connection.bound());
        return Ok(());
    }
    let end = name(connection, token.as_bytes(), catch_up(resume.as_ref(), tools), tools)?;
    *expires = end.after(tools.policy.limits.token_grace);
    *standing = Standing::Listening;
    Ok(())
}

/// Where a page that waits to be bound left off. The number itself is the connection's: it is not used before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// It has been nowhere.
    None,
    /// After the number that the connection has seen.
    Seen,
    /// In a memory that is gone.
    Lost,
}

impl Place {
    fn note(connection: &Connection, resume: Option<&Position>, tools: &Tools) -> Self {
        match catch_up(resume, tools) {
            CatchUp::After(seq) => {
                connection.begin_after(seq);
                Self::Seen
            }
            CatchUp::Lost => Self::Lost,
            CatchUp::Unsent | CatchUp::Nothing => Self::None,
        }
    }

    fn catch_up(self, connection: &Connection) -> CatchUp {
        match self {
            Self::None => CatchUp::Unsent,
            Self::Seen => CatchUp::After(connection.seen().unwrap_or_default()),
            Self::Lost => CatchUp::Lost,
        }
    }
}

/// Binds a page that waits for it, on the word of the backend. A failure also says what is to happen to the page.
pub(super) fn bind_waiting(
    connection: &Arc<Connection>,
    uid: Uid,
    standing: &mut Standing,
    tools: &Tools,
) -> Result<(), (Unbindable, Next)> {
    let place = match *standing {
        Standing::Unbound(place) => place,
        Standing::Unnamed | Standing::Echo => return Err((Unbindable::NotWaiting, Next::Continue)),
        Standing::Listening => return Err((Unbindable::Bound, Next::Continue)),
    };
    if connection.is_closing() {
        return Err((Unbindable::Unknown, Next::Continue));
    }
    // Before it has a name, which it cannot give back: a full uid should not cost a page its wait.
    let limit = tools.policy.limits.connections_per_uid as usize;
    if tools.context.hub.connections_of(uid.as_str()).len() >= limit {
        return Err((Unbindable::TooMany, Next::Continue));
    }
    let place = place.catch_up(connection);
    let now = unix_seconds(SystemTime::now());
    let proof = tools.context.revocations.vouch(&uid, now);
    bind(connection, uid, proof, place, tools).map_err(|refusal| {
        // It is closed either way; when it was revoked meanwhile, it is as if it had gone before.
        let why = if refusal.reason == REVOKED { Unbindable::Unknown } else { Unbindable::TooMany };
        (why, Next::Close(refusal.code, refusal.reason))
    })?;
    *standing = Standing::Listening;
    Ok(())
}

/// What a page is to be caught up with, by where it left off.
pub(super) fn catch_up(resume: Option<&Position>, tools: &Tools) -> CatchUp {
    match resume {
        None => CatchUp::Unsent,
        Some(position) if position.epoch == tools.context.hub.epoch() => CatchUp::After(position.seq),
        Some(_) => CatchUp::Lost,
    }
}

//! Pushes on one connection: lines to a text port, or POSTs to a URL, and the answers to them.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context as _, bail};

use crate::http::append_message;
use crate::target::Publish;

/// Answers to pushes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Answered {
    /// Somebody heard it.
    pub(crate) ok: u64,
    /// Nobody did, or it was refused.
    pub(crate) refused: u64,
}

impl Answered {
    pub(crate) fn total(self) -> u64 {
        self.ok + self.refused
    }
}

/// See the module's header. Pushes may be pipelined: answers come in their order.
#[derive(Debug)]
pub(crate) struct Channel {
    publish: Publish,
    stream: TcpStream,
    partial: Vec<u8>,
}

impl Channel {
    pub(crate) fn connect(publish: &Publish) -> anyhow::Result<Self> {
        let address = match publish {
            Publish::Text(address) => *address,
            Publish::Url(post) => post.endpoint.address,
        };
        let stream = TcpStream::connect(address).context("failed to connect to where pushes go")?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        Ok(Self { publish: publish.clone(), stream, partial: Vec::new() })
    }

    /// Appends one push.
    pub(crate) fn append(&self, out: &mut Vec<u8>, uid: &str, payload: &[u8]) {
        match &self.publish {
            Publish::Text(_) => {
                out.extend_from_slice(payload);
                out.push(b'\n');
            }
            Publish::Url(post) => append_message(out, post, uid, payload),
        }
    }

    pub(crate) fn send(&mut self, pushes: &[u8]) -> anyhow::Result<()> {
        self.stream.write_all(pushes).context("failed to push")
    }

    /// Reads once and says which answers that completed.
    pub(crate) fn read(&mut self) -> anyhow::Result<Answered> {
        let mut buffer = [0; 16 * 1024];
        let n = self.stream.read(&mut buffer).context("no answer")?;
        if n == 0 {
            bail!("the connection for pushes was closed");
        }
        self.partial.extend_from_slice(&buffer[..n]);
        let mut answered = Answered::default();
        let mut used = 0;
        while let Some((ok, length)) = self.next(&self.partial[used..])? {
            used += length;
            *if ok { &mut answered.ok } else { &mut answered.refused } += 1;
        }
        self.partial.drain(..used);
        Ok(answered)
    }

    /// Sends one push and waits for its answer: whether somebody heard it.
    pub(crate) fn push(&mut self, uid: &str, payload: &[u8]) -> anyhow::Result<bool> {
        let mut request = Vec::new();
        self.append(&mut request, uid, payload);
        self.send(&request)?;
        loop {
            let answered = self.read()?;
            if answered.total() > 0 {
                return Ok(answered.ok > 0);
            }
        }
    }

    /// The first answer in `bytes` and its length.
    fn next(&self, bytes: &[u8]) -> anyhow::Result<Option<(bool, usize)>> {
        match self.publish {
            Publish::Text(_) => {
                let end = bytes.iter().position(|byte| *byte == b'\n');
                Ok(end.map(|end| (&bytes[..end] == b"ok", end + 1)))
            }
            Publish::Url(_) => http_answer(bytes),
        }
    }
}

/// Success is 200, 201 or 204. 202 is not: servers of this kind say it when nobody had subscribed.
fn http_answer(bytes: &[u8]) -> anyhow::Result<Option<(bool, usize)>> {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
    let head = std::str::from_utf8(&bytes[..end]).context("an answer that is no text")?;
    let status = head.split(' ').nth(1).context("no HTTP answer")?;
    let mut length = None;
    for (name, value) in head.lines().filter_map(|line| line.split_once(':')) {
        if name.eq_ignore_ascii_case("content-length") {
            length = Some(value.trim().parse::<usize>()?);
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            bail!("a push was answered in chunks, which this program does not read");
        }
    }
    let whole = end + 4 + length.unwrap_or(0);
    Ok((bytes.len() >= whole).then_some((matches!(status, "200" | "201" | "204"), whole)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_whole_or_not_at_all() {
        let one = b"HTTP/1.1 201 Created\r\nContent-Length: 5\r\n\r\nhello";
        for cut in 0..one.len() {
            assert_eq!(http_answer(&one[..cut]).unwrap(), None);
        }
        let two = [&one[..], b"HTTP/1.1 202 Accepted\r\n\r\n"].concat();
        assert_eq!(http_answer(&two).unwrap(), Some((true, one.len())));
        assert_eq!(http_answer(&two[one.len()..]).unwrap(), Some((false, 25)));
        assert!(http_answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").is_err());
    }
}

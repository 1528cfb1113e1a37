//! Broadcasts by `POST /v1/broadcast`, over one kept-alive HTTP/1.1 connection.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, bail};

/// A connection to the API listener.
#[derive(Debug)]
pub struct Broadcaster {
    stream: BufReader<TcpStream>,
    key: String,
}

impl Broadcaster {
    /// Connects.
    ///
    /// # Errors
    /// When nobody listens there.
    pub fn connect(api: SocketAddr, key: &str) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(api).context("failed to connect to the API listener")?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        Ok(Self { stream: BufReader::new(stream), key: key.to_owned() })
    }

    /// Sends `data`, as a JSON string, to every connection and says to how many it was written.
    ///
    /// # Errors
    /// When the answer is not a 200 with a count.
    pub fn broadcast(&mut self, data: &str) -> anyhow::Result<u64> {
        let body = serde_json::json!({ "data": data }).to_string();
        let request = format!(
            "POST /v1/broadcast HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.key,
            body.len()
        );
        self.stream.get_mut().write_all(request.as_bytes()).context("failed to send a broadcast")?;
        let answer = self.answer().context("failed to read a broadcast's answer")?;
        let answer: serde_json::Value = serde_json::from_slice(&answer).context("not JSON")?;
        answer["written"].as_u64().with_context(|| format!("no `written` in {answer}"))
    }

    fn answer(&mut self) -> anyhow::Result<Vec<u8>> {
        let mut status = String::new();
        self.stream.read_line(&mut status)?;
        let mut length = 0;
        loop {
            let mut line = String::new();
            if self.stream.read_line(&mut line)? == 0 {
                bail!("the connection ended");
            }
            if line.trim_end().is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').context("a header without a colon")?;
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse()?;
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        if !status.starts_with("HTTP/1.1 200 ") {
            bail!("{}: {}", status.trim_end(), String::from_utf8_lossy(&body));
        }
        Ok(body)
    }
}

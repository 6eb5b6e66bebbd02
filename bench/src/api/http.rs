//! A client that sends the same request over kept connections as fast as answers come: little of its own is measured.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
};

use super::Measured;

/// The longest head of an answer.
const MAX_HEAD: usize = 16 * 1024;

/// A request, as it goes over the wire; the place of a number that grows is marked.
#[derive(Clone, Debug)]
pub(super) struct Request {
    head: String,
    body: String,
}

/// Where the number goes.
const NUMBER: &str = "{n}";

impl Request {
    pub(super) fn get(path: &str, credential: &str) -> Self {
        Self {
            head: format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{credential}"),
            body: String::new(),
        }
    }

    /// With a JSON body.
    pub(super) fn post(path: &str, credential: &str, body: &str) -> Self {
        Self {
            head: format!(
                "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{credential}"
            ),
            body: body.to_owned(),
        }
    }

    fn bytes(&self, number: u64) -> Vec<u8> {
        let body = self.body.replace(NUMBER, &number.to_string());
        format!("{}Content-Length: {}\r\n\r\n{body}", self.head, body.len()).into_bytes()
    }
}

/// One kept connection.
struct Connection {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Connection {
    async fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            read: Vec::with_capacity(MAX_HEAD),
        })
    }

    /// Sends a request and reads its answer to the end.
    async fn ask(&mut self, request: &[u8]) -> Result<()> {
        self.stream.write_all(request).await?;
        self.read.clear();
        let head = loop {
            if self.stream.read_buf(&mut self.read).await? == 0 {
                bail!("the server closed the connection");
            }
            if let Some(at) = self.read.windows(4).position(|part| part == b"\r\n\r\n") {
                break at + 4;
            }
            if self.read.len() > MAX_HEAD {
                bail!("an endless head");
            }
        };
        let text = std::str::from_utf8(&self.read[..head])?.to_ascii_lowercase();
        let length: usize = text
            .lines()
            .find_map(|line| line.strip_prefix("content-length:"))
            .context("an answer without its length")?
            .trim()
            .parse()?;
        while self.read.len() < head + length {
            if self.stream.read_buf(&mut self.read).await? == 0 {
                bail!("the answer is cut");
            }
        }
        let status = text.split(' ').nth(1).unwrap_or_default();
        if !status.starts_with('2') {
            bail!("{}", String::from_utf8_lossy(&self.read));
        }
        Ok(())
    }
}

/// When a run is over.
#[derive(Clone, Copy, Debug)]
pub(super) enum Until {
    /// After this long.
    Time(Duration),
    /// After so many requests.
    Count(u64),
}

/// Sends a request from so many connections at once.
pub(super) async fn send(
    address: SocketAddr,
    request: &Request,
    connections: u32,
    until: Until,
) -> Result<Measured> {
    let mut ready = Vec::new();
    for _ in 0..connections {
        let mut connection = Connection::open(address).await?;
        // The first answer of a connection also pays for statements that are prepared once.
        connection.ask(&request.bytes(fresh())).await?;
        ready.push(connection);
    }
    let sent = Arc::new(AtomicU64::new(0));
    let begun = Instant::now();
    let mut running = JoinSet::new();
    for mut connection in ready {
        let (request, sent) = (request.clone(), Arc::clone(&sent));
        running.spawn(async move {
            let mut took = Vec::new();
            loop {
                let over = match until {
                    Until::Time(time) => begun.elapsed() >= time,
                    Until::Count(count) => sent.fetch_add(1, Ordering::Relaxed) >= count,
                };
                if over {
                    return Ok(took);
                }
                let bytes = request.bytes(fresh());
                let start = Instant::now();
                connection.ask(&bytes).await?;
                took.push(start.elapsed().as_secs_f64() * 1e3);
            }
        });
    }
    let mut took: Vec<f64> = Vec::new();
    while let Some(one) = running.join_next().await {
        let one: Result<Vec<f64>> = one?;
        took.extend(one?);
    }
    Ok(Measured::of(&took, begun.elapsed()))
}

/// A number that no request of this run had before.
fn fresh() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

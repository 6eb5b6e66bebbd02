//! A WebSocket client that costs next to nothing: frames are counted, not understood. What is measured is the server.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, bail};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
/// First bit of the second byte: the frame is masked, as those of clients are.
const MASKED: u8 = 0x80;
/// A length that means: it follows in two bytes.
const IN_TWO_BYTES: u8 = 0x7e;
/// A length that means: it follows in eight bytes.
const IN_EIGHT_BYTES: u8 = 0x7f;

/// A socket of protocol 2.
pub(super) struct Socket {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// The part of `buffer` that was read and not handed out.
    start: usize,
    end: usize,
}

impl Socket {
    /// Connects; `room` is how many bytes are read at once.
    pub(super) async fn connect(address: SocketAddr, key: &str, room: usize) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let mut this = Self {
            stream,
            buffer: vec![0; room],
            start: 0,
            end: 0,
        };
        let request = format!(
            "GET /realtime/v1/websocket?apikey={key}&vsn=2.0.0 HTTP/1.1\r\nhost: {address}\r\nupgrade: websocket\r\n\
             connection: upgrade\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        this.stream.write_all(request.as_bytes()).await?;
        loop {
            if this.read().await? == 0 {
                bail!("the server hung up");
            }
            let seen = &this.buffer[..this.end];
            if let Some(at) = seen.windows(4).position(|four| four == b"\r\n\r\n") {
                if !seen.starts_with(b"HTTP/1.1 101") {
                    bail!("refused: {}", String::from_utf8_lossy(seen));
                }
                this.start = at + 4;
                return Ok(this);
            }
        }
    }

    async fn read(&mut self) -> Result<usize> {
        if self.end == self.buffer.len() {
            if self.start > 0 {
                self.buffer.copy_within(self.start..self.end, 0);
                self.end -= self.start;
                self.start = 0;
            } else {
                self.buffer.resize(self.buffer.len() * 2, 0);
            }
        }
        let read = self.stream.read(&mut self.buffer[self.end..]).await?;
        self.end += read;
        Ok(read)
    }

    pub(super) async fn send_text(&mut self, text: &str) -> Result<()> {
        self.send(TEXT, text.as_bytes()).await
    }

    /// Pushes a broadcast as the JavaScript client does.
    pub(super) async fn send_broadcast(&mut self, topic: &str, payload: &str) -> Result<()> {
        let (join_ref, reference, event) = ("1", "2", "e");
        let length = |text: &str| u8::try_from(text.len()).unwrap_or(u8::MAX);
        let mut frame = vec![
            3,
            length(join_ref),
            length(reference),
            length(topic),
            length(event),
            0,
            1,
        ];
        for part in [join_ref, reference, topic, event, payload] {
            frame.extend_from_slice(part.as_bytes());
        }
        self.send(BINARY, &frame).await
    }

    async fn send(&mut self, kind: u8, payload: &[u8]) -> Result<()> {
        let mut frame = Vec::with_capacity(payload.len() + 14);
        frame.push(0x80 | kind);
        let length = payload.len();
        if let Ok(short) = u8::try_from(length)
            && short < IN_TWO_BYTES
        {
            frame.push(MASKED | short);
        } else {
            frame.push(MASKED | IN_TWO_BYTES);
            frame.extend_from_slice(&u16::try_from(length)?.to_be_bytes());
        }
        // A mask of zeros leaves the payload as it is.
        frame.extend_from_slice(&[0; 4]);
        frame.extend_from_slice(payload);
        self.stream.write_all(&frame).await?;
        Ok(())
    }

    /// The payload of the next message.
    pub(super) async fn next(&mut self) -> Result<&[u8]> {
        loop {
            if let Some((kind, from, to)) = self.frame() {
                self.start = to;
                match kind {
                    TEXT | BINARY => return Ok(&self.buffer[from..to]),
                    CLOSE => bail!(
                        "closed by the server: {}",
                        String::from_utf8_lossy(&self.buffer[(from + 2).min(to)..to])
                    ),
                    PING => {}
                    other => bail!("a frame of kind {other}"),
                }
            } else {
                if self.start == self.end {
                    (self.start, self.end) = (0, 0);
                }
                if self.read().await? == 0 {
                    bail!("the server hung up");
                }
            }
        }
    }

    /// Kind and bounds of the payload of a frame that has come whole.
    fn frame(&self) -> Option<(u8, usize, usize)> {
        let seen = &self.buffer[self.start..self.end];
        let (&first, &second) = (seen.first()?, seen.get(1)?);
        let (head, length) = match second & !MASKED {
            IN_TWO_BYTES => (
                4,
                usize::from(u16::from_be_bytes(seen.get(2..4)?.try_into().ok()?)),
            ),
            IN_EIGHT_BYTES => (
                10,
                usize::try_from(u64::from_be_bytes(seen.get(2..10)?.try_into().ok()?)).ok()?,
            ),
            short => (2, usize::from(short)),
        };
        (seen.len() >= head + length).then(|| {
            let from = self.start + head;
            (first & 0x0f, from, from + length)
        })
    }

    /// Joins a channel and waits for the answer.
    pub(super) async fn join(
        &mut self,
        topic: &str,
        config: &str,
        token: Option<&str>,
    ) -> Result<()> {
        let token = token.map_or_else(|| "null".to_owned(), |token| format!("\"{token}\""));
        self.send_text(&format!(
            r#"["1","1","{topic}","phx_join",{{"config":{config},"access_token":{token}}}]"#
        ))
        .await?;
        loop {
            let message = self.next().await?;
            if is_reply(message) {
                let text = String::from_utf8_lossy(message);
                if !text.contains(r#""status":"ok""#) {
                    bail!("{text}");
                }
                return Ok(());
            }
        }
    }
}

/// Whether a message is the answer to a push.
pub(super) fn is_reply(message: &[u8]) -> bool {
    message.first() == Some(&b'[')
        && message
            .windows(11)
            .take(64)
            .any(|eleven| eleven == b"\"phx_reply\"")
}

/// The number after `@` in a message.
pub(super) fn stamp(message: &[u8]) -> Option<u64> {
    let at = message.iter().position(|&byte| byte == b'@')? + 1;
    let mut number = 0_u64;
    for digit in message[at..]
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
    {
        number = number * 10 + u64::from(digit - b'0');
    }
    Some(number)
}

/// How many sockets are opened at once.
const AT_ONCE: usize = 100;

/// Opens sockets and joins a channel on each; `channel` gives topic, configuration and token.
pub(super) async fn joined(
    address: SocketAddr,
    key: &str,
    count: usize,
    room: usize,
    channel: impl Fn(usize) -> (String, String, Option<String>),
) -> Result<Vec<Socket>> {
    let mut all = Vec::with_capacity(count);
    while all.len() < count {
        let mut opening = tokio::task::JoinSet::new();
        for number in all.len()..count.min(all.len() + AT_ONCE) {
            let (topic, config, token) = channel(number);
            let key = key.to_owned();
            opening.spawn(async move {
                let mut socket = Socket::connect(address, &key, room).await?;
                socket.join(&topic, &config, token.as_deref()).await?;
                Ok::<_, anyhow::Error>(socket)
            });
        }
        while let Some(socket) = opening.join_next().await {
            all.push(socket?.context("a socket does not join")?);
        }
    }
    Ok(all)
}

//! What the channels of one socket share: references, frames to send, the token, the waiting times.

use std::{collections::VecDeque, fmt, time::Duration};

use bytes::Bytes;
use secrecy::{ExposeSecret, SecretString};

use crate::{Outgoing, Version, frame::MAX_FRAME_BYTES};

use super::PushError;

/// Frames that may wait to be written, in number and in bytes. More means that the server does not read.
const MAX_WAITING_FRAMES: usize = 4_096;
const MAX_WAITING_BYTES: usize = 2 * MAX_FRAME_BYTES;

/// Every waiting time of a client, named.
#[derive(Debug, Clone)]
pub struct Timing {
    /// Between heartbeats. Servers close a socket on which nothing arrives for 60 s.
    pub heartbeat_every: Duration,
    /// A heartbeat unanswered for this long means that the socket is dead, whatever TCP says.
    pub heartbeat_within: Duration,
    /// For name resolution, TCP, TLS and the handshake together.
    pub connect_within: Duration,
    /// For writing one frame.
    pub write_within: Duration,
    /// For getting a token from its source.
    pub token_within: Duration,
    /// From `phx_join` to its reply. Hosted servers hold error replies back for 5 s.
    pub join_within: Duration,
    /// From the reply to `Subscribed to PostgreSQL`.
    pub subscribe_within: Duration,
    /// From a push to its reply.
    pub push_within: Duration,
    /// Between presence calls of one channel: hosted servers close a channel at the sixth in 30 s.
    pub presence_every: Duration,
    /// The first delay before a reconnect or rejoin.
    pub backoff_base: Duration,
    /// The longest delay before a reconnect or rejoin, except where the server names one.
    pub backoff_cap: Duration,
    /// Delays start over after a channel was live for this long.
    pub stable_after: Duration,
    /// The least delay after the server said that a limit was exceeded, or that a subscription cannot be.
    pub pause_after_limit: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            heartbeat_every: Duration::from_secs(25),
            heartbeat_within: Duration::from_secs(15),
            connect_within: Duration::from_secs(15),
            write_within: Duration::from_secs(15),
            token_within: Duration::from_secs(15),
            join_within: Duration::from_secs(15),
            subscribe_within: Duration::from_secs(30),
            push_within: Duration::from_secs(10),
            presence_every: Duration::from_secs(8),
            backoff_base: Duration::from_secs(1),
            backoff_cap: Duration::from_secs(10),
            stable_after: Duration::from_secs(30),
            pause_after_limit: Duration::from_secs(30),
        }
    }
}

/// A source of numbers in `0.0..1.0` for jitter.
pub type Jitter = Box<dyn FnMut() -> f64 + Send>;

/// A frame to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// A text frame.
    Text(String),
    /// A binary frame.
    Binary(Bytes),
}

impl Message {
    /// Its size in bytes.
    pub fn len(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Binary(bytes) => bytes.len(),
        }
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Names a push whose reply somebody waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PushId(pub u64);

/// What the channels of one socket share.
pub struct Link {
    version: Version,
    next_reference: u64,
    waiting: VecDeque<Message>,
    waiting_bytes: usize,
    overflowed: bool,
    token: Option<SecretString>,
    token_wanted: bool,
    jitter: Jitter,
    /// The waiting times.
    pub timing: Timing,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("version", &self.version)
            .field("waiting", &self.waiting.len())
            .finish_non_exhaustive()
    }
}

impl Link {
    /// A link without a socket yet.
    pub fn new(version: Version, timing: Timing, jitter: Jitter) -> Self {
        Self {
            version,
            next_reference: 1,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            overflowed: false,
            token: None,
            token_wanted: false,
            jitter,
            timing,
        }
    }

    /// The protocol version frames are written in.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Starts over for a new socket: what waited to be sent belonged to the old one.
    pub fn restart(&mut self, version: Version) {
        self.version = version;
        self.waiting.clear();
        self.waiting_bytes = 0;
        self.overflowed = false;
    }

    /// A reference that was not used before, also not on an earlier socket.
    pub fn reference(&mut self) -> String {
        let reference = self.next_reference;
        self.next_reference += 1;
        reference.to_string()
    }

    /// The next jitter value.
    pub fn unit(&mut self) -> f64 {
        (self.jitter)()
    }

    /// The token joins are made with; none means that the socket's own key counts.
    pub fn token(&self) -> Option<&str> {
        self.token.as_ref().map(ExposeSecret::expose_secret)
    }

    /// Takes a new token and says whether it is another one.
    pub fn set_token(&mut self, token: Option<SecretString>) -> bool {
        let changed = self.token() != token.as_ref().map(ExposeSecret::expose_secret);
        self.token = token;
        changed
    }

    /// Notes that the server does not take the token any more.
    pub fn want_token(&mut self) {
        self.token_wanted = true;
    }

    /// Whether a fresh token was asked for since the last call.
    pub fn take_token_wanted(&mut self) -> bool {
        std::mem::take(&mut self.token_wanted)
    }

    /// Queues a frame.
    ///
    /// # Errors
    /// When it is larger than a frame may be, or when too much waits already; then [`Link::is_overflowed`] tells the driver that
    /// this socket is of no use.
    pub fn send(&mut self, message: Message) -> Result<(), PushError> {
        if message.len() > MAX_FRAME_BYTES {
            return Err(PushError::TooLarge(message.len()));
        }
        if self.waiting.len() >= MAX_WAITING_FRAMES
            || self.waiting_bytes + message.len() > MAX_WAITING_BYTES
        {
            self.overflowed = true;
            return Err(PushError::Busy);
        }
        self.waiting_bytes += message.len();
        self.waiting.push_back(message);
        Ok(())
    }

    /// Queues a text frame.
    ///
    /// # Errors
    /// As [`Link::send`].
    pub fn send_frame(&mut self, frame: &Outgoing<'_>) -> Result<(), PushError> {
        let text = frame.encode_from_client(self.version);
        self.send(Message::Text(text))
    }

    /// The next frame to write.
    pub fn pop(&mut self) -> Option<Message> {
        let message = self.waiting.pop_front()?;
        self.waiting_bytes -= message.len();
        Some(message)
    }

    /// Whether frames wait to be written.
    pub fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Whether the server reads so slowly that frames had to be refused.
    pub fn is_overflowed(&self) -> bool {
        self.overflowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_bounded_in_bytes() {
        let mut link = Link::new(Version::V2, Timing::default(), Box::new(|| 0.0));
        let megabyte = Message::Text("x".repeat(1_000_000));
        let sent = (0..20).filter(|_| link.send(megabyte.clone()).is_ok());
        assert_eq!(sent.count(), 10);
        assert!(link.is_overflowed());
        let huge = Message::Text("x".repeat(MAX_FRAME_BYTES + 1));
        assert!(matches!(link.send(huge), Err(PushError::TooLarge(_))));
        link.restart(Version::V2);
        assert!(!link.has_waiting() && !link.is_overflowed());
    }
}

//! A client of Supabase Realtime that stays connected.
//!
//! One [`Client`] holds one socket with any number of channels, and one [`Driver`], a future that you spawn, keeps it alive:
//!
//! - heartbeats have a deadline; a socket that does not answer is given up
//! - lost sockets are made anew with growing, jittered delays, which start over only after a channel was live for a while
//! - every channel is joined again with a fresh token, and what it tracked in presence is tracked again
//! - `phx_close`, refused joins and error messages are recovered from, never final
//! - all queues are bounded: who does not take its events loses the oldest and is told so ([`Event::Lagged`])
//!
//! What happened while a channel was away is not delivered later: after every [`Event::Up`], and after [`Event::Lagged`], look
//! for yourself.
//!
//! ```no_run
//! use rowcall_realtime::{
//!     channel::{ChangeFilter, ChannelSpec, Event},
//!     client::{Client, Config},
//!     join::ChangeEvent,
//! };
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let (client, driver) = Client::new(Config::new("http://127.0.0.1:54321", "anon-key")?);
//! let driver = tokio::spawn(driver.run());
//!
//! let new_tickets = ChangeFilter::table("public", "tickets").event(ChangeEvent::Insert);
//! let mut tickets = client.join(ChannelSpec::new("tickets").changes(new_tickets)).await?;
//! while let Some(event) = tickets.next().await {
//!     match event {
//!         Event::Up | Event::Lagged { .. } => println!("look for tickets that came in the meantime"),
//!         Event::Change(change) => println!("{:?}: {:?}", change.kind, change.record),
//!         Event::Down { reason, retry_in, .. } => println!("{reason}; next try in {retry_in:?}"),
//!         Event::Broadcast(_) | Event::Presence(_) => {}
//!     }
//! }
//! driver.await?;
//! # Ok(())
//! # }
//! ```

mod config;
mod connect;
mod dial;
mod driver;
mod inbox;
mod line;
mod session;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{Stream, stream};
use serde::Serialize;
use tokio::sync::{Notify, mpsc, oneshot, watch};

pub use config::{Config, ConfigError, TokenError, TokenSource};
pub use dial::{Dial, Io, Tcp, install_tls_provider};
pub use driver::{Driver, MAX_CHANNELS};
pub use inbox::InboxLimits;

use crate::{
    channel::{ChannelSpec, Event, PushError},
    frame::MAX_FRAME_BYTES,
    presence::Presences,
};
use inbox::{Feed, Inbox};
use session::ChannelId;

/// Commands that may wait for the driver.
const MAX_WAITING_COMMANDS: usize = 256;

type Pushed = Result<(), PushError>;

enum Payload {
    Json(String),
    Bytes(Bytes),
}

enum Command {
    Join {
        spec: ChannelSpec,
        user: (Feed, watch::Sender<Arc<Presences>>),
        answer: oneshot::Sender<Result<ChannelId, JoinError>>,
    },
    Track {
        id: ChannelId,
        payload: Option<Arc<str>>,
    },
    Broadcast {
        id: ChannelId,
        event: String,
        payload: Payload,
        answer: oneshot::Sender<Pushed>,
    },
    RefreshToken,
}

/// How the socket is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// No channel, so no socket.
    Idle,
    /// An attempt is under way.
    Connecting,
    /// There is a socket.
    Connected,
    /// Waiting for the next attempt.
    Waiting {
        /// Why there is no socket.
        reason: String,
        /// How long the wait is, from when this was said.
        retry_in: Duration,
    },
}

/// Why a client cannot have a channel. That the server refuses is no such error: it shows as [`Event::Down`], and is retried.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    /// A socket has a topic at most once.
    #[error("this client has a channel {0:?} already; a socket has each topic at most once")]
    Taken(String),
    /// Servers allow so many.
    #[error("this client has {MAX_CHANNELS} channels already")]
    TooMany,
    /// The driver has ended.
    #[error("the client has been shut down")]
    Closed,
}

/// A handle to one socket and its channels; clone it at will.
#[derive(Debug, Clone)]
pub struct Client {
    commands: mpsc::Sender<Command>,
    left: Arc<Notify>,
    status: watch::Receiver<Status>,
    limits: InboxLimits,
}

impl Client {
    /// A client and the driver that keeps it alive. Nothing is connected before the first channel is joined.
    pub fn new(config: Config) -> (Self, Driver) {
        let (sender, commands) = mpsc::channel(MAX_WAITING_COMMANDS);
        let (status_sender, status) = watch::channel(Status::Idle);
        let left = Arc::new(Notify::new());
        let client = Self {
            commands: sender,
            left: Arc::clone(&left),
            status,
            limits: config.inbox,
        };
        (client, Driver::new(config, commands, left, status_sender))
    }

    /// Takes part in a channel. Returns at once: whether and when it is live is told by [`Event::Up`].
    ///
    /// # Errors
    /// When the client has the topic already, has too many channels, or was shut down.
    pub async fn join(&self, spec: ChannelSpec) -> Result<Subscription, JoinError> {
        let (feed, inbox) = inbox::queue(self.limits, Arc::clone(&self.left));
        let (present_sender, present) = watch::channel(Arc::default());
        let (answer, answered) = oneshot::channel();
        let name = spec.name().into();
        let user = (feed, present_sender);
        let command = Command::Join { spec, user, answer };
        self.commands
            .send(command)
            .await
            .map_err(|_| JoinError::Closed)?;
        let id = answered.await.map_err(|_| JoinError::Closed)??;
        let sender = Sender {
            id,
            name,
            commands: self.commands.clone(),
        };
        Ok(Subscription {
            inbox,
            present,
            sender,
        })
    }

    /// How the socket is, now and from now on.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// Asks the token source anew, after a log-in or log-out. Without this a changed token is noticed at the next heartbeat.
    pub async fn refresh_token(&self) {
        // A driver that has ended needs no token.
        let _ = self.commands.send(Command::RefreshToken).await;
    }
}

/// A channel, as its user has it. Dropping it leaves the channel.
#[derive(Debug)]
pub struct Subscription {
    inbox: Inbox,
    present: watch::Receiver<Arc<Presences>>,
    sender: Sender,
}

impl Subscription {
    /// The next event; nothing when the client was shut down. Cancel-safe.
    pub async fn next(&mut self) -> Option<Event> {
        self.inbox.next().await
    }

    /// Everybody who is present, as far as the server told; nobody while the channel is down.
    pub fn present(&self) -> watch::Receiver<Arc<Presences>> {
        self.present.clone()
    }

    /// A handle for sending from elsewhere.
    pub fn sender(&self) -> Sender {
        self.sender.clone()
    }

    /// The events as a stream; dropping the stream leaves the channel.
    pub fn into_stream(self) -> impl Stream<Item = Event> + Send {
        stream::unfold(self, async |mut subscription| {
            let event = subscription.next().await?;
            Some((event, subscription))
        })
    }
}

/// Sends on a channel. It keeps the client running, but not the channel joined.
#[derive(Debug, Clone)]
pub struct Sender {
    id: ChannelId,
    name: Arc<str>,
    commands: mpsc::Sender<Command>,
}

impl Sender {
    /// The topic without `realtime:`.
    pub fn channel(&self) -> &str {
        &self.name
    }

    /// Tells everybody on the channel about us. This is state: the last value wins, it is sent when the limits of the server
    /// allow, and again after every rejoin. Without effect on a channel without presence.
    ///
    /// # Errors
    /// When the value is not a JSON object, is too large, or the client was shut down.
    pub async fn track(&self, state: &impl Serialize) -> Result<(), PushError> {
        let text = to_text(state)?;
        if !text.starts_with('{') {
            let reason = "only a JSON object can be tracked".to_owned();
            return Err(PushError::Refused(reason));
        }
        self.set_presence(Some(text.into())).await
    }

    /// Takes back what was tracked.
    ///
    /// # Errors
    /// When the client was shut down.
    pub async fn untrack(&self) -> Result<(), PushError> {
        self.set_presence(None).await
    }

    /// Sends a message to everybody on the channel. On an acknowledging channel this returns when the server has it, on another
    /// when it is queued for the socket.
    ///
    /// # Errors
    /// When the channel is not joined at the moment, the server refuses or does not answer, or the message is too large.
    pub async fn broadcast(&self, event: &str, payload: &impl Serialize) -> Result<(), PushError> {
        let payload = Payload::Json(to_text(payload)?);
        self.push(event, payload).await
    }

    /// Sends raw bytes to everybody on the channel; receivers of protocol 1.0.0 do not get them.
    ///
    /// # Errors
    /// As [`Sender::broadcast`].
    pub async fn broadcast_bytes(
        &self,
        event: &str,
        payload: impl Into<Bytes>,
    ) -> Result<(), PushError> {
        self.push(event, Payload::Bytes(payload.into())).await
    }

    async fn set_presence(&self, payload: Option<Arc<str>>) -> Result<(), PushError> {
        let command = Command::Track {
            id: self.id,
            payload,
        };
        self.commands
            .send(command)
            .await
            .map_err(|_| PushError::Closed)
    }

    async fn push(&self, event: &str, payload: Payload) -> Result<(), PushError> {
        let (answer, answered) = oneshot::channel();
        let command = Command::Broadcast {
            id: self.id,
            event: event.to_owned(),
            payload,
            answer,
        };
        self.commands
            .send(command)
            .await
            .map_err(|_| PushError::Closed)?;
        answered.await.map_err(|_| PushError::Closed)?
    }
}

fn to_text(value: &impl Serialize) -> Result<String, PushError> {
    let text = serde_json::to_string(value)
        .map_err(|error| PushError::Refused(format!("it is not JSON: {error}")))?;
    if text.len() > MAX_FRAME_BYTES {
        return Err(PushError::TooLarge(text.len()));
    }
    Ok(text)
}

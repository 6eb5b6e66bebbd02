//! What one socket says and is answered: the protocol, without I/O.

mod channels;
mod joining;
mod renewal;

use std::sync::Arc;

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use rowcall_realtime::binary::{Encoding, UserPush};
use rowcall_realtime::event;
use rowcall_realtime::topic::Topic as TopicName;
use rowcall_realtime::{Frame, Version};
use tokio::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

use super::channel::{Channel, Voice};
use super::join::{Prepared, Renewed};
use super::limits::Limits;
use super::outbox::Outbox;
use super::push::{self, Push, PushBody};
use super::rate::Window;
use super::shared::Shared;
use super::token::Verified;
use super::topic::ChannelId;
use super::ws::CloseCode;

/// Messages kept for a channel whose join is still being looked up.
const MAX_WAITING: usize = 64;
/// How long a channel waits for the replication connection it asked to be told about.
const REPLICATION_TIMEOUT: Duration = Duration::from_mins(1);

/// Work that went on beside the socket and is done.
pub(crate) enum Completion {
    Joined {
        topic: Arc<str>,
        attempt: u64,
        reference: Option<Box<str>>,
        result: Result<Box<Prepared>, String>,
    },
    Renewed {
        topic: Arc<str>,
        channel: ChannelId,
        refresh: u32,
        result: Result<Box<Renewed>, String>,
    },
    Replication {
        topic: Arc<str>,
        channel: ChannelId,
        is_ready: bool,
    },
}

/// A channel, or one to be.
enum Slot {
    Joining {
        attempt: u64,
        join_ref: Option<Box<str>>,
        waiting: Vec<Push>,
    },
    Joined(Box<Channel>),
}

pub(crate) struct Session {
    shared: Arc<Shared>,
    version: Version,
    outbox: Arc<Outbox>,
    /// Token of the `apikey`; channels without one of their own use it.
    verified: Verified,
    channels: Vec<(Arc<str>, Slot)>,
    work: FuturesUnordered<BoxFuture<'static, Completion>>,
    attempts: u64,
    last_arrival: Instant,
    /// Since when there is no channel.
    without_channel: Option<Instant>,
    messages: Option<Window>,
    deadline: Instant,
}

impl Session {
    pub(crate) fn new(shared: Arc<Shared>, version: Version, verified: Verified) -> Self {
        let now = Instant::now();
        let messages = shared.limits.messages_per_second;
        Self {
            outbox: Arc::new(Outbox::new(&shared.limits)),
            deadline: now + shared.limits.silence,
            shared,
            version,
            verified,
            channels: Vec::new(),
            work: FuturesUnordered::new(),
            attempts: 0,
            last_arrival: now,
            without_channel: Some(now),
            messages: messages.map(|_| Window::new(Duration::from_secs(1))),
        }
    }

    pub(crate) fn limits(&self) -> Limits {
        self.shared.limits.clone()
    }

    pub(crate) fn outbox(&self) -> Arc<Outbox> {
        Arc::clone(&self.outbox)
    }

    pub(crate) fn stop(&self) -> CancellationToken {
        self.shared.stop.clone()
    }

    pub(crate) fn work(&mut self) -> &mut FuturesUnordered<BoxFuture<'static, Completion>> {
        &mut self.work
    }

    /// When [`Session::tick`] is due.
    pub(crate) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Something came from the client.
    pub(crate) fn arrived(&mut self) {
        self.last_arrival = Instant::now();
    }

    /// Handles a text frame. Returns the outboxes of receivers that are getting full.
    pub(crate) fn text(&mut self, text: &str) -> Vec<Arc<Outbox>> {
        match Frame::decode(self.version, text) {
            Ok(frame) => {
                let push = Push {
                    join_ref: frame.join_ref.map(Into::into),
                    reference: frame.reference.map(Into::into),
                    topic: frame.topic.as_ref().into(),
                    body: PushBody::Text {
                        event: frame.event.as_ref().into(),
                        payload: frame.payload.get().into(),
                    },
                };
                self.handle(push)
            }
            Err(error) => {
                tracing::debug!(%error, "a client's frame was not understood");
                self.outbox.close(CloseCode::Protocol, "malformed frame");
                Vec::new()
            }
        }
    }

    /// Handles a binary frame, as [`Session::text`].
    pub(crate) fn binary(&mut self, bytes: &[u8]) -> Vec<Arc<Outbox>> {
        let (Version::V2, Ok(push)) = (self.version, UserPush::decode(bytes)) else {
            self.outbox.close(CloseCode::Protocol, "malformed frame");
            return Vec::new();
        };
        let reference = |text: &str| (!text.is_empty()).then(|| text.into());
        self.handle(Push {
            join_ref: reference(push.join_ref),
            reference: reference(push.reference),
            topic: push.topic.into(),
            body: PushBody::User {
                event: push.event.into(),
                is_json: push.encoding == Encoding::Json,
                payload: push.payload.into(),
            },
        })
    }

    fn handle(&mut self, push: Push) -> Vec<Arc<Outbox>> {
        if push.event() == event::JOIN {
            self.join(&push);
            return Vec::new();
        }
        let index = self
            .channels
            .iter()
            .position(|(topic, _)| *topic == push.topic);
        let Some(index) = index else {
            self.without(&push);
            return Vec::new();
        };
        match &mut self.channels[index].1 {
            Slot::Joining { waiting, .. } => {
                if waiting.len() < MAX_WAITING {
                    waiting.push(push);
                } else {
                    self.reply(
                        &push,
                        &event::reply_reason("too many messages before the join was answered"),
                    );
                }
                Vec::new()
            }
            Slot::Joined(channel) if channel.answers_to(push.join_ref.as_deref()) => {
                self.on_channel(index, &push)
            }
            Slot::Joined(_) => Vec::new(),
        }
    }

    /// A message for the connection itself, or for a topic that is not joined.
    fn without(&self, push: &Push) {
        let is_phoenix = TopicName::parse(&push.topic) == TopicName::Phoenix;
        let payload =
            if (is_phoenix && push.event() == event::HEARTBEAT) || push.event() == event::LEAVE {
                event::reply_ok("{}")
            } else {
                event::reply_reason("unmatched topic")
            };
        self.reply(push, &payload);
    }

    /// A reply of the connection, which has no `join_ref`.
    fn reply(&self, push: &Push, payload: &str) {
        let voice = Voice {
            outbox: &self.outbox,
            version: self.version,
            join_ref: None,
            topic: &push.topic,
        };
        voice.reply(push.reference.as_deref(), payload);
    }

    fn on_channel(&mut self, index: usize, push: &Push) -> Vec<Arc<Outbox>> {
        let (topic, Slot::Joined(channel)) = &mut self.channels[index] else {
            return Vec::new();
        };
        let topic = Arc::clone(topic);
        let limit = self.shared.limits.messages_per_second;
        if let (Some(window), Some(limit)) = (&mut self.messages, limit)
            && window.count() > limit
        {
            self.end_channel(&topic, "Too many messages per second");
            return Vec::new();
        }
        match push.event() {
            event::LEAVE => {
                let voice = channel.voice(&self.outbox, self.version);
                voice.reply(push.reference.as_deref(), &event::reply_ok("{}"));
                voice.closed();
                self.forget(&topic);
            }
            event::ACCESS_TOKEN => self.access_token(&topic, push),
            event::BROADCAST => {
                return push::broadcast(&self.shared, channel, &self.outbox, self.version, push);
            }
            event::PRESENCE => {
                let handled =
                    push::presence(&self.shared, channel, &self.outbox, self.version, push);
                if let Err(message) = handled {
                    self.end_channel(&topic, message);
                }
            }
            other => tracing::debug!(event = other, "a client's event is not known"),
        }
        Vec::new()
    }

    /// Takes note of work that went on beside the socket.
    pub(crate) fn complete(&mut self, completion: Completion) {
        match completion {
            Completion::Joined {
                topic,
                attempt,
                reference,
                result,
            } => self.joined(&topic, attempt, reference.as_deref(), result),
            Completion::Renewed {
                topic,
                channel,
                refresh,
                result,
            } => self.renewed(&topic, channel, refresh, result),
            Completion::Replication {
                topic,
                channel,
                is_ready,
            } => self.replication(&topic, channel, is_ready),
        }
    }
}

impl Drop for Session {
    /// A task that is aborted leaves its channels, too.
    fn drop(&mut self) {
        self.end();
    }
}

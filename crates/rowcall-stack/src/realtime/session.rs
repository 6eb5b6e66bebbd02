//! What one socket says and is answered: the protocol, without I/O.

use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use rowcall_realtime::binary::{Encoding, UserPush};
use rowcall_realtime::event::{self, Extension};
use rowcall_realtime::join::Join;
use rowcall_realtime::topic::Topic as TopicName;
use rowcall_realtime::{Frame, Version};
use tokio::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

use super::channel::{Channel, Voice};
use super::join::{self, Prepared, Renewed, Request};
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

    /// Looks at everything that depends on time.
    pub(crate) fn tick(&mut self) {
        let now = Instant::now();
        let limits = &self.shared.limits;
        let silent_at = self.last_arrival + limits.silence;
        if now >= silent_at {
            self.outbox.close(CloseCode::Normal, "nothing heard");
        }
        let mut deadline = silent_at;
        if let Some(since) = self.without_channel {
            let end = since + limits.without_channel;
            if now >= end {
                self.outbox.close(CloseCode::Normal, "no channel");
            }
            deadline = deadline.min(end);
        }
        self.expire(now);
        for (_, slot) in &self.channels {
            if let Slot::Joined(channel) = slot {
                deadline = deadline.min(channel.check_at);
            }
        }
        // A deadline in the past means that the socket is closing; it need not be told again at once.
        self.deadline = deadline.max(now + Duration::from_millis(10));
    }

    /// Ends the channels whose token has ended.
    fn expire(&mut self, now: Instant) {
        let mut ended = Vec::new();
        for (topic, slot) in &mut self.channels {
            let Slot::Joined(channel) = slot else {
                continue;
            };
            if channel.check_at > now {
                continue;
            }
            let late = self.shared.now().as_second() - channel.expires_at;
            if late >= 0 {
                ended.push((
                    Arc::clone(topic),
                    format!("Token has expired {late} seconds ago"),
                ));
            } else {
                channel.check_at = join::check_at(&self.shared, channel.expires_at);
            }
        }
        for (topic, message) in ended {
            self.end_channel(&topic, &message);
        }
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
        let push = match (self.version, UserPush::decode(bytes)) {
            (Version::V2, Ok(push)) => push,
            _ => {
                self.outbox.close(CloseCode::Protocol, "malformed frame");
                return Vec::new();
            }
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

    fn join(&mut self, push: &Push) {
        let refuse = |reason: &str| self.reply_join(push, &event::reply_reason(reason));
        let name = match TopicName::parse(&push.topic) {
            TopicName::Channel(name) => name,
            TopicName::Nameless => {
                return refuse("TopicNameRequired: You must provide a topic name");
            }
            TopicName::Phoenix | TopicName::Unmatched => return self.without(push),
        };
        let join = match Join::read(push.payload()) {
            Ok(join) => join,
            Err(error) => return refuse(&error.to_string()),
        };
        if !self.shared.joins.allows() {
            refuse("ClientJoinRateLimitReached: Too many joins per second");
            self.outbox.close(CloseCode::Policy, "too many joins");
            return;
        }
        let is_known = self.channels.iter().any(|(topic, _)| *topic == push.topic);
        if !is_known && self.channels.len() >= self.shared.limits.channels_per_connection {
            return refuse("ChannelRateLimitReached: Too many channels");
        }
        if self.shared.private_only && !join.config.private {
            return refuse("PrivateOnly: This project only allows private channels");
        }
        let token = join
            .access_token
            .as_deref()
            .filter(|token| !token.starts_with("sb_"));
        let verified = match token {
            Some(token) => self.shared.verify(token),
            None => Ok(self.verified.clone()),
        };
        let verified = match verified {
            Ok(verified) => verified,
            Err(refusal) => return refuse(&refusal.reason()),
        };
        let request = Request {
            name: name.into(),
            verified,
            token: token.map(Into::into),
            join_ref: push.join_ref.clone(),
            reference: push.reference.clone(),
            join,
        };
        self.start_join(push, request);
    }

    /// A reply to a join carries its `join_ref`, whether it succeeds or not.
    fn reply_join(&self, push: &Push, payload: &str) {
        let voice = Voice {
            outbox: &self.outbox,
            version: self.version,
            join_ref: push.join_ref.as_deref(),
            topic: &push.topic,
        };
        voice.reply(push.reference.as_deref(), payload);
    }

    fn start_join(&mut self, push: &Push, request: Request) {
        self.close_channel(&push.topic);
        self.attempts += 1;
        let attempt = self.attempts;
        self.without_channel = None;
        self.channels.push((
            Arc::clone(&push.topic),
            Slot::Joining {
                attempt,
                join_ref: push.join_ref.clone(),
                waiting: Vec::new(),
            },
        ));
        let (topic, reference) = (Arc::clone(&push.topic), push.reference.clone());
        let mut prepared = Box::pin(join::prepare(Arc::clone(&self.shared), request));
        // A join that asks the database nothing is done at once, without a turn of the task.
        if let Some(result) = prepared.as_mut().now_or_never() {
            let result = result.map(Box::new);
            self.complete(Completion::Joined {
                topic,
                attempt,
                reference,
                result,
            });
            return;
        }
        self.work.push(Box::pin(async move {
            Completion::Joined {
                topic,
                attempt,
                reference,
                result: prepared.await.map(Box::new),
            }
        }));
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

    fn joined(
        &mut self,
        topic: &Arc<str>,
        attempt: u64,
        reference: Option<&str>,
        result: Result<Box<Prepared>, String>,
    ) {
        let index = self.channels.iter().position(|(name, slot)| {
            name == topic
                && matches!(slot, Slot::Joining { attempt: current, .. } if *current == attempt)
        });
        let Some(index) = index else {
            return;
        };
        let (
            _,
            Slot::Joining {
                join_ref, waiting, ..
            },
        ) = self.channels.swap_remove(index)
        else {
            return;
        };
        match result {
            Ok(prepared) => {
                let wants_replication = prepared.wants_replication();
                let channel = prepared.enter(&self.shared, &self.outbox, self.version);
                self.deadline = self.deadline.min(channel.check_at);
                if wants_replication {
                    self.await_replication(topic, channel.id);
                }
                self.channels
                    .push((Arc::clone(topic), Slot::Joined(Box::new(channel))));
            }
            Err(reason) => {
                let voice = Voice {
                    outbox: &self.outbox,
                    version: self.version,
                    join_ref: join_ref.as_deref(),
                    topic,
                };
                voice.reply(reference, &event::reply_reason(&reason));
                self.note_channels();
            }
        }
        for push in waiting {
            // What waited was little, so a receiver that is getting full is noticed by the next message.
            let _ = self.handle(push);
        }
    }

    fn access_token(&mut self, topic: &Arc<str>, push: &Push) {
        let payload: serde_json::Value = serde_json::from_str(push.payload()).unwrap_or_default();
        let Some(token) = payload
            .get("access_token")
            .and_then(serde_json::Value::as_str)
        else {
            return;
        };
        let Some(channel) = self.channel(topic) else {
            return;
        };
        if token.starts_with("sb_") || channel.token.as_deref() == Some(token) {
            return;
        }
        let verified = match self.shared.verify(token) {
            Ok(verified) => verified,
            Err(refusal) => return self.end_channel(topic, &refusal.message()),
        };
        let shared = Arc::clone(&self.shared);
        let Some(channel) = self.channel(topic) else {
            return;
        };
        channel.token = Some(token.into());
        channel.refresh += 1;
        let (id, refresh, topic) = (channel.id, channel.refresh, Arc::clone(topic));
        let (key, wanted) = (channel.topic.key.clone(), channel.wanted.clone());
        self.work.push(Box::pin(async move {
            let result = join::renew(shared, verified, key, wanted).await;
            Completion::Renewed {
                topic,
                channel: id,
                refresh,
                result: result.map(Box::new),
            }
        }));
    }

    fn renewed(
        &mut self,
        topic: &Arc<str>,
        id: ChannelId,
        refresh: u32,
        result: Result<Box<Renewed>, String>,
    ) {
        let shared = Arc::clone(&self.shared);
        let (outbox, version) = (Arc::clone(&self.outbox), self.version);
        let Some(channel) = self.channel(topic) else {
            return;
        };
        if channel.id != id || channel.refresh != refresh {
            return;
        }
        let renewed = match result {
            Ok(renewed) => *renewed,
            Err(reason) if reason.starts_with("Unauthorized: ") => {
                let name = Arc::clone(&channel.topic.key.name);
                let message = format!(
                    "You no longer have permission to read from this Channel topic: {name}"
                );
                return self.end_channel(topic, &message);
            }
            Err(reason) => return self.end_channel(topic, &reason),
        };
        channel.rights = renewed.rights;
        channel.identity = renewed.verified.identity;
        channel.expires_at = renewed.verified.expires_at;
        channel.check_at = join::check_at(&shared, channel.expires_at);
        channel.topic.set_reads(id, renewed.rights.reads);
        if let (Some(subscription), Some(changes)) = (renewed.subscription, &shared.changes) {
            let voice = channel.voice(&outbox, version);
            changes.renew(id, subscription, |notice| {
                join::notify(&voice, Some(notice))
            });
        }
        let check_at = channel.check_at;
        self.deadline = self.deadline.min(check_at);
    }

    fn await_replication(&mut self, topic: &Arc<str>, channel: ChannelId) {
        let (topic, changes) = (Arc::clone(topic), self.shared.changes.clone());
        self.work.push(Box::pin(async move {
            let is_ready = match changes {
                Some(changes) => tokio::time::timeout(REPLICATION_TIMEOUT, changes.streaming())
                    .await
                    .is_ok(),
                None => false,
            };
            Completion::Replication {
                topic,
                channel,
                is_ready,
            }
        }));
    }

    fn replication(&mut self, topic: &Arc<str>, id: ChannelId, is_ready: bool) {
        let (outbox, version) = (Arc::clone(&self.outbox), self.version);
        match self.channel(topic) {
            Some(channel) if channel.id == id && is_ready => {
                channel.voice(&outbox, version).system(
                    Extension::System,
                    true,
                    "Replication connection established",
                )
            }
            Some(channel) if channel.id == id => {
                self.end_channel(topic, "Replication connection was not established in time");
            }
            _ => {}
        }
    }

    fn channel(&mut self, topic: &str) -> Option<&mut Channel> {
        self.channels
            .iter_mut()
            .find_map(|(name, slot)| match slot {
                Slot::Joined(channel) if **name == *topic => Some(&mut **channel),
                _ => None,
            })
    }

    /// Ends a channel with a reason for the client.
    fn end_channel(&mut self, topic: &str, message: &str) {
        let (outbox, version) = (Arc::clone(&self.outbox), self.version);
        if let Some(channel) = self.channel(topic) {
            let voice = channel.voice(&outbox, version);
            voice.system(Extension::System, false, message);
            voice.closed();
        }
        self.forget(topic);
    }

    /// Ends the channel a new join on its topic replaces.
    fn close_channel(&mut self, topic: &str) {
        let slot = self.channels.iter().find(|(name, _)| **name == *topic);
        match slot {
            Some((_, Slot::Joined(channel))) => channel.voice(&self.outbox, self.version).closed(),
            Some((_, Slot::Joining { join_ref, .. })) => Voice {
                outbox: &self.outbox,
                version: self.version,
                join_ref: join_ref.as_deref(),
                topic,
            }
            .closed(),
            None => return,
        }
        self.forget(topic);
    }

    /// Takes a channel out of everything it is part of.
    fn forget(&mut self, topic: &str) {
        let Some(index) = self.channels.iter().position(|(name, _)| **name == *topic) else {
            return;
        };
        if let (_, Slot::Joined(channel)) = self.channels.swap_remove(index) {
            self.detach(&channel);
        }
        self.note_channels();
    }

    fn detach(&self, channel: &Channel) {
        if channel.wanted.is_some()
            && let Some(changes) = &self.shared.changes
        {
            changes.leave(channel.id);
        }
        self.shared
            .hub
            .leave(&channel.topic, channel.id, &channel.presence_key);
    }

    fn note_channels(&mut self) {
        if self.channels.is_empty() && self.without_channel.is_none() {
            let now = Instant::now();
            self.without_channel = Some(now);
            self.deadline = self.deadline.min(now + self.shared.limits.without_channel);
        }
    }

    /// The socket is gone: its channels leave.
    pub(crate) fn end(&mut self) {
        for (_, slot) in std::mem::take(&mut self.channels) {
            if let Slot::Joined(channel) = slot {
                self.detach(&channel);
            }
        }
    }
}

impl Drop for Session {
    /// A task that is aborted leaves its channels, too.
    fn drop(&mut self) {
        self.end();
    }
}

//! All channels of one socket and its heartbeat, without I/O.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use secrecy::SecretString;

use crate::{
    Frame, Outgoing, Version,
    binary::UserBroadcast,
    channel::{Cause, Channel, ChannelSpec, Event, Jitter, Link, PushError, PushId, Timing},
    event, topic,
};

/// Frames of one socket that may make no sense before it is given up: what answers is not a Realtime server.
const MAX_NONSENSE: u32 = 100;

/// Names a channel of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct ChannelId(pub(super) u64);

/// Why a socket is of no use any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Dead(pub(super) String);

#[derive(Debug)]
struct Heartbeat {
    next: Instant,
    /// Reference of the heartbeat that is not answered yet, and until when it must be.
    open: Option<(String, Instant)>,
}

/// All channels of one socket.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) link: Link,
    channels: BTreeMap<ChannelId, Channel>,
    /// `None` while there is no socket.
    heartbeat: Option<Heartbeat>,
    heartbeat_sent: bool,
    nonsense: u32,
}

impl Session {
    pub(super) fn new(timing: Timing, jitter: Jitter) -> Self {
        Self {
            link: Link::new(Version::V2, timing, jitter),
            channels: BTreeMap::new(),
            heartbeat: None,
            heartbeat_sent: false,
            nonsense: 0,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.channels.is_empty()
    }

    pub(super) fn has_topic(&self, topic: &str) -> bool {
        self.channels
            .values()
            .any(|channel| channel.topic() == topic)
    }

    pub(super) fn channel(&self, id: ChannelId) -> Option<&Channel> {
        self.channels.get(&id)
    }

    /// Whether a channel was live long enough for the delays of reconnecting to start over.
    pub(super) fn is_stable(&self, now: Instant) -> bool {
        let timing = &self.link.timing;
        self.channels
            .values()
            .any(|channel| channel.is_stable(now, timing))
    }

    pub(super) fn add(&mut self, now: Instant, id: ChannelId, spec: ChannelSpec) {
        let mut channel = Channel::new(spec, &self.link.timing);
        if self.heartbeat.is_some() {
            channel.connected(now, &mut self.link);
        }
        self.channels.insert(id, channel);
    }

    pub(super) fn remove(&mut self, id: ChannelId) {
        if let Some(mut channel) = self.channels.remove(&id) {
            channel.leave(&mut self.link);
        }
    }

    pub(super) fn track(&mut self, now: Instant, id: ChannelId, payload: Option<Arc<str>>) {
        if let Some(channel) = self.channels.get_mut(&id) {
            channel.track(now, payload, &mut self.link);
        }
    }

    /// The channel a message is to be sent on, with the link to send it by.
    pub(super) fn sender(&mut self, id: ChannelId) -> Option<(&mut Channel, &mut Link)> {
        let channel = self.channels.get_mut(&id)?;
        Some((channel, &mut self.link))
    }

    pub(super) fn set_token(&mut self, token: Option<SecretString>) {
        if self.link.set_token(token) {
            for channel in self.channels.values_mut() {
                channel.token_changed(&mut self.link);
            }
        }
    }

    /// A socket is there: join every channel.
    pub(super) fn connected(&mut self, now: Instant, version: Version) {
        self.link.restart(version);
        self.nonsense = 0;
        self.heartbeat = Some(Heartbeat {
            next: now + self.link.timing.heartbeat_every,
            open: None,
        });
        for channel in self.channels.values_mut() {
            channel.connected(now, &mut self.link);
        }
    }

    /// There is no socket any more, because no channel needs one.
    pub(super) fn offline(&mut self) {
        self.heartbeat = None;
    }

    /// The socket is gone, or could not be made.
    pub(super) fn disconnected(
        &mut self,
        now: Instant,
        cause: Cause,
        reason: &str,
        retry_in: Duration,
    ) {
        self.heartbeat = None;
        let timing = &self.link.timing;
        for channel in self.channels.values_mut() {
            channel.disconnected(now, timing, cause, reason, retry_in);
        }
        let version = self.link.version();
        self.link.restart(version);
    }

    pub(super) fn next_timeout(&self, now: Instant) -> Option<Instant> {
        let heartbeat = self.heartbeat.as_ref().map(|heartbeat| {
            let open = heartbeat.open.as_ref().map(|(_, deadline)| *deadline);
            open.unwrap_or(heartbeat.next)
        });
        let channels = self.channels.values();
        channels
            .filter_map(|channel| channel.next_timeout(now))
            .chain(heartbeat)
            .min()
    }

    /// Time has passed.
    ///
    /// # Errors
    /// When the socket does not answer any more.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> Result<(), Dead> {
        if let Some(heartbeat) = &mut self.heartbeat {
            match &heartbeat.open {
                Some((_, deadline)) if *deadline <= now => {
                    return Err(Dead("the server did not answer a heartbeat".to_owned()));
                }
                None if heartbeat.next <= now => {
                    let reference = self.link.reference();
                    let frame = Outgoing {
                        join_ref: None,
                        reference: Some(&reference),
                        topic: topic::PHOENIX,
                        event: event::HEARTBEAT,
                        payload: "{}",
                    };
                    // What cannot be queued shows as an overflow below.
                    let _ = self.link.send_frame(&frame);
                    heartbeat.open = Some((reference, now + self.link.timing.heartbeat_within));
                    heartbeat.next = now + self.link.timing.heartbeat_every;
                    self.heartbeat_sent = true;
                }
                _ => {}
            }
        }
        for channel in self.channels.values_mut() {
            channel.handle_timeout(now, &mut self.link);
        }
        if self.link.is_overflowed() {
            return Err(Dead("the server does not read what it is sent".to_owned()));
        }
        Ok(())
    }

    /// Whether a heartbeat was sent since the last call: the time to look for a new token.
    pub(super) fn take_heartbeat_sent(&mut self) -> bool {
        std::mem::take(&mut self.heartbeat_sent)
    }

    /// Takes a text frame.
    ///
    /// # Errors
    /// When too many frames made no sense.
    pub(super) fn handle_text(&mut self, now: Instant, text: &str) -> Result<(), Dead> {
        let frame = match Frame::decode(self.link.version(), text) {
            Ok(frame) => frame,
            Err(error) => return self.count_nonsense(&error),
        };
        if frame.topic == topic::PHOENIX {
            self.handle_phoenix(&frame);
            return Ok(());
        }
        let channel = self
            .channels
            .values_mut()
            .find(|channel| channel.topic() == frame.topic);
        match channel.map(|channel| channel.handle_frame(now, &frame, &mut self.link)) {
            Some(Err(error)) => self.count_nonsense(&error),
            Some(Ok(())) | None => Ok(()),
        }
    }

    /// Takes a binary frame.
    ///
    /// # Errors
    /// When too many frames made no sense.
    pub(super) fn handle_binary(&mut self, bytes: &[u8]) -> Result<(), Dead> {
        let frame = match UserBroadcast::decode(bytes) {
            Ok(frame) => frame,
            Err(error) => return self.count_nonsense(&error),
        };
        let channel = self
            .channels
            .values_mut()
            .find(|channel| channel.topic() == frame.topic);
        match channel.map(|channel| channel.handle_user_broadcast(&frame)) {
            Some(Err(error)) => self.count_nonsense(&error),
            Some(Ok(())) | None => Ok(()),
        }
    }

    /// What happened on the channels since the last call.
    pub(super) fn pop_event(&mut self) -> Option<(ChannelId, Event)> {
        self.channels
            .iter_mut()
            .find_map(|(id, channel)| Some((*id, channel.pop_event()?)))
    }

    /// A push whose fate is known.
    pub(super) fn pop_answered(&mut self) -> Option<(PushId, Result<(), PushError>)> {
        self.channels.values_mut().find_map(Channel::pop_answered)
    }

    fn handle_phoenix(&mut self, frame: &Frame<'_>) {
        let Some(heartbeat) = &mut self.heartbeat else {
            return;
        };
        let is_open = |(reference, _): &(String, Instant)| {
            Some(reference.as_str()) == frame.reference.as_deref()
        };
        if frame.event == event::REPLY && heartbeat.open.as_ref().is_some_and(is_open) {
            heartbeat.open = None;
        }
    }

    fn count_nonsense(&mut self, error: &dyn std::fmt::Display) -> Result<(), Dead> {
        self.nonsense += 1;
        tracing::debug!(%error, "a frame of the Realtime server was ignored");
        if self.nonsense > MAX_NONSENSE {
            let reason = format!(
                "the server sent {} frames that make no sense",
                self.nonsense
            );
            return Err(Dead(reason));
        }
        Ok(())
    }
}

//! The channels of a socket: finding them, ending them, keeping time for them.

use std::sync::Arc;

use rowcall_realtime::event::Extension;
use tokio::time::{Duration, Instant};

use super::{Session, Slot};
use crate::realtime::channel::{Channel, Voice};
use crate::realtime::join;
use crate::realtime::ws::CloseCode;

impl Session {
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
    pub(super) fn expire(&mut self, now: Instant) {
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

    pub(super) fn channel(&mut self, topic: &str) -> Option<&mut Channel> {
        self.channels
            .iter_mut()
            .find_map(|(name, slot)| match slot {
                Slot::Joined(channel) if **name == *topic => Some(&mut **channel),
                _ => None,
            })
    }

    /// Ends a channel with a reason for the client.
    pub(super) fn end_channel(&mut self, topic: &str, message: &str) {
        let (outbox, version) = (Arc::clone(&self.outbox), self.version);
        if let Some(channel) = self.channel(topic) {
            let voice = channel.voice(&outbox, version);
            voice.system(Extension::System, false, message);
            voice.closed();
        }
        self.forget(topic);
    }

    /// Ends the channel a new join on its topic replaces.
    pub(super) fn close_channel(&mut self, topic: &str) {
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
    pub(super) fn forget(&mut self, topic: &str) {
        let Some(index) = self.channels.iter().position(|(name, _)| **name == *topic) else {
            return;
        };
        if let (_, Slot::Joined(channel)) = self.channels.swap_remove(index) {
            self.detach(&channel);
        }
        self.note_channels();
    }

    pub(super) fn detach(&self, channel: &Channel) {
        if channel.wanted.is_some()
            && let Some(changes) = &self.shared.changes
        {
            changes.leave(channel.id);
        }
        self.shared
            .hub
            .leave(&channel.topic, channel.id, &channel.presence_key);
    }

    pub(super) fn note_channels(&mut self) {
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

//! One joined channel of one socket.

use std::sync::Arc;

use rowcall_realtime::event::{self, Extension, System};
use rowcall_realtime::join::Binding;
use rowcall_realtime::{Outgoing, Version, topic};
use tokio::time::Instant;

use super::limits::PRESENCE_WINDOW;
use super::message::encode;
use super::outbox::Outbox;
use super::policy::Rights;
use super::rate::Window;
use super::token::Identity;
use super::topic::{ChannelId, Topic};

/// How a channel's own pushes are addressed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Voice<'a> {
    pub(crate) outbox: &'a Outbox,
    pub(crate) version: Version,
    pub(crate) join_ref: Option<&'a str>,
    /// Topic as written on the wire.
    pub(crate) topic: &'a str,
}

impl Voice<'_> {
    pub(crate) fn push(&self, reference: Option<&str>, event: &str, payload: &str) {
        let outgoing = Outgoing {
            join_ref: self.join_ref,
            reference,
            topic: self.topic,
            event,
            payload,
        };
        self.outbox.push(encode(self.version, &outgoing));
    }

    pub(crate) fn reply(&self, reference: Option<&str>, payload: &str) {
        self.push(reference, event::REPLY, payload);
    }

    pub(crate) fn system(&self, extension: Extension, ok: bool, message: &str) {
        let channel = self.topic.strip_prefix(topic::PREFIX).unwrap_or(self.topic);
        let payload = System {
            extension,
            ok,
            message,
            channel,
        }
        .payload();
        self.push(None, event::SYSTEM, &payload);
    }

    /// The push after which the client's channel is closed: its reference is the one of the join.
    pub(crate) fn closed(&self) {
        self.push(self.join_ref, event::CLOSE, "{}");
    }
}

/// What a channel asked for of changes; kept to subscribe again when its token changes.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) bindings: Vec<Binding>,
    pub(crate) ids: Vec<u32>,
    /// The last change the client has seen, for its first subscription only.
    pub(crate) since: Option<String>,
}

/// A channel that has joined.
#[derive(Debug)]
pub(crate) struct Channel {
    pub(crate) id: ChannelId,
    pub(crate) join_ref: Option<Box<str>>,
    pub(crate) topic: Arc<Topic>,
    /// The sender gets its own broadcasts too.
    pub(crate) echo: bool,
    /// Broadcasts are acknowledged.
    pub(crate) ack: bool,
    pub(crate) rights: Rights,
    pub(crate) presence_key: Box<str>,
    pub(crate) presence_calls: Option<Box<Window>>,
    pub(crate) identity: Arc<Identity>,
    /// When the token ends, in seconds since 1970.
    pub(crate) expires_at: i64,
    /// When the end of the token is looked at next.
    pub(crate) check_at: Instant,
    /// The token a refresh is compared with.
    pub(crate) token: Option<Box<str>>,
    /// Counts refreshes: only the last one's outcome counts.
    pub(crate) refresh: u32,
    pub(crate) wanted: Option<Arc<Wanted>>,
}

impl Channel {
    pub(crate) fn voice<'a>(&'a self, outbox: &'a Outbox, version: Version) -> Voice<'a> {
        Voice {
            outbox,
            version,
            join_ref: self.join_ref.as_deref(),
            topic: &self.topic.wire,
        }
    }

    /// Counts a presence call; how many there were in this window.
    pub(crate) fn count_presence_call(&mut self) -> u32 {
        self.presence_calls
            .get_or_insert_with(|| Box::new(Window::new(PRESENCE_WINDOW)))
            .count()
    }

    /// Whether a message with this `join_ref` is meant for this channel and not for one before it on the same topic.
    pub(crate) fn answers_to(&self, join_ref: Option<&str>) -> bool {
        join_ref.is_none() || join_ref == self.join_ref.as_deref()
    }
}

//! One topic: its members, and what is sent to all of them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use rowcall_realtime::{Outgoing, Version, event, topic};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::message::{Broadcast, Shared, encode};
use super::outbox::{Outbox, Pressure};
use super::presence::{Presences, Tracked};

/// A channel of a socket, unique for the life of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ChannelId(u64);

impl ChannelId {
    pub(crate) fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }

    #[cfg(test)]
    pub(crate) fn for_test(id: u64) -> Self {
        Self(id)
    }
}

/// What names a topic: a public and a private topic of one name are two topics.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct TopicKey {
    pub(crate) name: Arc<str>,
    pub(crate) private: bool,
}

/// What a member may receive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reads {
    pub(crate) broadcast: bool,
    pub(crate) presence: bool,
}

/// A channel that has joined.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) version: Version,
    pub(crate) reads: Reads,
    /// Ids of messages that were replayed to it and must not come again.
    pub(crate) replayed: Option<HashSet<Uuid>>,
    /// Stored messages committed before this place in the WAL are not for it.
    pub(crate) from: u64,
}

/// What tells a stored message apart from one that was just sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StoredOrigin {
    pub(crate) id: Uuid,
    /// Place of its commit in the WAL.
    pub(crate) commit: u64,
}

impl Member {
    /// Whether a stored message is new to the member.
    fn wants(&self, stored: StoredOrigin) -> bool {
        let was_replayed = self
            .replayed
            .as_ref()
            .is_some_and(|ids| ids.contains(&stored.id));
        stored.commit >= self.from && !was_replayed
    }
}

/// A topic with members. Lives in the hub as long as it has any.
#[derive(Debug)]
pub(crate) struct Topic {
    pub(crate) key: TopicKey,
    /// The topic as written on the wire.
    pub(crate) wire: Arc<str>,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    members: HashMap<ChannelId, Member>,
    presences: Option<Box<Presences>>,
}

impl Topic {
    pub(crate) fn new(key: TopicKey) -> Self {
        Self {
            wire: topic::wire(&key.name).into(),
            key,
            inner: Mutex::default(),
        }
    }

    /// Adds a member. `announce` runs while nothing else can be sent to the topic, so what it queues (the reply, then what
    /// has to follow it) comes before everything the member receives as a member. It is given the presence state.
    pub(crate) fn enter(&self, id: ChannelId, member: Member, announce: impl FnOnce(&str)) {
        let mut inner = self.inner.lock();
        match &inner.presences {
            Some(presences) => announce(&presences.state()),
            None => announce("{}"),
        }
        inner.members.insert(id, member);
    }

    /// Removes a member and its presence; true when nobody is left.
    pub(crate) fn exit(&self, id: ChannelId, presence_key: &str) -> bool {
        let mut inner = self.inner.lock();
        inner.members.remove(&id);
        self.untrack_locked(&mut inner, id, presence_key);
        inner.members.is_empty()
    }

    /// Whether nobody has joined.
    pub(crate) fn is_empty(&self) -> bool {
        self.inner.lock().members.is_empty()
    }

    /// Changes what a member may receive, after its token changed.
    pub(crate) fn set_reads(&self, id: ChannelId, reads: Reads) {
        if let Some(member) = self.inner.lock().members.get_mut(&id) {
            member.reads = reads;
        }
    }

    /// Sends a broadcast to all members that may read it, except one. Returns the
    /// outboxes that are getting full.
    pub(crate) fn broadcast(
        &self,
        broadcast: &Broadcast<'_>,
        except: Option<ChannelId>,
        stored: Option<StoredOrigin>,
    ) -> Vec<Arc<Outbox>> {
        let shared = Shared::new(broadcast);
        let inner = self.inner.lock();
        let mut pressed = Vec::new();
        for (channel, member) in &inner.members {
            if Some(*channel) == except || !member.reads.broadcast {
                continue;
            }
            if stored.is_some_and(|stored| !member.wants(stored)) {
                continue;
            }
            if let Some(frame) = shared.frame(member.version)
                && member.outbox.push(frame) == Pressure::High
            {
                pressed.push(Arc::clone(&member.outbox));
            }
        }
        pressed
    }

    /// Notes a presence and tells the members.
    pub(crate) fn track(
        &self,
        id: ChannelId,
        presence_key: &str,
        payload: Map<String, Value>,
        phx_ref: String,
        limit: usize,
    ) -> Tracked {
        let mut inner = self.inner.lock();
        let presences = inner.presences.get_or_insert_default();
        let tracked = presences.track(id, presence_key, payload, phx_ref, limit);
        if let Tracked::Changed(diff) = &tracked {
            self.send_diff(&inner, diff);
        }
        tracked
    }

    /// Forgets a presence and tells the members.
    pub(crate) fn untrack(&self, id: ChannelId, presence_key: &str) {
        self.untrack_locked(&mut self.inner.lock(), id, presence_key);
    }

    fn untrack_locked(&self, inner: &mut Inner, id: ChannelId, presence_key: &str) {
        let Some(presences) = &mut inner.presences else {
            return;
        };
        let diff = presences.untrack(id, presence_key);
        if presences.is_empty() {
            inner.presences = None;
        }
        if let Some(diff) = diff {
            self.send_diff(inner, &diff);
        }
    }

    fn send_diff(&self, inner: &Inner, diff: &str) {
        let outgoing = Outgoing {
            join_ref: None,
            reference: None,
            topic: &self.wire,
            event: event::PRESENCE_DIFF,
            payload: diff,
        };
        let (mut v1, mut v2) = (None, None);
        for member in inner
            .members
            .values()
            .filter(|member| member.reads.presence)
        {
            let slot = match member.version {
                Version::V1 => &mut v1,
                Version::V2 => &mut v2,
            };
            let frame = slot.get_or_insert_with(|| encode(member.version, &outgoing));
            member.outbox.push(frame.clone());
        }
    }
}

//! All topics that have members.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::message::{Body, Broadcast};
use super::outbox::Outbox;
use super::topic::{ChannelId, Member, StoredOrigin, Topic, TopicKey};

/// Topics by name and kind. A topic is here exactly as long as it has members.
#[derive(Debug, Default)]
pub(crate) struct Hub {
    topics: Mutex<HashMap<TopicKey, Arc<Topic>>>,
}

impl Hub {
    /// Adds a member to a topic, see [`Topic::enter`].
    pub(crate) fn join(
        &self,
        key: &TopicKey,
        id: ChannelId,
        member: Member,
        announce: impl FnOnce(&str),
    ) -> Arc<Topic> {
        let mut topics = self.topics.lock();
        let topic = topics
            .entry(key.clone())
            .or_insert_with(|| Arc::new(Topic::new(key.clone())));
        topic.enter(id, member, announce);
        Arc::clone(topic)
    }

    /// Removes a member and its presence.
    pub(crate) fn leave(&self, topic: &Topic, id: ChannelId, presence_key: &str) {
        if topic.exit(id, presence_key) {
            let mut topics = self.topics.lock();
            // Somebody may have joined in between; joins hold the lock we hold now.
            if topics.get(&topic.key).is_some_and(|topic| topic.is_empty()) {
                topics.remove(&topic.key);
            }
            if topics.is_empty() {
                topics.shrink_to_fit();
            }
        }
    }

    /// Sends a broadcast that comes from outside a channel. Returns the outboxes that are getting full.
    pub(crate) fn broadcast(
        &self,
        name: &str,
        private: bool,
        body: Body<'_>,
        stored: Option<StoredOrigin>,
    ) -> Vec<Arc<Outbox>> {
        let key = TopicKey {
            name: name.into(),
            private,
        };
        let Some(topic) = self.topics.lock().get(&key).cloned() else {
            return Vec::new();
        };
        let broadcast = Broadcast {
            topic: &topic.wire,
            body,
        };
        topic.broadcast(&broadcast, None, stored)
    }

    /// How many topics have members.
    pub(crate) fn len(&self) -> usize {
        self.topics.lock().len()
    }
}

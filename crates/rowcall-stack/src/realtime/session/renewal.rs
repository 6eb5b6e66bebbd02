//! New tokens of joined channels, and notices that come later.

use std::sync::Arc;

use rowcall_realtime::event::Extension;

use super::{Completion, REPLICATION_TIMEOUT, Session};
use crate::realtime::join::{self, Renewed};
use crate::realtime::push::Push;
use crate::realtime::topic::ChannelId;

impl Session {
    pub(super) fn access_token(&mut self, topic: &Arc<str>, push: &Push) {
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

    pub(super) fn renewed(
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
                join::notify(&voice, Some(notice));
            });
        }
        let check_at = channel.check_at;
        self.deadline = self.deadline.min(check_at);
    }

    pub(super) fn await_replication(&mut self, topic: &Arc<str>, channel: ChannelId) {
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

    pub(super) fn replication(&mut self, topic: &Arc<str>, id: ChannelId, is_ready: bool) {
        let (outbox, version) = (Arc::clone(&self.outbox), self.version);
        match self.channel(topic) {
            Some(channel) if channel.id == id && is_ready => {
                let voice = channel.voice(&outbox, version);
                voice.system(
                    Extension::System,
                    true,
                    "Replication connection established",
                );
            }
            Some(channel) if channel.id == id => {
                self.end_channel(topic, "Replication connection was not established in time");
            }
            _ => {}
        }
    }
}

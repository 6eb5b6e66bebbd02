//! Joins of a socket.

use std::sync::Arc;

use futures_util::FutureExt as _;
use rowcall_realtime::event;
use rowcall_realtime::join::Join;
use rowcall_realtime::topic::Topic as TopicName;

use super::{Completion, Session, Slot};
use crate::realtime::channel::Voice;
use crate::realtime::join::{self, Prepared, Request};
use crate::realtime::push::Push;
use crate::realtime::ws::CloseCode;

impl Session {
    pub(super) fn join(&mut self, push: &Push) {
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
    pub(super) fn reply_join(&self, push: &Push, payload: &str) {
        let voice = Voice {
            outbox: &self.outbox,
            version: self.version,
            join_ref: push.join_ref.as_deref(),
            topic: &push.topic,
        };
        voice.reply(push.reference.as_deref(), payload);
    }

    pub(super) fn start_join(&mut self, push: &Push, request: Request) {
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

    pub(super) fn joined(
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
}

//! What a channel says to the server once it is joined.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;

use super::{Channel, Link, Message, PushError, PushId, machine::State};
use crate::{
    Outgoing, Version,
    binary::{Encoding, UserPush},
    event,
    frame::push_json_string,
};

/// Pushes of one channel that may wait for their replies at the same time.
const MAX_WAITING_PUSHES: usize = 1_024;

impl Channel {
    /// The link's token is another one now.
    pub fn token_changed(&mut self, link: &mut Link) {
        match &self.state {
            State::Offline | State::Waiting { .. } => {}
            State::Joining { .. } => self.token_stale = true,
            State::Subscribing { .. } | State::Live { .. } => self.push_token(link),
        }
    }

    /// What shall be tracked in presence from now on: a JSON object as text, or nothing.
    pub fn track(&mut self, now: Instant, payload: Option<Arc<str>>, link: &mut Link) {
        self.tracked.set(payload);
        self.push_presence(now, link);
    }

    /// Sends a message of which `payload` is the JSON text. With an acknowledging channel the answer comes later, through
    /// [`Channel::pop_answered`]; otherwise at once.
    pub fn broadcast(
        &mut self,
        now: Instant,
        event: &str,
        payload: &str,
        push: PushId,
        link: &mut Link,
    ) {
        let mut text = String::with_capacity(payload.len() + event.len() + 48);
        text.push_str(r#"{"type":"broadcast","event":"#);
        push_json_string(&mut text, event);
        text.push_str(r#","payload":"#);
        text.push_str(payload);
        text.push('}');
        let sent = self
            .live_join()
            .and_then(|join_ref| self.push(link, &join_ref, event::BROADCAST, &text));
        self.expect_answer(now, sent, push, link);
    }

    /// Sends raw bytes as a message; only protocol 2.0.0 can.
    pub fn broadcast_bytes(
        &mut self,
        now: Instant,
        event: &str,
        payload: &[u8],
        push: PushId,
        link: &mut Link,
    ) {
        let sent = self.live_join().and_then(|join_ref| {
            if link.version() == Version::V1 {
                let reason = "the connection speaks protocol 1.0.0".to_owned();
                return Err(PushError::NotBinary(reason));
            }
            let reference = link.reference();
            let frame = UserPush {
                join_ref: &join_ref,
                reference: &reference,
                topic: &self.topic,
                event,
                meta: "",
                encoding: Encoding::Binary,
                payload,
            };
            let bytes: Bytes = frame
                .encode()
                .map_err(|error| PushError::NotBinary(error.to_string()))?;
            link.send(Message::Binary(bytes))?;
            Ok(reference)
        });
        self.expect_answer(now, sent, push, link);
    }

    fn live_join(&self) -> Result<String, PushError> {
        if !self.is_joined() {
            return Err(PushError::NotJoined);
        }
        self.join_ref()
            .map(str::to_owned)
            .ok_or(PushError::NotJoined)
    }

    pub(super) fn push(
        &self,
        link: &mut Link,
        join_ref: &str,
        event: &str,
        payload: &str,
    ) -> Result<String, PushError> {
        let reference = link.reference();
        link.send_frame(&Outgoing {
            join_ref: Some(join_ref),
            reference: Some(&reference),
            topic: &self.topic,
            event,
            payload,
        })?;
        Ok(reference)
    }

    pub(super) fn push_token(&mut self, link: &mut Link) {
        let (Some(join_ref), Some(token)) = (self.join_ref(), link.token()) else {
            return;
        };
        let payload = serde_json::json!({"access_token": token}).to_string();
        let join_ref = join_ref.to_owned();
        // What cannot be queued makes the driver give the socket up; the next join carries the token.
        let _ = self.push(link, &join_ref, event::ACCESS_TOKEN, &payload);
    }

    pub(super) fn push_presence(&mut self, now: Instant, link: &mut Link) {
        if !self.is_joined() || self.spec.presence.is_none() {
            return;
        }
        let Some(join_ref) = self.join_ref().map(str::to_owned) else {
            return;
        };
        if let Some(payload) = self.tracked.take_due(now, link.timing.presence_every) {
            let _ = self.push(link, &join_ref, event::PRESENCE, &payload);
        }
    }

    fn expect_answer(
        &mut self,
        now: Instant,
        sent: Result<String, PushError>,
        push: PushId,
        link: &Link,
    ) {
        match sent {
            Ok(reference) if self.spec.ack && self.waiting.len() < MAX_WAITING_PUSHES => {
                let deadline = now + link.timing.push_within;
                self.waiting.insert(reference, (push, deadline));
            }
            Ok(_) if self.spec.ack => self.answered.push_back((push, Err(PushError::Busy))),
            Ok(_) => self.answered.push_back((push, Ok(()))),
            Err(error) => self.answered.push_back((push, Err(error))),
        }
    }

    pub(super) fn answer(&mut self, reference: &str, answer: Result<(), PushError>) {
        if let Some((push, _)) = self.waiting.remove(reference) {
            self.answered.push_back((push, answer));
        }
    }
}

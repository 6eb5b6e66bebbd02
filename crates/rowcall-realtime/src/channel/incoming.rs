//! What the server says to a channel.

use std::{fmt, time::Instant};

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use super::{
    Broadcast, Cause, Change, Channel, Event, Link, PushError, Said, event::weight, machine::State,
};
use crate::{
    Frame,
    binary::{Encoding, UserBroadcast},
    event,
    join::ChangeEvent,
};

/// Longest reason that is kept of a server's answer, in characters.
const MAX_REASON_CHARS: usize = 300;
/// What a presence board may hold, in bytes. Beyond it the channel is joined anew, with a fresh state.
const MAX_PRESENCE_BYTES: usize = 16 << 20;
/// After so many bytes of presence frames the board is weighed, so that weighing costs little per frame.
const WEIGH_EVERY_BYTES: usize = 16 << 20;

/// What joins are refused with when a limit was exceeded, and what `system` messages say then.
const LIMITS: [&str; 8] = [
    "ChannelRateLimitReached",
    "ConnectionRateLimitReached",
    "ClientJoinRateLimitReached",
    "DatabaseConnectionRateLimitReached",
    "Too many messages per second",
    "Too many presence messages per second",
    "Client presence rate limit exceeded",
    "Track message size exceeded",
];

/// How refusals begin that another token might turn.
const TOKENS: [&str; 9] = [
    "InvalidJWTToken",
    "MalformedJWT",
    "JwtSignatureError",
    "JwtSignerError",
    "Unauthorized",
    "Token has expired",
    "Fields `role` and `exp`",
    "You do not have permission",
    "You no longer have permission",
];

fn cause_of(reason: &str, otherwise: Cause) -> Cause {
    let begins = |words: &[&str]| words.iter().any(|word| reason.starts_with(word));
    if begins(&LIMITS) {
        Cause::RateLimited
    } else if begins(&TOKENS) {
        Cause::Unauthorized
    } else {
        otherwise
    }
}

fn cut(text: &str) -> String {
    text.chars().take(MAX_REASON_CHARS).collect()
}

/// A frame that makes no sense.
#[derive(Debug, thiserror::Error)]
#[error("the server sent a {event} that makes no sense: {reason}")]
pub struct Nonsense {
    event: &'static str,
    reason: String,
}

impl Nonsense {
    fn new(event: &'static str, reason: &dyn fmt::Display) -> Self {
        Self {
            event,
            reason: reason.to_string(),
        }
    }
}

#[derive(Deserialize)]
struct Reply<'a> {
    status: String,
    #[serde(borrow, default)]
    response: Option<&'a RawValue>,
}

impl Reply<'_> {
    fn reason(&self) -> String {
        let response = self.response.map_or("", RawValue::get);
        let said = match serde_json::from_str::<Value>(response) {
            Ok(Value::Object(object)) => ["reason", "error", "message"]
                .iter()
                .find_map(|key| object.get(*key)?.as_str().map(str::to_owned)),
            Ok(Value::String(text)) => Some(text),
            _ => None,
        };
        cut(&said.unwrap_or_else(|| response.to_owned()))
    }
}

impl Channel {
    /// Takes a text frame of this channel's topic.
    ///
    /// # Errors
    /// When the payload has another shape than its event promises; the channel is then as it was.
    pub fn handle_frame(
        &mut self,
        now: Instant,
        frame: &Frame<'_>,
        link: &mut Link,
    ) -> Result<(), Nonsense> {
        if self.is_of_earlier_join(frame) {
            return Ok(());
        }
        let payload = frame.payload.get();
        match frame.event.as_ref() {
            event::REPLY => {
                let reply = serde_json::from_str(payload)
                    .map_err(|error| Nonsense::new(event::REPLY, &error))?;
                self.handle_reply(now, frame.reference.as_deref(), &reply, link);
                Ok(())
            }
            event::CLOSE | event::ERROR => {
                if self.join_ref().is_some() {
                    let said = serde_json::from_str::<Value>(payload).ok();
                    let said = said.as_ref().and_then(|value| value["reason"].as_str());
                    let reason = match said {
                        Some(reason) => cut(reason),
                        None => "the server ended the channel".to_owned(),
                    };
                    let cause = cause_of(&reason, Cause::Refused);
                    self.fail(now, link, cause, reason);
                }
                Ok(())
            }
            event::SYSTEM => self.handle_system(now, payload, link),
            _ if !self.is_joined() => Ok(()),
            event::POSTGRES_CHANGES => self.handle_change(payload),
            event::BROADCAST => self.handle_broadcast(payload),
            event::PRESENCE_STATE => self.handle_presence(now, payload, link, true),
            event::PRESENCE_DIFF => self.handle_presence(now, payload, link, false),
            _ => Ok(()),
        }
    }

    /// Takes a binary broadcast on this channel's topic.
    ///
    /// # Errors
    /// When it says that it is JSON and is not.
    pub fn handle_user_broadcast(&mut self, frame: &UserBroadcast<'_>) -> Result<(), Nonsense> {
        if !self.is_joined() {
            return Ok(());
        }
        let payload = match frame.encoding {
            Encoding::Json => serde_json::from_slice(frame.payload)
                .map(Said::Json)
                .map_err(|error| Nonsense::new(event::BROADCAST, &error))?,
            Encoding::Binary => Said::Bytes(Bytes::copy_from_slice(frame.payload)),
        };
        let meta = match frame.meta {
            "" => None,
            meta => serde_json::from_str(meta)
                .map_err(|error| Nonsense::new(event::BROADCAST, &error))?,
        };
        self.events.push_back(Event::Broadcast(Broadcast {
            event: frame.event.to_owned(),
            payload,
            meta,
        }));
        Ok(())
    }

    /// Whether a frame belongs to a join that is over. Version 1 has no `join_ref`; there the end of a channel carries it as
    /// its reference.
    fn is_of_earlier_join(&self, frame: &Frame<'_>) -> bool {
        let ends = matches!(frame.event.as_ref(), event::CLOSE | event::ERROR);
        let named = match frame.join_ref.as_deref() {
            None if ends => frame.reference.as_deref(),
            join_ref => join_ref,
        };
        named.is_some_and(|named| self.join_ref() != Some(named))
    }

    fn handle_reply(
        &mut self,
        now: Instant,
        reference: Option<&str>,
        reply: &Reply<'_>,
        link: &mut Link,
    ) {
        let Some(reference) = reference else {
            return;
        };
        let ok = reply.status == "ok";
        match &self.state {
            State::Joining { join_ref, .. } if join_ref == reference => {
                let join_ref = join_ref.clone();
                if !ok {
                    let reason = reply.reason();
                    let cause = cause_of(&reason, Cause::Refused);
                    self.fail(now, link, cause, reason);
                    return;
                }
                match self.verified_ids(reply) {
                    Ok(ids) => self.joined(now, link, join_ref, ids),
                    Err(reason) => self.fail(now, link, Cause::Subscription, reason),
                }
            }
            _ if ok => self.answer(reference, Ok(())),
            _ => self.answer(reference, Err(PushError::Refused(reply.reason()))),
        }
    }

    /// The ids of our filters, if the server echoes exactly what we sent: same order, same length, nothing normalised.
    fn verified_ids(&self, reply: &Reply<'_>) -> Result<Vec<i64>, String> {
        #[derive(Deserialize)]
        struct Response {
            #[serde(default)]
            postgres_changes: Option<Vec<Value>>,
        }
        let response: Option<Response> = reply
            .response
            .and_then(|response| serde_json::from_str(response.get()).ok());
        let echoes = response
            .and_then(|response| response.postgres_changes)
            .unwrap_or_default();
        let sent = &self.spec.changes;
        let ids: Vec<i64> = sent
            .iter()
            .zip(&echoes)
            .filter(|(sent, echo)| sent.is_echoed_by(echo))
            .filter_map(|(_, echo)| echo["id"].as_i64())
            .collect();
        if ids.len() == sent.len() {
            return Ok(ids);
        }
        Err("the server subscribed to other changes than it was asked to".to_owned())
    }

    fn handle_system(
        &mut self,
        now: Instant,
        payload: &str,
        link: &mut Link,
    ) -> Result<(), Nonsense> {
        #[derive(Deserialize)]
        struct System {
            #[serde(default)]
            extension: String,
            status: String,
            #[serde(default)]
            message: Value,
        }
        let system: System =
            serde_json::from_str(payload).map_err(|error| Nonsense::new(event::SYSTEM, &error))?;
        if !self.is_joined() {
            return Ok(());
        }
        let message = match &system.message {
            Value::String(text) => cut(text),
            other => cut(&other.to_string()),
        };
        let about_changes = system.extension == event::POSTGRES_CHANGES;
        match (about_changes, system.status.as_str()) {
            (true, "ok") => {
                if let State::Subscribing { join_ref, .. } = &self.state {
                    let join_ref = join_ref.clone();
                    self.go_live(now, join_ref);
                }
            }
            (true, "error") => {
                let reason = format!("no changes are delivered: {message}");
                self.subscription_denied(now, link, reason);
            }
            // The server ends the channel right after this: the reason is here, not in the `phx_close`.
            (false, "error") => {
                let cause = cause_of(&message, Cause::Refused);
                self.fail(now, link, cause, message);
            }
            _ => {}
        }
        Ok(())
    }

    fn handle_change(&mut self, payload: &str) -> Result<(), Nonsense> {
        #[derive(Deserialize)]
        struct Wire {
            ids: Vec<i64>,
            data: Data,
        }
        #[derive(Deserialize)]
        struct Data {
            schema: String,
            table: String,
            #[serde(rename = "type")]
            kind: String,
            #[serde(default)]
            commit_timestamp: Option<String>,
            #[serde(default)]
            record: Option<Box<RawValue>>,
            #[serde(default)]
            old_record: Option<Box<RawValue>>,
            #[serde(default)]
            errors: Option<Vec<String>>,
            #[serde(default)]
            lsn: Option<String>,
        }
        let Wire { ids, data } = serde_json::from_str(payload)
            .map_err(|error| Nonsense::new(event::POSTGRES_CHANGES, &error))?;
        let kind = ChangeEvent::parse(&data.kind);
        if kind == ChangeEvent::All {
            let reason = format!("unknown type {:?}", cut(&data.kind));
            return Err(Nonsense::new(event::POSTGRES_CHANGES, &reason));
        }
        if data.lsn.is_some() {
            self.position = data.lsn;
        }
        let ours = self.spec.changes.iter().zip(&self.ids).enumerate();
        let filters: Vec<usize> = ours
            .filter(|(_, (filter, id))| ids.contains(id) && filter.covers(kind))
            .map(|(index, _)| index)
            .collect();
        if !filters.is_empty() {
            self.events.push_back(Event::Change(Change {
                filters,
                schema: data.schema,
                table: data.table,
                kind,
                commit_timestamp: data.commit_timestamp,
                record: data.record,
                old_record: data.old_record,
                errors: data.errors.unwrap_or_default(),
            }));
        }
        Ok(())
    }

    fn handle_broadcast(&mut self, payload: &str) -> Result<(), Nonsense> {
        #[derive(Deserialize)]
        struct Wire {
            event: String,
            #[serde(default)]
            payload: Option<Box<RawValue>>,
            #[serde(default)]
            meta: Option<Box<RawValue>>,
        }
        let wire: Wire = serde_json::from_str(payload)
            .map_err(|error| Nonsense::new(event::BROADCAST, &error))?;
        let said = wire.payload.unwrap_or_else(|| RawValue::NULL.to_owned());
        self.events.push_back(Event::Broadcast(Broadcast {
            event: wire.event,
            payload: Said::Json(said),
            meta: wire.meta,
        }));
        Ok(())
    }

    fn handle_presence(
        &mut self,
        now: Instant,
        payload: &str,
        link: &mut Link,
        whole: bool,
    ) -> Result<(), Nonsense> {
        // Diffs go to every channel of the topic, also to those that did not ask.
        if self.spec.presence.is_none() {
            return Ok(());
        }
        let (event, changed) = if whole {
            self.has_presence = true;
            (event::PRESENCE_STATE, self.board.apply_state(payload))
        } else {
            (event::PRESENCE_DIFF, self.board.apply_diff(payload))
        };
        let diff = changed.map_err(|error| Nonsense::new(event, &error))?;
        self.unweighed += payload.len();
        if self.unweighed > WEIGH_EVERY_BYTES {
            self.unweighed = 0;
            // Before the first state every diff is kept, so what came is what is held.
            if !self.has_presence || weight(self.board.present()) > MAX_PRESENCE_BYTES {
                let reason = "the presences of the channel are too large to keep".to_owned();
                self.fail(now, link, Cause::Refused, reason);
                return Ok(());
            }
        }
        if !diff.is_empty() {
            self.events.push_back(Event::Presence(diff));
        }
        Ok(())
    }
}

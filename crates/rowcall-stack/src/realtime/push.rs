//! What a joined channel sends: broadcasts and presence calls.

use std::sync::Arc;

use rowcall_realtime::binary::Encoding;
use rowcall_realtime::{Version, event};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::channel::Channel;
use super::message::{Body, Broadcast};
use super::outbox::Outbox;
use super::presence::Tracked;
use super::shared::Shared;

/// A message of a client.
#[derive(Debug)]
pub(crate) struct Push {
    pub(crate) join_ref: Option<Box<str>>,
    pub(crate) reference: Option<Box<str>>,
    /// Topic as written on the wire.
    pub(crate) topic: Arc<str>,
    pub(crate) body: PushBody,
}

/// What a message says.
#[derive(Debug)]
pub(crate) enum PushBody {
    Text {
        event: Box<str>,
        /// JSON text.
        payload: Box<str>,
    },
    /// A binary broadcast.
    User {
        event: Box<str>,
        is_json: bool,
        payload: Box<[u8]>,
    },
}

impl Push {
    pub(crate) fn event(&self) -> &str {
        match &self.body {
            PushBody::Text { event, .. } => event,
            PushBody::User { .. } => event::BROADCAST,
        }
    }

    /// The JSON text of a text message; nothing for a binary one.
    pub(crate) fn payload(&self) -> &str {
        match &self.body {
            PushBody::Text { payload, .. } => payload,
            PushBody::User { .. } => "",
        }
    }
}

/// Passes a broadcast on. Returns the outboxes of receivers that are getting full.
pub(crate) fn broadcast(
    shared: &Shared,
    channel: &Channel,
    outbox: &Outbox,
    version: Version,
    push: &Push,
) -> Vec<Arc<Outbox>> {
    let (payload_bytes, body) = match &push.body {
        PushBody::Text { payload, .. } => (payload.len(), text_body(payload)),
        PushBody::User {
            event,
            is_json,
            payload,
        } => (payload.len(), user_body(event, *is_json, payload)),
    };
    let mut pressed = Vec::new();
    let answer = if payload_bytes > shared.limits.broadcast_bytes {
        Err(r#"{"error":"payload_size_exceeded"}"#.to_owned())
    } else if !channel.rights.sends {
        let name = &channel.topic.key.name;
        Err(reason(&format!(
            "Unauthorized: You do not have permissions to send to this Channel topic: {name}"
        )))
    } else if let Some(body) = body {
        let broadcast = Broadcast {
            topic: &channel.topic.wire,
            body,
        };
        let except = (!channel.echo).then_some(channel.id);
        pressed = channel.topic.broadcast(&broadcast, except, None);
        Ok(())
    } else {
        Err(reason("the broadcast is not valid JSON"))
    };
    // Without `ack` there never is a reply.
    if channel.ack {
        let payload = match answer {
            Ok(()) => event::reply_ok("{}"),
            Err(response) => event::reply_error(&response),
        };
        channel
            .voice(outbox, version)
            .reply(push.reference.as_deref(), &payload);
    }
    pressed
}

/// The payload of a text push is passed on as it is, so long as it is an object: Python accepts no other.
fn text_body(payload: &str) -> Option<Body<'_>> {
    payload.starts_with('{').then_some(Body::Whole(payload))
}

/// Broken JSON would make receivers fail, so it is not passed on.
fn user_body<'a>(event: &'a str, is_json: bool, payload: &'a [u8]) -> Option<Body<'a>> {
    if is_json && serde_json::from_slice::<&RawValue>(payload).is_err() {
        return None;
    }
    let encoding = if is_json {
        Encoding::Json
    } else {
        Encoding::Binary
    };
    // The meta of a push asks to store the message (`persist`); it is not part of what receivers get.
    Some(Body::Event {
        event,
        meta: "",
        encoding,
        payload,
    })
}

fn reason(reason: &str) -> String {
    serde_json::json!({ "reason": reason }).to_string()
}

/// Handles a presence call.
///
/// # Errors
/// The message with which the channel ends.
pub(crate) fn presence(
    shared: &Shared,
    channel: &mut Channel,
    outbox: &Outbox,
    version: Version,
    push: &Push,
) -> Result<(), &'static str> {
    if !shared.presence_messages.allows() {
        return Err("Too many presence messages per second");
    }
    let limits = &shared.limits;
    let calls = channel.count_presence_call();
    if calls > limits.presence_calls.saturating_mul(2) {
        return Err("Client presence rate limit exceeded");
    }
    let payload = push.payload();
    if payload.len() > limits.presence_bytes {
        return Err("Track message size exceeded");
    }
    let answer = if calls > limits.presence_calls {
        Err(reason("Client presence rate limit exceeded"))
    } else {
        call(shared, channel, payload)
    };
    let reply = match answer {
        Ok(()) => event::reply_ok("{}"),
        Err(response) => event::reply_error(&response),
    };
    channel
        .voice(outbox, version)
        .reply(push.reference.as_deref(), &reply);
    Ok(())
}

/// Tracks or untracks; the response of the error reply otherwise.
fn call(shared: &Shared, channel: &Channel, payload: &str) -> Result<(), String> {
    #[derive(Deserialize)]
    struct Call {
        event: String,
        #[serde(default)]
        payload: Value,
    }
    let Ok(call) = serde_json::from_str::<Call>(payload) else {
        return Err(reason("the presence call has no event"));
    };
    if call.event.eq_ignore_ascii_case("untrack") {
        channel.topic.untrack(channel.id, &channel.presence_key);
        return Ok(());
    }
    if !call.event.eq_ignore_ascii_case("track") {
        return Err(reason("the presence event is neither track nor untrack"));
    }
    let Value::Object(tracked) = call.payload else {
        return Err(reason("Presence track payload must be a map"));
    };
    if !channel.rights.tracks {
        return Err("{}".to_owned());
    }
    let tracked = channel.topic.track(
        channel.id,
        &channel.presence_key,
        tracked,
        shared.presence_reference(),
        shared.limits.presences_per_topic,
    );
    match tracked {
        Tracked::Changed(_) | Tracked::Unchanged => Ok(()),
        Tracked::Full => Err(reason(
            "PresenceLimitReached: the topic holds as many presences as it may",
        )),
    }
}

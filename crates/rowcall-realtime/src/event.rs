//! Event names, and the payloads of replies and `system` messages.

use crate::frame::{push_json_string, to_json};
use serde::Serialize;

/// Asks to join a channel.
pub const JOIN: &str = "phx_join";
/// Leaves a channel.
pub const LEAVE: &str = "phx_leave";
/// Answers a push that carried a reference.
pub const REPLY: &str = "phx_reply";
/// The channel has ended; official JS clients do not rejoin after it.
pub const CLOSE: &str = "phx_close";
/// The channel has failed; clients rejoin.
pub const ERROR: &str = "phx_error";
/// Keeps the connection alive, on topic [`crate::topic::PHOENIX`].
pub const HEARTBEAT: &str = "heartbeat";
/// Renews the token of a joined channel.
pub const ACCESS_TOKEN: &str = "access_token";
/// A message from one client to the others.
pub const BROADCAST: &str = "broadcast";
/// Presence calls of a client: `track` and `untrack`.
pub const PRESENCE: &str = "presence";
/// Everybody who is present, sent to one channel.
pub const PRESENCE_STATE: &str = "presence_state";
/// Who came and who left, sent to all channels.
pub const PRESENCE_DIFF: &str = "presence_diff";
/// A change of a row.
pub const POSTGRES_CHANGES: &str = "postgres_changes";
/// A notice about the channel itself.
pub const SYSTEM: &str = "system";

/// Payload of a successful reply whose response is the JSON text `response`.
pub fn reply_ok(response: &str) -> String {
    reply("ok", response)
}

/// Payload of a failed reply whose response is the JSON text `response`.
pub fn reply_error(response: &str) -> String {
    reply("error", response)
}

/// Payload of a failed reply with a reason, the form clients show to their users.
pub fn reply_reason(reason: &str) -> String {
    let mut response = String::with_capacity(reason.len() + 14);
    response.push_str(r#"{"reason":"#);
    push_json_string(&mut response, reason);
    response.push('}');
    reply_error(&response)
}

fn reply(status: &str, response: &str) -> String {
    format!(r#"{{"status":"{status}","response":{response}}}"#)
}

/// What a `system` message is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extension {
    /// The subscription to changes.
    PostgresChanges,
    /// The channel as a whole.
    System,
}

/// A `system` message. The Python client needs all four keys.
#[derive(Debug, Clone, Copy)]
pub struct System<'a> {
    /// What the message is about.
    pub extension: Extension,
    /// Good news or bad; in Python bad news drive the channel's error path.
    pub ok: bool,
    /// Text for people, and for clients that compare it.
    pub message: &'a str,
    /// Name of the channel, without prefix.
    pub channel: &'a str,
}

impl System<'_> {
    /// The payload as JSON text.
    pub fn payload(&self) -> String {
        #[derive(Serialize)]
        struct Payload<'a> {
            extension: &'a str,
            status: &'a str,
            message: &'a str,
            channel: &'a str,
        }
        to_json(&Payload {
            extension: match self.extension {
                Extension::PostgresChanges => POSTGRES_CHANGES,
                Extension::System => SYSTEM,
            },
            status: if self.ok { "ok" } else { "error" },
            message: self.message,
            channel: self.channel,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_and_system_messages_have_the_documented_shape() {
        assert_eq!(reply_ok("{}"), r#"{"status":"ok","response":{}}"#);
        assert_eq!(
            reply_reason("unmatched topic"),
            r#"{"status":"error","response":{"reason":"unmatched topic"}}"#
        );
        let subscribed = System {
            extension: Extension::PostgresChanges,
            ok: true,
            message: "Subscribed to PostgreSQL",
            channel: "jobs",
        };
        assert_eq!(
            subscribed.payload(),
            r#"{"extension":"postgres_changes","status":"ok","message":"Subscribed to PostgreSQL","channel":"jobs"}"#
        );
    }
}

//! What a client asks for in `phx_join`.
//!
//! Reading is lenient, as upstream is: booleans may come as `"true"` / `"false"` in any case, objects may be null, unknown keys
//! are ignored, and what does not have the expected type counts as not given. Bindings are kept as they were written,
//! because clients compare the reply with what they sent before they call a channel subscribed.

mod binding;

use serde_json::Value;

pub use self::binding::{Binding, ChangeEvent, Select, binding_ids};

/// Most bindings one join may carry.
pub const MAX_BINDINGS: usize = 100;
/// Largest join payload, in bytes.
pub const MAX_JOIN_BYTES: usize = 262_144;
/// Most messages one replay request yields.
pub const MAX_REPLAY: u32 = 25;

/// The payload of a join.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Join {
    /// What the channel shall do.
    pub config: Config,
    /// The token of the channel: `user_token`, the old name, wins when both are strings.
    pub access_token: Option<String>,
}

/// What a channel shall do.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Config {
    /// Broadcast options.
    pub broadcast: Broadcast,
    /// Presence options.
    pub presence: Presence,
    /// Bindings to changes, in the order they were written; nulls are left out.
    pub bindings: Vec<Binding>,
    /// How to wait for the subscription to changes, and where to go on.
    pub changes: ChangesOptions,
    /// Whether row level security on `realtime.messages` decides who may use the channel.
    pub private: bool,
}

/// Broadcast options.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Broadcast {
    /// Every push is to be answered.
    pub ack: bool,
    /// The sender wants its own messages too.
    pub echo: bool,
    /// Messages to be sent again.
    pub replay: Option<Replay>,
    /// Tell when messages from the database flow.
    pub replication_ready: bool,
}

/// A request for messages of the past.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replay {
    /// The newest `limit` messages since that time, in milliseconds since 1970.
    Since {
        /// Milliseconds since 1970-01-01 UTC.
        since: i64,
        /// 1 to [`MAX_REPLAY`].
        limit: u32,
    },
    /// `since` is not an integer or `limit` is out of range.
    Invalid,
}

/// Presence options.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Presence {
    /// Key under which the channel appears; the server makes one when there is none.
    pub key: Option<String>,
    /// The client wants to see who is present.
    pub enabled: bool,
}

/// Options of the subscription to changes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChangesOptions {
    /// Hold the reply until changes flow.
    pub wait: bool,
    /// How long to hold it, in milliseconds.
    pub timeout_ms: Option<u64>,
    /// rowcall's own: the `lsn` of the last change the client has seen; later ones still held in the ring are sent again.
    pub since: Option<String>,
}

/// Why a join payload is refused as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    /// The payload is larger than [`MAX_JOIN_BYTES`].
    #[error("the join payload has {0} bytes, the limit is {MAX_JOIN_BYTES}")]
    TooLarge(usize),
    /// There are more bindings than [`MAX_BINDINGS`].
    #[error("the join asks for {0} postgres_changes bindings, the limit is {MAX_BINDINGS}")]
    TooManyBindings(usize),
}

impl Join {
    /// Reads the payload of a join, given as JSON text.
    ///
    /// # Errors
    /// Only when a limit is exceeded. What does not parse counts as not given.
    pub fn read(payload: &str) -> Result<Self, JoinError> {
        if payload.len() > MAX_JOIN_BYTES {
            return Err(JoinError::TooLarge(payload.len()));
        }
        let payload: Value = serde_json::from_str(payload).unwrap_or(Value::Null);
        let token = |key: &str| payload.get(key).and_then(Value::as_str).map(str::to_owned);
        let access_token = match (token("user_token"), token("access_token")) {
            (Some(user), Some(_)) => Some(user),
            (user, access) => access.or(user),
        };
        let config = payload.get("config").unwrap_or(&Value::Null);
        Ok(Self {
            config: Config::read(config)?,
            access_token,
        })
    }
}

impl Config {
    fn read(config: &Value) -> Result<Self, JoinError> {
        let section = |key: &str| config.get(key).unwrap_or(&Value::Null);
        let broadcast = section("broadcast");
        let presence = section("presence");
        let bindings = match section("postgres_changes") {
            Value::Array(entries) => entries.as_slice(),
            _ => &[],
        };
        let bindings: Vec<Binding> = bindings
            .iter()
            .filter_map(Value::as_object)
            .map(|entry| Binding::read(entry.clone()))
            .collect();
        if bindings.len() > MAX_BINDINGS {
            return Err(JoinError::TooManyBindings(bindings.len()));
        }
        Ok(Self {
            broadcast: Broadcast {
                ack: flag(broadcast, "ack"),
                echo: flag(broadcast, "self"),
                replay: Replay::read(broadcast.get("replay")),
                replication_ready: flag(broadcast, "replication_ready"),
            },
            presence: Presence {
                key: presence
                    .get("key")
                    .and_then(Value::as_str)
                    .filter(|key| !key.is_empty())
                    .map(str::to_owned),
                enabled: flag(presence, "enabled"),
            },
            bindings,
            changes: ChangesOptions::read(section("postgres_changes_options")),
            private: flag(config, "private"),
        })
    }
}

impl ChangesOptions {
    fn read(options: &Value) -> Self {
        Self {
            wait: flag(options, "wait"),
            timeout_ms: options.get("timeout").and_then(Value::as_u64),
            since: options
                .get("since")
                .and_then(Value::as_str)
                .map(str::to_owned),
        }
    }
}

impl Replay {
    fn read(replay: Option<&Value>) -> Option<Self> {
        let replay = replay.filter(|replay| !replay.is_null())?;
        let limit = match replay.get("limit") {
            None | Some(Value::Null) => Some(MAX_REPLAY),
            Some(limit) => limit
                .as_u64()
                .and_then(|limit| u32::try_from(limit).ok())
                .filter(|limit| (1..=MAX_REPLAY).contains(limit)),
        };
        let since = replay.get("since").and_then(Value::as_i64);
        Some(match (since, limit) {
            (Some(since), Some(limit)) => Self::Since { since, limit },
            _ => Self::Invalid,
        })
    }
}

fn flag(object: &Value, key: &str) -> bool {
    match object.get(key) {
        Some(Value::Bool(flag)) => *flag,
        Some(Value::String(text)) => text.eq_ignore_ascii_case("true"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(payload: &Value) -> Join {
        Join::read(&payload.to_string()).unwrap()
    }

    #[test]
    fn python_sends_nulls_and_strings_for_booleans() {
        let join = read(&json!({"config": {
            "broadcast": null, "presence": null, "private": "True",
            "postgres_changes": [null, {"event": "insert", "schema": "public", "table": "t"}],
        }, "access_token": null}));
        assert!(join.config.private);
        assert_eq!(join.config.bindings.len(), 1);
        assert_eq!(join.config.bindings[0].event, ChangeEvent::Insert);
        assert_eq!(join.access_token, None);
    }

    #[test]
    fn the_old_token_name_wins_when_both_are_strings() {
        let both = read(&json!({"user_token": "u", "access_token": "a"}));
        assert_eq!(both.access_token.as_deref(), Some("u"));
        let one = read(&json!({"user_token": 1, "access_token": "a"}));
        assert_eq!(one.access_token.as_deref(), Some("a"));
    }

    #[test]
    fn bindings_are_echoed_untouched() {
        let requested =
            json!({"event": "*", "schema": "public", "table": null, "filter": "a=eq.1", "x": [1]});
        let join = read(&json!({"config": {"postgres_changes": [requested]}}));
        let binding = &join.config.bindings[0];
        let mut expected = requested.clone();
        expected["id"] = json!(binding.id());
        assert_eq!(binding.reply(binding.id()), expected);
        assert!(binding.id() > 0);
    }

    #[test]
    fn equal_bindings_share_an_id_and_others_do_not() {
        let entry = |table: &str| json!({"event": "*", "schema": "public", "table": table});
        let entries: Vec<Value> = vec![entry("a"), entry("b"), entry("a")];
        let join = read(&json!({"config": {"postgres_changes": entries}}));
        let ids = binding_ids(&join.config.bindings);
        assert_eq!(ids[0], ids[2]);
        assert_ne!(ids[0], ids[1]);
    }

    #[test]
    fn a_filter_of_another_type_does_not_vanish() {
        let join =
            read(&json!({"config": {"postgres_changes": [{"table": "t", "filter": {"a": 1}}]}}));
        assert_eq!(
            join.config.bindings[0].filter.as_deref(),
            Some(r#"{"a":1}"#)
        );
        let select =
            read(&json!({"config": {"postgres_changes": [{"table": "t", "select": "id"}]}}));
        assert_eq!(select.config.bindings[0].select, Select::Invalid);
    }

    #[test]
    fn replay_parameters_are_checked() {
        let replay = |value: Value| {
            read(&json!({"config": {"broadcast": {"replay": value}}}))
                .config
                .broadcast
                .replay
        };
        let newest = Replay::Since {
            since: 5,
            limit: 25,
        };
        assert_eq!(replay(json!({"since": 5})), Some(newest));
        assert_eq!(replay(json!({"since": "5"})), Some(Replay::Invalid));
        assert_eq!(
            replay(json!({"since": 5, "limit": 26})),
            Some(Replay::Invalid)
        );
        assert_eq!(
            replay(json!({"since": 5, "limit": 0})),
            Some(Replay::Invalid)
        );
        assert_eq!(replay(json!({})), Some(Replay::Invalid));
        assert_eq!(replay(Value::Null), None);
    }

    #[test]
    fn limits_are_errors() {
        let entries = vec![json!({"table": "t"}); MAX_BINDINGS + 1];
        let payload = json!({"config": {"postgres_changes": entries}}).to_string();
        assert_eq!(
            Join::read(&payload),
            Err(JoinError::TooManyBindings(MAX_BINDINGS + 1))
        );
        let huge = " ".repeat(MAX_JOIN_BYTES + 1);
        assert_eq!(
            Join::read(&huge),
            Err(JoinError::TooLarge(MAX_JOIN_BYTES + 1))
        );
        assert_eq!(Join::read("not json"), Ok(Join::default()));
    }
}

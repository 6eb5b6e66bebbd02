//! The payload of a wake-up, on NOTIFY and on broadcasts alike.

use std::time::Duration;

use serde::Deserialize;

/// What a wake-up says. Never trusted as data: it only decides where to look. Other senders (AIMQ, the streaming design's
/// trigger) send `queue` and `job_id` only; what they add is ignored.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Wake {
    /// The queue's name; some senders put its table here, `q_<name>`.
    pub queue: String,
    /// The first message.
    #[serde(default)]
    pub job_id: Option<i64>,
    /// The last message of a batch.
    #[serde(default)]
    pub last_job_id: Option<i64>,
    /// How many messages there are.
    #[serde(default)]
    pub count: Option<u64>,
    /// Seconds from sending until the first of them is visible.
    #[serde(default)]
    pub visible_in: f64,
    /// The sender says nothing about this queue for so many milliseconds.
    #[serde(default)]
    pub gate_ms: u64,
}

impl Wake {
    /// Reads a payload; `None` when it is not a wake-up.
    pub fn parse(payload: &str) -> Option<Self> {
        serde_json::from_str(payload).ok()
    }

    /// How long until the first message is visible; zero for most.
    pub fn visible_in(&self) -> Duration {
        Duration::try_from_secs_f64(self.visible_in.max(0.0)).unwrap_or(Duration::MAX)
    }

    /// The queue's name without the prefix that some senders leave on it.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.queue.as_str()).chain(self.queue.strip_prefix("q_"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c2_every_known_sender_is_understood() {
        for payload in [
            r#"{"queue":"incoming-messages","job_id":12345}"#,
            r#"{"id":"6f0c","queue":"incoming-messages","job_id":5,"extra":[1]}"#,
            r#"{"queue":"q_incoming-messages","job_id":5}"#,
            r#"{"queue":"incoming-messages","job_id":5,"last_job_id":9,"count":5,"visible_at":"2026-01-01T00:00:00+00:00","visible_in":1.5}"#,
        ] {
            let wake = Wake::parse(payload).unwrap();
            assert!(
                wake.names().any(|name| name == "incoming-messages"),
                "{payload}"
            );
        }
        assert!(Wake::parse("").is_none());
        assert!(Wake::parse("[1]").is_none());
    }
}

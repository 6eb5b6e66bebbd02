//! Presence of our own: last state wins, calls are spaced out.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// What a channel tracks, and what the server has been told of it.
#[derive(Debug, Default)]
pub(super) struct Tracked {
    wanted: Option<Arc<str>>,
    sent: Option<Arc<str>>,
    /// No call before this: a limit of the server.
    not_before: Option<Instant>,
}

impl Tracked {
    /// What shall be tracked from now on, a JSON object as text; none to be gone.
    pub(super) fn set(&mut self, wanted: Option<Arc<str>>) {
        self.wanted = wanted;
    }

    /// A fresh join: the server knows nothing of us, and counts calls anew.
    pub(super) fn joined(&mut self) {
        self.sent = None;
        self.not_before = None;
    }

    /// When the next call is due; nothing when the server knows all.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        (self.wanted != self.sent).then(|| self.not_before.unwrap_or(now))
    }

    /// The payload of the call that is due, if one is, taken as made.
    pub(super) fn take_due(&mut self, now: Instant, every: Duration) -> Option<String> {
        if self.due(now)? > now {
            return None;
        }
        self.sent.clone_from(&self.wanted);
        self.not_before = Some(now + every);
        Some(match &self.sent {
            Some(payload) => {
                format!(r#"{{"type":"presence","event":"track","payload":{payload}}}"#)
            }
            None => r#"{"type":"presence","event":"untrack"}"#.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Duration = Duration::from_secs(8);

    #[test]
    fn a_flood_of_states_is_one_call_per_interval_and_the_last_one_wins() {
        let start = Instant::now();
        let mut tracked = Tracked::default();
        let mut calls = Vec::new();
        for tenth in 0..300_u32 {
            let now = start + Duration::from_millis(100) * tenth;
            tracked.set(Some(format!("{{\"running\":{tenth}}}").into()));
            calls.extend(tracked.take_due(now, EVERY));
        }
        assert_eq!(calls.len(), 4, "at most five in 30 s are allowed");
        let end = start + Duration::from_secs(32);
        assert!(tracked.due(end).is_some_and(|due| due <= end));
        let last = tracked.take_due(end, EVERY).unwrap();
        assert!(last.contains("\"running\":299"), "{last}");
        assert_eq!(tracked.due(end), None);
    }

    #[test]
    fn a_state_that_comes_back_before_the_call_is_no_call() {
        let start = Instant::now();
        let mut tracked = Tracked::default();
        tracked.set(Some("{}".into()));
        assert!(tracked.take_due(start, EVERY).is_some());
        tracked.set(Some("{\"busy\":true}".into()));
        tracked.set(Some("{}".into()));
        assert_eq!(tracked.due(start + EVERY), None);
    }

    #[test]
    fn a_new_join_hears_the_state_at_once() {
        let start = Instant::now();
        let mut tracked = Tracked::default();
        tracked.set(Some("{}".into()));
        assert!(tracked.take_due(start, EVERY).is_some());
        tracked.joined();
        assert!(tracked.take_due(start, EVERY).is_some());
    }
}

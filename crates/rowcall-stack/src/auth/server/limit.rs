//! How often somebody may try: counters per key in fixed windows.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;

/// How many keys one limit remembers; when there are more, the ones whose window is over go, then the
/// oldest.
const MAX_KEYS: usize = 10_000;

/// At most so many tries per key in a window.
#[derive(Debug)]
pub(super) struct Limit {
    tries: u32,
    window: Duration,
    keys: Mutex<HashMap<String, Window>>,
}

#[derive(Debug, Clone, Copy)]
struct Window {
    started: Timestamp,
    tries: u32,
}

impl Limit {
    pub(super) fn new(tries: u32, window: Duration) -> Self {
        Self {
            tries,
            window,
            keys: Mutex::default(),
        }
    }

    /// Whether `key` has tries left at `now`.
    pub(super) fn allows(&self, key: &str, now: Timestamp) -> bool {
        self.keys
            .lock()
            .get(key)
            .is_none_or(|window| self.is_over(window, now) || window.tries < self.tries)
    }

    /// Takes one try; false when none was left.
    pub(super) fn take(&self, key: &str, now: Timestamp) -> bool {
        let mut keys = self.keys.lock();
        if keys.len() >= MAX_KEYS && !keys.contains_key(key) {
            keys.retain(|_, window| !self.is_over(window, now));
            let oldest = keys
                .iter()
                .min_by_key(|(_, window)| window.started)
                .map(|(key, _)| key.clone());
            if let Some(oldest) = oldest.filter(|_| keys.len() >= MAX_KEYS) {
                keys.remove(&oldest);
            }
        }
        let window = keys.entry(key.to_owned()).or_insert(Window {
            started: now,
            tries: 0,
        });
        if self.is_over(window, now) {
            *window = Window {
                started: now,
                tries: 0,
            };
        }
        let allowed = window.tries < self.tries;
        window.tries = window.tries.saturating_add(1);
        allowed
    }

    /// Gives all tries of `key` back.
    pub(super) fn reset(&self, key: &str) {
        self.keys.lock().remove(key);
    }

    fn is_over(&self, window: &Window, now: Timestamp) -> bool {
        now.duration_since(window.started).unsigned_abs() >= self.window
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_come_back_when_the_window_is_over() {
        let limit = Limit::new(2, Duration::from_mins(1));
        let start = Timestamp::UNIX_EPOCH;
        assert!(limit.take("a", start));
        assert!(limit.take("a", start));
        assert!(!limit.take("a", start));
        assert!(!limit.allows("a", start));
        assert!(limit.take("b", start), "keys do not share tries");
        let later = start + Duration::from_mins(1);
        assert!(limit.allows("a", later));
        assert!(limit.take("a", later));
        limit.reset("a");
        assert!(limit.take("a", later));
    }
}

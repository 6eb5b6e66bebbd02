//! The clock of the project, as far as its answers tell.
//!
//! Leases are decided by the database's clock, in the database. Where a statement of the published protocol needs an instant
//! from us (which leases are stale, in a table without functions), it is taken from the `Date` of the answers, never from
//! our own clock, and on the safe side by [`MARGIN`].

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use reqwest::header::HeaderValue;

/// The `Date` of an answer has whole seconds, comes from a machine beside the database, and was some time on the way.
pub(crate) const MARGIN: Duration = Duration::from_secs(30);

/// Estimates this close are the same clock.
const AGREEMENT: SignedDuration = SignedDuration::from_secs(2);

/// What an answer said, and when it came.
#[derive(Debug, Default)]
pub(crate) struct ServerClock(Mutex<Option<(Timestamp, Instant)>>);

impl ServerClock {
    /// Notes the `Date` of an answer that came just now. Seconds are cut off there, so of estimates that nearly agree the
    /// latest time is the best; one that is far off means that the clock there was set.
    pub(crate) fn note(&self, date: &HeaderValue) {
        let Ok(text) = date.to_str() else { return };
        let Ok(at) = jiff::fmt::rfc2822::parse(text) else {
            return;
        };
        let at = at.timestamp();
        let estimate = self.now();
        let agrees = |known: Timestamp| known >= at && known.duration_since(at) <= AGREEMENT;
        if !estimate.is_some_and(agrees) {
            *self.0.lock() = Some((at, now()));
        }
    }

    /// About what time it is there; nothing before the first answer.
    pub(crate) fn now(&self) -> Option<Timestamp> {
        let (at, seen) = (*self.0.lock())?;
        at.checked_add(now().saturating_duration_since(seen)).ok()
    }

    /// Leases older than this are surely older than `ttl`.
    pub(crate) fn stale_before(&self, ttl: Duration) -> Option<Timestamp> {
        self.now()?.checked_sub(ttl + MARGIN).ok()
    }
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_clock_goes_on_between_answers() {
        let clock = ServerClock::default();
        assert_eq!(clock.now(), None);
        clock.note(&HeaderValue::from_static("not a date"));
        assert_eq!(clock.now(), None);
        clock.note(&HeaderValue::from_static("Fri, 21 Nov 2026 07:11:00 GMT"));
        assert_eq!(clock.now(), None, "the weekday is wrong");
        clock.note(&HeaderValue::from_static("Sat, 21 Nov 2026 07:11:00 GMT"));
        tokio::time::advance(Duration::from_secs(90)).await;
        assert_eq!(clock.now().unwrap().to_string(), "2026-11-21T07:12:30Z");
        clock.note(&HeaderValue::from_static("Sat, 21 Nov 2026 07:12:29 GMT"));
        assert_eq!(clock.now().unwrap().to_string(), "2026-11-21T07:12:30Z");
        let stale = clock.stale_before(Duration::from_mins(5)).unwrap();
        assert_eq!(stale.to_string(), "2026-11-21T07:07:00Z");
        clock.note(&HeaderValue::from_static("Sat, 21 Nov 2026 06:00:00 GMT"));
        assert_eq!(
            clock.now().unwrap().to_string(),
            "2026-11-21T06:00:00Z",
            "it was set back"
        );
    }
}

//! Counting calls in time.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// Allows a number of calls in each window of time; windows follow each other, they do not slide.
#[derive(Debug)]
pub(crate) struct Window {
    length: Duration,
    started: Instant,
    calls: u32,
}

impl Window {
    pub(crate) fn new(length: Duration) -> Self {
        Self {
            length,
            started: Instant::now(),
            calls: 0,
        }
    }

    /// Counts one call and returns how many this window has seen.
    pub(crate) fn count(&mut self) -> u32 {
        let now = Instant::now();
        if now.duration_since(self.started) >= self.length {
            self.started = now;
            self.calls = 0;
        }
        self.calls = self.calls.saturating_add(1);
        self.calls
    }
}

/// A rate a second that many tasks share, or none.
#[derive(Debug)]
pub(crate) struct SharedRate(Option<(u32, Mutex<Window>)>);

impl SharedRate {
    pub(crate) fn per_second(limit: Option<u32>) -> Self {
        Self(limit.map(|limit| (limit, Mutex::new(Window::new(Duration::from_secs(1))))))
    }

    /// Counts one call; false when it is one too many.
    pub(crate) fn allows(&self) -> bool {
        self.0
            .as_ref()
            .is_none_or(|(limit, window)| window.lock().count() <= *limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_second_has_its_own_calls() {
        let rate = SharedRate::per_second(Some(2));
        assert_eq!(
            [rate.allows(), rate.allows(), rate.allows()],
            [true, true, false]
        );
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(rate.allows());
        assert!(SharedRate::per_second(None).allows());
    }
}

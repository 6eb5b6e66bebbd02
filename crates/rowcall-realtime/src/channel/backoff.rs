//! Waiting times between attempts.

use std::time::Duration;

/// Doubling, capped delays. They start over only when told so, which the callers do after a connection or a join has held for
/// a while: a server that accepts and drops at once must not be asked in a tight circle.
#[derive(Debug, Clone, Copy)]
pub struct Backoff {
    base: Duration,
    cap: Duration,
    failures: u32,
}

impl Backoff {
    /// The first delay is about `base`, no delay is longer than `cap`.
    pub fn new(base: Duration, cap: Duration) -> Self {
        Self {
            base,
            cap,
            failures: 0,
        }
    }

    /// Counts a failure and returns how long to wait. `unit` in `0.0..1.0` is the jitter: it takes away up to half of the
    /// delay, so that clients that lost one server together do not come back together.
    pub fn fail(&mut self, unit: f64) -> Duration {
        let full = self
            .base
            .saturating_mul(1 << self.failures.min(31))
            .min(self.cap);
        self.failures = self.failures.saturating_add(1);
        full.mul_f64(1.0 - unit.clamp(0.0, 1.0) / 2.0)
    }

    /// Starts over.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// How many failures there were since the last start.
    pub fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_cap_and_start_over() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(10));
        let seconds: Vec<u64> = (0..6).map(|_| backoff.fail(0.0).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 10, 10]);
        backoff.reset();
        assert_eq!(backoff.fail(1.0), Duration::from_millis(500));
        assert_eq!(backoff.failures(), 1);
    }

    #[test]
    fn many_failures_do_not_overflow() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(10));
        for _ in 0..100 {
            assert!(backoff.fail(0.5) <= Duration::from_secs(10));
        }
    }
}

//! What happens after a failed attempt.

use std::time::Duration;

/// No retry is put off longer, whatever was asked for: times that databases cannot hold lie beyond.
pub const MAX_RETRY_DELAY: Duration = Duration::from_hours(24 * 365);

/// Waiting times between attempts of one machine: doubling, capped, jittered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The delay after the first failure.
    pub base: Duration,
    /// No delay is longer.
    pub cap: Duration,
}

impl Backoff {
    /// The delay after the `failures`th failure (1 for the first). `unit` in `0.0..1.0` is the jitter: it takes away up
    /// to half of the delay, so that tasks that failed together do not come back together.
    pub fn delay(&self, failures: u32, unit: f64) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        let full = self.base.saturating_mul(1 << doublings).min(self.cap);
        full.mul_f64(1.0 - unit.clamp(0.0, 1.0) / 2.0)
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            base: Duration::from_secs(5),
            cap: Duration::from_mins(10),
        }
    }
}

/// How often a task is tried, and whether the machine that failed it may try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// After this many failed attempts nobody claims the task any more: it needs attention. 3 by default.
    pub max_attempts: u32,
    /// With a value, the machine that failed a task tries it again after a delay: for people with one machine. Without,
    /// only other machines do, as in the published protocol.
    pub same_machine: Option<Backoff>,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            max_attempts: 3,
            same_machine: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn delays_are_capped_and_at_least_half(failures in 0u32..200, unit in 0.0f64..1.0) {
            let backoff = Backoff::default();
            let delay = backoff.delay(failures, unit);
            prop_assert!(delay <= backoff.cap);
            prop_assert!(delay >= backoff.base / 2);
        }
    }

    #[test]
    fn delays_double() {
        let backoff = Backoff {
            base: Duration::from_secs(1),
            cap: Duration::from_mins(1),
        };
        let seconds: Vec<u64> = (1..=8).map(|n| backoff.delay(n, 0.0).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 60, 60]);
    }
}

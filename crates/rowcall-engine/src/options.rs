//! How the engine behaves: intervals, limits and policies, all with the defaults of the published protocol.

use std::time::Duration;

use rowcall_core::{Backoff, LeasePolicy, RetryPolicy};

use crate::error::OptionsError;

/// How often the engine looks by itself. Signals decide when it looks otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PollOptions {
    /// While signals flow: one statement that recovers stale leases and says whether work is ready. 60 s.
    pub up: Duration,
    /// While they do not: the same statement, closer. 5 s.
    pub down: Duration,
    /// After activity, further looks at these ages. A gated source wakes on the leading edge only: what commits while its
    /// gate is closed is found by these. 50 ms, 500 ms, 5 s.
    pub trailing: [Duration; 3],
}

impl Default for PollOptions {
    fn default() -> Self {
        Self {
            up: Duration::from_mins(1),
            down: Duration::from_secs(5),
            trailing: [
                Duration::from_millis(50),
                Duration::from_millis(500),
                Duration::from_secs(5),
            ],
        }
    }
}

/// How an engine behaves.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// When leases are renewed and stale.
    pub lease: LeasePolicy,
    /// When failed tasks are tried again.
    pub retry: RetryPolicy,
    /// When the engine looks without a signal.
    pub poll: PollOptions,
    /// How many tasks run at once over all apps of this machine. 1,000.
    pub concurrency: u32,
    /// The most tasks of one claim and the most verdicts of one settlement. 500.
    pub batch: u32,
    /// How many claim-and-settle exchanges with one source are under way at once. 2: one answers while the other one's
    /// tasks are started.
    pub lanes: usize,
    /// How long running tasks may go on after a soft stop before they are stopped and released. 30 s.
    pub shutdown_grace: Duration,
    /// How long agents may take to end once they were told to; afterwards they are dropped. 20 s.
    pub stop_limit: Duration,
    /// How long the last settlements and releases may take once every agent is gone. 5 s.
    pub farewell_limit: Duration,
    /// A task that runs this long is marked `processing`; shorter ones save the statement. 1 s.
    pub mark_processing_after: Duration,
    /// The first page of the start-up sweep, per table, the newest first. 50.
    pub sweep_page: u32,
    /// No call to a source takes longer. 30 s.
    pub call_timeout: Duration,
    /// How long a report from outside waits for its settlement to be written. 10 s.
    pub report_timeout: Duration,
    /// Waiting times after a source failed: doubling, capped, jittered. 100 ms to 5 s.
    pub trouble: Backoff,
    /// How long a settlement that cannot be written is kept. The lease may be long over by then: as long as nobody could
    /// take the task, the database still accepts it, and otherwise fences it. 1 h.
    pub settlement_keep: Duration,
    /// How many events are kept for subscribers that come late or lag. 4,096.
    pub event_ring: usize,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            lease: LeasePolicy::default(),
            retry: RetryPolicy::default(),
            poll: PollOptions::default(),
            concurrency: 1_000,
            batch: 500,
            lanes: 2,
            shutdown_grace: Duration::from_secs(30),
            stop_limit: Duration::from_secs(20),
            farewell_limit: Duration::from_secs(5),
            mark_processing_after: Duration::from_secs(1),
            sweep_page: 50,
            call_timeout: Duration::from_secs(30),
            report_timeout: Duration::from_secs(10),
            trouble: Backoff {
                base: Duration::from_millis(100),
                cap: Duration::from_secs(5),
            },
            settlement_keep: Duration::from_hours(1),
            event_ring: 4_096,
        }
    }
}

/// The most verdicts or claims of one statement that any configuration may ask for.
pub const MAX_BATCH: u32 = 5_000;

/// The most exchanges under way at once with one source.
pub const MAX_LANES: usize = 16;

impl EngineOptions {
    /// Refuses what cannot work.
    pub fn validate(&self) -> Result<(), OptionsError> {
        let positive = [
            ("lease.renew_every", self.lease.renew_every),
            ("lease.ttl", self.lease.ttl),
            ("poll.up", self.poll.up),
            ("poll.down", self.poll.down),
            ("poll.trailing", self.poll.trailing[0]),
            ("mark_processing_after", self.mark_processing_after),
            ("call_timeout", self.call_timeout),
            ("report_timeout", self.report_timeout),
            ("trouble.base", self.trouble.base),
        ];
        for (option, value) in positive {
            if value.is_zero() {
                return Err(OptionsError::new(
                    option,
                    "it is 0; give a duration above 0",
                ));
            }
        }
        // One renewal may fail and be tried again before the lease is over.
        if self.lease.ttl < self.lease.renew_every.saturating_mul(2) {
            return Err(OptionsError::new(
                "lease.ttl",
                "it must be at least twice lease.renew_every, or one late renewal loses the lease",
            ));
        }
        if !self.poll.trailing.is_sorted() {
            return Err(OptionsError::new("poll.trailing", "its steps must grow"));
        }
        let counts = [
            (
                "concurrency",
                u64::from(self.concurrency),
                u64::from(u32::MAX),
            ),
            ("batch", u64::from(self.batch), u64::from(MAX_BATCH)),
            ("lanes", self.lanes as u64, MAX_LANES as u64),
            (
                "sweep_page",
                u64::from(self.sweep_page),
                u64::from(MAX_BATCH),
            ),
            ("event_ring", self.event_ring as u64, 1_000_000),
            (
                "retry.max_attempts",
                u64::from(self.retry.max_attempts),
                u64::from(u32::MAX),
            ),
        ];
        for (option, value, most) in counts {
            if value == 0 || value > most {
                return Err(OptionsError::new(
                    option,
                    format!("it is {value}; it must be 1 to {most}"),
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_the_published_ones_and_valid() {
        let options = EngineOptions::default();
        options.validate().unwrap();
        assert_eq!(options.lease.ttl, Duration::from_mins(5));
        assert_eq!(options.lease.renew_every, Duration::from_mins(2));
        assert_eq!(options.retry.max_attempts, 3);
        assert_eq!(options.sweep_page, 50);
    }

    #[test]
    fn a_lease_that_one_late_renewal_would_lose_is_refused() {
        let options = EngineOptions {
            lease: LeasePolicy {
                ttl: Duration::from_secs(3),
                renew_every: Duration::from_secs(2),
            },
            ..EngineOptions::default()
        };
        assert!(
            options
                .validate()
                .unwrap_err()
                .to_string()
                .contains("lease.ttl")
        );
    }

    #[test]
    fn counts_have_bounds() {
        let zero = EngineOptions {
            lanes: 0,
            ..EngineOptions::default()
        };
        let huge = EngineOptions {
            batch: MAX_BATCH + 1,
            ..EngineOptions::default()
        };
        assert!(zero.validate().is_err() && huge.validate().is_err());
    }
}

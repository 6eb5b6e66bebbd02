//! Everything the loop waits for by the clock, in one place: one sleep serves them all.

use std::{cmp::Reverse, collections::BinaryHeap, time::Duration};

use tokio::time::Instant;

/// How many retry times are kept; the regular look finds the others.
const MAX_RETRIES: usize = 10_000;

/// When what is due.
#[derive(Debug, Default)]
pub(super) struct Timers {
    /// The next heartbeat.
    pub(super) heartbeat: Option<Instant>,
    /// When the first lease would be over without a renewal.
    pub(super) expiry: Option<Instant>,
    /// When units are looked through: marking, time-outs.
    pub(super) scan: Option<Instant>,
    /// The next regular look at the source.
    pub(super) maintain: Option<Instant>,
    /// Since when, and at which step, the source is polled after activity.
    pub(super) trail: Option<(Instant, usize)>,
    pub(super) trail_at: Option<Instant>,
    /// Until when nothing is asked, after a failure.
    pub(super) trouble: Option<Instant>,
    /// Until when the first app whose claims were refused is not asked.
    pub(super) blocked: Option<Instant>,
    /// When settlements that were put aside are tried again.
    pub(super) aside: Option<Instant>,
    /// When small work no longer waits for the exchange under way.
    pub(super) nudge: Option<Instant>,
    /// When the signal stream is opened again.
    pub(super) resubscribe: Option<Instant>,
    /// When the stop goes on to its next step.
    pub(super) stop: Option<Instant>,
    /// When failed tasks may be tried again by this machine.
    retries: BinaryHeap<Reverse<Instant>>,
}

impl Timers {
    pub(super) fn earliest(&self) -> Option<Instant> {
        [
            self.heartbeat,
            self.expiry,
            self.scan,
            self.maintain,
            self.trail_at,
            self.trouble,
            self.blocked,
            self.aside,
            self.nudge,
            self.resubscribe,
            self.stop,
            self.retries.peek().map(|Reverse(at)| *at),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Starts the polls after activity anew.
    pub(super) fn activity(&mut self, now: Instant, steps: &[Duration]) {
        self.trail = Some((now, 0));
        self.trail_at = steps.first().map(|step| now + *step);
    }

    /// Goes on to the next poll after activity, if there is one.
    pub(super) fn next_trail(&mut self, steps: &[Duration]) {
        self.trail_at = None;
        if let Some((since, step)) = &mut self.trail {
            *step += 1;
            self.trail_at = steps.get(*step).map(|age| *since + *age);
        }
    }

    pub(super) fn retry_at(&mut self, at: Instant) {
        if self.retries.len() < MAX_RETRIES {
            self.retries.push(Reverse(at));
        }
    }

    /// Drops the retry times that are past and says whether there were any.
    pub(super) fn take_retries(&mut self, now: Instant) -> bool {
        let before = self.retries.len();
        while self.retries.peek().is_some_and(|Reverse(at)| *at <= now) {
            self.retries.pop();
        }
        self.retries.len() < before
    }
}

/// Takes a time that has come.
pub(super) fn due(timer: &mut Option<Instant>, now: Instant) -> bool {
    timer.take_if(|at| *at <= now).is_some()
}

/// Sets a timer, unless it fires sooner anyway.
pub(super) fn sooner(timer: &mut Option<Instant>, at: Instant) {
    *timer = Some(timer.map_or(at, |set| set.min(at)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn trailing_polls_follow_the_last_activity() {
        let steps = [50, 500, 5_000].map(Duration::from_millis);
        let start = Instant::now();
        let mut timers = Timers::default();
        timers.activity(start, &steps);
        assert_eq!(timers.earliest(), Some(start + steps[0]));
        timers.next_trail(&steps);
        assert_eq!(timers.earliest(), Some(start + steps[1]));
        timers.activity(start + steps[0], &steps);
        assert_eq!(timers.earliest(), Some(start + steps[0] * 2));
        for _ in 0..3 {
            timers.next_trail(&steps);
        }
        assert_eq!(timers.earliest(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn retries_are_taken_when_due() {
        let start = Instant::now();
        let mut timers = Timers::default();
        timers.retry_at(start + Duration::from_secs(2));
        timers.retry_at(start + Duration::from_secs(1));
        assert!(!timers.take_retries(start));
        assert!(timers.take_retries(start + Duration::from_secs(1)));
        assert_eq!(timers.earliest(), Some(start + Duration::from_secs(2)));
    }
}

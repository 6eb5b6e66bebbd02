//! Pauses of queues whose messages fail one after the other: an outage behind the handler should not use up everybody's
//! attempts. Per queue, so that a failing one never delays a healthy one.

use std::{collections::HashMap, time::Duration};

use rowcall_core::Backoff;
use tokio::time::Instant;

/// Failures in a row per queue, and until when it is not read.
#[derive(Debug, Default)]
pub(super) struct Pauses(HashMap<usize, (u32, Option<Instant>)>);

impl Pauses {
    /// Notes how attempts of a queue ended. The first failure is not a series yet.
    pub(super) fn note(
        &mut self,
        queue: usize,
        completed: usize,
        failed: usize,
        backoff: Option<Backoff>,
        now: Instant,
    ) {
        if completed > 0 {
            self.0.remove(&queue);
        } else if failed > 0 {
            let (failures, until) = self.0.entry(queue).or_default();
            *failures = failures.saturating_add(u32::try_from(failed).unwrap_or(u32::MAX));
            *until = backoff
                .filter(|_| *failures > 1)
                .map(|backoff| now + backoff.delay(*failures, 0.0));
        }
    }

    /// How long a queue is not to be read; zero for most.
    pub(super) fn left(&self, queue: usize, now: Instant) -> Duration {
        let until = self.0.get(&queue).and_then(|(_, until)| *until);
        until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a8_pauses_double_from_the_second_failure_and_end_with_a_success() {
        let backoff = Some(Backoff {
            base: Duration::from_secs(10),
            cap: Duration::from_mins(5),
        });
        let (mut pauses, now) = (Pauses::default(), Instant::now());
        let mut seconds = Vec::new();
        for _ in 0..7 {
            pauses.note(0, 0, 1, backoff, now);
            seconds.push(pauses.left(0, now).as_secs());
        }
        assert_eq!(seconds, [0, 20, 40, 80, 160, 300, 300]);
        assert_eq!(pauses.left(1, now), Duration::ZERO, "another queue goes on");
        pauses.note(0, 1, 3, backoff, now);
        assert_eq!(pauses.left(0, now), Duration::ZERO);
    }
}

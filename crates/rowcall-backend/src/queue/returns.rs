//! When messages come back that we know of. Supabase's own functions do not tell, so it is remembered what was read and failed,
//! and what wake-ups say of delayed messages.

use std::collections::{BTreeMap, BTreeSet};

use tokio::time::Instant;

/// Times that are remembered for one queue. What is forgotten is found by polling.
const MAX_TIMES: usize = 1_000;

/// The times at which messages become visible, by queue.
#[derive(Debug, Default)]
pub(super) struct Returns(BTreeMap<usize, BTreeSet<Instant>>);

impl Returns {
    /// A message becomes visible then.
    pub(super) fn note(&mut self, queue: usize, at: Instant) {
        let times = self.0.entry(queue).or_default();
        times.insert(at);
        if times.len() > MAX_TIMES {
            times.pop_last();
        }
    }

    /// The next time after now; those before are forgotten.
    pub(super) fn next(&mut self, queue: usize, now: Instant) -> Option<Instant> {
        let times = self.0.get_mut(&queue)?;
        while times.first().is_some_and(|first| *first <= now) {
            times.pop_first();
        }
        times.first().copied()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn b7_the_next_time_is_known_and_memory_is_bounded() {
        let (start, mut returns) = (Instant::now(), Returns::default());
        let at = |seconds| start + Duration::from_secs(seconds);
        returns.note(0, at(5));
        returns.note(0, at(2));
        returns.note(1, at(1));
        assert_eq!(returns.next(0, start), Some(at(2)));
        assert_eq!(returns.next(0, at(2)), Some(at(5)));
        assert_eq!(returns.next(0, at(9)), None);
        assert_eq!(returns.next(2, start), None);
        for seconds in 0..=MAX_TIMES as u64 {
            returns.note(3, at(10 + seconds));
        }
        assert_eq!(returns.0[&3].len(), MAX_TIMES);
        assert_eq!(returns.next(3, start), Some(at(10)), "the soonest stay");
    }
}

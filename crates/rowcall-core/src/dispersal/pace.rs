//! How long the first machine is given: as long as claims take here.

use std::time::Duration;

use super::Dispersal;

/// The longest head start that slow claims lead to.
pub const MAX_STEP: Duration = Duration::from_secs(5);
/// Beyond the cap, waits grow by this part of a step: machines that waited so long must not all claim at once.
const LATE_PART: u32 = 8;

/// The head start of each rank, from how long claims take on this machine.
///
/// It is the estimate that TCP makes of a round trip: the mean and four times the mean deviation, so that nearly every claim
/// of the machine before is over when it is looked for. Every machine measures its own way to the database; where the database
/// is slow, all of them see it.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    dispersal: Dispersal,
    /// Mean and mean deviation; nothing before the first claim.
    seen: Option<(Duration, Duration)>,
}

impl Pace {
    /// A pace at which the steps are those of the setting.
    pub fn new(dispersal: Dispersal) -> Self {
        Self {
            dispersal,
            seen: None,
        }
    }

    /// Notes that a claim, or a look whether a task is open, took this long.
    pub fn note(&mut self, took: Duration) {
        // One answer after a long silence says little about the next ones.
        let took = took.min(MAX_STEP);
        self.seen = Some(match self.seen {
            None => (took, took / 2),
            Some((mean, deviation)) => (
                (mean * 7 + took) / 8,
                (deviation * 3 + mean.abs_diff(took)) / 4,
            ),
        });
    }

    /// Notes that somebody else had a task that was still open when this machine looked: steps are too short.
    pub fn note_too_early(&mut self) {
        self.note(self.step() * 2);
    }

    /// The head start of each rank over the next.
    pub fn step(&self) -> Duration {
        let needed = self
            .seen
            .map_or(Duration::ZERO, |(mean, deviation)| mean + deviation * 4);
        needed.min(MAX_STEP).max(self.dispersal.step)
    }

    /// The wait of a rank: none for the first.
    ///
    /// ```
    /// use std::time::Duration;
    /// use rowcall_core::dispersal::{Dispersal, Pace};
    ///
    /// let mut pace = Pace::new(Dispersal::default());
    /// assert_eq!(pace.delay(2), Duration::from_millis(1500));
    /// pace.note(Duration::from_secs(1));
    /// assert_eq!(pace.delay(2), Duration::from_secs(6), "claims take longer than the step");
    /// ```
    pub fn delay(&self, rank: usize) -> Duration {
        let cap = self.dispersal.cap;
        if cap.is_zero() {
            return Duration::ZERO;
        }
        let step = self.step();
        let whole = step.saturating_mul(u32::try_from(rank).unwrap_or(u32::MAX));
        let late = whole.saturating_sub(cap) / LATE_PART;
        whole.min(cap) + late.min(cap)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(pace: &Pace, rank: usize) -> u128 {
        pace.delay(rank).as_millis()
    }

    #[test]
    fn waits_grow_and_grow_slower_beyond_the_cap() {
        let pace = Pace::new(Dispersal::default());
        let waits: Vec<u128> = [0, 1, 2, 40, 41, 48, usize::MAX]
            .map(|rank| millis(&pace, rank))
            .into();
        assert_eq!(waits, [0, 750, 1_500, 30_000, 30_093, 30_750, 60_000]);
        let off = Pace::new(Dispersal {
            step: Duration::ZERO,
            cap: Duration::ZERO,
        });
        assert_eq!(off.delay(7), Duration::ZERO);
    }

    #[test]
    fn the_step_follows_the_claims_within_its_limits() {
        let mut pace = Pace::new(Dispersal::default());
        for _ in 0..50 {
            pace.note(Duration::from_millis(80));
        }
        assert_eq!(millis(&pace, 1), 750, "never below the setting");
        for number in 0..50 {
            pace.note(Duration::from_millis(900 + 200 * (number % 2)));
        }
        assert!((1_300..1_700).contains(&millis(&pace, 1)), "{pace:?}");
        for _ in 0..50 {
            pace.note(Duration::from_mins(10));
        }
        assert_eq!(pace.step(), MAX_STEP);
        for _ in 0..100 {
            pace.note(Duration::from_millis(80));
        }
        assert_eq!(millis(&pace, 1), 750, "a slow hour is forgotten");
    }

    #[test]
    fn coming_too_early_makes_the_step_longer() {
        let mut pace = Pace::new(Dispersal::default());
        pace.note(Duration::from_millis(100));
        for _ in 0..3 {
            pace.note_too_early();
        }
        assert!(pace.step() > Duration::from_millis(1_500), "{pace:?}");
        for _ in 0..1_000 {
            pace.note_too_early();
        }
        assert_eq!(pace.step(), MAX_STEP);
    }
}

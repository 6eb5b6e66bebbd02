//! Signals that wait because other machines go first.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    time::{Duration, Instant},
};

use super::{Dispersal, Pace};
use crate::{event::Signal, id::TaskRef};

/// Signals that wait at most. More are dropped: the regular look finds what they would have told.
pub const MAX_WAITING: usize = 10_000;
/// What falls due within this part of a step is looked at together.
const LOOKS_PER_STEP: u32 = 3;
/// After so many steps the machine that goes first looks whether its claim has come to anything.
const SECOND_LOOK: u32 = 2;

/// When this machine may claim what it was told of. Knows no clock: time is handed in.
///
/// The machine that comes first is told at once. All of them, the first one too, look again later; a task that is taken
/// meanwhile, by whomever, is not heard of any more. The first one's second look finds what its claim could not see yet.
#[derive(Debug)]
pub struct Turns {
    pace: Pace,
    cap: Duration,
    began: Instant,
    grid: Duration,
    waiting: BTreeMap<TaskRef, Waiting>,
}

#[derive(Debug)]
struct Waiting {
    due: Instant,
    signal: Signal,
}

impl Turns {
    /// Nothing waits.
    pub fn new(dispersal: Dispersal, now: Instant) -> Self {
        Self {
            pace: Pace::new(dispersal),
            cap: dispersal.cap,
            began: now,
            grid: dispersal.step / LOOKS_PER_STEP,
            waiting: BTreeMap::new(),
        }
    }

    /// Takes a signal about one task for which this machine has `rank`. What is handed back is to be passed on at once.
    pub fn hear(
        &mut self,
        task: &TaskRef,
        signal: Signal,
        rank: usize,
        now: Instant,
    ) -> Option<Signal> {
        let delay = self.pace.delay(rank);
        if !delay.is_zero() {
            self.wait(task, now + delay, signal);
            return None;
        }
        if !self.cap.is_zero() {
            self.waiting.remove(task);
            let second = (self.pace.step() * SECOND_LOOK).min(self.cap);
            self.wait(task, now + second, signal.clone());
        }
        Some(signal)
    }

    /// A task waits once, from its first signal on. That a machine has failed it says more than that it has changed.
    fn wait(&mut self, task: &TaskRef, due: Instant, signal: Signal) {
        let due = self.round_up(due);
        let room = self.waiting.len() < MAX_WAITING;
        match self.waiting.entry(task.clone()) {
            Entry::Occupied(mut held) if matches!(signal, Signal::Available { .. }) => {
                held.get_mut().signal = signal;
            }
            Entry::Vacant(free) if room => {
                free.insert(Waiting { due, signal });
            }
            Entry::Occupied(_) | Entry::Vacant(_) => {}
        }
    }

    /// The next moment at which this machine looks.
    fn round_up(&self, due: Instant) -> Instant {
        let since = due.saturating_duration_since(self.began).as_nanos();
        let Some(grid) = Some(self.grid.as_nanos()).filter(|grid| *grid > 0) else {
            return due;
        };
        let missing = (grid - since % grid) % grid;
        due + Duration::from_nanos(u64::try_from(missing).unwrap_or(0))
    }

    /// When the next signal is due.
    pub fn next(&self) -> Option<Instant> {
        self.waiting.values().map(|one| one.due).min()
    }

    /// What is due: to be passed on if the task is still open.
    pub fn take_due(&mut self, now: Instant) -> BTreeMap<TaskRef, Signal> {
        let (due, rest) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition::<BTreeMap<_, _>, _>(|(_, one)| one.due <= now);
        self.waiting = rest;
        due.into_iter()
            .map(|(task, one)| (task, one.signal))
            .collect()
    }

    /// This machine has the task: there is nothing to look for any more.
    pub fn taken(&mut self, task: &TaskRef) {
        self.waiting.remove(task);
    }

    /// A claim or a look took this long.
    pub fn took(&mut self, took: Duration) {
        self.pace.note(took);
    }

    /// Somebody else had a task that this machine was told of.
    pub fn too_early(&mut self) {
        self.pace.note_too_early();
    }

    /// The head start that each machine gives the one before it now.
    pub fn step(&self) -> Duration {
        self.pace.step()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{id::MachineId, table::TableName};

    const STEP: Duration = Duration::from_millis(750);

    fn task(id: &str) -> TaskRef {
        TaskRef {
            table: TableName::activities(),
            id: id.parse().unwrap(),
        }
    }

    fn dirty(id: &str) -> Signal {
        Signal::Dirty {
            table: TableName::activities(),
            task: Some(task(id)),
        }
    }

    /// Tests have no clock but the one they move.
    fn turns() -> (Turns, Instant) {
        let now = Instant::now();
        (Turns::new(Dispersal::default(), now), now)
    }

    #[test]
    fn the_first_is_told_at_once_and_looks_again() {
        let (mut turns, now) = turns();
        assert_eq!(turns.hear(&task("a"), dirty("a"), 0, now), Some(dirty("a")));
        assert_eq!(turns.next(), Some(now + 2 * STEP));
        assert_eq!(turns.take_due(now + 2 * STEP).len(), 1);
        assert_eq!(turns.next(), None);
        turns.hear(&task("b"), dirty("b"), 0, now);
        turns.taken(&task("b"));
        assert_eq!(turns.next(), None, "it was claimed");
    }

    #[test]
    fn the_others_wait_their_turn_and_look_together() {
        let (mut turns, now) = turns();
        let at = |millis| now + Duration::from_millis(millis);
        assert_eq!(turns.hear(&task("a"), dirty("a"), 1, at(10)), None);
        assert_eq!(turns.hear(&task("b"), dirty("b"), 1, at(200)), None);
        assert_eq!(turns.hear(&task("c"), dirty("c"), 2, at(10)), None);
        // A second signal makes nobody wait longer.
        assert_eq!(turns.hear(&task("a"), dirty("a"), 1, at(700)), None);
        assert_eq!(turns.next(), Some(at(1_000)));
        assert!(turns.take_due(at(999)).is_empty());
        assert_eq!(turns.take_due(at(1_000)).len(), 2);
        assert_eq!(turns.next(), Some(at(1_750)));
    }

    #[test]
    fn a_failure_says_more_than_a_change() {
        let (mut turns, now) = turns();
        let failed = Signal::Available {
            task: task("a"),
            failed_by: Some(MachineId::new("other").unwrap()),
        };
        turns.hear(&task("a"), dirty("a"), 1, now);
        turns.hear(&task("a"), failed.clone(), 3, now);
        turns.hear(&task("a"), dirty("a"), 3, now);
        let due = turns.take_due(now + STEP);
        assert_eq!(due.into_values().collect::<Vec<_>>(), [failed]);
    }

    #[test]
    fn no_more_wait_than_there_is_room_for() {
        let (mut turns, now) = turns();
        for number in 0..MAX_WAITING + 5 {
            let id = number.to_string();
            turns.hear(&task(&id), dirty(&id), 1, now);
        }
        assert_eq!(turns.take_due(now + 2 * STEP).len(), MAX_WAITING);
    }

    #[test]
    fn without_a_cap_nobody_waits_or_looks_again() {
        let (_, now) = turns();
        let off = Dispersal {
            step: Duration::ZERO,
            cap: Duration::ZERO,
        };
        let mut turns = Turns::new(off, now);
        assert!(turns.hear(&task("a"), dirty("a"), 9, now).is_some());
        assert_eq!(turns.next(), None);
    }
}

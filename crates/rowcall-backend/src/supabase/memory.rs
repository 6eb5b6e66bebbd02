//! What the daemon remembers of tasks because the published table has no column for it.

use std::collections::{BTreeMap, VecDeque};

use parking_lot::Mutex;
use rowcall_core::{EventKind, MachineId, Payload, Selector, TableName, TaskRef};
use tokio::time::Instant;

/// Tasks that are remembered; the oldest are forgotten first.
const MAX_REMEMBERED: usize = 20_000;

/// Bytes of rows that are kept for tables that cannot be read.
const MAX_RECORD_BYTES: usize = 4 << 20;

/// A map that forgets what was put in first.
#[derive(Debug)]
struct Bounded<V> {
    map: BTreeMap<TaskRef, V>,
    order: VecDeque<TaskRef>,
}

impl<V> Default for Bounded<V> {
    fn default() -> Self {
        Self {
            map: BTreeMap::new(),
            order: VecDeque::new(),
        }
    }
}

impl<V> Bounded<V> {
    fn put(&mut self, task: &TaskRef, value: V) {
        if self.map.insert(task.clone(), value).is_some() {
            return;
        }
        self.order.push_back(task.clone());
        if self.order.len() > MAX_REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.map.remove(&oldest);
        }
    }
}

/// How a task came to be up for another try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GivenUp {
    /// The machine that does not try again.
    pub(crate) by: Option<MachineId>,
    /// How often the task has failed, where that is known.
    pub(crate) retry_count: Option<u32>,
    /// It was recovered from a machine that went away.
    pub(crate) stale: bool,
}

/// What Realtime told of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Heard {
    /// The table whose change made it.
    pub(crate) source: TableName,
    /// What happened there; nothing where rows are tasks, which do not say.
    pub(crate) event: Option<EventKind>,
    /// Somebody failed it.
    pub(crate) failed: bool,
}

impl Heard {
    /// Whether one of the selectors may mean the task.
    pub(crate) fn is_for(&self, selectors: &[Selector]) -> bool {
        selectors.iter().any(|selector| {
            selector.table == self.source
                && self
                    .event
                    .is_none_or(|event| selector.events.contains(event))
        })
    }
}

#[derive(Debug, Default)]
struct State {
    heard: Bounded<Heard>,
    attempts: Bounded<u32>,
    retry_at: Bounded<(MachineId, Instant)>,
    given_up: Bounded<GivenUp>,
    records: Records,
}

/// The last rows that Realtime told of, for tables that cannot be read otherwise.
#[derive(Debug, Default)]
struct Records {
    rows: VecDeque<(TaskRef, Payload)>,
    bytes: usize,
}

/// What the daemon remembers.
#[derive(Debug, Default)]
pub(crate) struct Memory(Mutex<State>);

impl Memory {
    /// The number of the attempt that begins now. `known` is what the row tells of earlier ones.
    pub(crate) fn next_attempt(&self, task: &TaskRef, known: u32) -> u32 {
        let mut state = self.0.lock();
        let last = state.attempts.map.get(task).copied().unwrap_or(0);
        let next = last.max(known).saturating_add(1);
        state.attempts.put(task, next);
        next
    }

    /// How often a task was claimed by this process; nothing if never.
    pub(crate) fn attempt(&self, task: &TaskRef) -> Option<u32> {
        self.0.lock().attempts.map.get(task).copied()
    }

    /// Whether a lease is the latest that this process was given of its task. An older one is fenced without asking.
    pub(crate) fn is_latest(&self, task: &TaskRef, attempt: u32) -> bool {
        self.attempt(task).is_none_or(|latest| latest == attempt)
    }

    /// A machine failed a task and may try it again from `at` on.
    pub(crate) fn note_retry(&self, task: &TaskRef, machine: &MachineId, at: Instant) {
        self.0.lock().retry_at.put(task, (machine.clone(), at));
    }

    /// When a machine may try a task again; nothing when it need not wait.
    pub(crate) fn retry_at(&self, task: &TaskRef) -> Option<(MachineId, Instant)> {
        self.0.lock().retry_at.map.get(task).cloned()
    }

    /// The task was claimed or mended: nobody has to wait any more.
    pub(crate) fn forget_retry(&self, task: &TaskRef) {
        self.0.lock().retry_at.map.remove(task);
    }

    /// The earliest time from now on at which the machine may try one of its failed tasks again.
    pub(crate) fn next_retry(&self, machine: &MachineId) -> Option<Instant> {
        let now = Instant::now();
        let state = self.0.lock();
        let mine = state.retry_at.map.values().filter(|(by, _)| by == machine);
        mine.map(|(_, at)| *at).filter(|at| *at > now).min()
    }

    pub(crate) fn note_given_up(&self, task: &TaskRef, given_up: GivenUp) {
        self.0.lock().given_up.put(task, given_up);
    }

    pub(crate) fn given_up(&self, task: &TaskRef) -> Option<GivenUp> {
        self.0.lock().given_up.map.get(task).cloned()
    }

    pub(crate) fn note_heard(&self, task: &TaskRef, heard: Heard) {
        self.0.lock().heard.put(task, heard);
    }

    /// What Realtime told of a task, if it did.
    pub(crate) fn heard(&self, task: &TaskRef) -> Option<Heard> {
        self.0.lock().heard.map.get(task).cloned()
    }

    /// Keeps a row that Realtime told of.
    pub(crate) fn note_record(&self, task: &TaskRef, row: Payload) {
        let mut state = self.0.lock();
        let records = &mut state.records;
        records.bytes += row.get().len();
        records.rows.push_back((task.clone(), row));
        while records.bytes > MAX_RECORD_BYTES || records.rows.len() > MAX_REMEMBERED {
            let Some((_, oldest)) = records.rows.pop_front() else {
                break;
            };
            records.bytes -= oldest.get().len();
        }
    }

    /// The last row of a task that Realtime told of, if it is still kept.
    pub(crate) fn record(&self, task: &TaskRef) -> Option<Payload> {
        let state = self.0.lock();
        let rows = state.records.rows.iter().rev();
        let found = rows.into_iter().find(|(known, _)| known == task);
        found.map(|(_, row)| row.clone())
    }

    /// Moves what is remembered of a task into the past.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn age(&self, task: &TaskRef, by: std::time::Duration) {
        if let Some((_, at)) = self.0.lock().retry_at.map.get_mut(task) {
            *at = at.checked_sub(by).unwrap_or_else(Instant::now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_is_bounded() {
        let memory = Memory::default();
        let task = |n: u128| TaskRef {
            table: rowcall_core::TableName::activities(),
            id: uuid::Uuid::from_u128(n).into(),
        };
        for n in 0..u128::try_from(MAX_REMEMBERED).unwrap() + 5 {
            assert_eq!(memory.next_attempt(&task(n), 0), 1);
        }
        assert_eq!(memory.attempt(&task(4)), None);
        assert_eq!(memory.next_attempt(&task(7), 0), 2);
        assert!(memory.is_latest(&task(7), 2) && !memory.is_latest(&task(7), 1));
        assert_eq!(memory.0.lock().attempts.map.len(), MAX_REMEMBERED);
    }
}

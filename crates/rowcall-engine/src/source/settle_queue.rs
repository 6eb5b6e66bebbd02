//! Verdicts that wait to be written, and what is remembered of those that were.

use std::collections::{HashMap, VecDeque};

use rowcall_core::{TaskId, TaskRef, TaskState, ports::Settlement};
use tokio::time::Instant;

use crate::unit::UnitId;

/// How many finished tasks are remembered for late reports.
const MAX_RECENT: usize = 4_096;

/// A verdict that waits to be written.
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) unit: UnitId,
    pub(super) settlement: Settlement,
    /// How often it was sent already.
    pub(super) tries: u32,
    /// How often the database refused it for good, alone.
    pub(super) refusals: u32,
    pub(super) since: Instant,
}

/// A [`Queued`] without its settlement, while that stands in a slice for the call.
pub(super) struct QueuedMeta {
    unit: UnitId,
    tries: u32,
    refusals: u32,
    since: Instant,
}

impl Queued {
    pub(super) fn split(queued: Vec<Self>) -> (Vec<QueuedMeta>, Vec<Settlement>) {
        queued
            .into_iter()
            .map(|one| {
                let meta = QueuedMeta {
                    unit: one.unit,
                    tries: one.tries + 1,
                    refusals: one.refusals,
                    since: one.since,
                };
                (meta, one.settlement)
            })
            .unzip()
    }

    pub(super) fn join(metas: Vec<QueuedMeta>, settlements: Vec<Settlement>) -> Vec<Self> {
        metas
            .into_iter()
            .zip(settlements)
            .map(|(meta, settlement)| Self {
                unit: meta.unit,
                settlement,
                tries: meta.tries,
                refusals: meta.refusals,
                since: meta.since,
            })
            .collect()
    }
}

/// The verdicts of one source that wait.
#[derive(Debug)]
pub(super) struct SettleQueue {
    ready: VecDeque<Queued>,
    /// Refused ones, each tried alone, and when.
    pub(super) aside: Vec<(Instant, Queued)>,
    batch: usize,
    /// How many go at once; below `batch` while a refused one is looked for.
    pub(super) limit: usize,
    /// While a refused one is looked for, settlements go without a claim: the error must be theirs.
    pub(super) careful: bool,
    /// Units whose settlement was fenced at a later try: was it our own first try?
    pub(super) doubtful: Vec<UnitId>,
}

impl SettleQueue {
    pub(super) fn new(batch: usize) -> Self {
        Self {
            ready: VecDeque::new(),
            aside: Vec::new(),
            batch,
            limit: batch,
            careful: false,
            doubtful: Vec::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.ready.len() + self.aside.len() + self.doubtful.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn ready_len(&self) -> usize {
        self.ready.len().min(self.limit)
    }

    pub(super) fn is_careful(&self) -> bool {
        self.careful && !self.ready.is_empty()
    }

    pub(super) fn take_ready(&mut self) -> Vec<Queued> {
        self.ready.drain(..self.ready_len()).collect()
    }

    pub(super) fn take_aside(&mut self, now: Instant) -> Option<Vec<Queued>> {
        let index = self.aside.iter().position(|(at, _)| *at <= now)?;
        Some(vec![self.aside.swap_remove(index).1])
    }

    pub(super) fn aside_due(&self) -> Option<Instant> {
        self.aside.iter().map(|(at, _)| *at).min()
    }

    pub(super) fn push(&mut self, queued: Queued) {
        self.ready.push_back(queued);
    }

    pub(super) fn put_back(&mut self, queued: Vec<Queued>) {
        for one in queued.into_iter().rev() {
            self.ready.push_front(one);
        }
    }

    pub(super) fn accepted(&mut self) {
        self.limit = (self.limit * 2).min(self.batch);
        self.careful = self.limit < self.batch;
    }
}

/// How the last tasks ended, for reports that come after.
#[derive(Debug, Default)]
pub(super) struct Recent {
    order: VecDeque<(TaskRef, u32)>,
    states: HashMap<TaskRef, (u32, TaskState)>,
}

impl Recent {
    pub(super) fn remember(&mut self, task: &TaskRef, attempt: u32, state: TaskState) {
        self.states.insert(task.clone(), (attempt, state));
        self.order.push_back((task.clone(), attempt));
        while self.order.len() > MAX_RECENT {
            let Some((task, attempt)) = self.order.pop_front() else {
                break;
            };
            if self.states.get(&task).is_some_and(|(at, _)| *at == attempt) {
                self.states.remove(&task);
            }
        }
    }

    /// The one task of this id that ended here; none when there are several.
    pub(super) fn find_id(&self, id: &TaskId) -> Option<TaskRef> {
        let mut found = self.states.keys().filter(|task| task.id == *id);
        let first = found.next()?;
        found.next().is_none().then(|| first.clone())
    }

    /// The attempt that ended here last, and how.
    pub(super) fn find(&self, task: &TaskRef) -> Option<(u32, TaskState)> {
        self.states.get(task).copied()
    }
}

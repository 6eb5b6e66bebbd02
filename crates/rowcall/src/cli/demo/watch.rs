//! When tasks were claimed, started and settled, as the engine tells it.

use std::{collections::HashMap, time::Duration};

use rowcall_core::TaskId;
use rowcall_engine::{Heard, Subscription, What};
use tokio::time::Instant;

/// Moments in the life of a task on this machine.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Moments {
    pub(super) claimed: Option<Instant>,
    pub(super) started: Option<Instant>,
    pub(super) ended: Option<Instant>,
}

/// Listens to the engine.
pub(super) struct Watch {
    events: Subscription,
    tasks: HashMap<TaskId, Moments>,
    ended: usize,
}

impl Watch {
    pub(super) fn new(events: Subscription) -> Self {
        Self {
            events,
            tasks: HashMap::new(),
            ended: 0,
        }
    }

    /// Listens until `count` tasks have ended since the beginning, calling `told` with that number as it grows; `false`
    /// when nothing ends for `patience`.
    pub(super) async fn until_ended(
        &mut self,
        count: usize,
        patience: Duration,
        mut told: impl FnMut(usize),
    ) -> bool {
        while self.ended < count {
            let Ok(heard) = tokio::time::timeout(patience, self.events.next()).await else {
                return false;
            };
            self.hear(heard);
            told(self.ended);
        }
        true
    }

    /// The moments of a task.
    pub(super) fn of(&self, task: &TaskId) -> Moments {
        self.tasks.get(task).copied().unwrap_or_default()
    }

    fn hear(&mut self, heard: Heard) {
        let now = Instant::now();
        let Heard::Event(event) = heard else { return };
        match event.what {
            What::Claimed { task, .. } => self.task(task.id).claimed = Some(now),
            What::Started { task, .. } => self.task(task.id).started = Some(now),
            What::Settled { task, .. } => self.end(task.id, now),
            What::Failed {
                task,
                retry_in_ms: None,
                ..
            } => self.end(task.id, now),
            _ => {}
        }
    }

    fn task(&mut self, id: TaskId) -> &mut Moments {
        self.tasks.entry(id).or_default()
    }

    fn end(&mut self, id: TaskId, now: Instant) {
        self.ended += 1;
        self.task(id).ended = Some(now);
    }
}

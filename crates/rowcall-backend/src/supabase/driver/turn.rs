//! Whose turn it is: signals are passed on at once, or later if the task is still open then.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use futures_util::FutureExt;
use rowcall_core::{MachineId, Signal, TableName, TaskRef, dispersal};
use tokio::time::Instant;

use super::dispatch::Dispatch;
use crate::supabase::{Inner, plan::Plan};

impl Dispatch<'_> {
    /// Passes a signal on, at once if this machine comes first for its task. Who has tried it does not try again.
    pub(super) fn tell(&mut self, signal: Signal, tried: &[MachineId]) {
        let (task, failed_by) = match &signal {
            Signal::Dirty {
                task: Some(task), ..
            } => (task.clone(), None),
            Signal::Available { task, failed_by } => (task.clone(), failed_by.clone()),
            _ => {
                self.inner.signals.send(signal);
                return;
            }
        };
        if self.plan.table(&task.table).is_none() && !self.plan.blind.contains(&task.table) {
            return;
        }
        let me = &self.inner.config.identity.machine;
        let present = self.present.borrow();
        let others = present
            .iter()
            .filter(|machine| !tried.contains(machine) && failed_by.as_ref() != Some(*machine));
        let rank = dispersal::rank(&task, me, others);
        let now = Instant::now().into_std();
        let due = self.inner.turns.lock().hear(&task, signal, rank, now);
        if let Some(signal) = due {
            self.inner.signals.send(signal);
        }
    }

    /// When the next signal is due that other machines came before.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.inner.turns.lock().next().map(Instant::from_std)
    }

    /// Looks for what is due: one look for all of it, instead of a lost claim for each. Events go on meanwhile.
    pub(super) fn look_for_due(&mut self) {
        let due = self.inner.turns.lock().take_due(Instant::now().into_std());
        if due.is_empty() {
            return;
        }
        let (inner, plan) = (self.inner, Arc::clone(&self.plan));
        self.looking
            .push(async move { still_open(inner, &plan, due).await }.boxed());
    }
}

/// The signals of tasks that nobody has claimed.
async fn still_open(inner: &Inner, plan: &Plan, due: BTreeMap<TaskRef, Signal>) -> Vec<Signal> {
    let mut due = due;
    let mut open = Vec::new();
    let names: BTreeSet<TableName> = due.keys().map(|task| task.table.clone()).collect();
    for name in names {
        let mut tasks: Vec<TaskRef> = due
            .keys()
            .filter(|task| task.table == name)
            .cloned()
            .collect();
        if let Some(table) = plan.table(&name) {
            let began = Instant::now();
            // Without an answer the claim will tell.
            if let Ok(found) = inner.still_open(table, &tasks).await {
                inner.turns.lock().took(Instant::now() - began);
                tasks = found;
            }
        }
        open.extend(tasks.iter().filter_map(|task| due.remove(task)));
    }
    open
}

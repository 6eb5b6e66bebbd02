//! What becomes of what the channels say.

use std::sync::Arc;

use rowcall_core::{Signal, TableName};
use rowcall_realtime::{
    channel::{Change, Event},
    presence::Presences,
};
use tokio::sync::watch;

use super::dispatch::{Dispatch, From};
use crate::supabase::{announce, capture::kind, presence, table::Table};

impl Dispatch<'_> {
    pub(super) fn take(
        &mut self,
        from: From,
        event: Event,
        board: &watch::Receiver<Arc<Presences>>,
    ) {
        match (from, event) {
            (From::Changes(table), Event::Up) => self.inner.signals.up(&table.to_string()),
            (From::Changes(_), Event::Lagged { dropped }) => {
                tracing::warn!(dropped, "Realtime events came faster than they were taken");
                self.inner.signals.send(Signal::Up);
            }
            (
                From::Changes(table),
                Event::Down {
                    reason, retry_in, ..
                },
            ) => {
                let reason = format!("no changes of {table} from Realtime: {reason}");
                self.inner
                    .signals
                    .down(&table.to_string(), reason, retry_in);
            }
            (From::Changes(table), Event::Change(change)) => self.take_change(&table, &change),
            // A broadcast that was missed is made up for by the regular look.
            (From::Retry, Event::Broadcast(said)) => {
                let me = &self.inner.config.identity.machine;
                if let Some(signal) = announce::heard(&said, me) {
                    self.tell(signal, &[]);
                }
            }
            (From::Machines, Event::Presence(_) | Event::Down { .. } | Event::Lagged { .. }) => {
                let machines = presence::machines(&board.borrow());
                let apps = &self.wanted.borrow().apps;
                self.present
                    .send_replace(presence::who_may_claim(&machines, apps));
                self.machines.send_replace(machines);
            }
            _ => {}
        }
    }

    fn take_change(&mut self, table: &TableName, change: &Change) {
        if self.plan.captured_here.contains(table) {
            self.capture(change);
            return;
        }
        if self.plan.blind.contains(table) {
            self.take_unseen(table, change);
            return;
        }
        let Some(table) = self.plan.table(table) else {
            return;
        };
        let Some(record) = change.record.clone() else {
            return;
        };
        let (task, tried) = match table.row(record) {
            Ok(row) => {
                let tried = row.attempted_by();
                // A row that this machine failed is not for this machine.
                if tried.contains(&self.inner.config.identity.machine) {
                    return;
                }
                let task = row.task_ref();
                self.inner.memory.note_heard(&task, row.heard());
                (Some(task), tried)
            }
            // The record is incomplete, or its key is hidden: something is there.
            Err(_) => (None, Vec::new()),
        };
        if kind(change).is_some() {
            let table = table.name().clone();
            self.tell(Signal::Dirty { table, task }, &tried);
        }
    }

    /// A change of a table that only Realtime shows: the row is kept, because nobody else will give it.
    fn take_unseen(&mut self, table: &TableName, change: &Change) {
        let Some(record) = &change.record else { return };
        let unseen = Table::unseen(self.inner.rest.clone(), table.clone());
        let Ok(row) = unseen.row(record.clone()) else {
            return;
        };
        if !row.is_selected(&self.wanted.borrow().selectors) {
            return;
        }
        let task = row.task_ref();
        self.inner.memory.note_record(&task, row.task(0).raw_data);
        let signal = Signal::Dirty {
            table: table.clone(),
            task: Some(task),
        };
        self.tell(signal, &[]);
    }
}

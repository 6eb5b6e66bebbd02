//! The reference model: a coordinator that is a list of rows and a lock.
//!
//! It says what every other coordinator must do, in the plainest way: no SQL, one mutex, an injected clock. The conformance
//! suite holds the real ones to it, and the engine's tests run on it.

mod admin;
mod coordinator;
mod row;
#[cfg(test)]
mod tests;

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures_util::stream::{self, BoxStream, StreamExt};
use parking_lot::Mutex;
use rowcall_core::{
    Clock, EventKind, IdSource, Payload, Signal, SourceError, TableName, TaskId, TaskRef,
    ports::SignalSource,
};
use tokio::sync::mpsc;

use row::Row;

/// Signals that wait for one listener at most; more are dropped, as the port allows.
const SIGNAL_BUFFER: usize = 64;

/// A task to be put into the model.
#[derive(Clone, Debug)]
pub struct NewTask {
    /// The table whose change made it; `rtx_activities` for one written directly.
    pub source: TableName,
    /// What happened there.
    pub event: EventKind,
    /// The key of the source row.
    pub key: Option<Payload>,
    /// The new row.
    pub raw_data: Payload,
    /// The old row.
    pub old_data: Option<Payload>,
}

impl NewTask {
    /// An activity written directly, as an application does.
    pub fn direct(raw_data: Payload) -> Self {
        Self::captured(TableName::activities(), raw_data)
    }

    /// An INSERT into `source`.
    pub fn captured(source: TableName, row: Payload) -> Self {
        Self {
            source,
            event: EventKind::Insert,
            key: None,
            raw_data: row,
            old_data: None,
        }
    }
}

/// A coordinator in memory. Clones share the rows, as machines share a database.
#[derive(Clone)]
pub struct MemoryCoordinator(Arc<Shared>);

struct Shared {
    clock: Arc<dyn Clock>,
    ids: Arc<dyn IdSource>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// In the order they were inserted.
    rows: Vec<Row>,
    listeners: Vec<mpsc::Sender<Signal>>,
    busy: bool,
}

impl State {
    fn row(&mut self, task: &TaskRef) -> Option<&mut Row> {
        if task.table != TableName::activities() {
            return None;
        }
        let id = task.id.as_uuid()?;
        self.rows.iter_mut().find(|row| row.id == id)
    }

    fn tell(&mut self, signal: &Signal) {
        // A full listener misses the signal and keeps its place; a closed one goes.
        self.listeners.retain(|listener| {
            !matches!(
                listener.try_send(signal.clone()),
                Err(mpsc::error::TrySendError::Closed(_))
            )
        });
    }
}

impl MemoryCoordinator {
    /// An empty model that tells time by `clock` and takes task ids from `ids`.
    pub fn new(clock: Arc<dyn Clock>, ids: Arc<dyn IdSource>) -> Self {
        Self(Arc::new(Shared {
            clock,
            ids,
            state: Mutex::default(),
        }))
    }

    /// Puts a pending task in and tells the listeners.
    pub fn insert(&self, task: NewTask) -> TaskRef {
        let id = self.0.ids.uuid();
        let now = self.0.clock.now();
        let mut state = self.0.state.lock();
        state.rows.push(Row::new(id, now, task));
        let task = TaskRef {
            table: TableName::activities(),
            id: TaskId::Uuid(id),
        };
        state.tell(&Signal::Dirty {
            table: task.table.clone(),
            task: Some(task.clone()),
        });
        task
    }

    /// Moves the times of one task into the past, as if it had been left alone for so long.
    pub fn age(&self, task: &TaskRef, by: Duration) {
        if let Some(row) = self.0.state.lock().row(task) {
            for at in [&mut row.locked_at, &mut row.retry_at] {
                *at = at.map(|at| at.checked_sub(by).unwrap_or(jiff::Timestamp::MIN));
            }
        }
    }

    /// Overwrites the status word, as a foreign client might; `None` is SQL's null. The lock stays.
    pub fn set_status(&self, task: &TaskRef, status: Option<&str>) {
        if let Some(row) = self.0.state.lock().row(task) {
            row.status = status.map(Into::into);
        }
    }

    /// Overwrites the lock, as a foreign client might.
    pub fn set_lock(&self, task: &TaskRef, by: Option<&str>, at: Option<jiff::Timestamp>) {
        if let Some(row) = self.0.state.lock().row(task) {
            row.locked_by = by.map(Into::into);
            row.locked_at = at;
        }
    }

    /// Makes status, `attempted_by` and `retry_count` null, as rows of other writers may be.
    pub fn set_nulls(&self, task: &TaskRef) {
        if let Some(row) = self.0.state.lock().row(task) {
            row.status = None;
            row.attempted_by.clear();
            row.retry_count = 0;
        }
    }

    /// Deletes a task, as a person might.
    pub fn delete(&self, task: &TaskRef) {
        let mut state = self.0.state.lock();
        state.rows.retain(|row| task.id.as_uuid() != Some(row.id));
    }

    /// Sends a signal to every listener, as a test wants it.
    pub fn signal(&self, signal: &Signal) {
        self.0.state.lock().tell(signal);
    }

    /// What [`SignalSource::set_busy`] said last.
    pub fn is_busy(&self) -> bool {
        self.0.state.lock().busy
    }
}

impl fmt::Debug for MemoryCoordinator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.0.state.lock();
        f.debug_struct("MemoryCoordinator")
            .field("rows", &state.rows.len())
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl SignalSource for MemoryCoordinator {
    /// [`Signal::Up`], then a [`Signal::Dirty`] for every insert.
    fn signals(&self) -> BoxStream<'static, Signal> {
        let (sender, receiver) = mpsc::channel(SIGNAL_BUFFER);
        self.0.state.lock().listeners.push(sender);
        let later = stream::unfold(receiver, |mut receiver| async move {
            let signal = receiver.recv().await?;
            Some((signal, receiver))
        });
        // The stream must not end when the model is dropped first.
        stream::once(async { Signal::Up })
            .chain(later)
            .chain(stream::pending())
            .boxed()
    }

    async fn set_busy(&self, busy: bool) -> Result<(), SourceError> {
        self.0.state.lock().busy = busy;
        Ok(())
    }
}

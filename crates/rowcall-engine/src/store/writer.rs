//! The one thread that writes history: whatever waits goes into one transaction.

use std::{collections::HashMap, fmt, sync::Arc, thread, time::Duration};

use async_trait::async_trait;
use parking_lot::Mutex;
use rowcall_core::{Clock, TaskRef};
use rusqlite::{Connection, TransactionBehavior};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use super::{
    TaskStore,
    attempts::{add_ended, add_started, add_whole},
    calendar::add_seen,
    logs::OpenLogs,
    open::{Store, StoreError, StoreOptions, connect},
    prune::prune,
    record::{Ended, Record, Seen, Started},
};

/// How many records may wait for the writer.
const MAX_WAITING: usize = 16_384;

/// How many records one transaction takes.
const MAX_BATCH: usize = 8_192;

/// How much of the file the writer keeps in memory at most, in KiB: the indexes of random ids are touched everywhere.
const CACHE_KIB: i64 = 8 * 1024;

/// How often a batch is tried before it is dropped with an error.
const MAX_TRIES: u32 = 3;

/// How long the writer waits between tries.
const TRY_AGAIN_AFTER: Duration = Duration::from_millis(200);

/// How often the writer forgets what is too old or too much.
const PRUNE_EVERY: Duration = Duration::from_mins(10);

enum Message {
    Record(Record),
    Flush(oneshot::Sender<()>),
}

/// Writes what the engine did. Dropping it waits until everything given to it is written.
pub struct StoreWriter {
    /// `None` only while it is dropped.
    sender: Option<mpsc::Sender<Message>>,
    trouble: Arc<Mutex<Option<String>>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl fmt::Debug for StoreWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreWriter").finish_non_exhaustive()
    }
}

impl StoreWriter {
    /// Starts the writer of the daemon. Attempts that an earlier daemon left open, because it was killed, are closed as
    /// interrupted: only one daemon may use a store.
    pub fn start(store: &Store, clock: Arc<dyn Clock>) -> Result<Self, StoreError> {
        let connection = connect(&store.path, &store.options)?;
        connection
            .pragma_update(None, "cache_size", -CACHE_KIB)
            .map_err(|error| store.error(error))?;
        let now = clock.now().as_millisecond();
        for sql in [
            include_str!("sql/attempt_interrupted.sql"),
            include_str!("sql/calendar_interrupted.sql"),
        ] {
            connection
                .execute(sql, [now])
                .map_err(|error| store.error(error))?;
        }
        let (sender, receiver) = mpsc::channel(MAX_WAITING);
        let trouble = Arc::new(Mutex::new(None));
        let writer = Writer {
            connection,
            path: store.path.clone(),
            options: store.options,
            clock,
            logs: OpenLogs::default(),
            trouble: Arc::clone(&trouble),
            pruned: None,
        };
        let thread = thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || writer.run(receiver))
            .map_err(|error| StoreError::Inaccessible {
                path: store.path.clone(),
                reason: error.to_string(),
            })?;
        Ok(Self {
            sender: Some(sender),
            trouble,
            thread: Some(thread),
        })
    }

    fn sender(&self) -> &mpsc::Sender<Message> {
        self.sender.as_ref().expect("only drop takes it")
    }
}

impl Drop for StoreWriter {
    fn drop(&mut self) {
        self.sender = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the store writer broke down; some history was not written");
        }
    }
}

#[async_trait]
impl TaskStore for StoreWriter {
    fn enabled(&self) -> bool {
        true
    }

    fn write(&self, records: &mut Vec<Record>) {
        let sender = self.sender();
        if sender.is_closed() {
            return records.clear();
        }
        let room = records.len().min(sender.capacity());
        // Agents' lines come from other threads: when they took the room, the records wait for the next turn.
        if let Ok(permits) = sender.try_reserve_many(room) {
            for (permit, record) in permits.zip(records.drain(..room)) {
                permit.send(Message::Record(record));
            }
        }
    }

    async fn room(&self) {
        // A closed channel has no room, and no use for any.
        let _ = self.sender().reserve().await;
    }

    async fn flush(&self) {
        let (done, flushed) = oneshot::channel();
        if self.sender().send(Message::Flush(done)).await.is_ok() {
            let _ = flushed.await;
        }
    }

    fn take_trouble(&self) -> Option<String> {
        self.trouble.lock().take()
    }
}

struct Writer {
    connection: Connection,
    path: std::path::PathBuf,
    options: StoreOptions,
    clock: Arc<dyn Clock>,
    logs: OpenLogs,
    trouble: Arc<Mutex<Option<String>>>,
    pruned: Option<Instant>,
}

impl Writer {
    fn run(mut self, mut receiver: mpsc::Receiver<Message>) {
        let mut messages = Vec::with_capacity(MAX_BATCH);
        while receiver.blocking_recv_many(&mut messages, MAX_BATCH) > 0 {
            let mut batch = Vec::with_capacity(messages.len());
            let mut waiting = Vec::new();
            for message in messages.drain(..) {
                match message {
                    Message::Record(record) => batch.push(record),
                    Message::Flush(done) => waiting.push(done),
                }
            }
            self.write(&batch);
            self.prune_now_and_then();
            for done in waiting {
                // Whoever asked may have gone.
                let _ = done.send(());
            }
        }
        if let Err(error) = self.connection.execute_batch("pragma optimize") {
            tracing::debug!(%error, "store statistics were not refreshed");
        }
    }

    fn write(&mut self, batch: &[Record]) {
        if batch.is_empty() {
            return;
        }
        let mut tries = 0;
        while let Err(error) = self.try_write(batch) {
            tries += 1;
            self.logs.forget();
            if tries >= MAX_TRIES {
                let error = StoreError::from_sqlite(&self.path, error);
                tracing::error!(%error, records = batch.len(), "history was not written");
                *self.trouble.lock() = Some(error.to_string());
                return;
            }
            thread::sleep(TRY_AGAIN_AFTER);
        }
    }

    fn try_write(&mut self, batch: &[Record]) -> rusqlite::Result<()> {
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        for step in steps(batch) {
            match step {
                Step::Seen(seen) => add_seen(&transaction, seen)?,
                Step::Started(started) => add_started(&transaction, started)?,
                Step::Whole(started, ended) => add_whole(&transaction, started, ended)?,
                Step::Ended(ended) => add_ended(&transaction, ended)?,
            }
        }
        for record in batch {
            if let Record::Log(log) = record {
                self.logs
                    .add(&transaction, &self.options, log.as_ref().clone())?;
            }
        }
        self.logs.write(&transaction)?;
        transaction.commit()
    }

    fn prune_now_and_then(&mut self) {
        let now = Instant::now();
        if self.pruned.is_some_and(|at| now - at < PRUNE_EVERY) {
            return;
        }
        self.pruned = Some(now);
        if let Err(error) = prune(&self.connection, &self.options, self.clock.now()) {
            tracing::warn!(%error, "the local store could not be pruned");
        }
    }
}

/// One statement's worth.
enum Step<'a> {
    Seen(&'a Seen),
    Started(&'a Started),
    Whole(&'a Started, &'a Ended),
    Ended(&'a Ended),
}

/// A batch without its lines, in order; an attempt that began and ended in it is one step.
fn steps(batch: &[Record]) -> Vec<Step<'_>> {
    let mut steps: Vec<Step<'_>> = Vec::with_capacity(batch.len());
    let mut open: HashMap<(&TaskRef, u32), usize> = HashMap::new();
    for record in batch {
        match record {
            Record::Seen(seen) => steps.push(Step::Seen(seen)),
            Record::Started(started) => {
                open.insert((&started.seen.task, started.attempt), steps.len());
                steps.push(Step::Started(started));
            }
            Record::Ended(ended) => match open.remove(&(&ended.task, ended.attempt)) {
                Some(index) => {
                    if let Step::Started(started) = steps[index] {
                        steps[index] = Step::Whole(started, ended);
                    }
                }
                None => steps.push(Step::Ended(ended)),
            },
            Record::Log(_) => {}
        }
    }
    steps
}

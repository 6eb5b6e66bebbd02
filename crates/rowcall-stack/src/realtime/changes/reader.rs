//! Reads the WAL: one task, one session, batches as large as what is waiting.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use jiff::Timestamp;
use pgwire_replication::{Lsn, PgWireError, ReplicationClient, ReplicationEvent};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::dispatch::{CatchUp, Dispatcher, Placed};
use super::pgoutput::Message;
use super::position::Position;
use super::slot::{self, SlotError};
use super::{State, Status};

/// Changes handled together at most.
const BATCH_CHANGES: usize = 256;
/// Bytes of changes handled together at most, roughly.
const BATCH_BYTES: usize = 4 * 1024 * 1024;
/// Pauses between attempts to connect; the last one repeats.
const PAUSES: [Duration; 5] = [
    Duration::from_millis(50),
    Duration::from_millis(200),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(3),
];
/// How often the place to confirm is looked at while nothing comes.
const CONFIRM_INTERVAL: Duration = Duration::from_secs(1);

/// Reads until the task is aborted or its future dropped.
pub(crate) async fn read_loop(state: Arc<State>, mut commands: mpsc::Receiver<CatchUp>) {
    let mut reader = Reader {
        dispatcher: Dispatcher::new(Arc::clone(&state)),
        delivered: Position::default(),
        has_streamed: false,
        state,
    };
    let mut failures: u32 = 0;
    loop {
        let started = Instant::now();
        let mut is_late = false;
        let error = match reader.stream(&mut commands, failures).await {
            Ok(()) => "the server ended the session".to_owned(),
            Err(error) => {
                reader.heal(&error).await;
                is_late = matches!(error, SlotError::Timeout(_));
                error.to_string()
            }
        };
        if started.elapsed() > Duration::from_secs(10) {
            failures = 0;
        }
        let step = usize::try_from(failures).unwrap_or(usize::MAX);
        let pause = PAUSES[step.min(PAUSES.len() - 1)];
        failures = failures.saturating_add(1);
        tracing::warn!(error, "changes cannot be read; trying again");
        if !(is_late && *reader.state.status.borrow() == Status::Connecting) {
            reader.state.status.send_replace(Status::Down(error));
        }
        let retry = Instant::now() + pause;
        // Clients that come back meanwhile are served from the ring.
        while let Ok(Some(catch_up)) = tokio::time::timeout_at(retry, commands.recv()).await {
            reader.dispatcher.catch_up(catch_up).await;
        }
        tokio::time::sleep_until(retry).await;
    }
}

struct Reader {
    state: Arc<State>,
    dispatcher: Dispatcher,
    /// The last change that was handled; the server may send it and earlier ones again.
    delivered: Position,
    has_streamed: bool,
}

/// The transaction whose changes are coming.
#[derive(Default)]
struct Transaction {
    id: u32,
    commit: u64,
    committed_at: Timestamp,
    changes: u32,
}

/// What has been taken from the session and not been handled yet.
#[derive(Default)]
struct Batch {
    messages: Vec<Placed>,
    bytes: usize,
    /// Everything up to here is handled once the batch is.
    reached: Option<Lsn>,
}

impl Reader {
    async fn stream(
        &mut self,
        commands: &mut mpsc::Receiver<CatchUp>,
        failures: u32,
    ) -> Result<(), SlotError> {
        let state = Arc::clone(&self.state);
        let streaming = slot::open(
            &state.database,
            &state.slot,
            &state.application,
            self.has_streamed,
            failures,
        )
        .await?;
        let mut client = streaming.client;
        self.dispatcher.session_started();
        if streaming.has_gap {
            state.give_up_subscribers();
        }
        self.has_streamed = true;
        state.status.send_replace(Status::Streaming);
        tracing::info!("reading changes");
        let mut confirm = Confirm::new(state.limits.ring_age);
        let mut transaction = Transaction::default();
        let mut ticks = tokio::time::interval(CONFIRM_INTERVAL);
        loop {
            // All three branches are safe to cancel: receiving takes nothing out unless it completes.
            let event = tokio::select! {
                biased;
                Some(catch_up) = commands.recv() => {
                    self.dispatcher.catch_up(catch_up).await;
                    continue;
                }
                event = client.recv() => event?,
                _ = ticks.tick() => {
                    confirm.confirm(&client);
                    continue;
                }
            };
            let Some(event) = event else {
                return Ok(());
            };
            let mut batch = Batch::default();
            self.take(event, &mut transaction, &mut batch)?;
            while batch.messages.len() < BATCH_CHANGES && batch.bytes < BATCH_BYTES {
                match client.recv().now_or_never() {
                    Some(Ok(Some(event))) => self.take(event, &mut transaction, &mut batch)?,
                    // Comes again with the next recv.
                    Some(Ok(None)) | None => break,
                    Some(Err(error)) => {
                        self.handle(batch, &mut confirm, &client).await;
                        return Err(error.into());
                    }
                }
            }
            self.handle(batch, &mut confirm, &client).await;
        }
    }

    async fn handle(&mut self, batch: Batch, confirm: &mut Confirm, client: &ReplicationClient) {
        let last = batch.messages.last().map(|placed| placed.position);
        if !batch.messages.is_empty() {
            self.dispatcher.process(batch.messages).await;
        }
        self.delivered = self.delivered.max(last.unwrap_or_default());
        if let Some(reached) = batch.reached {
            confirm.reached(reached);
            confirm.confirm(client);
        }
    }

    fn take(
        &mut self,
        event: ReplicationEvent,
        transaction: &mut Transaction,
        batch: &mut Batch,
    ) -> Result<(), SlotError> {
        match event {
            ReplicationEvent::Begin {
                final_lsn,
                commit_time_micros,
                xid,
            } => {
                *transaction = Transaction {
                    id: xid,
                    commit: final_lsn.as_u64(),
                    committed_at: timestamp(commit_time_micros),
                    changes: 0,
                };
            }
            ReplicationEvent::Commit { end_lsn, .. } => batch.reached = Some(end_lsn),
            // Between transactions a keepalive says how far the WAL has been read for us.
            ReplicationEvent::KeepAlive { wal_end, .. } if batch.messages.is_empty() => {
                batch.reached = Some(wal_end);
            }
            ReplicationEvent::XLogData { data, .. } => {
                let bytes = data.len();
                let message = Message::decode(data).map_err(|error| {
                    SlotError::Session(PgWireError::Protocol(error.to_string()))
                })?;
                let is_change = !matches!(message, Message::Relation(_) | Message::Other);
                transaction.changes += u32::from(is_change);
                let position = Position {
                    commit: transaction.commit,
                    change: transaction.changes,
                };
                // After a reconnect the server sends again what it does not know to be handled. Descriptions are always taken.
                if is_change && position <= self.delivered {
                    return Ok(());
                }
                batch.bytes += bytes;
                batch.messages.push(Placed {
                    position,
                    transaction: transaction.id,
                    committed_at: transaction.committed_at,
                    message,
                });
            }
            ReplicationEvent::KeepAlive { .. }
            | ReplicationEvent::Message { .. }
            | ReplicationEvent::StoppedAt { .. } => {}
        }
        Ok(())
    }

    /// Some failures do not pass by themselves: a publication that was dropped while changes were made cannot be decoded past
    /// on servers before 18. The slot is given up then, and subscribers catch up by asking.
    async fn heal(&mut self, error: &SlotError) {
        let SlotError::Session(PgWireError::Server(text)) = error else {
            return;
        };
        let is_stuck = text.contains("publication") && text.contains("SQLSTATE 42704");
        if !is_stuck {
            return;
        }
        tracing::warn!("a publication was dropped while changes were made; the slot is made anew");
        let slot = match &self.state.slot {
            slot::Slot::Durable { name, .. } => slot::Slot::Durable {
                name: name.clone(),
                keep: false,
            },
            slot::Slot::Temporary => return,
        };
        slot::drop_slot(&self.state.database, &slot).await;
    }
}

/// Seconds from 1970 to 2000, the beginning of PostgreSQL's time.
const EPOCH_2000: i64 = 946_684_800;

fn timestamp(micros_since_2000: i64) -> Timestamp {
    Timestamp::from_microsecond(micros_since_2000.saturating_add(EPOCH_2000 * 1_000_000))
        .unwrap_or_default()
}

/// Tells the server what it need not keep any longer: what was handled some time ago. What is younger comes again after a
/// restart of this server and fills the ring for clients that come back.
struct Confirm {
    age: Duration,
    reached: VecDeque<(Instant, Lsn)>,
}

/// Places remembered; between them the oldest wins.
const MAX_PLACES: usize = 1_000;

impl Confirm {
    fn new(age: Duration) -> Self {
        Self {
            age,
            reached: VecDeque::new(),
        }
    }

    fn reached(&mut self, lsn: Lsn) {
        let now = Instant::now();
        match self.reached.back_mut() {
            // One place in a short time is enough.
            Some((at, last)) if now.duration_since(*at) < self.age / 100 => *last = lsn,
            _ => self.reached.push_back((now, lsn)),
        }
        if self.reached.len() > MAX_PLACES {
            self.reached.pop_front();
        }
    }

    fn confirm(&mut self, client: &ReplicationClient) {
        while let Some(&(at, lsn)) = self.reached.front() {
            if at.elapsed() < self.age {
                break;
            }
            client.update_applied_lsn(lsn);
            self.reached.pop_front();
        }
    }
}

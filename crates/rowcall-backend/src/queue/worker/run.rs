//! The worker's loop: settle what is done, claim what there is room for, sleep until something happens.

use std::{
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use futures_util::StreamExt as _;
use rowcall_core::{
    AppId, Lease, LeaseKey, Payload, RetryPolicy, Signal,
    ports::{
        ClaimBatch, ClaimOrder, ClaimRules, Claimed, Coordinator as _, Fence, Settlement,
        SignalSource as _, Verdict,
    },
};
use tokio::{
    task::{AbortHandle, Id, JoinError, JoinSet},
    time::{Instant, MissedTickBehavior, interval_at, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;

use super::{Failure, Worker, job::JobError, presence::Seen};
use crate::queue::signals::QueueSignals;

/// After an error of the database.
const AFTER_ERROR: Duration = Duration::from_secs(1);

/// So often other tasks get their turn before a round trip.
const GATHER: usize = 3;

/// Why a handler was stopped.
const TOO_LONG: &str = "it ran for as long as the visibility time-out, which the project cannot prolong: raise the time-out, \
                        or install rowcall's functions there (rowcall queue migration)";

/// A handler at work.
struct Running {
    lease: Lease,
    handle: AbortHandle,
}

/// The state of a running worker.
struct Loop<'a> {
    worker: &'a Worker,
    rules: ClaimRules,
    batch: ClaimBatch,
    tasks: JoinSet<Result<(), JobError>>,
    running: HashMap<Id, Running>,
    settlements: Vec<Settlement>,
    seen: Option<Seen<'a>>,
    /// Whether messages may be there.
    hungry: bool,
}

impl Worker {
    /// Runs until `stop` is canceled: then no more messages are read, running handlers get the grace period, and what is not
    /// done after it is given back to its queue. Errors of the database are waited out.
    pub async fn run(&self, stop: CancellationToken) {
        let (backend, options) = (self.backend.clone(), self.signals);
        let source = match &self.channel {
            Some(channel) => QueueSignals::realtime(
                backend,
                options,
                channel.client.clone(),
                channel.broadcast.clone(),
            ),
            None => QueueSignals::new(backend, options),
        };
        let mut signals = source.signals();
        let lease = self.backend.lease_policy();
        let mut work = Loop {
            worker: self,
            rules: ClaimRules {
                machine: self.machine.clone(),
                lease,
                retry: RetryPolicy::default(),
            },
            batch: ClaimBatch {
                app: AppId::new("worker").expect("a constant"),
                selectors: self.backend.selectors(),
                limit: 0,
                retryable: true,
                order: ClaimOrder::OldestFirst,
                hints: std::sync::Arc::default(),
            },
            tasks: JoinSet::new(),
            running: HashMap::new(),
            settlements: Vec::new(),
            seen: self.channel.as_ref().map(|channel| {
                let clock = Arc::clone(&channel.clock);
                Seen::new(self.machine.as_str(), &source, &self.backend, clock)
            }),
            hungry: true,
        };
        let mut heartbeat = interval_at(Instant::now() + lease.renew_every, lease.renew_every);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut poll = interval_at(Instant::now() + self.signals.poll, self.signals.poll);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut connected, mut busy) = (false, false);
        while !stop.is_cancelled() {
            let full = work.turn().await;
            // A worker that has more than it can do needs no wake-ups.
            if full != busy {
                busy = full;
                drop(source.set_busy(busy).await);
            }
            if work.hungry && work.room() > 0 {
                continue;
            }
            // Everything here is cancel safe: a stream, a join set, two intervals, a token.
            tokio::select! {
                Some(done) = work.tasks.join_next_with_id() => work.ended(done),
                Some(signal) = signals.next() => match signal {
                    Signal::Down { .. } => connected = false,
                    Signal::Up => {
                        connected = true;
                        work.hungry = true;
                    }
                    _ => work.hungry = true,
                },
                _ = heartbeat.tick() => work.renew().await,
                // The source polls by itself while it is connected.
                _ = poll.tick(), if !connected => work.hungry = true,
                () = stop.cancelled() => {}
            }
        }
        work.finish(self.grace).await;
    }
}

impl Loop<'_> {
    fn room(&self) -> u32 {
        let running = u32::try_from(self.running.len()).unwrap_or(u32::MAX);
        self.worker.concurrency.saturating_sub(running)
    }

    /// One round trip: settles what is done and claims into the free places. Says whether all places are taken.
    async fn turn(&mut self) -> bool {
        // Handlers that end together are settled together.
        for _ in 0..GATHER {
            while let Some(done) = self.tasks.try_join_next_with_id() {
                self.ended(done);
            }
            tokio::task::yield_now().await;
        }
        let room = self.room();
        // Whoever settles asks for more in the same round trip: it costs nothing.
        if room == 0 || (!self.hungry && self.settlements.is_empty()) {
            return room == 0;
        }
        self.batch.limit = room;
        let backend = &self.worker.backend;
        let turn = async {
            if self.settlements.is_empty() {
                backend.claim_next(&self.rules, &self.batch).await
            } else {
                let settled = backend.settle_and_claim(&self.rules, &self.settlements, &self.batch);
                settled.await.map(|(_, claimed)| claimed)
            }
        };
        match turn.await {
            Ok(claimed) => {
                self.settlements.clear();
                self.hungry = claimed.len() >= room as usize;
                for claimed in claimed {
                    self.start(claimed);
                }
            }
            Err(error) => {
                tracing::warn!(%error, "the queues are out of reach; trying again");
                tokio::time::sleep(AFTER_ERROR).await;
                self.hungry = true;
            }
        }
        self.room() == 0
    }

    fn start(&mut self, claimed: Claimed) {
        let Claimed { lease, task } = claimed;
        let table = &task.task.table;
        let (Some(handler), Some(queue)) = (
            self.worker.handlers.get(table),
            self.worker.backend.queue_of(table),
        ) else {
            unreachable!("only queues with handlers are claimed");
        };
        let (handler, queue) = (Arc::clone(handler), queue.clone());
        if let Some(seen) = &mut self.seen {
            seen.begin(lease.key());
        }
        self.worker.backend.started(&task.task);
        let limit = self.worker.backend.attempt_limit(table);
        let handle = self.tasks.spawn(async move {
            match limit {
                Some(limit) => timeout(limit, handler(queue, task))
                    .await
                    .unwrap_or_else(|_| Err(JobError::from(TOO_LONG))),
                None => handler(queue, task).await,
            }
        });
        self.running.insert(handle.id(), Running { lease, handle });
    }

    /// Turns the end of a handler into a settlement.
    fn ended(&mut self, done: Result<(Id, Result<(), JobError>), JoinError>) {
        let (id, result) = match done {
            Ok((id, result)) => (id, result),
            Err(error) if error.is_panic() => {
                let id = error.id();
                (
                    id,
                    Err(JobError::from(format!(
                        "the handler panicked: {}",
                        words(error.into_panic().as_ref())
                    ))),
                )
            }
            // Aborted, because its lease was lost: nothing to settle.
            Err(error) => {
                if let (Some(running), Some(seen)) =
                    (self.running.remove(&error.id()), &mut self.seen)
                {
                    seen.end(running.lease.key());
                }
                return;
            }
        };
        let Some(running) = self.running.remove(&id) else {
            return;
        };
        let lease = running.lease.into_key();
        if let Some(seen) = &mut self.seen {
            seen.end(&lease);
        }
        let verdict = match result {
            Ok(()) => Verdict::Completed(Payload::empty_object()),
            Err(error) => {
                self.tell(&lease, &error);
                error.into_verdict()
            }
        };
        self.settlements.push(Settlement { lease, verdict });
    }

    fn tell(&self, lease: &LeaseKey, error: &JobError) {
        let backend = &self.worker.backend;
        let (Some(queue), Some((_, id))) = (
            backend.queue_of(&lease.task.table),
            backend.locate(&lease.task),
        ) else {
            return;
        };
        tracing::warn!(%queue, msg_id = id, attempt = lease.attempt, error = error.message, "a job failed");
        let Some(hook) = &self.worker.on_error else {
            return;
        };
        let failure = Failure {
            queue: queue.clone(),
            id,
            attempt: lease.attempt,
            error: error.clone(),
        };
        if catch_unwind(AssertUnwindSafe(|| hook(&failure))).is_err() {
            tracing::error!(%queue, "the error hook panicked");
        }
    }

    /// Keeps the leases of what runs; handlers whose lease is gone are stopped, because somebody else has the message now.
    async fn renew(&mut self) {
        let keys: Vec<(Id, LeaseKey)> = self
            .running
            .iter()
            .map(|(id, running)| (*id, running.lease.key().clone()))
            .collect();
        if keys.is_empty() {
            return;
        }
        let leases: Vec<LeaseKey> = keys.iter().map(|(_, key)| key.clone()).collect();
        match self.worker.backend.renew(&leases).await {
            Ok(fences) => {
                for ((id, _), fence) in keys.iter().zip(fences) {
                    if fence == Fence::Lost
                        && let Some(running) = self.running.get(id)
                    {
                        running.handle.abort();
                    }
                }
            }
            Err(error) => tracing::warn!(%error, "could not renew the leases; trying again"),
        }
    }

    /// Lets handlers end, settles them, and gives the rest back.
    async fn finish(&mut self, grace: Duration) {
        let end = Instant::now() + grace;
        while let Ok(Some(done)) = timeout_at(end, self.tasks.join_next_with_id()).await {
            self.ended(done);
        }
        self.tasks.abort_all();
        while let Some(done) = self.tasks.join_next_with_id().await {
            if !matches!(&done, Err(error) if error.is_cancelled()) {
                self.ended(done);
            }
        }
        let backend = &self.worker.backend;
        if let Err(error) = backend.settle(&self.settlements).await {
            tracing::warn!(%error, jobs = self.settlements.len(), "finished jobs could not be settled: they will run again");
        }
        let left: Vec<LeaseKey> = self
            .running
            .drain()
            .map(|(_, running)| running.lease.into_key())
            .collect();
        if !left.is_empty() {
            tracing::warn!(
                jobs = left.len(),
                "the grace period is over: giving unfinished jobs back"
            );
            if let Err(error) = backend.release(&left).await {
                tracing::warn!(%error, "they could not be given back: they come back by themselves");
            }
        }
    }
}

/// What a panic said.
fn words(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("without words")
}

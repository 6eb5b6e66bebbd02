//! Wake-ups: gated NOTIFY or Realtime broadcasts, the time of the next message, and polling underneath.

mod broadcast;
mod listen;
#[cfg(test)]
mod simulation;
mod wake;
mod watch;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures_util::{StreamExt as _, stream::BoxStream};
use rowcall_core::{Backoff, Signal, SourceError, ports::SignalSource};
use rowcall_realtime::{client::Client, presence::Presences};
use tokio::{
    sync::{mpsc, watch as flag},
    time::{Instant, sleep_until},
};

pub use wake::Wake;

use self::{
    listen::Listener,
    watch::{Looked, Rhythm, Watch},
};
use super::{
    backend::QueueBackend, error::QueueError, meters::ChannelMeters, presence::WorkerPresence,
    realtime::Broadcast, view::Due,
};

/// Signals nobody has taken yet; then the watching waits, and what happens meanwhile becomes one signal per queue.
const MAX_PENDING_SIGNALS: usize = 64;
/// A connection that lived this long was a good one: the next attempt comes fast again.
const STABLE: Duration = Duration::from_secs(30);
/// How soon a lost connection is opened again.
const RECONNECT: Backoff = Backoff {
    base: Duration::from_secs(1),
    cap: Duration::from_mins(1),
};

/// How a worker is woken.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SignalOptions {
    /// Listens for the triggers' notifications. Without, or where they do not arrive, it polls.
    pub listen: bool,
    /// The fallback while notifications arrive.
    pub idle: Duration,
    /// The fallback while they do not.
    pub poll: Duration,
    /// At most one notification per queue in this time.
    pub gate: Duration,
    /// In `0.0..1.0`: spreads the reconnections of many machines. Any number that differs between machines will do.
    pub jitter: f64,
}

impl Default for SignalOptions {
    fn default() -> Self {
        Self {
            listen: true,
            idle: Duration::from_mins(1),
            poll: Duration::from_secs(10),
            gate: Duration::from_millis(100),
            jitter: 0.0,
        }
    }
}

/// Wake-ups for the queues of a [`QueueBackend`].
#[derive(Debug)]
pub struct QueueSignals {
    backend: QueueBackend,
    options: SignalOptions,
    channel: Option<(Client, Broadcast)>,
    busy: flag::Sender<bool>,
    presence: flag::Sender<Option<WorkerPresence>>,
    present: flag::Sender<Arc<Presences>>,
}

impl QueueSignals {
    /// Wake-ups from the database itself; connects when the stream is first polled.
    pub fn new(backend: QueueBackend, options: SignalOptions) -> Self {
        Self {
            backend,
            options,
            channel: None,
            busy: flag::channel(false).0,
            presence: flag::channel(None).0,
            present: flag::channel(Arc::default()).0,
        }
    }

    /// Wake-ups from a Realtime channel, for databases that are reached through a pooler, or to be seen there: joins
    /// `broadcast.channel` when the stream is first polled. Whoever made the client runs its driver. Only one stream at a time.
    pub fn realtime(
        backend: QueueBackend,
        options: SignalOptions,
        client: Client,
        broadcast: Broadcast,
    ) -> Self {
        Self {
            channel: Some((client, broadcast)),
            ..Self::new(backend, options)
        }
    }

    /// What others see of this worker on its Realtime channel, from now on and after every rejoin. Say *busy* before a job
    /// begins. Without a channel nobody sees it.
    pub fn publish(&self, presence: WorkerPresence) {
        self.presence.send_replace(Some(presence));
    }

    /// Everybody who is present on the Realtime channel; nobody without one, and while it is down.
    pub fn present(&self) -> flag::Receiver<Arc<Presences>> {
        self.present.subscribe()
    }
}

#[async_trait]
impl SignalSource for QueueSignals {
    fn signals(&self) -> BoxStream<'static, Signal> {
        let (sender, receiver) = mpsc::channel(MAX_PENDING_SIGNALS);
        let watching = Watching {
            backend: self.backend.clone(),
            options: self.options,
            channel: self.channel.clone(),
            busy: self.busy.subscribe(),
            presence: self.presence.subscribe(),
            present: self.present.clone(),
            signals: sender,
        };
        // Ends with the stream: the task is aborted when its handle is dropped.
        let state = (receiver, None::<AbortOnDrop>, Some(watching));
        futures_util::stream::unfold(state, |(mut receiver, mut task, watching)| async move {
            if let Some(watching) = watching {
                task = Some(AbortOnDrop(tokio::spawn(watching.run())));
            }
            let signal = receiver.recv().await?;
            Some((signal, (receiver, task, None)))
        })
        .boxed()
    }

    async fn set_busy(&self, busy: bool) -> Result<(), SourceError> {
        self.busy.send_replace(busy);
        Ok(())
    }
}

struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The receiver of the signals is gone.
struct Unwanted;

struct Watching {
    backend: QueueBackend,
    options: SignalOptions,
    channel: Option<(Client, Broadcast)>,
    presence: flag::Receiver<Option<WorkerPresence>>,
    present: flag::Sender<Arc<Presences>>,
    busy: flag::Receiver<bool>,
    signals: mpsc::Sender<Signal>,
}

impl Watching {
    /// Connects, watches, and connects again, until nobody listens any more.
    async fn run(mut self) {
        if let Some((client, broadcast)) = self.channel.take() {
            // It ends when nobody listens, or with the client.
            drop(self.watch_channel(&client, &broadcast).await);
            return;
        }
        if !self.backend.in_database() {
            // A project without a channel: its clock is all it has.
            drop(self.poll_for_ever().await);
            return;
        }
        let meters = ChannelMeters::of("database");
        let name = self
            .presence
            .borrow()
            .as_ref()
            .map(|one| one.worker.clone());
        let mut failures = 0;
        loop {
            let opened = Instant::now();
            let reason = match Listener::open(&self.backend, name.as_deref()).await {
                Ok(listener) => match self.watch(&listener, &meters).await {
                    Ok(reason) => reason,
                    Err(Unwanted) => return,
                },
                Err(error) => error.to_string(),
            };
            failures = if opened.elapsed() >= STABLE {
                1
            } else {
                failures + 1
            };
            let retry_in = RECONNECT.delay(failures, self.options.jitter);
            tracing::warn!(%reason, ?retry_in, "wake-ups are lost for now; queues are polled");
            meters.lost();
            if self.send(Signal::Down { reason, retry_in }).await.is_err() {
                return;
            }
            tokio::time::sleep(retry_in).await;
        }
    }

    /// Watches over one connection until it is lost; says why.
    async fn watch(
        &mut self,
        listener: &Listener,
        meters: &ChannelMeters,
    ) -> Result<String, Unwanted> {
        let wakes = match self.wakes(listener).await {
            Ok(wakes) => wakes,
            Err(error) => return Ok(error.to_string()),
        };
        meters.up(wakes);
        let rhythm = self.rhythm();
        let start = Instant::now();
        let mut watch = Watch::new(rhythm, wakes, Duration::ZERO);
        watch.set_busy(*self.busy.borrow_and_update(), Duration::ZERO);
        let mut tell: BTreeSet<usize> = BTreeSet::new();
        self.send(Signal::Up).await?;
        loop {
            // Every branch is cancel safe: marks, flags and permits stay until they are taken.
            tokio::select! {
                woken = listener.woken() => {
                    for queue in woken.queues {
                        self.backend.inner.meters[queue].wakes.increment(1);
                        self.dirty(queue).await?;
                    }
                    if let Some(reason) = woken.closed {
                        return Ok(reason);
                    }
                    watch.notified(start.elapsed());
                }
                changed = self.backend.changed() => {
                    tell.extend(changed);
                    watch.changed(start.elapsed());
                }
                Ok(()) = self.busy.changed() => {
                    watch.set_busy(*self.busy.borrow_and_update(), start.elapsed());
                }
                () = self.signals.closed() => return Err(Unwanted),
                () = sleep_until(start + watch.next()) => {
                    let now = start.elapsed();
                    let arm = watch.begin(now);
                    let (due, xmin, xmax, armed) = match listener.look(&self.backend, arm).await {
                        Ok(look) => look,
                        Err(error) => return Ok(error.to_string()),
                    };
                    let next = due.iter().filter_map(|due| due.next).min();
                    let ready = due.iter().any(|due| due.ready);
                    watch.looked(now, Looked { ready, next, xmin, xmax, armed });
                    self.tell(listener, &mut tell, &due).await;
                    for due in due.into_iter().filter(|due| due.ready) {
                        self.dirty(due.queue).await?;
                    }
                }
            }
        }
    }

    fn rhythm(&self) -> Rhythm {
        Rhythm {
            idle: self.options.idle,
            poll: self.options.poll,
            rearm: self.options.gate,
        }
    }

    /// Whether wake-ups will come over this connection.
    async fn wakes(&self, listener: &Listener) -> Result<bool, QueueError> {
        if !self.options.listen {
            return Ok(false);
        }
        if !listener.gates() {
            tracing::warn!(
                "not every queue has its wake-up trigger, so queues are polled: run `rowcall queue realtime enable`"
            );
            return Ok(false);
        }
        let arrives = listener.probe(&self.backend).await?;
        if !arrives {
            tracing::warn!(
                "notifications do not arrive (a connection pooler in transaction mode?), so queues are polled: \
                 give the database's direct URL"
            );
        }
        Ok(arrives)
    }

    /// Tells sleeping workers when messages of ours come back, which no trigger sees: once per look, not per message.
    async fn tell(&self, listener: &Listener, queues: &mut BTreeSet<usize>, due: &[Due]) {
        for queue in std::mem::take(queues) {
            let payload = self.news(queue, due).to_string();
            if let Err(error) = listener.tell(&payload).await {
                tracing::debug!(%error, "nobody was told about messages that come back");
            }
        }
    }

    /// What others are told about a queue whose messages come back.
    fn news(&self, queue: usize, due: &[Due]) -> serde_json::Value {
        let visible_in = match due.iter().find(|due| due.queue == queue) {
            Some(Due {
                ready,
                known,
                next: Some(next),
                ..
            }) if !(*ready && *known) => next.as_secs_f64(),
            _ => 0.0,
        };
        serde_json::json!({ "queue": self.backend.specs()[queue].name, "visible_in": visible_in })
    }

    async fn dirty(&self, queue: usize) -> Result<(), Unwanted> {
        let table = self.backend.specs()[queue].name.table();
        self.send(Signal::Dirty { table, task: None }).await
    }

    async fn send(&self, signal: Signal) -> Result<(), Unwanted> {
        self.signals.send(signal).await.map_err(|_| Unwanted)
    }
}

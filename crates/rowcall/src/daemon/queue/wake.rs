//! How this worker is woken: by the database, over a Realtime channel, or by its clock.

use std::sync::Arc;

use parking_lot::Mutex;
use rowcall_backend::queue::{
    Broadcast, Mode, QueueBackend, QueueSignals, SignalOptions, presence::PresenceBook,
};
use rowcall_core::IdSource as _;
use rowcall_realtime::{
    client::{Client, Config as RealtimeConfig, Driver},
    presence::Presences,
};
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::super::StackAddress;
use crate::{
    config::{WakeBy, Worker},
    exit::{Exit, UserError},
    system::RandomIds,
};

/// What was chosen.
pub(super) struct Choice {
    listen: bool,
    project: Option<(String, String)>,
    /// What queues should broadcast, when a channel is listened to.
    pub(super) broadcast: Option<Broadcast>,
}

/// Realtime where a project is configured (for the worker, or with `hosted` for the daemon), unless the configuration says
/// otherwise.
pub(super) fn choose(worker: &Worker, stack: Option<&StackAddress>, hosted: bool) -> Choice {
    let realtime = &worker.realtime;
    let configured = (!realtime.url.is_empty() && !realtime.key.is_empty())
        .then(|| (realtime.url.clone(), realtime.key.clone()));
    let project = match worker.wake {
        WakeBy::Auto if !hosted => configured,
        WakeBy::Auto | WakeBy::Realtime => {
            configured.or_else(|| stack.map(|stack| (stack.url.clone(), stack.own_key.clone())))
        }
        WakeBy::Direct | WakeBy::Poll => None,
    };
    let broadcast = project.is_some().then(|| Broadcast {
        channel: realtime.channel.clone(),
        event: realtime.event.clone(),
        private: realtime.private,
        mode: Mode::Every,
        per_row: false,
    });
    Choice {
        listen: worker.wake != WakeBy::Poll,
        project,
        broadcast,
    }
}

/// The project whose channel shows the workers, with its key, for somebody who only looks.
pub(super) fn observed(worker: &Worker) -> Option<(String, String, Broadcast)> {
    let Choice {
        project, broadcast, ..
    } = choose(worker, None, false);
    let (url, key) = project?;
    Some((url, key, broadcast?))
}

/// What this worker does, and where it is told.
#[derive(Clone)]
pub(super) struct Presence {
    pub(super) book: Arc<Mutex<PresenceBook>>,
    signals: Arc<QueueSignals>,
    /// Whether there is a channel.
    on_channel: bool,
}

impl Presence {
    fn new(book: PresenceBook, signals: QueueSignals, on_channel: bool) -> Self {
        // Without a channel only the name counts: the database's connections are called by it.
        signals.publish(book.presence());
        Self {
            book: Arc::new(Mutex::new(book)),
            signals: Arc::new(signals),
            on_channel,
        }
    }

    /// Tells how the worker is now, where somebody can hear it.
    pub(super) fn publish(&self) {
        if self.on_channel {
            let presence = self.book.lock().presence();
            self.signals.publish(presence);
        }
    }

    /// Who shows himself on the channel, if there is one.
    pub(super) fn present(&self) -> Option<watch::Receiver<Arc<Presences>>> {
        self.on_channel.then(|| self.signals.present())
    }
}

/// The wake-ups of a worker.
pub(super) struct Wakes {
    presence: Presence,
    driver: Option<Driver>,
}

impl Wakes {
    pub(super) fn new(
        backend: &QueueBackend,
        worker: &Worker,
        by: Choice,
        name: &str,
    ) -> anyhow::Result<Self> {
        let options = SignalOptions {
            listen: by.listen,
            idle: worker.idle_wait_connected.0,
            poll: worker.idle_wait.0,
            jitter: RandomIds.unit(),
            ..SignalOptions::default()
        };
        let queues = backend.specs().iter().map(|spec| spec.name.clone());
        let book = PresenceBook::new(name, queues);
        let (Some((url, key)), Some(broadcast)) = (by.project, by.broadcast) else {
            if worker.wake == WakeBy::Realtime {
                return Err(UserError::new(
                    Exit::Usage,
                    "worker.wake is \"realtime\", and no project is known",
                )
                .help("set SUPABASE_URL and SUPABASE_KEY, or worker.realtime.url and .key")
                .into());
            }
            let signals = QueueSignals::new(backend.clone(), options);
            return Ok(Self {
                presence: Presence::new(book, signals, false),
                driver: None,
            });
        };
        let config = RealtimeConfig::new(&url, key).map_err(|error| {
            UserError::new(Exit::Usage, format!("worker.realtime.url: {error}"))
        })?;
        let (client, driver) = Client::new(config);
        tracing::info!(channel = broadcast.channel, "woken over Realtime");
        let signals = QueueSignals::realtime(backend.clone(), options, client, broadcast);
        Ok(Self {
            presence: Presence::new(book, signals, true),
            driver: Some(driver),
        })
    }

    pub(super) fn signals(&self) -> Arc<QueueSignals> {
        Arc::clone(&self.presence.signals)
    }

    pub(super) fn presence(&self) -> Presence {
        self.presence.clone()
    }

    /// Keeps the socket alive until `stop`, which closes it: others see the worker leave at once.
    pub(super) fn spawn(&mut self, tasks: &TaskTracker, stop: &CancellationToken) {
        if let Some(driver) = self.driver.take() {
            let stop = stop.clone();
            tasks.spawn(async move {
                tokio::select! {
                    () = driver.run() => {}
                    () = stop.cancelled() => {}
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b1_realtime_is_on_where_url_and_key_are_there_and_off_otherwise() {
        let by = |url: &str, key: &str, wake| {
            let mut worker = Worker {
                wake,
                ..Worker::default()
            };
            worker.realtime.url = url.to_owned();
            worker.realtime.key = key.to_owned();
            choose(&worker, None, false)
        };
        let on = by("http://x", "k", WakeBy::Auto);
        assert_eq!(on.broadcast, Some(Broadcast::default()));
        assert!(on.project.is_some());
        for (url, key) in [("", "k"), ("http://x", ""), ("", "")] {
            let off = by(url, key, WakeBy::Auto);
            assert!(off.project.is_none() && off.broadcast.is_none() && off.listen);
        }
        for wake in [WakeBy::Direct, WakeBy::Poll] {
            assert!(by("http://x", "k", wake).project.is_none());
        }
        assert!(!by("", "", WakeBy::Poll).listen);
    }
}

//! How this worker is woken: by the database, over a Realtime channel, or by its clock.

use std::sync::Arc;

use parking_lot::Mutex;
use rowcall_backend::queue::{
    Broadcast, Mode, QueueBackend, QueueSignals, SignalOptions, presence::PresenceBook,
};
use rowcall_core::IdSource as _;
use rowcall_realtime::client::{Client, Config as RealtimeConfig, Driver};
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

/// What others see of this worker, and where it is told.
#[derive(Clone)]
pub(super) struct Presence {
    pub(super) book: Arc<Mutex<PresenceBook>>,
    pub(super) signals: Arc<QueueSignals>,
}

impl Presence {
    /// Tells how the worker is now.
    pub(super) fn publish(&self) {
        let presence = self.book.lock().presence();
        self.signals.publish(presence);
    }
}

/// The wake-ups of a worker.
pub(super) struct Wakes {
    signals: Arc<QueueSignals>,
    presence: Option<Presence>,
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
        let (Some((url, key)), Some(broadcast)) = (by.project, by.broadcast) else {
            if worker.wake == WakeBy::Realtime {
                return Err(UserError::new(
                    Exit::Usage,
                    "worker.wake is \"realtime\", and no project is known",
                )
                .help("set SUPABASE_URL and SUPABASE_KEY, or worker.realtime.url and .key")
                .into());
            }
            return Ok(Self {
                signals: Arc::new(QueueSignals::new(backend.clone(), options)),
                presence: None,
                driver: None,
            });
        };
        let config = RealtimeConfig::new(&url, key).map_err(|error| {
            UserError::new(Exit::Usage, format!("worker.realtime.url: {error}"))
        })?;
        let (client, driver) = Client::new(config);
        tracing::info!(channel = broadcast.channel, "woken over Realtime");
        let signals = QueueSignals::realtime(backend.clone(), options, client, broadcast);
        let queues = backend.specs().iter().map(|spec| spec.name.clone());
        let presence = Presence {
            book: Arc::new(Mutex::new(PresenceBook::new(name, queues))),
            signals: Arc::new(signals),
        };
        presence.publish();
        Ok(Self {
            signals: Arc::clone(&presence.signals),
            presence: Some(presence),
            driver: Some(driver),
        })
    }

    pub(super) fn signals(&self) -> Arc<QueueSignals> {
        Arc::clone(&self.signals)
    }

    pub(super) fn presence(&self) -> Option<Presence> {
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

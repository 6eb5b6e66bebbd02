//! Apps' own programs: started, watched, started again, and stopped with everything that came from them.
//!
//! ```text
//!            ready (port, health path, or simply alive)
//! Starting ─────────────────────────────────────────► Running ──stop──► Stopping ──► Stopped
//!     ▲  │ ended                                         │ ended
//!     │  └──────────────────────┬────────────────────────┘
//!     └──── backoff ◄── Crashed ┴─► Stopped (exit 0) or Failed (too often, or it cannot be started)
//! ```
//!
//! One task per running app owns its program; [`AppHost`] is how everybody else reaches it.

mod launch;
mod log;
mod port;
mod ready;
mod run;
mod state;

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use parking_lot::Mutex;
use rowcall_core::{AppId, Backoff, Clock, IdSource};
use tokio::{
    sync::{Mutex as AsyncMutex, watch},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use self::log::LogRing;
pub use self::{
    launch::{AppLaunch, DEFAULT_PORT, PortWish},
    log::{AppLine, AppLines},
    state::{AppProcess, AppState, Ended},
};
use crate::supervisor::Supervisor;

/// How apps' programs are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AppOptions {
    /// Waits between a crash and the next start.
    pub restart: Backoff,
    /// After this many crashes without a healthy time between them, the app is given up.
    pub crash_limit: u32,
    /// A program that ran this long was healthy: its crashes are counted anew.
    pub healthy_after: Duration,
    /// How long a program may take to accept connections on its port; then it counts as running all the same.
    pub ready_timeout: Duration,
    /// How often it is tried.
    pub ready_every: Duration,
    /// How many lines of output are kept.
    pub log_lines: usize,
    /// How many bytes of output are kept.
    pub log_bytes: usize,
}

impl Default for AppOptions {
    fn default() -> Self {
        Self {
            restart: Backoff {
                base: Duration::from_millis(500),
                cap: Duration::from_secs(30),
            },
            crash_limit: 5,
            healthy_after: Duration::from_secs(30),
            ready_timeout: Duration::from_mins(1),
            ready_every: Duration::from_millis(100),
            log_lines: 10_000,
            log_bytes: 2 * 1024 * 1024,
        }
    }
}

/// What became of a wish to start an app.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartReply {
    /// It is being started.
    Starting,
    /// It runs already.
    AlreadyRunning,
    /// The daemon is stopping.
    Stopping,
}

/// Keeps the programs of apps. Cheap to clone.
#[derive(Clone)]
pub struct AppHost(Arc<Inner>);

struct Inner {
    supervisor: Supervisor,
    options: AppOptions,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn IdSource>,
    stop: CancellationToken,
    slots: Mutex<HashMap<AppId, Arc<Slot>>>,
}

/// One app, from its first start on.
struct Slot {
    state: watch::Sender<AppProcess>,
    log: Arc<LogRing>,
    /// The run under way; locked while somebody starts or stops it, so that wishes follow one another.
    run: AsyncMutex<Option<Run>>,
}

struct Run {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl fmt::Debug for AppHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AppHost")
            .field("options", &self.0.options)
            .finish_non_exhaustive()
    }
}

impl AppHost {
    /// A host that starts programs through `supervisor`.
    pub fn new(
        supervisor: Supervisor,
        options: AppOptions,
        clock: Arc<dyn Clock>,
        ids: Arc<dyn IdSource>,
    ) -> Self {
        Self(Arc::new(Inner {
            supervisor,
            options,
            clock,
            ids,
            stop: CancellationToken::new(),
            slots: Mutex::default(),
        }))
    }

    /// Starts an app's program, unless it runs. Returns at once; [`Self::watch`] says how it goes.
    pub async fn start(&self, launch: AppLaunch) -> StartReply {
        if self.0.stop.is_cancelled() {
            return StartReply::Stopping;
        }
        let slot = self.slot(&launch.app);
        let mut run = slot.run.lock().await;
        if run.as_ref().is_some_and(|run| !run.task.is_finished()) {
            return StartReply::AlreadyRunning;
        }
        *run = Some(self.spawn(&slot, launch));
        StartReply::Starting
    }

    /// Stops an app's program and everything it started, and waits for that; `false` when it did not run.
    pub async fn stop(&self, app: &AppId) -> bool {
        let Some(slot) = self.0.slots.lock().get(app).cloned() else {
            return false;
        };
        let mut run = slot.run.lock().await;
        end(run.take()).await
    }

    /// Stops an app's program if it runs, and starts it with what may be a new configuration.
    pub async fn restart(&self, launch: AppLaunch) -> StartReply {
        if self.0.stop.is_cancelled() {
            return StartReply::Stopping;
        }
        let slot = self.slot(&launch.app);
        let mut run = slot.run.lock().await;
        end(run.take()).await;
        *run = Some(self.spawn(&slot, launch));
        StartReply::Starting
    }

    /// How an app's program is now; apps that were never started are stopped.
    pub fn status(&self, app: &AppId) -> AppProcess {
        self.0
            .slots
            .lock()
            .get(app)
            .map_or_else(AppProcess::default, |slot| slot.state.borrow().clone())
    }

    /// How all programs are that were ever started.
    pub fn statuses(&self) -> BTreeMap<AppId, AppProcess> {
        self.0
            .slots
            .lock()
            .iter()
            .map(|(app, slot)| (app.clone(), slot.state.borrow().clone()))
            .collect()
    }

    /// Sees every change of an app's program from now on.
    pub fn watch(&self, app: &AppId) -> watch::Receiver<AppProcess> {
        self.slot(app).state.subscribe()
    }

    /// Output after a cursor (0 for all that is kept).
    pub fn lines(&self, app: &AppId, after: u64, limit: usize) -> AppLines {
        self.slot(app).log.read(after, limit)
    }

    /// Resolves when there is output after a cursor. Cancel-safe.
    pub async fn more_lines(&self, app: &AppId, after: u64) {
        let log = Arc::clone(&self.slot(app).log);
        log.wait(after).await;
    }

    /// Starts nothing more and stops everything.
    pub async fn shutdown(&self) {
        self.0.stop.cancel();
        let slots: Vec<Arc<Slot>> = self.0.slots.lock().values().cloned().collect();
        for slot in slots {
            // Every run hears the token by itself; this only waits for them.
            let run = slot.run.lock().await.take();
            end(run).await;
        }
    }

    fn slot(&self, app: &AppId) -> Arc<Slot> {
        let mut slots = self.0.slots.lock();
        let slot = slots.entry(app.clone()).or_insert_with(|| {
            Arc::new(Slot {
                state: watch::Sender::new(AppProcess::default()),
                log: Arc::new(LogRing::new(
                    self.0.options.log_lines,
                    self.0.options.log_bytes,
                )),
                run: AsyncMutex::new(None),
            })
        });
        Arc::clone(slot)
    }

    fn spawn(&self, slot: &Arc<Slot>, launch: AppLaunch) -> Run {
        let stop = self.0.stop.child_token();
        let keeper = run::Keeper {
            supervisor: self.0.supervisor.clone(),
            options: self.0.options,
            clock: Arc::clone(&self.0.clock),
            ids: Arc::clone(&self.0.ids),
            launch,
            state: slot.state.clone(),
            log: Arc::clone(&slot.log),
            stop: stop.clone(),
        };
        keeper.told(|process| {
            *process = AppProcess {
                state: AppState::Starting,
                since: Some(self.0.clock.now()),
                ..AppProcess::default()
            };
        });
        Run {
            stop,
            task: tokio::spawn(keeper.run()),
        }
    }
}

/// Ends a run; whether there was one that had not ended by itself.
async fn end(run: Option<Run>) -> bool {
    let Some(run) = run else { return false };
    let ran = !run.task.is_finished();
    run.stop.cancel();
    if run.task.await.is_err() {
        tracing::error!("the keeper of an app broke down");
    }
    ran
}

/// The time of something that happened.
fn time(clock: &dyn Clock) -> Option<Timestamp> {
    Some(clock.now())
}

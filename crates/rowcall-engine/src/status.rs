//! What people see of a running engine.

use std::sync::atomic::{AtomicU64, Ordering};

use jiff::Timestamp;
use rowcall_core::{AgentId, AppId, MachineId, TaskRef};
use serde::Serialize;

use crate::apps::AppProblem;

/// The engine at one moment.
#[derive(Clone, Debug, Serialize)]
pub struct EngineStatus {
    /// This machine.
    pub machine: MachineId,
    /// When the engine was started.
    pub started_at: Timestamp,
    /// Whether it no longer takes tasks.
    pub stopping: bool,
    /// How many tasks run, over all apps.
    pub slots_used: u32,
    /// How many may.
    pub slots: u32,
    /// The apps.
    pub apps: Vec<AppStatus>,
    /// What keeps apps from working as configured.
    pub problems: Vec<AppProblem>,
    /// The sources.
    pub sources: Vec<SourceStatus>,
    /// The tasks that run or are being settled, the oldest first.
    pub running: Vec<RunningTask>,
    /// What was done since the start.
    pub counters: CounterValues,
}

/// One app.
#[derive(Clone, Debug, Serialize)]
pub struct AppStatus {
    /// The app.
    pub id: AppId,
    /// How many of its tasks run.
    pub slots_used: u32,
    /// How many may: `max_concurrent_tasks`.
    pub slots: u32,
    /// How many routes have an agent.
    pub routes: usize,
}

/// One source.
#[derive(Clone, Debug, Serialize)]
pub struct SourceStatus {
    /// Its name.
    pub name: String,
    /// Whether signals flow.
    pub up: bool,
    /// Why not, or the last failed call since the last one that worked.
    pub trouble: Option<String>,
    /// Settlements that wait to be written.
    pub settling: usize,
}

/// Where a unit of work stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// The agent works.
    Running,
    /// It was asked to stop; the task is given back.
    Stopping,
    /// The verdict is being written.
    Settling,
    /// The verdict is written; the agent's process has not ended yet.
    Lingering,
    /// The lease was lost; the agent is being stopped.
    Lost,
}

/// A task in the engine's hands.
#[derive(Clone, Debug, Serialize)]
pub struct RunningTask {
    /// The task.
    pub task: TaskRef,
    /// Its app.
    pub app: AppId,
    /// Its agent.
    pub agent: AgentId,
    /// Which attempt.
    pub attempt: u32,
    /// Since when.
    pub since: Timestamp,
    /// Where it stands.
    pub stage: Stage,
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {
        /// Counted since the engine's start.
        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $(pub(crate) $name: Counter,)+
        }

        /// Counted since the engine's start.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
        pub struct CounterValues {
            $($(#[$doc])* pub $name: u64,)+
        }

        impl Counters {
            pub(crate) fn values(&self) -> CounterValues {
                CounterValues { $($name: self.$name.get(),)+ }
            }
        }
    };
}

counters! {
    /// Signals heard.
    signals,
    /// Tasks claimed.
    claimed,
    /// Verdicts written: completed.
    completed,
    /// Verdicts written: failed.
    failed,
    /// Verdicts written: canceled.
    canceled,
    /// Tasks given back.
    released,
    /// Leases lost; what the agent did was dropped.
    fenced,
    /// Tasks whose failures reached the limit.
    needs_attention,
    /// Stale leases returned to `pending` by this machine.
    recovered,
    /// Reports from outside.
    reports,
    /// Calls to sources.
    calls,
    /// Calls that failed.
    failed_calls,
    /// Runners that panicked.
    panics,
    /// Log lines that the store had no room for.
    log_lines_dropped,
}

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

//! Signals through Realtime.

mod change;
mod presence;
mod table;
mod trouble;

use std::time::Duration;

use futures_util::{StreamExt, stream::BoxStream};
use rowcall_backend::{
    NewTask,
    supabase::{RealtimeOptions, SupabaseBackend, SupabaseConfig},
};
use rowcall_core::{
    AppId, Dispersal, EventSet, LeasePolicy, MachineId, Payload, RetryPolicy, Selector, Signal,
    TaskRef,
    ports::{ClaimRules, SignalSource},
};
use rowcall_realtime::channel::Timing;
use tokio::{task::JoinSet, time::timeout};

use super::project::{Project, Setup};

/// How long anything that is expected may take.
const PATIENCE: Duration = Duration::from_mins(1);

async fn project(setup: Setup) -> Project {
    Project::start_live(setup).await
}

/// A machine that is running.
struct Machine {
    backend: SupabaseBackend,
    signals: BoxStream<'static, Signal>,
    _driver: JoinSet<()>,
}

impl Machine {
    fn start(config: SupabaseConfig) -> Self {
        let (backend, driver) = SupabaseBackend::new(config).expect("the URL is valid");
        let mut tasks = JoinSet::new();
        tasks.spawn(driver.run());
        Self {
            signals: backend.signals(),
            backend,
            _driver: tasks,
        }
    }

    async fn next(&mut self) -> Signal {
        let next = timeout(PATIENCE, self.signals.next()).await;
        next.expect("a signal in time").expect("signals do not end")
    }

    async fn wait_for(&mut self, wanted: impl Fn(&Signal) -> bool) -> Signal {
        loop {
            let signal = self.next().await;
            if wanted(&signal) {
                return signal;
            }
        }
    }

    async fn up(&mut self) {
        self.wait_for(|signal| *signal == Signal::Up).await;
    }

    async fn sees(&self, machines: usize) {
        let mut present = self.backend.machines();
        let enough = present.wait_for(|present| present.len() == machines);
        timeout(PATIENCE, enough)
            .await
            .expect("in time")
            .expect("it runs");
    }
}

fn selector(table: &str) -> Selector {
    Selector {
        table: table.parse().expect("a table"),
        events: EventSet::ALL,
        filter: None,
    }
}

fn configure(project: &Project, name: &str) -> SupabaseConfig {
    let mut config = project.config(name);
    config.selectors = vec![selector("public.rtx_activities")];
    config.apps = vec![AppId::new("support").expect("a name")];
    // Nobody is made to wait where a test does not ask for it.
    config.dispersal = Dispersal {
        step: Duration::ZERO,
        cap: Duration::ZERO,
    };
    config.realtime = RealtimeOptions {
        timing: Some(quick()),
    };
    config
}

/// Shorter waits after trouble than people would want.
fn quick() -> Timing {
    Timing {
        backoff_base: Duration::from_millis(100),
        backoff_cap: Duration::from_millis(500),
        pause_after_limit: Duration::from_millis(300),
        presence_every: Duration::from_millis(100),
        ..Timing::default()
    }
}

fn machine(project: &Project, name: &str) -> Machine {
    Machine::start(configure(project, name))
}

fn rules(name: &str) -> ClaimRules {
    ClaimRules {
        machine: MachineId::new(name).expect("a machine"),
        lease: LeasePolicy::default(),
        retry: RetryPolicy::default(),
    }
}

fn numbered(n: usize) -> NewTask {
    NewTask::direct(Payload::from_text(format!("{{\"n\": {n}}}")).expect("JSON"))
}

fn dirty(task: &TaskRef) -> Signal {
    Signal::Dirty {
        table: task.table.clone(),
        task: Some(task.clone()),
    }
}

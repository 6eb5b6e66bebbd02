//! Building and running an engine.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use parking_lot::Mutex;
use rowcall_core::{AgentSpec, App, Clock, IdSource, MachineId, ports::AgentRunner};
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    admission::Slots,
    apps::AppTable,
    bus::Bus,
    error::{BuildError, EngineError},
    group::{TaskGroup, catch_panic},
    handle::{EngineHandle, Reach, Registry},
    options::EngineOptions,
    shared::Shared,
    source::{LoopEnd, Source, SourceLoop},
    status::{CounterValues, Counters},
    store::{NoStore, TaskStore},
};

/// How many requests to one source loop may wait.
const MAX_COMMANDS: usize = 1_024;

/// Collects the parts of an engine.
#[derive(Default)]
pub struct EngineBuilder {
    machine: Option<MachineId>,
    clock: Option<Arc<dyn Clock>>,
    ids: Option<Arc<dyn IdSource>>,
    runner: Option<Arc<dyn AgentRunner>>,
    store: Option<Arc<dyn TaskStore>>,
    options: EngineOptions,
    sources: Vec<Source>,
    apps: Vec<App>,
    agents: Vec<AgentSpec>,
}

impl fmt::Debug for EngineBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EngineBuilder")
            .field("machine", &self.machine)
            .field("sources", &self.sources)
            .finish_non_exhaustive()
    }
}

impl EngineBuilder {
    /// Who claims: unique among machines and stable across restarts.
    #[must_use]
    pub fn machine(mut self, machine: MachineId) -> Self {
        self.machine = Some(machine);
        self
    }

    /// The wall clock, for what people read.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Where jitter comes from.
    #[must_use]
    pub fn ids(mut self, ids: Arc<dyn IdSource>) -> Self {
        self.ids = Some(ids);
        self
    }

    /// Who runs agents.
    #[must_use]
    pub fn runner(mut self, runner: Arc<dyn AgentRunner>) -> Self {
        self.runner = Some(runner);
        self
    }

    /// Where this machine remembers what it did; [`NoStore`] by default.
    #[must_use]
    pub fn store(mut self, store: Arc<dyn TaskStore>) -> Self {
        self.store = Some(store);
        self
    }

    /// How it behaves.
    #[must_use]
    pub fn options(mut self, options: EngineOptions) -> Self {
        self.options = options;
        self
    }

    /// Adds a source.
    #[must_use]
    pub fn source(mut self, source: Source) -> Self {
        self.sources.push(source);
        self
    }

    /// The apps to begin with; see [`EngineHandle::set_apps`].
    #[must_use]
    pub fn apps(mut self, apps: Vec<App>) -> Self {
        self.apps = apps;
        self
    }

    /// Agents that every app may name, beside those it defines: functions of this process.
    #[must_use]
    pub fn agents(mut self, agents: impl IntoIterator<Item = AgentSpec>) -> Self {
        self.agents.extend(agents);
        self
    }

    /// Puts the parts together. Nothing runs until [`Engine::run`].
    pub fn build(self) -> Result<Engine, BuildError> {
        self.options.validate()?;
        let machine = self.machine.ok_or(BuildError::Missing("machine id"))?;
        let clock = self.clock.ok_or(BuildError::Missing("clock"))?;
        let ids = self.ids.ok_or(BuildError::Missing("id source"))?;
        let runner = self.runner.ok_or(BuildError::Missing("runner"))?;
        if self.sources.is_empty() {
            return Err(BuildError::Missing("source"));
        }
        let mut names = BTreeSet::new();
        for source in &self.sources {
            if !names.insert(&source.name) {
                return Err(BuildError::DuplicateSource(source.name.to_string()));
            }
        }
        let started_at = clock.now();
        let shared = Arc::new(Shared {
            machine,
            bus: Arc::new(Bus::new(started_at, self.options.event_ring)),
            clock,
            ids,
            runner,
            store: self.store.unwrap_or_else(|| Arc::new(NoStore)),
            counters: Counters::default(),
            slots: Arc::new(Slots::new(self.options.concurrency)),
            options: self.options,
            soft: CancellationToken::new(),
            hard: CancellationToken::new(),
            elsewhere: self
                .sources
                .iter()
                .filter_map(|source| source.apps.clone())
                .flatten()
                .collect(),
            freed: self
                .sources
                .iter()
                .map(|_| Arc::new(Notify::new()))
                .collect(),
        });
        let (table, _) = watch::channel(Arc::new(AppTable::default()));
        let agents: BTreeMap<_, _> = self
            .agents
            .into_iter()
            .map(|agent| (agent.id.clone(), Arc::new(agent)))
            .collect();
        let registry = Arc::new(Registry {
            agents,
            slots: Mutex::default(),
            table,
        });
        registry.set(&shared, &self.apps);
        let (reaches, inboxes): (Vec<_>, Vec<_>) = self
            .sources
            .into_iter()
            .map(|source| {
                let (commands, inbox) = mpsc::channel(MAX_COMMANDS);
                (Reach { source, commands }, inbox)
            })
            .unzip();
        let handle = EngineHandle {
            shared,
            reaches: reaches.into(),
            registry,
            started_at,
            done: CancellationToken::new(),
        };
        Ok(Engine { handle, inboxes })
    }
}

/// An engine that is ready to run.
pub struct Engine {
    handle: EngineHandle,
    inboxes: Vec<mpsc::Receiver<crate::source::Command>>,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("handle", &self.handle)
            .finish_non_exhaustive()
    }
}

/// How an engine ended.
#[derive(Clone, Copy, Debug)]
pub struct StopSummary {
    /// Tasks whose end could not be written; they are tried again when their leases are over.
    pub abandoned: usize,
    /// What was done since the start.
    pub counters: CounterValues,
}

impl Engine {
    /// Begins an engine.
    pub fn builder() -> EngineBuilder {
        EngineBuilder::default()
    }

    /// A handle to it, before or while it runs.
    pub fn handle(&self) -> EngineHandle {
        self.handle.clone()
    }

    /// Runs until a stop has been carried out. Dropping the future drops every agent without settling anything; use
    /// [`EngineHandle::shutdown`] instead.
    ///
    /// A loop that breaks down, which is a bug, stops the others softly and is returned as an error.
    pub async fn run(self) -> Result<StopSummary, EngineError> {
        let Self { handle, inboxes } = self;
        // However this ends, nobody waits for an engine that is gone.
        let _done = handle.done.clone().drop_guard();
        let shared = Arc::clone(&handle.shared);
        let mut loops = TaskGroup::new("source loops");
        for (index, (reach, inbox)) in handle.reaches.iter().zip(inboxes).enumerate() {
            let name = reach.source.name.to_string();
            let table = handle.registry.table.subscribe();
            let looped = SourceLoop::new(
                Arc::clone(&shared),
                index,
                reach.source.clone(),
                table,
                inbox,
            );
            loops.spawn(async move { (name, catch_panic(looped.run_loop()).await) });
        }
        tracing::info!(machine.id = %shared.machine, sources = handle.reaches.len(), "engine started");
        let mut abandoned = 0;
        let mut broken = None;
        while let Some((name, end)) = loops.next().await {
            match end {
                Ok(LoopEnd { abandoned: left }) => abandoned += left,
                Err(message) => {
                    tracing::error!(source = %name, %message, "a source loop broke down");
                    shared.soft.cancel();
                    broken = Some(EngineError::Broken { name, message });
                }
            }
        }
        let limit = shared.options.farewell_limit;
        if tokio::time::timeout(limit, shared.store.flush())
            .await
            .is_err()
        {
            tracing::warn!("the local store did not finish writing in time");
        }
        match broken {
            Some(error) => Err(error),
            None => Ok(StopSummary {
                abandoned,
                counters: shared.counters.values(),
            }),
        }
    }
}

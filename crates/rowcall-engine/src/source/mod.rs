//! The loop of one source: it owns every unit claimed there and puts all events in one order.
//!
//! ```text
//! signals ─► inbox ─► pump ─(exchange: settle + claim)─► units ─► agents
//!              ▲        ▲                                  │
//!   timers ────┘        └──── verdicts, free permits ◄─────┘
//! ```
//!
//! Signals, timers and freed permits only set flags; [`SourceLoop::pump`] turns flags into statements, so no wake-up can
//! be lost between a claim and the next wait: a signal that arrives while a claim is under way leaves its flag set.

mod call;
mod claim;
mod command;
mod gate;
mod heartbeat;
mod inbox;
mod release;
mod run;
mod settle;
mod settle_queue;
mod start;
mod stop;
mod sweep;
mod timers;
mod upkeep;

use std::{collections::BTreeSet, fmt, sync::Arc};

use futures_util::{FutureExt as _, StreamExt as _, stream::BoxStream};
use jiff::Timestamp;
use rowcall_core::{
    AgentError, AgentOutput, AppId, LeasePolicy, RetryPolicy, Selector, Signal, TableName,
    ports::{ClaimRules, Coordinator, SignalSource},
};
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

pub use self::run::RunReply;
use self::{
    call::Done,
    claim::AppState,
    gate::Gate,
    heartbeat::Beat,
    release::ReleaseQueue,
    settle_queue::{Recent, SettleQueue},
    stop::Stop,
    sweep::Sweeps,
    timers::Timers,
    upkeep::Health,
};
pub(crate) use self::{command::Command, run::RunRequest};
use crate::{
    apps::AppTable,
    bus::What,
    group::TaskGroup,
    shared::Shared,
    store::Record,
    unit::{UnitId, Units},
};

/// Where tasks come from, with how they are claimed there.
#[derive(Clone)]
pub struct Source {
    /// For people and events.
    pub name: Arc<str>,
    /// Who claims and settles.
    pub coordinator: Arc<dyn Coordinator>,
    /// Who says that work may be there.
    pub signals: Arc<dyn SignalSource>,
    /// Which apps' tasks come from here; all that no other source names when `None`.
    pub apps: Option<BTreeSet<AppId>>,
    /// The table that is claimed: where a task is looked up when only its id is known.
    pub table: TableName,
    /// How long its leases live, where it is not what the engine's options say.
    pub lease: Option<LeasePolicy>,
    /// Who tries failed tasks again, where it is not what the engine's options say.
    pub retry: Option<RetryPolicy>,
    /// Claims the oldest first from the beginning, instead of a first page of the newest.
    pub in_order: bool,
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source")
            .field("name", &self.name)
            .field("table", &self.table)
            .field("apps", &self.apps)
            .finish_non_exhaustive()
    }
}

impl Source {
    /// A source of `rtx_activities` that serves all apps.
    pub fn new(
        name: impl Into<Arc<str>>,
        coordinator: Arc<dyn Coordinator>,
        signals: Arc<dyn SignalSource>,
    ) -> Self {
        Self {
            name: name.into(),
            coordinator,
            signals,
            apps: None,
            table: TableName::activities(),
            lease: None,
            retry: None,
            in_order: false,
        }
    }

    /// Leases that live for another time than the engine's options say.
    #[must_use]
    pub fn leasing(mut self, lease: LeasePolicy) -> Self {
        self.lease = Some(lease);
        self
    }

    /// Tries again by other rules than the engine's options say.
    #[must_use]
    pub fn retrying(mut self, retry: RetryPolicy) -> Self {
        self.retry = Some(retry);
        self
    }

    /// Claims the oldest first from the beginning.
    #[must_use]
    pub fn in_order(mut self) -> Self {
        self.in_order = true;
        self
    }

    /// Serves only these apps.
    #[must_use]
    pub fn serving(mut self, apps: impl IntoIterator<Item = AppId>) -> Self {
        self.apps = Some(apps.into_iter().collect());
        self
    }

    /// Claims in another table than `rtx_activities`.
    #[must_use]
    pub fn claiming(mut self, table: TableName) -> Self {
        self.table = table;
        self
    }
}

/// What a finished agent leaves.
pub(crate) type AgentEnd = (UnitId, Result<AgentOutput, AgentError>);

/// How many ready things of one kind are taken before the loop looks elsewhere.
const TAKE_AT_ONCE: usize = 4_096;

/// How many records may wait for the store before nothing more is claimed.
const MAX_WAITING_RECORDS: usize = 10_000;

/// How a source loop ended.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LoopEnd {
    /// Units whose verdict or release could not be written; their leases expire.
    pub(crate) abandoned: usize,
}

pub(crate) struct SourceLoop {
    shared: Arc<Shared>,
    index: usize,
    source: Source,
    rules: Arc<ClaimRules>,
    table: watch::Receiver<Arc<AppTable>>,
    commands: mpsc::Receiver<Command>,
    signals: BoxStream<'static, Signal>,
    /// Whether the source may hold signals back.
    gated: bool,
    agents: TaskGroup<AgentEnd>,
    calls: TaskGroup<Done>,
    units: Units,
    apps: Vec<AppState>,
    /// Where the round of claims goes on.
    next_app: usize,
    /// What any app claims by itself.
    selectors: Arc<[Selector]>,
    /// How many exchanges are under way.
    exchanges: usize,
    settles: SettleQueue,
    releases: ReleaseQueue,
    sweeps: Sweeps,
    timers: Timers,
    health: Health,
    beat: Beat,
    gate: Gate,
    stop: Stop,
    recent: Recent,
    /// Whether permits were given back since the other sources were told.
    freed: bool,
    /// Whether small work has waited long enough for the exchange under way.
    nudged: bool,
    happened: Vec<What>,
    records: Vec<Record>,
    now: Instant,
    wall: Timestamp,
}

impl SourceLoop {
    pub(crate) fn new(
        shared: Arc<Shared>,
        index: usize,
        source: Source,
        table: watch::Receiver<Arc<AppTable>>,
        commands: mpsc::Receiver<Command>,
    ) -> Self {
        let rules = Arc::new(ClaimRules {
            machine: shared.machine.clone(),
            lease: source.lease.unwrap_or(shared.options.lease),
            retry: source.retry.unwrap_or(shared.options.retry),
        });
        let batch = shared.options.batch as usize;
        let wall = shared.clock.now();
        Self {
            signals: source.signals.signals(),
            gated: source.signals.is_gated(),
            shared,
            index,
            source,
            rules,
            table,
            commands,
            agents: TaskGroup::new("agents"),
            calls: TaskGroup::new("calls"),
            units: Units::default(),
            apps: Vec::new(),
            next_app: 0,
            selectors: Arc::from([]),
            exchanges: 0,
            settles: SettleQueue::new(batch),
            releases: ReleaseQueue::default(),
            sweeps: Sweeps::default(),
            timers: Timers::default(),
            health: Health::default(),
            beat: Beat::default(),
            gate: Gate::default(),
            stop: Stop::default(),
            recent: Recent::default(),
            freed: false,
            nudged: false,
            happened: Vec::new(),
            records: Vec::new(),
            now: Instant::now(),
            wall,
        }
    }

    /// Runs until a stop has been carried out.
    pub(crate) async fn run_loop(mut self) -> LoopEnd {
        let shared = Arc::clone(&self.shared);
        self.apps_changed();
        self.begin_upkeep();
        loop {
            self.pump();
            self.flush();
            if self.stopped() {
                break;
            }
            let wake = self.timers.earliest();
            // Cancel-safe: every branch either takes one ready thing or nothing.
            tokio::select! {
                biased;
                () = shared.hard.cancelled(), if !self.stop.is_hard() => self.begin_hard_stop(),
                () = shared.soft.cancelled(), if !self.stop.has_begun() => self.begin_soft_stop(),
                Some((id, result)) = self.agents.next() => {
                    self.look_at_clocks();
                    self.agent_ended(id, result);
                }
                Some(done) = self.calls.next() => {
                    self.look_at_clocks();
                    self.called(done);
                }
                Some(command) = self.commands.recv() => {
                    self.look_at_clocks();
                    self.command(command);
                }
                Ok(()) = self.table.changed() => self.apps_changed(),
                signal = self.signals.next() => {
                    self.look_at_clocks();
                    self.signal_or_end(signal);
                }
                () = shared.freed[self.index].notified() => {}
                () = shared.store.room(), if !self.records.is_empty() => {}
                () = tokio::time::sleep_until(wake.unwrap_or(self.now)), if wake.is_some() => {}
            }
            self.look_at_clocks();
            self.take_ready();
            self.tick();
        }
        self.farewell().await
    }

    fn look_at_clocks(&mut self) {
        self.now = Instant::now();
        self.wall = self.shared.clock.now();
    }

    /// Takes everything that is ready already, so that one turn handles a whole batch.
    fn take_ready(&mut self) {
        for _ in 0..TAKE_AT_ONCE {
            let Some((id, result)) = self.agents.try_next() else {
                break;
            };
            self.agent_ended(id, result);
        }
        while let Some(done) = self.calls.try_next() {
            self.called(done);
        }
        for _ in 0..TAKE_AT_ONCE {
            // The next wait polls the stream again with the loop's own waker.
            let Some(signal) = self.signals.next().now_or_never() else {
                break;
            };
            self.signal_or_end(signal);
        }
    }

    /// Hands on what happened: to the other sources, the bus and the store.
    fn flush(&mut self) {
        if std::mem::take(&mut self.freed) {
            self.shared.tell_freed(self.index);
        }
        if self.shared.store.enabled() {
            self.shared.store.write(&mut self.records);
            if let Some(error) = self.shared.store.take_trouble() {
                self.happened.push(What::StoreTrouble { error });
            }
        }
        if !self.happened.is_empty() {
            self.shared
                .bus
                .publish(self.wall, &self.source.name, self.happened.drain(..));
        }
    }

    fn record(&mut self, record: impl FnOnce(&Self) -> Record) {
        if self.shared.store.enabled() {
            let record = record(self);
            self.records.push(record);
        }
    }
}

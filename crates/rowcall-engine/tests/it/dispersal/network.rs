//! Machines that share a model over a network with latencies.

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use futures_util::{StreamExt as _, stream::BoxStream};
use jiff::Timestamp;
use parking_lot::Mutex;
use rowcall_backend::{MemoryCoordinator, NewTask};
use rowcall_core::{
    AgentOutput, App, Dispersal, FixedClock, IdSource, LeaseKey, MachineId, Payload, Selector,
    Signal, SourceError, TaskRef, TaskState,
    dispersal::{self, Turns},
    ports::{
        Capabilities, ClaimBatch, ClaimOutcome, ClaimRules, Claimed, Coordinator, Fence,
        Maintenance, Settlement, SignalSource, TaskView,
    },
};
use rowcall_engine::{Engine, FnRunner, Source};
use tokio::{
    sync::{broadcast, mpsc},
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};
use uuid::Uuid;

/// How long everything may take, in simulated time.
const LIMIT: Duration = Duration::from_mins(10);

/// Milliseconds on the way.
#[derive(Clone, Debug)]
pub(super) struct Latency {
    /// A request and its answer.
    pub(super) trip: Range<u64>,
    /// A change, from its commit to the machine.
    pub(super) delivery: Range<u64>,
}

/// What machines know of each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Presence {
    Right,
    Lies,
    Off,
}

/// Numbers that follow from a seed: splitmix64.
#[derive(Debug)]
struct Dice(Mutex<u64>);

impl Dice {
    fn roll(&self) -> u64 {
        let mut state = self.0.lock();
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = *state;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    fn millis(&self, range: &Range<u64>) -> Duration {
        Duration::from_millis(range.start + self.roll() % (range.end - range.start))
    }
}

impl IdSource for Dice {
    fn uuid(&self) -> Uuid {
        Uuid::from_u64_pair(self.roll(), self.roll())
    }

    fn unit(&self) -> f64 {
        f64::from(u32::try_from(self.roll() >> 32).expect("32 bits")) / f64::from(u32::MAX)
    }
}

/// What all machines share.
struct World {
    dice: Arc<Dice>,
    model: MemoryCoordinator,
    claims: AtomicUsize,
    wasted: AtomicUsize,
    claimed: Mutex<BTreeMap<TaskRef, Instant>>,
}

/// One machine's way to the model, and the rules by which it is told.
#[derive(Clone)]
struct Machine(Arc<Inner>);

struct Inner {
    world: Arc<World>,
    id: MachineId,
    present: Vec<MachineId>,
    latency: Latency,
    turns: Mutex<Turns>,
    signals: broadcast::Sender<Signal>,
}

impl Machine {
    /// Half of a round trip.
    async fn travel(&self) {
        let trip = self.0.world.dice.millis(&self.0.latency.trip);
        sleep(trip / 2).await;
    }

    /// What the driver of a backend does with changes.
    async fn drive(self, mut changes: mpsc::UnboundedReceiver<TaskRef>) {
        let mut looks = JoinSet::new();
        loop {
            let due = self.0.turns.lock().next().map(Instant::from_std);
            tokio::select! {
                biased;
                Some(task) = changes.recv() => self.hear(&task),
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    let due = self.0.turns.lock().take_due(Instant::now().into_std());
                    let machine = self.clone();
                    looks.spawn(async move { machine.look(due).await });
                }
                else => return,
            }
        }
    }

    fn hear(&self, task: &TaskRef) {
        let Inner {
            id, present, turns, ..
        } = &*self.0;
        let rank = dispersal::rank(task, id, present);
        let signal = Signal::Dirty {
            table: task.table.clone(),
            task: Some(task.clone()),
        };
        let now = Instant::now().into_std();
        if let Some(signal) = turns.lock().hear(task, signal, rank, now) {
            let _ = self.0.signals.send(signal);
        }
    }

    async fn look(self, due: BTreeMap<TaskRef, Signal>) {
        let began = Instant::now();
        self.travel().await;
        let mut open = Vec::new();
        for (task, signal) in due {
            let row = self.0.world.model.inspect(&task).await.expect("a model");
            let state = row.and_then(|row| row.state);
            if matches!(state, Some(TaskState::Pending | TaskState::Failed)) {
                open.push(signal);
            }
        }
        self.travel().await;
        self.0.turns.lock().took(Instant::now() - began);
        for signal in open {
            let _ = self.0.signals.send(signal);
        }
    }
}

#[async_trait]
impl Coordinator for Machine {
    fn capabilities(&self) -> Capabilities {
        self.0.world.model.capabilities()
    }

    async fn claim(&self, rules: &ClaimRules, task: &TaskRef) -> Result<ClaimOutcome, SourceError> {
        self.0.world.model.claim(rules, task).await
    }

    async fn claim_next(
        &self,
        rules: &ClaimRules,
        batch: &ClaimBatch,
    ) -> Result<Vec<Claimed>, SourceError> {
        let world = &self.0.world;
        let began = Instant::now();
        self.travel().await;
        let mut won = Vec::new();
        if batch.hints.is_empty() {
            won = world.model.claim_next(rules, batch).await?;
        }
        for task in batch.hints.iter() {
            if let ClaimOutcome::Won(one) = world.model.claim(rules, task).await? {
                won.push(*one);
            }
        }
        for one in &won {
            let now = Instant::now();
            let before = world.claimed.lock().insert(one.task.task.clone(), now);
            assert!(before.is_none(), "{} was claimed twice", one.task.task);
        }
        self.travel().await;
        let mut turns = self.0.turns.lock();
        turns.took(Instant::now() - began);
        if won.len() < batch.hints.len() {
            turns.too_early();
        }
        for one in &won {
            turns.taken(&one.task.task);
        }
        world.claims.fetch_add(1, Ordering::Relaxed);
        if won.is_empty() {
            world.wasted.fetch_add(1, Ordering::Relaxed);
        }
        Ok(won)
    }

    async fn renew(&self, leases: &[LeaseKey]) -> Result<Vec<Fence>, SourceError> {
        self.0.world.model.renew(leases).await
    }

    async fn mark_processing(&self, leases: &[LeaseKey]) -> Result<Vec<Fence>, SourceError> {
        self.0.world.model.mark_processing(leases).await
    }

    async fn settle(&self, settlements: &[Settlement]) -> Result<Vec<Fence>, SourceError> {
        self.travel().await;
        let fences = self.0.world.model.settle(settlements).await;
        self.travel().await;
        fences
    }

    async fn release(&self, leases: &[LeaseKey]) -> Result<Vec<Fence>, SourceError> {
        Coordinator::release(&self.0.world.model, leases).await
    }

    async fn sweep(
        &self,
        selectors: &[Selector],
        before: Option<(Timestamp, TaskRef)>,
        limit: u32,
    ) -> Result<Vec<TaskView>, SourceError> {
        self.0.world.model.sweep(selectors, before, limit).await
    }

    async fn maintain(
        &self,
        rules: &ClaimRules,
        selectors: &[Selector],
    ) -> Result<Maintenance, SourceError> {
        self.travel().await;
        let found = self.0.world.model.maintain(rules, selectors).await;
        self.travel().await;
        found
    }

    async fn announce_retry(&self, tasks: &[TaskRef]) -> Result<(), SourceError> {
        self.0.world.model.announce_retry(tasks).await
    }

    async fn inspect(&self, task: &TaskRef) -> Result<Option<TaskView>, SourceError> {
        self.0.world.model.inspect(task).await
    }
}

impl SignalSource for Machine {
    fn signals(&self) -> BoxStream<'static, Signal> {
        let later = tokio_stream::wrappers::BroadcastStream::new(self.0.signals.subscribe());
        let later = later.map(|signal| signal.unwrap_or(Signal::Up));
        futures_util::stream::once(async { Signal::Up })
            .chain(later)
            .chain(futures_util::stream::pending())
            .boxed()
    }

    fn is_gated(&self) -> bool {
        false
    }
}

/// What became of the work.
pub(super) struct Done {
    pub(super) claims: usize,
    pub(super) wasted: usize,
    /// From the commit of a task to its claim.
    pub(super) longest_wait: Duration,
}

/// All machines, with engines that run.
pub(super) struct Fleet {
    world: Arc<World>,
    machines: Vec<(Machine, mpsc::UnboundedSender<TaskRef>)>,
    _running: JoinSet<()>,
}

impl Fleet {
    pub(super) async fn start(
        seed: u64,
        count: usize,
        presence: Presence,
        latency: fn(usize) -> Latency,
    ) -> Self {
        let dice = Arc::new(Dice(Mutex::new(seed)));
        let clock = Arc::new(FixedClock::at(Timestamp::UNIX_EPOCH));
        let world = Arc::new(World {
            model: MemoryCoordinator::new(clock.clone(), dice.clone()),
            dice: dice.clone(),
            claims: AtomicUsize::new(0),
            wasted: AtomicUsize::new(0),
            claimed: Mutex::default(),
        });
        let name = |number: usize| MachineId::new(format!("machine-{number}")).expect("an id");
        let mut running = JoinSet::new();
        let mut machines = Vec::new();
        for number in 0..count {
            let present = match presence {
                Presence::Right => (0..count).map(name).collect(),
                // As many again that are not there, and some that are there are not shown.
                Presence::Lies => (0..2 * count)
                    .map(name)
                    .filter(|_| !dice.roll().is_multiple_of(3))
                    .collect(),
                Presence::Off => Vec::new(),
            };
            let machine = Machine(Arc::new(Inner {
                world: Arc::clone(&world),
                id: name(number),
                present,
                latency: latency(number),
                turns: Mutex::new(Turns::new(Dispersal::default(), Instant::now().into_std())),
                signals: broadcast::Sender::new(4_096),
            }));
            let (changes, heard) = mpsc::unbounded_channel();
            running.spawn(machine.clone().drive(heard));
            let engine = engine(&machine, clock.clone(), dice.clone());
            running.spawn(async move {
                engine.run().await.expect("it runs to its end");
            });
            machines.push((machine, changes));
        }
        // The first looks are over.
        sleep(Duration::from_secs(30)).await;
        Self {
            world,
            machines,
            _running: running,
        }
    }

    /// Puts tasks in, so far apart, and waits until each is completed.
    pub(super) async fn work(&self, count: usize, gap: Duration) -> Done {
        let world = &self.world;
        let read = || {
            let claims = world.claims.load(Ordering::Relaxed);
            (claims, world.wasted.load(Ordering::Relaxed))
        };
        let before = read();
        let mut tasks = Vec::new();
        let mut deliveries = JoinSet::new();
        for _ in 0..count {
            let task = world.model.insert(NewTask::direct(Payload::null()));
            for (machine, changes) in &self.machines {
                let after = world.dice.millis(&machine.0.latency.delivery);
                let (task, changes) = (task.clone(), changes.clone());
                deliveries.spawn(async move {
                    sleep(after).await;
                    changes.send(task).expect("it listens");
                });
            }
            tasks.push((task, Instant::now()));
            sleep(gap).await;
        }
        let end = Instant::now() + LIMIT;
        for (task, _) in &tasks {
            while world
                .model
                .inspect(task)
                .await
                .expect("a model")
                .and_then(|row| row.state)
                != Some(TaskState::Completed)
            {
                assert!(Instant::now() < end, "{task} was not completed");
                sleep(Duration::from_millis(500)).await;
            }
        }
        // Until everybody has looked for the last time.
        sleep(Duration::from_mins(2)).await;
        let after = read();
        let claimed = world.claimed.lock();
        let waits = tasks.iter().map(|(task, at)| claimed[task] - *at);
        Done {
            claims: after.0 - before.0,
            wasted: after.1 - before.1,
            longest_wait: waits.max().unwrap_or_default(),
        }
    }
}

fn engine(machine: &Machine, clock: Arc<FixedClock>, dice: Arc<Dice>) -> Engine {
    let manifest = serde_json::json!({
        "name": "test",
        "config": {
            "supabase": { "tables": ["public.rtx_activities"], "max_concurrent_tasks": 4 },
            "agentHandlers": [{ "tableName": "rtx_activities", "agentId": "it", "eventTypes": ["INSERT"] }]
        },
        "agents": [{ "id": "it", "command": "true" }]
    });
    let app = App::parse(&manifest.to_string(), None).expect("a manifest");
    let runs = dice.clone();
    let runner = FnRunner::new(move |_| {
        let run = runs.millis(&(50..500));
        async move {
            sleep(run).await;
            Ok(AgentOutput {
                result: Payload::null(),
            })
        }
    });
    Engine::builder()
        .machine(machine.0.id.clone())
        .clock(clock)
        .ids(dice)
        .runner(Arc::new(runner))
        .source(Source::new(
            "project",
            Arc::new(machine.clone()),
            Arc::new(machine.clone()),
        ))
        .apps(vec![app])
        .build()
        .expect("an engine")
}

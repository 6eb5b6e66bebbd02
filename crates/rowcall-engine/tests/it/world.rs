//! What most tests need: a model, an engine over it, agents that do as they are told, and ways to wait.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use parking_lot::Mutex;
use rowcall_backend::{MemoryCoordinator, NewTask};
use rowcall_core::{
    AgentError, AgentErrorKind, AgentId, AgentOutput, App, Clock, MachineId, Payload,
    SequentialIds, TableName, TaskRef, TaskState,
    ports::{Coordinator as _, RunContext, TaskView},
};
use rowcall_engine::{
    Engine, EngineHandle, EngineOptions, FnRunner, Heard, InProcessRunner, Source, StopSummary,
    Subscription, What, store::TaskStore,
};
use tokio::{
    sync::{Notify, oneshot},
    task::JoinSet,
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::double::Double;

/// No test waits longer for anything, in the time of the test.
pub(crate) const PATIENCE: Duration = Duration::from_hours(4);

/// The wall clock, moving with tokio's.
#[derive(Clone, Debug)]
pub(crate) struct PausedClock(Instant);

impl Default for PausedClock {
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl Clock for PausedClock {
    fn now(&self) -> Timestamp {
        let start: Timestamp = "2026-11-21T10:00:00Z".parse().unwrap();
        start.checked_add(self.0.elapsed()).unwrap()
    }
}

/// What an agent does with one task.
pub(crate) type Script = Result<AgentOutput, AgentError>;

/// A run that waits to be told its end.
pub(crate) struct Run {
    pub(crate) context: RunContext,
    pub(crate) stop: CancellationToken,
    end: oneshot::Sender<Script>,
}

impl Run {
    pub(crate) fn end(self, script: Script) {
        // The run may have been dropped by the engine.
        let _ = self.end.send(script);
    }

    pub(crate) fn complete(self) {
        self.end(done("{}"));
    }
}

#[expect(clippy::unnecessary_wraps, reason = "an agent's end, like `failed`")]
pub(crate) fn done(result: &str) -> Script {
    Ok(AgentOutput {
        result: Payload::from_text(result.to_owned()).unwrap(),
    })
}

pub(crate) fn failed(message: &str) -> Script {
    Err(AgentError::new(AgentErrorKind::Failed, message))
}

/// Agents: `clerk` completes at once, `slow` waits to be told (and stops when asked), `deaf` waits and never stops when
/// asked, `broken` panics, `failing` fails. Agents that are no functions wait to be told, as a program would.
#[derive(Clone, Default)]
pub(crate) struct Agents {
    runs: Arc<Mutex<BTreeMap<TaskRef, Run>>>,
    changed: Arc<Notify>,
    pub(crate) running: Arc<AtomicUsize>,
    pub(crate) most: Arc<AtomicUsize>,
    pub(crate) started: Arc<Mutex<Vec<(TaskRef, u32, Instant)>>>,
}

impl Agents {
    pub(crate) fn runner(&self) -> InProcessRunner {
        let agent = |name: &str| AgentId::new(name).unwrap();
        let (clerk, slow, deaf) = (self.clone(), self.clone(), self.clone());
        let (broken, failing, warm) = (self.clone(), self.clone(), self.clone());
        InProcessRunner::new()
            .agent(agent("clerk"), move |context, _| {
                let agents = clerk.clone();
                async move {
                    let _running = agents.begin(&context);
                    tokio::task::yield_now().await;
                    done("{}")
                }
            })
            .agent(agent("slow"), move |context, stop| {
                let agents = slow.clone();
                async move {
                    let _running = agents.begin(&context);
                    let end = agents.wait(context, stop.clone());
                    tokio::select! {
                        script = end => script.unwrap_or_else(|_| failed("the test let go")),
                        () = stop.cancelled() => Err(AgentError::new(AgentErrorKind::Canceled, "stopped")),
                    }
                }
            })
            .agent(agent("deaf"), move |context, stop| {
                let agents = deaf.clone();
                async move {
                    let _running = agents.begin(&context);
                    let end = agents.wait(context, stop);
                    end.await.unwrap_or_else(|_| failed("the test let go"))
                }
            })
            .agent(agent("broken"), move |context, _| {
                let agents = broken.clone();
                async move {
                    let _running = agents.begin(&context);
                    panic!("the agent is broken")
                }
            })
            .agent(agent("failing"), move |context, _| {
                let agents = failing.clone();
                async move {
                    let _running = agents.begin(&context);
                    failed("it never works")
                }
            })
            .otherwise(Arc::new(FnRunner::new(move |context: RunContext| {
                let agents = warm.clone();
                async move {
                    let _running = agents.begin(&context);
                    let end = agents.wait(context, CancellationToken::new());
                    end.await.unwrap_or_else(|_| failed("the test let go"))
                }
            })))
    }

    fn begin(&self, context: &RunContext) -> Running {
        let now = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        let attempt = context.lease.attempt;
        self.started
            .lock()
            .push((context.task.task.clone(), attempt, Instant::now()));
        self.changed.notify_waiters();
        Running(Arc::clone(&self.running))
    }

    fn wait(&self, context: RunContext, stop: CancellationToken) -> oneshot::Receiver<Script> {
        let (end, ended) = oneshot::channel();
        let task = context.task.task.clone();
        self.runs.lock().insert(task, Run { context, stop, end });
        self.changed.notify_waiters();
        ended
    }

    /// The run of a task, once there is one.
    pub(crate) async fn run(&self, task: &TaskRef) -> Run {
        self.until("the task's run", || self.runs.lock().remove(task))
            .await
    }

    /// Waits until so many runs have begun.
    pub(crate) async fn begun(&self, count: usize) {
        self.until("runs to begin", || {
            (self.started.lock().len() >= count).then_some(())
        })
        .await;
    }

    async fn until<T>(&self, what: &str, ready: impl Fn() -> Option<T>) -> T {
        let wait = async {
            loop {
                let changed = self.changed.notified();
                let mut changed = std::pin::pin!(changed);
                changed.as_mut().enable();
                if let Some(found) = ready() {
                    return found;
                }
                changed.await;
            }
        };
        tokio::time::timeout(PATIENCE, wait)
            .await
            .unwrap_or_else(|_| panic!("waited in vain for {what}"))
    }
}

struct Running(Arc<AtomicUsize>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A manifest with one route: INSERTs of `public.<table>` go to `agent`.
pub(crate) fn app(name: &str, table: &str, agent: &str, limit: u32) -> App {
    app_with(name, table, agent, limit, "auto")
}

pub(crate) fn app_with(name: &str, table: &str, agent: &str, limit: u32, trigger: &str) -> App {
    let manifest = serde_json::json!({
        "name": name,
        "config": {
            "supabase": { "tables": [table], "max_concurrent_tasks": limit },
            "agentHandlers": [
                { "tableName": table, "agentId": agent, "eventTypes": ["INSERT"], "trigger": trigger }
            ]
        }
    });
    App::parse(&manifest.to_string(), None).unwrap()
}

/// The tests' options: the published ones, without waiting for the wall.
pub(crate) fn options() -> EngineOptions {
    EngineOptions::default()
}

/// A model and what was started over it.
pub(crate) struct World {
    pub(crate) double: Double,
    pub(crate) agents: Agents,
    pub(crate) clock: PausedClock,
    engines: JoinSet<StopSummary>,
}

/// One engine of a world.
pub(crate) struct Node {
    pub(crate) handle: EngineHandle,
    pub(crate) events: Subscription,
}

impl World {
    /// A model whose inserts are signalled.
    pub(crate) fn new() -> Self {
        Self::with(true)
    }

    /// A model that says nothing by itself.
    pub(crate) fn silent() -> Self {
        Self::with(false)
    }

    fn with(loud: bool) -> Self {
        let clock = PausedClock::default();
        let model =
            MemoryCoordinator::new(Arc::new(clock.clone()), Arc::new(SequentialIds::default()));
        Self {
            double: Double::new(model, loud),
            agents: Agents::default(),
            clock,
            engines: JoinSet::new(),
        }
    }

    pub(crate) fn insert(&self, table: &str) -> TaskRef {
        self.insert_row(table, "{}")
    }

    pub(crate) fn insert_row(&self, table: &str, row: &str) -> TaskRef {
        let table = table.parse::<TableName>().unwrap();
        let row = Payload::from_text(row.to_owned()).unwrap();
        self.double.model.insert(NewTask::captured(table, row))
    }

    pub(crate) fn start(&mut self, apps: Vec<App>) -> Node {
        self.start_as("m1", apps, options(), None)
    }

    pub(crate) fn start_as(
        &mut self,
        machine: &str,
        apps: Vec<App>,
        options: EngineOptions,
        store: Option<Arc<dyn TaskStore>>,
    ) -> Node {
        self.start_over(self.double.clone(), machine, apps, options, store)
    }

    /// An engine whose calls go through another double over the same model: its own network.
    pub(crate) fn start_over(
        &mut self,
        double: Double,
        machine: &str,
        apps: Vec<App>,
        options: EngineOptions,
        store: Option<Arc<dyn TaskStore>>,
    ) -> Node {
        let runner = self.agents.runner();
        let mut builder = Engine::builder()
            .machine(MachineId::new(machine).unwrap())
            .clock(Arc::new(self.clock.clone()))
            .ids(Arc::new(SequentialIds::default()))
            .agents(runner.specs())
            .runner(Arc::new(runner))
            .options(options)
            .source(Source::new(
                "db",
                Arc::new(double.clone()),
                Arc::new(double),
            ))
            .apps(apps);
        if let Some(store) = store {
            builder = builder.store(store);
        }
        self.spawn(builder.build().unwrap())
    }

    pub(crate) fn spawn(&mut self, engine: Engine) -> Node {
        let handle = engine.handle();
        let events = handle.events();
        self.engines
            .spawn(async move { engine.run().await.unwrap() });
        Node { handle, events }
    }

    pub(crate) async fn view(&self, task: &TaskRef) -> TaskView {
        self.double.model.inspect(task).await.unwrap().unwrap()
    }

    pub(crate) async fn state(&self, task: &TaskRef) -> TaskState {
        self.view(task).await.state.unwrap()
    }

    /// Waits for the next engine to end.
    pub(crate) async fn stopped(&mut self) -> StopSummary {
        tokio::time::timeout(PATIENCE, self.engines.join_next())
            .await
            .expect("the engine stops")
            .expect("an engine was started")
            .expect("it does not panic")
    }
}

impl Node {
    /// Waits for an event and hands back what `wanted` makes of it.
    pub(crate) async fn hear<T>(&mut self, wanted: impl Fn(&What) -> Option<T>) -> T {
        let wait = async {
            loop {
                match self.events.next().await {
                    Heard::Event(event) => {
                        if let Some(found) = wanted(&event.what) {
                            return found;
                        }
                    }
                    Heard::Missed(count) => panic!("missed {count} events"),
                }
            }
        };
        tokio::time::timeout(PATIENCE, wait)
            .await
            .expect("the event comes")
    }

    pub(crate) async fn settled(&mut self, task: &TaskRef) -> TaskState {
        let task = task.clone();
        self.hear(move |what| match what {
            What::Settled { task: t, state, .. } if *t == task => Some(*state),
            What::Failed { task: t, .. } if *t == task => Some(TaskState::Failed),
            _ => None,
        })
        .await
    }

    pub(crate) async fn settled_count(&mut self, count: usize) {
        for _ in 0..count {
            self.hear(|what| {
                matches!(what, What::Settled { .. } | What::Failed { .. }).then_some(())
            })
            .await;
        }
    }
}

/// Lets everything that is ready run, without moving the clock.
pub(crate) async fn settle_down() {
    for _ in 0..64 {
        tokio::task::yield_now().await;
    }
}

/// Lets so much time pass.
pub(crate) async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
    settle_down().await;
}

//! Twenty machines on one table: who goes first is known from presence, and nothing depends on it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;
use rowcall::system::{RandomIds, SystemClock};
use rowcall_backend::supabase::{Identity, SupabaseBackend, SupabaseConfig};
use rowcall_core::{
    AgentOutput, App, AppId, Dispersal, LeaseKey, MachineId, Payload, Selector, SourceError,
    TaskRef,
    ports::{
        Capabilities, ClaimBatch, ClaimOutcome, ClaimRules, Claimed, Coordinator, Fence,
        Maintenance, Settlement, TaskView,
    },
};
use rowcall_engine::{Engine, EngineHandle, EngineOptions, FnRunner, PollOptions, Source};
use tokio::task::JoinSet;

use crate::support::{Project, shell_app, until};

const MACHINES: usize = 20;
const TASKS: usize = 80;

/// Counts claims, and those that won nothing.
#[derive(Debug, Default)]
struct Counts {
    claims: AtomicUsize,
    wasted: AtomicUsize,
}

impl Counts {
    fn add(&self, won: usize) {
        self.claims.fetch_add(1, Ordering::Relaxed);
        if won == 0 {
            self.wasted.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn read(&self) -> (usize, usize) {
        (
            self.claims.load(Ordering::Relaxed),
            self.wasted.load(Ordering::Relaxed),
        )
    }
}

struct Counting {
    inner: SupabaseBackend,
    counts: Arc<Counts>,
}

#[async_trait]
impl Coordinator for Counting {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }
    async fn claim(&self, rules: &ClaimRules, task: &TaskRef) -> Result<ClaimOutcome, SourceError> {
        let outcome = self.inner.claim(rules, task).await?;
        self.counts
            .add(usize::from(matches!(outcome, ClaimOutcome::Won(_))));
        Ok(outcome)
    }
    async fn claim_next(
        &self,
        rules: &ClaimRules,
        batch: &ClaimBatch,
    ) -> Result<Vec<Claimed>, SourceError> {
        let won = self.inner.claim_next(rules, batch).await?;
        self.counts.add(won.len());
        Ok(won)
    }
    async fn renew(&self, leases: &[LeaseKey]) -> Result<Vec<Fence>, SourceError> {
        self.inner.renew(leases).await
    }
    async fn mark_processing(&self, leases: &[LeaseKey]) -> Result<Vec<Fence>, SourceError> {
        self.inner.mark_processing(leases).await
    }
    async fn settle(&self, settlements: &[Settlement]) -> Result<Vec<Fence>, SourceError> {
        self.inner.settle(settlements).await
    }
    async fn release(&self, leases: &[LeaseKey]) -> Result<Vec<Fence>, SourceError> {
        Coordinator::release(&self.inner, leases).await
    }
    async fn sweep(
        &self,
        selectors: &[Selector],
        before: Option<(Timestamp, TaskRef)>,
        limit: u32,
    ) -> Result<Vec<TaskView>, SourceError> {
        self.inner.sweep(selectors, before, limit).await
    }
    async fn maintain(
        &self,
        rules: &ClaimRules,
        selectors: &[Selector],
    ) -> Result<Maintenance, SourceError> {
        self.inner.maintain(rules, selectors).await
    }
    async fn announce_retry(&self, tasks: &[TaskRef]) -> Result<(), SourceError> {
        self.inner.announce_retry(tasks).await
    }
    async fn inspect(&self, task: &TaskRef) -> Result<Option<TaskView>, SourceError> {
        self.inner.inspect(task).await
    }
}

/// Machines of one project, each with a real engine.
struct Fleet {
    project: Project,
    counts: Arc<Counts>,
    backends: Vec<SupabaseBackend>,
    engines: Vec<EngineHandle>,
    _running: JoinSet<()>,
}

impl Fleet {
    /// `ghosts` show themselves and claim nothing.
    async fn start(project: Project, ghosts: usize) -> Self {
        let counts = Arc::new(Counts::default());
        let (mut backends, mut engines, mut running) = (Vec::new(), Vec::new(), JoinSet::new());
        let app = App::parse(&shell_app("true", 4).to_string(), None).expect("a manifest");
        let wanted = rowcall::daemon::wanted(std::slice::from_ref(&app));
        for number in 0..MACHINES + ghosts {
            let machine = MachineId::new(format!("machine-{number}")).expect("an id");
            let identity = Identity {
                machine: machine.clone(),
                user_email: None,
                hostname: "host".to_owned(),
            };
            let key = project.keys.service_role_key().to_owned();
            let mut config =
                SupabaseConfig::new(project.url(), key, identity, Arc::new(SystemClock));
            config.apps = vec![AppId::new("test").expect("a name")];
            config.selectors.clone_from(&wanted.selectors);
            let (backend, driver) = SupabaseBackend::new(config).expect("the URL is valid");
            running.spawn(driver.run());
            backends.push(backend.clone());
            if number >= MACHINES {
                continue;
            }
            let runner = FnRunner::new(|_| async {
                Ok(AgentOutput {
                    result: Payload::null(),
                })
            });
            let counting = Counting {
                inner: backend.clone(),
                counts: Arc::clone(&counts),
            };
            let engine = Engine::builder()
                .machine(machine)
                .clock(Arc::new(SystemClock))
                .ids(Arc::new(RandomIds))
                .runner(Arc::new(runner))
                .options(EngineOptions {
                    poll: PollOptions {
                        down: Duration::from_secs(2),
                        ..PollOptions::default()
                    },
                    ..EngineOptions::default()
                })
                .source(Source::new(
                    "project",
                    Arc::new(counting),
                    Arc::new(backend),
                ))
                .apps(vec![app.clone()])
                .build()
                .expect("an engine");
            engines.push(engine.handle());
            running.spawn(async move {
                engine.run().await.expect("it runs to its end");
            });
        }
        let fleet = Self {
            project,
            counts,
            backends,
            engines,
            _running: running,
        };
        fleet.settle_down().await;
        fleet
    }

    /// Until signals flow everywhere and nobody claims any more.
    async fn settle_down(&self) {
        until("signals flow", async || {
            for engine in &self.engines {
                let status = engine.status().await.expect("it runs");
                if !status.sources[0].up {
                    return Err(format!("{:?}", status.sources));
                }
            }
            Ok(())
        })
        .await;
        until("nobody claims", async || {
            let before = self.counts.read();
            tokio::time::sleep(Duration::from_millis(400)).await;
            let after = self.counts.read();
            if before == after { Ok(()) } else { Err(after) }
        })
        .await;
    }

    async fn sees(&self, machines: usize) {
        for backend in &self.backends {
            let mut present = backend.machines();
            let seen = present.wait_for(|present| present.len() == machines);
            tokio::time::timeout(crate::support::PATIENCE, seen)
                .await
                .expect("in time")
                .expect("it runs");
        }
    }

    /// How long the slowest task took, from its commit to its result, by the clock of the database.
    async fn slowest(&self) -> Duration {
        let sql = "select extract(epoch from max(completed_at - created_at))::float8 from public.rtx_activities";
        let row = self
            .project
            .client
            .query_one(sql, &[])
            .await
            .expect("a row");
        Duration::from_secs_f64(row.get(0))
    }

    /// Inserts tasks and waits until each is completed, once. Tells the claims and the wasted ones for it.
    async fn work(&self) -> (usize, usize) {
        let before = self.counts.read();
        let insert = "insert into public.rtx_activities (raw_data) values (jsonb_build_object('n', $1::bigint))";
        for number in 0..TASKS {
            let number = i64::try_from(number).expect("few");
            self.project
                .client
                .execute(insert, &[&number])
                .await
                .expect("a task");
        }
        until("every task is completed", async || {
            let sql = "select count(*), coalesce(max(attempt), 0) from public.rtx_activities where status = 'completed'";
            let row = self.project.client.query_one(sql, &[]).await.expect("a count");
            let (done, attempts): (i64, i32) = (row.get(0), row.get(1));
            if usize::try_from(done).ok() == Some(TASKS) {
                assert_eq!(attempts, 1, "a task was claimed twice");
                Ok(())
            } else {
                Err(done)
            }
        })
        .await;
        self.settle_down().await;
        let after = self.counts.read();
        (after.0 - before.0, after.1 - before.1)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_presence_few_claims_are_wasted() {
    let fleet = Fleet::start(Project::start().await, 0).await;
    fleet.sees(MACHINES).await;
    let (claims, wasted) = fleet.work().await;
    let slowest = fleet.slowest().await;
    eprintln!(
        "{MACHINES} machines, {TASKS} tasks, {claims} claims, {wasted} wasted; the slowest task took {slowest:?}"
    );
    // How many are wasted on slow networks is simulated, in the tests of the engine. Here twenty daemons share one computer:
    // where it is too busy for the first machine to claim within its head start, others rightly claim as well.
    if slowest < Dispersal::default().step {
        assert!(
            wasted * 10 <= TASKS * 12,
            "{wasted} of {claims} claims were wasted on {TASKS} tasks"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn presence_that_lies_delays_and_no_more() {
    let fleet = Fleet::start(Project::start().await, 15).await;
    fleet.sees(MACHINES + 15).await;
    fleet.work().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_presence_everything_works() {
    let fleet = Fleet::start(Project::without_presence().await, 0).await;
    let (claims, wasted) = fleet.work().await;
    assert!(
        fleet
            .backends
            .iter()
            .all(|backend| backend.machines().borrow().is_empty())
    );
    eprintln!("without presence: {claims} claims, {wasted} wasted on {TASKS} tasks");
}

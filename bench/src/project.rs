//! From the commit of a task to the start of its runner, where the daemon reaches the tasks over REST and Realtime only.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use clap::Args;
use futures_util::StreamExt as _;
use rowcall_backend::{
    SupabaseBackend, SupabaseConfig,
    migrate::{self, MigrateOptions},
    supabase::Identity,
};
use rowcall_core::{AgentOutput, Clock, MachineId, Payload, ports::SignalSource as _};
use rowcall_engine::{Engine, EngineHandle, EngineOptions, FnRunner, Source};
use rowcall_stack::{
    auth::Keys,
    bootstrap,
    realtime::{Limits, Slot},
    stack::{RealtimeSettings, Stack, StackConfig, loopback},
};
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_postgres::Client;

use crate::{
    machine,
    numbers::{number, percentile},
    report::{Cell, Report, progress},
    server::{Place, Server, connect},
    system::{RandomIds, SystemClock},
    workload,
};

/// A task that does not start within this is lost.
const START_LIMIT: Duration = Duration::from_secs(30);
/// How long signals may take to flow, or to be known not to.
const SIGNALS_LIMIT: Duration = Duration::from_secs(30);
/// Samples at the start that do not count.
const WARM_UP: u32 = 5;

const ENQUEUE: &str = "insert into public.rtx_activities (raw_data) values ($1)";

/// What is measured.
#[derive(Clone, Debug, Args)]
pub(crate) struct Options {
    /// How many tasks while Realtime works
    #[arg(long, default_value_t = 300)]
    samples: u32,
    /// How many tasks while Realtime is down
    #[arg(long, default_value_t = 60)]
    down_samples: u32,
    /// How many milliseconds pass at least between two tasks; up to as many more are added at random
    #[arg(long, default_value_t = 40)]
    gap: u64,
}

/// One way to reach a project.
struct Case {
    name: &'static str,
    samples: u32,
    ms: Vec<f64>,
}

struct Running {
    stack: Stack,
    engine: EngineHandle,
    ended: JoinHandle<Result<rowcall_engine::StopSummary, rowcall_engine::EngineError>>,
    driver: JoinHandle<()>,
    starts: mpsc::Receiver<Instant>,
}

/// Takes samples with Realtime, then without.
pub(crate) async fn run(
    place: &Place,
    options: &Options,
) -> Result<(Report, Vec<(&'static str, String)>)> {
    let server = Server::start(place).await?;
    let machine = machine::describe(server.directory(), server.version().await?)?;
    let database = server.create(None).await?;
    let url = server.url(&database);
    let mut producer = connect(&url).await?;
    bootstrap::apply(&producer).await?;
    migrate::apply(&mut producer, MigrateOptions::default()).await?;
    let mut cases = [
        Case {
            name: "REST and Realtime",
            samples: options.samples,
            ms: Vec::new(),
        },
        Case {
            name: "Realtime down: polls every 5 s",
            samples: options.down_samples,
            ms: Vec::new(),
        },
    ];
    for (case, with_realtime) in cases.iter_mut().zip([true, false]) {
        progress(format_args!("{} samples: {}", case.samples, case.name));
        let mut running = start(&url, with_realtime).await?;
        let gap = if with_realtime {
            Duration::from_millis(options.gap)
        } else {
            // Spread over the polls, and past the looks that follow activity.
            Duration::from_secs(6)
        };
        let warm_up = if with_realtime { WARM_UP } else { 1 };
        for n in 0..case.samples + warm_up {
            let taken = sample(&producer, &mut running.starts, n).await?;
            if n >= warm_up {
                case.ms.push(taken);
            }
            tokio::time::sleep(gap.mul_f64(1.0 + rand::random::<f64>())).await;
        }
        running.stop().await?;
    }
    drop(producer);
    server.stop().await;
    Ok((report(&cases), machine))
}

async fn sample(producer: &Client, starts: &mut mpsc::Receiver<Instant>, n: u32) -> Result<f64> {
    let payload = serde_json::json!({
        "id": n, "subject": "Cannot log in since the update", "body": "It says that my password is wrong."
    });
    producer.execute(ENQUEUE, &[&payload]).await?;
    let committed = Instant::now();
    let started = tokio::time::timeout(START_LIMIT, starts.recv())
        .await
        .context("a task was not started")?
        .context("the engine has ended")?;
    Ok(started.saturating_duration_since(committed).as_secs_f64() * 1e3)
}

/// A project in front of the database, and an engine that knows its URL and a key.
async fn start(database_url: &str, with_realtime: bool) -> Result<Running> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let keys = Keys::generate(clock.now());
    let mut config = StackConfig::new(database_url, keys.clone(), Arc::clone(&clock));
    config.bind = loopback(0);
    config.bootstrap = false;
    config.realtime = with_realtime.then(|| RealtimeSettings {
        ids: Arc::new(RandomIds),
        limits: Limits::default(),
        slot: Some(Slot::Temporary),
        private_only: false,
    });
    let stack = Stack::start(config).await?;
    let id = MachineId::new("bench")?;
    let identity = Identity {
        machine: id.clone(),
        user_email: None,
        hostname: "bench".to_owned(),
    };
    let key = keys.service_role_key().to_owned();
    let mut config = SupabaseConfig::new(stack.url(), key, identity, Arc::clone(&clock));
    let app = workload::app_of("public.rtx_activities", 100)?;
    config.apps = vec![app.name.clone()];
    config.selectors = app
        .subscribed_routes()
        .into_iter()
        .map(|route| route.selector)
        .collect();
    let (backend, driver) = SupabaseBackend::new(config)?;
    let driver = tokio::spawn(driver.run());
    wait_for_signals(&backend, with_realtime).await?;
    let (sender, starts) = mpsc::channel(16);
    let runner = FnRunner::new(move |_context| {
        let now = Instant::now();
        let sender = sender.clone();
        async move {
            // Nobody listens any more once the samples are taken.
            let _ = sender.send(now).await;
            Ok(AgentOutput {
                result: Payload::null(),
            })
        }
    });
    let engine = Engine::builder()
        .machine(id)
        .clock(clock)
        .ids(Arc::new(RandomIds))
        .runner(Arc::new(runner))
        .agents([rowcall_core::AgentSpec {
            id: rowcall_core::AgentId::new(workload::AGENT)?,
            kind: rowcall_core::agent::AgentKind::InProcess,
            timeout: rowcall_core::agent::DEFAULT_AGENT_TIMEOUT,
        }])
        .options(EngineOptions::default())
        .source(Source::new(
            "project",
            Arc::new(backend.clone()),
            Arc::new(backend),
        ))
        .apps(vec![app])
        .build()?;
    let handle = engine.handle();
    Ok(Running {
        stack,
        engine: handle,
        ended: tokio::spawn(engine.run()),
        driver,
        starts,
    })
}

async fn wait_for_signals(backend: &SupabaseBackend, up: bool) -> Result<()> {
    use rowcall_core::Signal;
    let mut signals = backend.signals();
    let wanted = async {
        loop {
            match signals.next().await {
                Some(Signal::Up) if up => return Ok(()),
                Some(Signal::Down { .. }) if !up => return Ok(()),
                Some(_) => {}
                None => anyhow::bail!("signals ended"),
            }
        }
    };
    tokio::time::timeout(SIGNALS_LIMIT, wanted)
        .await
        .context("Realtime did not come up")?
}

impl Running {
    async fn stop(self) -> Result<()> {
        self.engine.shutdown();
        self.ended.await??;
        self.driver.abort();
        self.stack.shutdown().await;
        Ok(())
    }
}

fn report(cases: &[Case]) -> Report {
    let rows = cases
        .iter()
        .map(|case| {
            let at = |part| Cell::Number(percentile(&case.ms, part), 1);
            vec![
                Cell::Text(case.name.to_owned()),
                Cell::Number(number(case.samples), 0),
                at(0.5),
                at(0.95),
                at(0.99),
            ]
        })
        .collect();
    Report {
        title: "Latency on a Supabase project: commit of a task to the start of its runner".to_owned(),
        columns: vec!["case", "samples", "p50 ms", "p95", "p99"],
        rows,
        goals: Vec::new(),
        notes: vec![
            "The project is the embedded stack in this process; the engine knows its URL and a key only.".to_owned(),
        ],
    }
}

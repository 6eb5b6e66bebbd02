//! From a send to the start of its handler, of a worker that sleeps.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use clap::Args;
use rand::RngExt as _;
use rowcall_backend::queue::{
    Broadcast, Database, Job, JobError, QueueName, QueueStore, SignalOptions, Worker,
};
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{database, project::Project};
use crate::{
    machine,
    numbers::percentile,
    report::{Cell, Goal, Report, progress},
    server::{Place, Server, connect},
    system::SystemClock,
};

/// A message that takes longer to start is lost.
const LIMIT: Duration = Duration::from_secs(30);
/// The polling of the case without wake-ups.
const POLL: Duration = Duration::from_secs(1);
/// Polling that no measured message waits for.
const NEVER: Duration = Duration::from_mins(10);
/// The goals with wake-ups, in milliseconds: B3.
const GOAL_P50: f64 = 20.0;
const GOAL_P99: f64 = 100.0;

/// What is measured.
#[derive(Clone, Debug, Args)]
pub(crate) struct Options {
    /// Sends with wake-ups
    #[arg(long, default_value_t = 300)]
    sends: u32,
    /// Sends while polling once a second
    #[arg(long, default_value_t = 30)]
    polled: u32,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    Direct,
    Realtime,
    Poll,
}

/// Runs all ways, one after the other.
pub(super) async fn run(
    place: &Place,
    options: &Options,
) -> Result<(Report, Vec<(&'static str, String)>)> {
    let server = Server::start(place).await?;
    let machine = machine::describe(server.directory(), server.version().await?)?;
    let mut all = Vec::new();
    for (name, way, sends) in [
        ("by the database (NOTIFY)", Way::Direct, options.sends),
        (
            "over Realtime (rowcall's stack)",
            Way::Realtime,
            options.sends,
        ),
        ("polling every second", Way::Poll, options.polled),
    ] {
        let database = database(&server).await?;
        let millis = measure(&server.url(&database), way, sends).await?;
        progress(format_args!(
            "{name:<34} p50 {:.2} ms  p99 {:.2} ms",
            percentile(&millis, 0.5),
            percentile(&millis, 0.99)
        ));
        // The database stays until the server goes: a project's replication slot ends in its own time.
        all.push((name, way, millis));
    }
    server.stop().await;
    Ok((report(options, &all), machine))
}

async fn measure(url: &str, way: Way, sends: u32) -> Result<Vec<f64>> {
    let project = match way {
        Way::Realtime => Some(Project::start(url).await?),
        Way::Direct | Way::Poll => None,
    };
    let queue = QueueName::new("bench")?;
    let store = QueueStore::new(Database::new(url, 1)?);
    store
        .create(&queue, rowcall_backend::queue::Kind::Logged)
        .await?;
    if way != Way::Poll {
        store.enable_wake(&queue).await?;
    }
    let (started, mut starts) = mpsc::channel(16);
    let mut builder = Worker::builder()
        .queue("bench")
        .handler(move |_: Job<serde_json::Value>| {
            let (started, now) = (started.clone(), Instant::now());
            async move { started.send(now).await.map_err(JobError::from) }
        })
        .signals(SignalOptions {
            listen: way != Way::Poll,
            idle: NEVER,
            poll: if way == Way::Poll { POLL } else { NEVER },
            ..SignalOptions::default()
        });
    if let Some(project) = &project {
        let broadcast = Broadcast::default();
        store.enable_broadcast(&queue, &broadcast).await?;
        builder = builder.realtime(project.client()?, broadcast, Arc::new(SystemClock));
    }
    let worker = builder.connect(url).await?;
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    let running = tokio::spawn(async move { worker.run(stopped).await });
    let client = connect(url).await?;
    let send = client
        .prepare("select pgmq.send('bench', '{\"n\": 1}'::jsonb)")
        .await?;
    let mut millis = Vec::new();
    // The first ones find out whether it listens yet; they do not count.
    for number in 0..sends + 5 {
        let pause = rand::rng().random_range(120..320);
        tokio::time::sleep(Duration::from_millis(pause)).await;
        let before = Instant::now();
        client.query(&send, &[]).await?;
        let start = tokio::time::timeout(LIMIT, starts.recv())
            .await
            .context("no handler was started")?
            .context("the worker is gone")?;
        if number >= 5 {
            millis.push(start.duration_since(before).as_secs_f64() * 1_000.0);
        }
    }
    stop.cancel();
    running.await?;
    if let Some(project) = project {
        project.stack.shutdown().await;
    }
    Ok(millis)
}

fn report(options: &Options, all: &[(&'static str, Way, Vec<f64>)]) -> Report {
    let rows = all
        .iter()
        .map(|(name, _, millis)| {
            vec![
                Cell::Text((*name).to_owned()),
                Cell::Number(percentile(millis, 0.5), 2),
                Cell::Number(percentile(millis, 0.95), 2),
                Cell::Number(percentile(millis, 0.99), 2),
                Cell::Number(percentile(millis, 1.0), 2),
            ]
        })
        .collect();
    let goals = all
        .iter()
        .filter(|(_, way, _)| *way != Way::Poll)
        .map(|(name, _, millis)| {
            let (p50, p99) = (percentile(millis, 0.5), percentile(millis, 0.99));
            Goal {
                wanted: format!("{name}: p50 below {GOAL_P50} ms and p99 below {GOAL_P99} ms"),
                measured: format!("{p50:.2} and {p99:.2} ms"),
                met: p50 < GOAL_P50 && p99 < GOAL_P99,
            }
        })
        .collect();
    Report {
        title: format!(
            "Queues: from the call of send to the start of the handler, {} sends to a sleeping worker (polling: {})",
            options.sends, options.polled
        ),
        columns: vec!["woken", "p50 ms", "p95 ms", "p99 ms", "max ms"],
        rows,
        goals,
        notes: vec!["The commit of the send is part of it; sends are 120 to 320 ms apart.".into()],
    }
}

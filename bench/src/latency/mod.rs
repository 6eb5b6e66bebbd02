//! From the commit of an enqueued task to the start of its runner, on an idle engine.

mod floor;
mod schedule;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use clap::Args;
use rowcall_core::{AgentOutput, Payload};
use rowcall_engine::{EngineOptions, FnRunner};
use tokio::sync::mpsc;
use tokio_postgres::{Client, Statement};

use crate::{
    machine,
    numbers::{number, percentile},
    report::{Cell, Goal, Report, progress},
    server::{Place, Server, connect},
    workload,
};

/// The goal of the project: at the median, of the floor.
const GOAL: f64 = 1.3;
/// A task that does not start within this is lost.
const START_LIMIT: Duration = Duration::from_secs(10);
/// Samples at the start that do not count.
const WARM_UP: u32 = 30;

const ENQUEUE: &str = "insert into public.rtx_activities (raw_data, source_table, source_event, source_key) \
                       values ($1, $2, 'INSERT', $3)";

/// What is measured.
#[derive(Clone, Debug, Args)]
pub(crate) struct Options {
    /// How many tasks each, in turns
    #[arg(long, default_value_t = 500)]
    samples: u32,
    /// How many milliseconds pass at least between two tasks; up to as many more are added at random
    #[arg(long, default_value_t = 25)]
    gap: u64,
    /// Keep the ordinary scheduling class even where a real-time one is permitted
    #[arg(long)]
    ordinary: bool,
}

/// One side of the comparison.
struct Side {
    name: &'static str,
    producer: Client,
    enqueue: Statement,
    starts: mpsc::Receiver<Instant>,
    /// From before the insert, and from its acknowledgement, to the start, in milliseconds.
    from_call: Vec<f64>,
    from_commit: Vec<f64>,
}

impl Side {
    async fn new(
        server: &Server,
        name: &'static str,
        database: &str,
        starts: mpsc::Receiver<Instant>,
    ) -> Result<Self> {
        let producer = connect(&server.url(database)).await?;
        let enqueue = producer.prepare(ENQUEUE).await?;
        Ok(Self {
            name,
            producer,
            enqueue,
            starts,
            from_call: Vec::new(),
            from_commit: Vec::new(),
        })
    }

    async fn sample(&mut self, n: u32, counts: bool) -> Result<()> {
        let payload = serde_json::json!({
            "id": n, "subject": "Cannot log in since the update", "body": "It says that my password is wrong."
        });
        let key = serde_json::json!({ "id": n });
        let called = Instant::now();
        self.producer
            .execute(&self.enqueue, &[&payload, &workload::SOURCE_TABLE, &key])
            .await?;
        let committed = Instant::now();
        let started = tokio::time::timeout(START_LIMIT, self.starts.recv())
            .await
            .with_context(|| format!("{}: a task was not started", self.name))?
            .context("it has ended")?;
        if counts {
            let ms = |from: Instant| {
                // The start may come before the acknowledgement.
                let later = started.saturating_duration_since(from).as_secs_f64();
                let earlier = from.saturating_duration_since(started).as_secs_f64();
                (later - earlier) * 1e3
            };
            self.from_call.push(ms(called));
            self.from_commit.push(ms(committed));
        }
        Ok(())
    }
}

/// Takes samples in turns.
pub(crate) async fn run(
    place: &Place,
    options: &Options,
) -> Result<(Report, Vec<(&'static str, String)>)> {
    let server = Server::start(place).await?;
    let machine = machine::describe(server.directory(), server.version().await?)?;
    // Before any connection: what a process starts inherits its class.
    let real_time =
        !options.ordinary && schedule::real_time(&[server.postmaster()?, std::process::id()]);
    let (floor_db, engine_db) = (
        workload::migrated(&server).await?,
        workload::migrated(&server).await?,
    );
    let (sender, starts) = mpsc::channel(16);
    let floor = floor::start(&server, &floor_db, sender).await?;
    let floor_side = Side::new(&server, "floor: notify, listen, claim", &floor_db, starts).await?;

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
    let url = server.url(&engine_db);
    let (engine, backend) = workload::engine(
        &url,
        "engine",
        Arc::new(runner),
        EngineOptions::default(),
        Some(server.directory()),
    )
    .await?;
    let handle = engine.handle();
    handle.set_apps(&[workload::app(100)?]);
    let running = tokio::spawn(engine.run());
    let engine_side = Side::new(&server, "rowcall", &engine_db, starts).await?;
    tokio::time::sleep(Duration::from_secs(1)).await;

    let mut sides = [floor_side, engine_side];
    progress(format_args!(
        "{} samples of each, {} scheduling",
        options.samples,
        if real_time { "real-time" } else { "ordinary" }
    ));
    for n in 0..options.samples + WARM_UP {
        for side in &mut sides {
            side.sample(n, n >= WARM_UP).await?;
            let gap = Duration::from_millis(options.gap);
            tokio::time::sleep(gap.mul_f64(1.0 + rand::random::<f64>())).await;
        }
    }
    handle.shutdown();
    running.await??;
    backend.close().await;
    drop(floor);
    let report = report(options, &sides, real_time);
    drop(sides);
    server.stop().await;
    Ok((report, machine))
}

fn report(options: &Options, sides: &[Side; 2], real_time: bool) -> Report {
    let [floor, _] = sides;
    let base = percentile(&floor.from_commit, 0.5);
    let rows = sides
        .iter()
        .map(|side| {
            let at = |values: &[f64], part| Cell::Number(percentile(values, part), 2);
            vec![
                Cell::Text(side.name.to_owned()),
                at(&side.from_commit, 0.5),
                at(&side.from_commit, 0.95),
                at(&side.from_commit, 0.99),
                Cell::Number(percentile(&side.from_commit, 0.5) / base, 2),
                at(&side.from_call, 0.5),
                at(&side.from_call, 0.95),
                at(&side.from_call, 0.99),
            ]
        })
        .collect();
    let ratio = percentile(&sides[1].from_commit, 0.5) / base;
    Report {
        title: format!(
            "Latency: enqueue to runner start on an idle engine, {} samples each, in turns",
            number(options.samples)
        ),
        columns: vec![
            "case",
            "commit→start p50 ms",
            "p95",
            "p99",
            "× floor p50",
            "call→start p50 ms",
            "p95",
            "p99",
        ],
        rows,
        goals: vec![Goal {
            wanted: format!("commit to start at most {GOAL} of the floor at p50"),
            measured: format!("{ratio:.2}"),
            met: ratio <= GOAL,
        }],
        notes: vec![if real_time {
            "PostgreSQL and this process ran in the real-time class SCHED_RR, priority 1.".into()
        } else {
            "Ordinary scheduling: on a busy machine the numbers show its time slices.".into()
        }],
    }
}

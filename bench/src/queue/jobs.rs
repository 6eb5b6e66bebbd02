//! Jobs per second: no-op jobs that are there before the start.

use std::sync::Arc;

use anyhow::Result;
use clap::Args;
use rowcall_backend::queue::{Job, JobError, Worker};
use tokio::task::JoinSet;
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;

use super::{aimq, database};
use crate::{
    machine,
    numbers::median,
    report::{Cell, Goal, Report, progress},
    server::{Place, Server, connect},
    throughput::window::{Measured, Progress, Window, until_finished},
    usage,
    workload::PAYLOAD,
};

/// Connections of the floor, and workers.
const CONSUMERS: u32 = 4;
/// The goal: this part of the floor.
const GOAL: f64 = 0.8;
const UNFINISHED: &str = "select exists (select from pgmq.q_bench)";

/// What is measured.
#[derive(Clone, Debug, Args)]
pub(crate) struct Options {
    /// Jobs of a run that reads one at a time; twenty times as many in batches
    #[arg(long, default_value_t = 5_000)]
    jobs: u32,
    /// How often every case is run, interleaved; medians are shown
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Jobs of AIMQ's runs; 0 leaves it out
    #[arg(long, default_value_t = 500)]
    aimq_jobs: u32,
}

#[derive(Clone, Copy, Debug)]
enum Who {
    Floor,
    Rowcall,
}

struct Case {
    name: &'static str,
    who: Who,
    batch: u32,
    results: Vec<Measured>,
}

fn cases() -> Vec<Case> {
    let case = |name, who, batch| Case {
        name,
        who,
        batch,
        results: Vec::new(),
    };
    vec![
        case("pgmq.read(1) + archive, 4 connections", Who::Floor, 1),
        case("rowcall, 4 workers of 1 job", Who::Rowcall, 1),
        case(
            "pgmq.read(100) + archive(ids), 4 connections",
            Who::Floor,
            100,
        ),
        case("rowcall, 4 workers of 100 jobs", Who::Rowcall, 100),
    ]
}

/// Runs all cases in rounds.
pub(super) async fn run(
    place: &Place,
    options: &Options,
) -> Result<(Report, Vec<(&'static str, String)>)> {
    let server = Server::start(place).await?;
    let machine = machine::describe(server.directory(), server.version().await?)?;
    let template = database(&server).await?;
    let mut all = cases();
    let mut theirs = Vec::new();
    for round in 1..=options.rounds {
        for case in &mut all {
            let jobs = if case.batch > 1 {
                options.jobs * 20
            } else {
                options.jobs
            };
            let name = server.create(Some(&template)).await?;
            let measured = measure(&server, &name, jobs, case.who, case.batch).await?;
            server.drop(&name).await?;
            progress(format_args!(
                "round {round}/{}  {:<46} {:>8.0}/s",
                options.rounds, case.name, measured.per_second
            ));
            case.results.push(measured);
        }
        if options.aimq_jobs > 0 {
            let name = server.create(Some(&template)).await?;
            let url = server.url(&name);
            if let Some(per_second) = aimq::run(&url, options.aimq_jobs).await? {
                progress(format_args!(
                    "round {round}/{}  {:<46} {per_second:>8.0}/s",
                    options.rounds,
                    aimq::NAME
                ));
                theirs.push(per_second);
            }
            // It stays until the server goes: the project's replication slot ends in its own time.
        }
    }
    server.stop().await;
    Ok((report(options, &all, &theirs), machine))
}

async fn measure(server: &Server, name: &str, jobs: u32, who: Who, batch: u32) -> Result<Measured> {
    let url = server.url(name);
    let client = connect(&url).await?;
    let fill = format!(
        "select pgmq.create('bench'); \
         select count(*) from pgmq.send_batch('bench', (select array_agg({PAYLOAD}) from generate_series(1, {jobs}) n))"
    );
    client.batch_execute(&fill).await?;
    client.batch_execute("vacuum analyze pgmq.q_bench").await?;
    server.checkpoint().await?;
    let progress = Arc::new(Progress::new(jobs));
    let stop = CancellationToken::new();
    let mut running = JoinSet::new();
    for number in 0..CONSUMERS {
        let (progress, stop) = (Arc::clone(&progress), stop.clone());
        match who {
            Who::Floor => {
                let client = connect(&url).await?;
                running.spawn(async move { floor(client, &progress, batch, &stop).await });
            }
            Who::Rowcall => {
                let worker = worker(&url, number, batch, &progress).await?;
                running.spawn(async move {
                    worker.run(stop).await;
                    Ok(())
                });
            }
        }
    }
    progress.first().await?;
    let window = Window::open(server, name, usage::Worker::Own).await?;
    progress.last().await?;
    let looks = until_finished(&client, UNFINISHED).await?;
    let measured = window.close(server, name, jobs, looks).await?;
    // Consumers stay until then: their connections' CPU time counts.
    stop.cancel();
    for done in running.join_all().await {
        done?;
    }
    Ok(measured)
}

async fn floor(
    client: Client,
    progress: &Progress,
    batch: u32,
    stop: &CancellationToken,
) -> Result<()> {
    let read = client
        .prepare("select msg_id, message from pgmq.read('bench', 300, $1)")
        .await?;
    let one = client
        .prepare("select pgmq.archive('bench', $1::bigint)")
        .await?;
    let many = client
        .prepare("select count(*) from pgmq.archive('bench', $1::bigint[])")
        .await?;
    loop {
        let rows = client.query(&read, &[&i32::try_from(batch)?]).await?;
        let ids: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
        progress.add(u32::try_from(ids.len())?);
        match ids.as_slice() {
            [] => break,
            [id] if batch == 1 => client.query(&one, &[id]).await?,
            ids => client.query(&many, &[&ids]).await?,
        };
    }
    stop.cancelled().await;
    Ok(())
}

async fn worker(url: &str, number: u32, batch: u32, progress: &Arc<Progress>) -> Result<Worker> {
    let progress = Arc::clone(progress);
    let handler = move |_: Job<serde_json::Value>| {
        progress.add(1);
        std::future::ready(Ok::<(), JobError>(()))
    };
    Ok(Worker::builder()
        .queue("bench")
        .handler(handler)
        .name(format!("bench-{number}"))
        .concurrency(batch)
        .connect(url)
        .await?)
}

fn middle(case: &Case, value: impl Fn(&Measured) -> f64) -> f64 {
    median(&case.results.iter().map(value).collect::<Vec<_>>())
}

/// The median over the rounds of the ratio within each round to the floor of the same batch.
fn ratio(case: &Case, all: &[Case]) -> f64 {
    let floor = all
        .iter()
        .find(|one| matches!(one.who, Who::Floor) && one.batch == case.batch)
        .expect("every batch has its floor");
    let ratios: Vec<f64> = case
        .results
        .iter()
        .zip(&floor.results)
        .map(|(one, floor)| one.per_second / floor.per_second)
        .collect();
    median(&ratios)
}

fn report(options: &Options, all: &[Case], theirs: &[f64]) -> Report {
    let mut rows: Vec<Vec<Cell>> = all
        .iter()
        .map(|case| {
            vec![
                Cell::Text(case.name.to_owned()),
                Cell::Number(middle(case, |one| one.per_second), 0),
                Cell::Number(ratio(case, all), 2),
                Cell::Number(middle(case, |one| one.postgres_us), 1),
                Cell::Number(middle(case, |one| one.worker_us), 1),
                Cell::Number(middle(case, |one| one.statements), 4),
                Cell::Number(middle(case, |one| one.others), 1),
            ]
        })
        .collect();
    if !theirs.is_empty() {
        let mut row = vec![
            Cell::Text(aimq::NAME.to_owned()),
            Cell::Number(median(theirs), 0),
        ];
        row.resize_with(7, || Cell::Nothing);
        rows.push(row);
    }
    let goals = all
        .iter()
        .filter(|case| matches!(case.who, Who::Rowcall))
        .map(|case| {
            let of_floor = ratio(case, all);
            Goal {
                wanted: format!("{}: at least {GOAL} of bare pgmq", case.name),
                measured: format!("{of_floor:.2}"),
                met: of_floor >= GOAL,
            }
        })
        .collect();
    Report {
        title: format!(
            "Queues: no-op jobs, archived; {} (batches: {}), medians of {} rounds",
            options.jobs,
            options.jobs * 20,
            options.rounds
        ),
        columns: vec![
            "case",
            "jobs/s",
            "× bare",
            "PG CPU µs/job",
            "worker CPU µs/job",
            "statements/job",
            "other load, cores",
        ],
        rows,
        goals,
        notes: vec![
            "× bare: within each round, of pgmq's own functions with the same batch; median.".into(),
            "AIMQ: its released worker, one job at a time over `pgmq_public` as its package does it, on rowcall's stack.".into(),
        ],
    }
}

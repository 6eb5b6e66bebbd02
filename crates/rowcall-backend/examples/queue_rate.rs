//! Jobs per second of the queue source against bare `pgmq.read` + `archive`, in alternating rounds on one database.
//!
//! `cargo run --release -p rowcall-backend --example queue_rate -- postgres://… [data directory]` (a scratch database: it makes
//! and drops queues). With the data directory of a server on this machine it also says what PostgreSQL's processes spent.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use rowcall_backend::queue::{
    Database, Install, Job, Kind, QueueBackend, QueueName, QueueOptions, QueueSpec, QueueStore,
    Worker, install,
};
use rowcall_core::{
    AppId, MachineId, Payload, RetryPolicy,
    ports::{ClaimBatch, ClaimOrder, ClaimRules, Coordinator as _, Settlement, Verdict},
};
use tokio_postgres::NoTls;
use tokio_util::sync::CancellationToken;

const CONNECTIONS: usize = 4;
const ROUNDS: usize = 5;
/// Of /proc: ticks of 10 ms.
const MICROS_PER_TICK: f64 = 10_000.0;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args()
        .nth(1)
        .ok_or("give the URL of a scratch database")?;
    install(&Database::new(&url, 1)?, Install::default()).await?;
    for (batch, jobs) in [(1, 8_000), (100, 100_000)] {
        let case = |name| (name, Vec::new(), Vec::new());
        let mut cases = [case("bare pgmq"), case("coordinator"), case("worker")];
        for _ in 0..ROUNDS {
            for (case, rates, costs) in &mut cases {
                let queue = fill(&url, jobs).await?;
                let (start, spent) = (Instant::now(), ticks());
                match *case {
                    "bare pgmq" => bare(&url, &queue, batch).await?,
                    "coordinator" => coordinator(&url, &queue, batch).await?,
                    _ => worker(&url, &queue, batch, jobs).await?,
                }
                let count = f64::from(u32::try_from(jobs)?);
                rates.push(count / start.elapsed().as_secs_f64());
                costs.push((ticks() - spent) * MICROS_PER_TICK / count);
            }
        }
        let bare = median(&mut cases[0].1);
        for (case, rates, costs) in &mut cases {
            let (rate, cost) = (median(rates), median(costs));
            println!(
                "batch {batch:>3}  {case:<12} {rate:>9.0} jobs/s  {:.2} x bare  {cost:>5.0} us of PostgreSQL's CPU per job",
                rate / bare
            );
        }
    }
    Ok(())
}

/// CPU ticks of all processes of the server whose data directory was given.
fn ticks() -> f64 {
    let Some(directory) = std::env::args().nth(2) else {
        return 0.0;
    };
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let of = |path: std::path::PathBuf| -> Option<u64> {
        (std::fs::read_link(path.join("cwd")).ok()? == std::path::Path::new(&directory))
            .then_some(())?;
        let stat = std::fs::read_to_string(path.join("stat")).ok()?;
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
        // utime and stime are fields 14 and 15; after the name the third is next.
        let (user, system) = (fields.nth(11)?, fields.next()?);
        Some(user.parse::<u64>().ok()? + system.parse::<u64>().ok()?)
    };
    processes
        .filter_map(|process| of(process.path()))
        .sum::<u64>() as f64
}

fn median(rates: &mut [f64]) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

async fn fill(url: &str, jobs: usize) -> Result<QueueName, Box<dyn std::error::Error>> {
    let store = QueueStore::new(Database::new(url, 1)?);
    let queue = QueueName::new("rate")?;
    store.drop(&queue).await?;
    store.create(&queue, Kind::Logged).await?;
    let messages = vec![Payload::from_text("{\"to\":\"somebody@example.com\"}".into())?; jobs];
    store.send_batch(&queue, &messages, Duration::ZERO).await?;
    Ok(queue)
}

/// Connections that each read and archive until there is nothing.
async fn bare(url: &str, queue: &QueueName, batch: u32) -> Result<(), Box<dyn std::error::Error>> {
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..CONNECTIONS {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
        tokio::spawn(connection);
        let (queue, limit) = (queue.as_str().to_owned(), i32::try_from(batch)?);
        tasks.spawn(async move {
            let read = client
                .prepare("select msg_id, read_ct, enqueued_at, vt, message from pgmq.read($1::text, 300, $2::int)")
                .await?;
            let archive = client.prepare("select pgmq.archive($1::text, $2::bigint[])").await?;
            loop {
                let rows = client.query(&read, &[&queue, &limit]).await?;
                if rows.is_empty() {
                    return Ok::<_, tokio_postgres::Error>(());
                }
                let ids: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
                client.query(&archive, &[&queue, &ids]).await?;
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(())
}

/// The same through the coordinator: one round trip settles and claims.
async fn coordinator(
    url: &str,
    queue: &QueueName,
    batch: u32,
) -> Result<(), Box<dyn std::error::Error>> {
    let options = QueueOptions {
        connections: CONNECTIONS,
        ..QueueOptions::default()
    };
    let backend = QueueBackend::connect(url, vec![QueueSpec::new(queue.clone())], options).await?;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..CONNECTIONS {
        let backend = backend.clone();
        let rules = ClaimRules {
            machine: MachineId::new("bench")?,
            lease: backend.lease_policy(),
            retry: RetryPolicy::default(),
        };
        let batch = ClaimBatch {
            app: AppId::new("bench")?,
            selectors: backend.selectors(),
            limit: batch,
            retryable: true,
            order: ClaimOrder::OldestFirst,
        };
        tasks.spawn(async move {
            let mut settlements: Vec<Settlement> = Vec::new();
            loop {
                let (_, claimed) = backend
                    .settle_and_claim(&rules, &settlements, &batch)
                    .await?;
                if claimed.is_empty() {
                    return Ok::<_, rowcall_core::SourceError>(());
                }
                settlements = claimed
                    .into_iter()
                    .map(|one| Settlement {
                        lease: one.lease.into_key(),
                        verdict: Verdict::Completed(Payload::empty_object()),
                    })
                    .collect();
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(())
}

/// Typed handlers that do nothing, in as many workers as there are connections.
async fn worker(
    url: &str,
    queue: &QueueName,
    batch: u32,
    jobs: usize,
) -> Result<(), Box<dyn std::error::Error>> {
    #[derive(serde::Deserialize)]
    struct Email {
        to: String,
    }
    let (done, stop) = (Arc::new(AtomicUsize::new(0)), CancellationToken::new());
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..CONNECTIONS {
        let (done, all) = (Arc::clone(&done), stop.clone());
        let worker = Worker::builder()
            .queue(queue.as_str())
            .handler(move |job: Job<Email>| {
                assert!(!job.data.to.is_empty());
                if done.fetch_add(1, Ordering::Relaxed) + 1 == jobs {
                    all.cancel();
                }
                async { Ok::<(), String>(()) }
            })
            .concurrency(batch)
            .connect(url)
            .await?;
        let stop = stop.clone();
        tasks.spawn(async move { worker.run(stop).await });
    }
    while let Some(done) = tasks.join_next().await {
        done?;
    }
    Ok(())
}

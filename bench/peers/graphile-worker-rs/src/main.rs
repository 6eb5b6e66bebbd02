//! The peer `graphile_worker`, driven by rowcall's benchmark: `peer-graphile-worker migrate|default|local-queue <jobs>`.
//! Says ready, starts on a line of input, and says when the first and the last handler start.

use std::{
    io::Write as _,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use graphile_worker::{
    IntoTaskHandlerResult, LocalQueueConfig, RefetchDelayConfig, TaskHandler, WorkerContext,
    WorkerOptions,
};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncBufReadExt as _;

static JOBS: AtomicU64 = AtomicU64::new(0);
static STARTED: AtomicU64 = AtomicU64::new(0);

fn say(word: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{word}").expect("the benchmark listens");
    out.flush().expect("the benchmark listens");
}

#[derive(Deserialize, Serialize)]
struct Noop {}

impl TaskHandler for Noop {
    const IDENTIFIER: &'static str = "noop";

    async fn run(self, _context: WorkerContext) -> impl IntoTaskHandlerResult {
        let number = STARTED.fetch_add(1, Ordering::Relaxed) + 1;
        if number == 1 {
            say("first");
        }
        if number == JOBS.load(Ordering::Relaxed) {
            say("last");
        }
    }
}

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let mode = arguments.next().expect("a mode");
    let jobs = arguments.next().and_then(|text| text.parse().ok());
    JOBS.store(jobs.expect("a number of jobs"), Ordering::Relaxed);
    let url = std::env::var("DATABASE_URL").expect("DATABASE_URL");
    let mut options = WorkerOptions::default()
        .database_url(&url)
        .max_pg_conn(25)
        .concurrency(24)
        .listen_os_shutdown_signals(false)
        .define_job::<Noop>();
    if mode == "local-queue" {
        let refetch = RefetchDelayConfig::default().with_duration(Duration::from_millis(10));
        options = options
            .local_queue(
                LocalQueueConfig::default()
                    .with_size(500)
                    .with_refetch_delay(refetch),
            )
            .complete_job_batch_delay(Duration::ZERO);
    }
    // This migrates.
    let worker = options.init().await.expect("a worker");
    if mode == "migrate" {
        return say("migrated");
    }
    say("ready");
    let mut input = tokio::io::BufReader::new(tokio::io::stdin()).lines();
    input.next_line().await.expect("input");
    worker.run().await.expect("it runs");
}

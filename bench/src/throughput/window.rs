//! The measured stretch of a run: from the first handler's start until the database shows no unfinished task.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use tokio::sync::Notify;
use tokio_postgres::Client;

use crate::{
    numbers::number,
    server::Server,
    usage::{PostgresCpu, Worker, machine_busy},
};

/// A run that takes longer is broken.
pub(crate) const RUN_LIMIT: Duration = Duration::from_mins(5);
/// How often the database is asked, once the last handler has started, whether everything is written.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// What one run measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measured {
    pub(crate) per_second: f64,
    pub(crate) postgres_us: f64,
    pub(crate) worker_us: f64,
    pub(crate) statements: f64,
    pub(crate) wal_bytes: f64,
    /// Processors that somebody else kept busy.
    pub(crate) others: f64,
}

/// A stretch under way.
pub(crate) struct Window {
    statements: i64,
    wal: i64,
    worker: (Worker, Duration),
    postgres: PostgresCpu,
    busy: f64,
    start: Instant,
}

impl Window {
    /// Begins it.
    pub(crate) async fn open(server: &Server, database: &str, worker: Worker) -> Result<Self> {
        let start = Instant::now();
        let postgres = PostgresCpu::read(server.postmaster()?)?;
        let cpu = worker.cpu()?;
        let busy = machine_busy()?;
        Ok(Self {
            statements: server.statements(database).await?,
            wal: server.wal().await?,
            worker: (worker, cpu),
            postgres,
            busy,
            start,
        })
    }

    /// Ends it: now. `extra` statements were the benchmark's own.
    pub(crate) async fn close(
        self,
        server: &Server,
        database: &str,
        tasks: u32,
        extra: i64,
    ) -> Result<Measured> {
        let elapsed = self.start.elapsed();
        let (worker, before) = self.worker;
        let worker = worker.cpu()?.saturating_sub(before);
        let postgres = PostgresCpu::read(server.postmaster()?)?.since(&self.postgres);
        let ours = worker + postgres;
        let others = (machine_busy()? - self.busy - ours.as_secs_f64()) / elapsed.as_secs_f64();
        let wal = server.wal().await? - self.wal;
        let statements = server.statements(database).await? - self.statements - extra;
        let tasks = f64::from(tasks);
        Ok(Measured {
            per_second: tasks / elapsed.as_secs_f64(),
            postgres_us: postgres.as_secs_f64() * 1e6 / tasks,
            worker_us: worker.as_secs_f64() * 1e6 / tasks,
            statements: number(statements) / tasks,
            wal_bytes: number(wal) / tasks,
            others: others.max(0.0),
        })
    }
}

/// Asks until nothing is unfinished; says how often it asked. `unfinished` is a query for one truth value.
pub(crate) async fn until_finished(client: &Client, unfinished: &str) -> Result<i64> {
    let statement = client.prepare(unfinished).await?;
    let start = Instant::now();
    let mut looks = 0;
    loop {
        looks += 1;
        if !client.query_one(&statement, &[]).await?.get::<_, bool>(0) {
            return Ok(looks);
        }
        if start.elapsed() > RUN_LIMIT {
            bail!("some tasks were not finished within {RUN_LIMIT:?}");
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Counts handlers that have started.
#[derive(Debug)]
pub(crate) struct Progress {
    tasks: u32,
    started: AtomicU32,
    first: Notify,
    last: Notify,
}

impl Progress {
    pub(crate) fn new(tasks: u32) -> Self {
        Self {
            tasks,
            started: AtomicU32::new(0),
            first: Notify::new(),
            last: Notify::new(),
        }
    }

    /// Some more have started.
    pub(crate) fn add(&self, count: u32) {
        if count == 0 {
            return;
        }
        let before = self.started.fetch_add(count, Ordering::Relaxed);
        if before == 0 {
            self.first.notify_one();
        }
        if before < self.tasks && before + count >= self.tasks {
            self.last.notify_one();
        }
    }

    /// Waits for the first one.
    pub(crate) async fn first(&self) -> Result<()> {
        Ok(tokio::time::timeout(RUN_LIMIT, self.first.notified()).await?)
    }

    /// Waits for the last one.
    pub(crate) async fn last(&self) -> Result<()> {
        Ok(tokio::time::timeout(RUN_LIMIT, self.last.notified()).await?)
    }
}

//! The real engine, and the floor below it: the same statements without an engine.

use std::sync::Arc;

use anyhow::Result;
use rowcall_core::{AgentOutput, Payload};
use rowcall_engine::{EngineOptions, FnRunner};
use tokio::task::JoinSet;
use tokio_postgres::{
    Client,
    types::{Json, ToSql},
};
use uuid::Uuid;

use super::window::{Measured, Progress, Window, until_finished};
use crate::{
    server::{Server, connect},
    usage::Worker,
    workload,
};

/// Whether an activity is pending or leased.
const UNFINISHED: &str = "select exists (select from public.rtx_activities where coalesce(status, 'pending') = 'pending') \
                          or exists (select from public.rtx_activities where status in ('claimed', 'processing'))";

/// Runs `tasks` through `engines` engines of one process.
pub(super) async fn engines(
    server: &Server,
    database: &str,
    tasks: u32,
    batch: u32,
    engines: u32,
    with_store: bool,
) -> Result<Measured> {
    let url = server.url(database);
    let client = connect(&url).await?;
    workload::enqueue(&client, tasks).await?;
    server.checkpoint().await?;
    let progress = Arc::new(Progress::new(tasks));
    let stores = tempfile::tempdir_in(server.directory())?;
    let options = EngineOptions {
        batch,
        ..EngineOptions::default()
    };
    let concurrency = options.concurrency;
    let (mut handles, mut running) = (Vec::new(), JoinSet::new());
    for number in 0..engines {
        let counted = Arc::clone(&progress);
        let runner = FnRunner::new(move |_context| {
            counted.add(1);
            async {
                Ok(AgentOutput {
                    result: Payload::null(),
                })
            }
        });
        let store = with_store.then(|| stores.path());
        let name = format!("engine-{number}");
        let (engine, backend) =
            workload::engine(&url, &name, Arc::new(runner), options.clone(), store).await?;
        handles.push(engine.handle());
        running.spawn(async move {
            let summary = engine.run().await;
            backend.close().await;
            summary
        });
    }
    let app = workload::app(concurrency)?;
    for handle in &handles {
        handle.set_apps(std::slice::from_ref(&app));
    }
    progress.first().await?;
    let window = Window::open(server, database, Worker::Own).await?;
    progress.last().await?;
    let looks = until_finished(&client, UNFINISHED).await?;
    let measured = window.close(server, database, tasks, looks).await?;
    for handle in &handles {
        handle.shutdown();
    }
    let (mut completed, mut settled) = (0, 0);
    while let Some(ended) = running.join_next().await {
        let counters = ended??.counters;
        completed += counters.completed;
        settled += counters.completed + counters.failed + counters.fenced;
    }
    anyhow::ensure!(
        completed == u64::from(tasks) && settled == completed,
        "of {tasks} tasks {completed} were completed; {settled} verdicts"
    );
    Ok(measured)
}

/// Runs `tasks` through bare SQL on `connections` connections: each settles its last batch and claims the next one in one
/// statement.
pub(super) async fn floor(
    server: &Server,
    database: &str,
    tasks: u32,
    batch: u32,
    connections: u32,
) -> Result<Measured> {
    let url = server.url(database);
    let client = connect(&url).await?;
    client
        .batch_execute(
            "drop trigger rowcall_wake_insert on public.rtx_activities; \
             drop trigger rowcall_wake_update on public.rtx_activities",
        )
        .await?;
    workload::enqueue(&client, tasks).await?;
    server.checkpoint().await?;
    let progress = Arc::new(Progress::new(tasks));
    let mut running = JoinSet::new();
    for number in 0..connections {
        let client = connect(&url).await?;
        // As the product's sessions have it.
        client
            .batch_execute(
                "set plan_cache_mode = force_generic_plan; set enable_seqscan = off; \
                 set enable_bitmapscan = off; set enable_sort = off; set jit = off",
            )
            .await?;
        let progress = Arc::clone(&progress);
        running.spawn(async move {
            settle_and_claim(&client, number, batch, &progress).await?;
            // Kept until everything is read: its process holds the CPU time.
            Ok::<_, anyhow::Error>(client)
        });
    }
    progress.first().await?;
    let window = Window::open(server, database, Worker::Own).await?;
    progress.last().await?;
    let looks = until_finished(&client, UNFINISHED).await?;
    let clients = running.join_all().await;
    let measured = window.close(server, database, tasks, looks).await?;
    let _: Vec<Client> = clients.into_iter().collect::<Result<_>>()?;
    Ok(measured)
}

async fn settle_and_claim(
    client: &Client,
    number: u32,
    batch: u32,
    progress: &Progress,
) -> Result<()> {
    let machine = format!("floor-{number}");
    let statement = client.prepare(include_str!("../../sql/floor.sql")).await?;
    let (limit, empty) = (i64::from(batch), serde_json::Value::Null);
    let (mut ids, mut attempts): (Vec<Uuid>, Vec<i32>) = (Vec::new(), Vec::new());
    loop {
        let results: Vec<Json<&serde_json::Value>> = ids.iter().map(|_| Json(&empty)).collect();
        let parameters: [&(dyn ToSql + Sync); 6] = [
            &machine,
            &limit,
            &workload::SOURCE_TABLE,
            &ids,
            &attempts,
            &results,
        ];
        let rows = client.query(&statement, &parameters).await?;
        (ids, attempts) = rows
            .iter()
            .filter_map(|row| Some((row.get::<_, Option<Uuid>>(0)?, row.get::<_, i32>(1))))
            .unzip();
        progress.add(u32::try_from(ids.len())?);
        if ids.is_empty() {
            return Ok(());
        }
    }
}

//! The peer pgmq: its own SQL, read and delete in batches, no framework around it.

use std::sync::Arc;

use anyhow::Result;
use rowcall_backend::queue::{Database, Install, install};
use tokio::task::JoinSet;
use tokio_postgres::Client;

use super::window::{Measured, Progress, Window, until_finished};
use crate::{
    server::{Server, connect},
    usage::Worker,
    workload::PAYLOAD,
};

/// Messages in one read and one delete.
const BATCH: i32 = 50;
/// Readers.
const CONNECTIONS: u32 = 4;
const UNFINISHED: &str = "select exists (select from pgmq.q_bench)";

/// A new database with pgmq in it.
pub(super) async fn prepare(server: &Server) -> Result<String> {
    let name = server.create(None).await?;
    let database = Database::new(&server.url(&name), 1)?;
    install(&database, Install { data_api: false }).await?;
    Ok(name)
}

/// Runs `tasks` messages through.
pub(super) async fn run(server: &Server, database: &str, tasks: u32) -> Result<Measured> {
    let url = server.url(database);
    let client = connect(&url).await?;
    client.batch_execute("select pgmq.create('bench')").await?;
    let send = format!(
        "select count(*) from pgmq.send_batch('bench', (select array_agg({PAYLOAD}) from generate_series(1, {tasks}) n))"
    );
    client.batch_execute(&send).await?;
    client.batch_execute("vacuum analyze pgmq.q_bench").await?;
    server.checkpoint().await?;
    let progress = Arc::new(Progress::new(tasks));
    let mut running = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let client = connect(&url).await?;
        let progress = Arc::clone(&progress);
        running.spawn(async move {
            read_and_delete(&client, &progress).await?;
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

async fn read_and_delete(client: &Client, progress: &Progress) -> Result<()> {
    let read = client
        .prepare("select msg_id, message from pgmq.read('bench', 60, $1)")
        .await?;
    let delete = client
        .prepare("select count(*) from pgmq.delete('bench', $1::bigint[])")
        .await?;
    loop {
        let rows = client.query(&read, &[&BATCH]).await?;
        let ids: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
        progress.add(u32::try_from(ids.len())?);
        if ids.is_empty() {
            return Ok(());
        }
        client.query(&delete, &[&ids]).await?;
    }
}

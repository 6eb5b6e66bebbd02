//! The floor: notify, listen, claim, and nothing else.

use std::time::Instant;

use anyhow::{Result, bail};
use tokio::{sync::mpsc, task::JoinSet};
use tokio_postgres::{AsyncMessage, Client, NoTls};
use uuid::Uuid;

use crate::{
    server::{Server, connect},
    workload::SOURCE_TABLE,
};

const WAKE: &str = "drop trigger rowcall_wake_insert on public.rtx_activities; \
    drop trigger rowcall_wake_update on public.rtx_activities; \
    create function floor_wake() returns trigger language plpgsql as $$ \
      begin perform pg_notify('floor', ''); return null; end $$; \
    create trigger floor_wake after insert on public.rtx_activities for each statement execute function floor_wake()";
const COMPLETE: &str = "update public.rtx_activities set status = 'completed', completed_at = now() where id = any ($1)";

/// Listens and claims in a database with the schema of rowcall; sends the moment of every start.
pub(super) async fn start(
    server: &Server,
    database: &str,
    starts: mpsc::Sender<Instant>,
) -> Result<JoinSet<Result<()>>> {
    let url = server.url(database);
    let claimer = connect(&url).await?;
    claimer.batch_execute(WAKE).await?;
    claimer
        .batch_execute(
            "set plan_cache_mode = force_generic_plan; set enable_seqscan = off; \
             set enable_bitmapscan = off; set enable_sort = off; set jit = off",
        )
        .await?;
    let (listener, mut connection) = tokio_postgres::connect(&url, NoTls).await?;
    let (heard, mut hints) = mpsc::channel::<()>(1);
    let mut running = JoinSet::new();
    running.spawn(async move {
        loop {
            let message = std::future::poll_fn(|context| connection.poll_message(context)).await;
            match message {
                Some(Ok(AsyncMessage::Notification(_))) => {
                    // A hint that waits already says the same.
                    let _ = heard.try_send(());
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error.into()),
                None => bail!("the listening connection was closed"),
            }
        }
    });
    listener.batch_execute("listen floor").await?;
    let claim = claimer.prepare(include_str!("../../sql/floor.sql")).await?;
    let complete = claimer.prepare(COMPLETE).await?;
    running.spawn(async move {
        // The connection lives as long as its client.
        let _listener: Client = listener;
        let none: (Vec<Uuid>, Vec<i32>, Vec<serde_json::Value>) = Default::default();
        while hints.recv().await.is_some() {
            let rows = claimer
                .query(
                    &claim,
                    &[&"floor", &500_i64, &SOURCE_TABLE, &none.0, &none.1, &none.2],
                )
                .await?;
            let ids: Vec<Uuid> = rows.iter().filter_map(|row| row.get(0)).collect();
            for _ in &ids {
                starts.send(Instant::now()).await?;
            }
            claimer.execute(&complete, &[&ids]).await?;
        }
        Ok(())
    });
    Ok(running)
}

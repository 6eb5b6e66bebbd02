//! Clients that insert one row per transaction as fast as they can.

use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::task::JoinSet;

use crate::{
    numbers::number,
    server::{Server, connect},
    usage::PostgresCpu,
};

const INSERT: &str = "insert into public.tickets (subject, body) values ($1, $2)";

/// What one run measured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rate {
    pub(super) per_second: f64,
    pub(super) postgres_us: f64,
    pub(super) wal_bytes: f64,
}

/// Writes for `time` with so many clients.
pub(super) async fn write(
    server: &Server,
    url: &str,
    clients: u32,
    time: Duration,
) -> Result<Rate> {
    let mut ready = Vec::new();
    for _ in 0..clients {
        let client = connect(url).await?;
        let insert = client.prepare(INSERT).await?;
        ready.push((client, insert));
    }
    let postmaster = server.postmaster()?;
    let (wal, cpu, start) = (
        server.wal().await?,
        PostgresCpu::read(postmaster)?,
        Instant::now(),
    );
    let mut running = JoinSet::new();
    for (client, insert) in ready {
        running.spawn(async move {
            let mut rows = 0_i64;
            while start.elapsed() < time {
                client
                    .execute(
                        &insert,
                        &[
                            &"Cannot log in since the update",
                            &"It says that my password is wrong.",
                        ],
                    )
                    .await?;
                rows += 1;
            }
            // The client comes along: its process holds the CPU time.
            Ok::<_, anyhow::Error>((rows, client))
        });
    }
    let all = running.join_all().await;
    let elapsed = start.elapsed();
    let cpu = PostgresCpu::read(postmaster)?.since(&cpu);
    let wal = server.wal().await? - wal;
    let mut rows = 0;
    for one in all {
        rows += one?.0;
    }
    let rows = number(rows).max(1.0);
    Ok(Rate {
        per_second: rows / elapsed.as_secs_f64(),
        postgres_us: cpu.as_secs_f64() * 1e6 / rows,
        wal_bytes: number(wal) / rows,
    })
}

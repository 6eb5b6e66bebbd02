//! Idle sockets: what each costs in memory, and what its heartbeats cost.

use std::time::Duration;

use anyhow::Result;
use clap::Args;

use super::{
    server::Server as Stack,
    socket::{Socket, is_reply, joined},
};
use crate::{
    machine,
    numbers::number,
    report::{Cell, Goal, Report, progress},
    server::{Place, Server},
    usage::{self, Worker},
};

/// The goal of the project, in KB of 1,000 bytes.
const MOST_KB: f64 = 20.0;
/// How often clients send a heartbeat.
const INTERVAL_S: f64 = 25.0;
/// Sockets that are opened before the memory of none is read: pools and caches fill up.
const WARM_UP: usize = 200;
/// Bytes read at once.
const ROOM: usize = 1_024;

/// What is measured.
#[derive(Clone, Debug, Args)]
pub(crate) struct Options {
    /// How many sockets, each with one channel
    #[arg(long, default_value_t = 10_000)]
    sockets: usize,
    /// How many heartbeats each sends
    #[arg(long, default_value_t = 5)]
    heartbeats: usize,
}

/// Measures memory, then heartbeats.
pub(crate) async fn run(
    place: &Place,
    options: &Options,
) -> Result<(Report, Vec<(&'static str, String)>)> {
    super::raise_file_limit()?;
    let postgres = Server::start(place).await?;
    let machine = machine::describe(postgres.directory(), postgres.version().await?)?;
    let database = postgres.create(None).await?;
    let stack = Stack::start(&postgres.url(&database)).await?;
    let open = async |count: usize, name: &str| {
        joined(
            stack.address,
            stack.keys.anon_key(),
            count,
            ROOM,
            |number| (format!("realtime:{name}{number}"), "{}".to_owned(), None),
        )
        .await
    };
    drop(open(WARM_UP, "warm").await?);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let pid = stack.pid()?;
    let memory = || usage::resident_kib(pid).map(|(_, own)| own);
    let before = memory()?;
    progress(format_args!("{} sockets", options.sockets));
    let begun = std::time::Instant::now();
    let mut sockets = open(options.sockets, "idle").await?;
    let joining = begun.elapsed().as_secs_f64();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let each = |after: u64| {
        number(i64::try_from(after.saturating_sub(before)).unwrap_or(i64::MAX)) * 1.024
            / number(i64::try_from(options.sockets).unwrap_or(1))
    };
    let fresh = each(memory()?);
    progress("heartbeats");
    let worker = Worker::Process(pid);
    let cpu = worker.cpu()?;
    for _ in 0..options.heartbeats {
        beat(&mut sockets).await?;
    }
    let cpu = worker.cpu()?.saturating_sub(cpu).as_secs_f64();
    let after = each(memory()?);
    let count = number(i64::try_from(options.sockets * options.heartbeats)?);
    let heartbeat = cpu / count;
    let sockets_count = number(i64::try_from(options.sockets)?);
    let row = |name: &str, value: f64, digits: usize| {
        vec![Cell::Text(name.to_owned()), Cell::Number(value, digits)]
    };
    let report = Report {
        title: format!(
            "Idle sockets: {} of them, one channel each",
            options.sockets
        ),
        columns: vec!["what", "value"],
        rows: vec![
            row("joins/s while opening", sockets_count / joining, 0),
            row("server memory per socket, joined, KB", fresh, 1),
            row("server memory per socket, after heartbeats, KB", after, 1),
            row("server CPU per heartbeat, µs", heartbeat * 1e6, 1),
            row(
                "server CPU for all heartbeats every 25 s, % of one processor",
                heartbeat * sockets_count / INTERVAL_S * 100.0,
                2,
            ),
        ],
        goals: vec![Goal {
            wanted: format!("at most {MOST_KB} KB per socket"),
            measured: format!("{after:.1}"),
            met: after <= MOST_KB,
        }],
        notes: vec![
            "Anonymous resident memory of the server's process; the kernel's own buffers are not in it.".into(),
        ],
    };
    drop(sockets);
    stack.stop().await?;
    postgres.stop().await;
    Ok((report, machine))
}

/// A heartbeat on each socket, and its answer.
async fn beat(sockets: &mut [Socket]) -> Result<()> {
    for socket in sockets.iter_mut() {
        socket
            .send_text(r#"[null,"1","phoenix","heartbeat",{}]"#)
            .await?;
    }
    for socket in sockets {
        while !is_reply(socket.next().await?) {}
    }
    Ok(())
}

//! What triggers cost senders: C6.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Result;
use clap::Args;
use futures_util::StreamExt as _;
use rowcall_backend::queue::{
    Broadcast, Database, Mode, QueueBackend, QueueName, QueueOptions, QueueSignals, QueueSpec,
    QueueStore, SignalOptions,
};
use rowcall_core::ports::SignalSource as _;
use tokio::task::JoinSet;

use super::{database, project::Project};
use crate::{
    machine,
    numbers::{median, number},
    report::{Cell, Goal, Report, progress},
    server::{Place, Server, connect},
};

/// The window of the gated triggers.
const GATE_MS: u16 = 100;

/// What is measured.
#[derive(Clone, Debug, Args)]
pub(crate) struct Options {
    /// How often every case is run, alternating; medians are shown
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// How long each case sends, in seconds
    #[arg(long, default_value_t = 2)]
    seconds: u64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Trigger {
    None,
    Every,
    Gated,
    Notify,
}

#[derive(Clone, Copy, Debug)]
struct Load {
    name: &'static str,
    clients: u32,
    batch: u32,
    durable: bool,
}

const LOADS: [Load; 4] = [
    Load {
        name: "send, sync on, 8 clients",
        clients: 8,
        batch: 1,
        durable: true,
    },
    Load {
        name: "send, sync off, 8 clients",
        clients: 8,
        batch: 1,
        durable: false,
    },
    Load {
        name: "send_batch(100), sync on, 4 clients",
        clients: 4,
        batch: 100,
        durable: true,
    },
    Load {
        name: "send_batch(100), sync off, 4 clients",
        clients: 4,
        batch: 100,
        durable: false,
    },
];

const TRIGGERS: [(&str, Trigger); 4] = [
    ("none", Trigger::None),
    ("broadcast of every statement", Trigger::Every),
    ("broadcast, gated 100 ms", Trigger::Gated),
    ("NOTIFY, gated 100 ms, with a listener", Trigger::Notify),
];

/// What C6 asks of a trigger under a load, as a part of the rate without one.
fn goal(trigger: Trigger, load: Load) -> Option<f64> {
    match (trigger, load.batch > 1, load.durable) {
        (Trigger::None, ..) => None,
        (_, true, _) => Some(0.80),
        (Trigger::Every, false, true) => Some(0.75),
        (Trigger::Every, false, false) => Some(0.60),
        (_, false, true) => Some(0.85),
        (_, false, false) => Some(0.80),
    }
}

/// Runs every trigger under every load.
pub(super) async fn run(
    place: &Place,
    options: &Options,
) -> Result<(Report, Vec<(&'static str, String)>)> {
    let server = Server::start(place).await?;
    let machine = machine::describe(server.directory(), server.version().await?)?;
    let database = database(&server).await?;
    let url = server.url(&database);
    // Realtime's tables and functions; the server itself would take processor time from the senders.
    Project::start(&url).await?.stack.shutdown().await;
    let store = QueueStore::new(Database::new(&url, 1)?);
    let mut rates = vec![vec![Vec::new(); TRIGGERS.len()]; LOADS.len()];
    for round in 0..options.rounds {
        for (load_index, load) in LOADS.iter().enumerate() {
            for step in 0..TRIGGERS.len() {
                // Another order each round: whoever comes first has the emptier table.
                let which = (step + round as usize) % TRIGGERS.len();
                let rate = measure(
                    &server,
                    &url,
                    &store,
                    *load,
                    TRIGGERS[which].1,
                    options.seconds,
                )
                .await?;
                progress(format_args!(
                    "round {}/{}  {:<38} {:<38} {rate:>8.0}/s",
                    round + 1,
                    options.rounds,
                    load.name,
                    TRIGGERS[which].0
                ));
                rates[load_index][which].push(rate);
            }
        }
    }
    server.stop().await;
    Ok((report(options, &rates), machine))
}

async fn measure(
    server: &Server,
    url: &str,
    store: &QueueStore,
    load: Load,
    trigger: Trigger,
    seconds: u64,
) -> Result<f64> {
    let queue = QueueName::new("bench")?;
    store
        .create(&queue, rowcall_backend::queue::Kind::Logged)
        .await?;
    let listener = prepare(url, store, &queue, trigger).await?;
    server.checkpoint().await?;
    let statement = if load.batch == 1 {
        "select pgmq.send('bench', '{\"n\": 1}'::jsonb)".to_owned()
    } else {
        format!(
            "select count(*) from pgmq.send_batch('bench', array_fill('{{\"n\": 1}}'::jsonb, array[{}]))",
            load.batch
        )
    };
    let (stop, sent) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicU64::new(0)),
    );
    let mut clients = JoinSet::new();
    for _ in 0..load.clients {
        let client = connect(url).await?;
        if !load.durable {
            client.batch_execute("set synchronous_commit = off").await?;
        }
        let prepared = client.prepare(&statement).await?;
        let (stop, sent) = (Arc::clone(&stop), Arc::clone(&sent));
        clients.spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                client.query(&prepared, &[]).await?;
                sent.fetch_add(1, Ordering::Relaxed);
            }
            Ok::<_, anyhow::Error>(())
        });
    }
    // Connections and caches warm first.
    tokio::time::sleep(Duration::from_millis(200)).await;
    let (start, before) = (Instant::now(), sent.load(Ordering::Relaxed));
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let (elapsed, after) = (start.elapsed(), sent.load(Ordering::Relaxed));
    stop.store(true, Ordering::Relaxed);
    for done in clients.join_all().await {
        done?;
    }
    drop(listener);
    store.drop(&queue).await?;
    let client = connect(url).await?;
    client.batch_execute("truncate realtime.messages").await?;
    Ok(number(i64::try_from(after - before)?) / elapsed.as_secs_f64())
}

/// Puts the trigger there, and a sleeping listener where the trigger does nothing without one.
async fn prepare(
    url: &str,
    store: &QueueStore,
    queue: &QueueName,
    trigger: Trigger,
) -> Result<Option<JoinSet<()>>> {
    let mode = match trigger {
        Trigger::None => return Ok(None),
        Trigger::Every => Mode::Every,
        Trigger::Gated => Mode::Gated(GATE_MS),
        Trigger::Notify => {
            store.enable_wake(queue).await?;
            let specs = vec![QueueSpec::new(queue.clone())];
            let backend = QueueBackend::connect(url, specs, QueueOptions::default()).await?;
            let mut listening = JoinSet::new();
            let (up, mut is_up) = tokio::sync::mpsc::channel(1);
            listening.spawn(async move {
                let source = QueueSignals::new(backend, SignalOptions::default());
                let mut signals = source.signals();
                while signals.next().await.is_some() {
                    // It takes nothing: it only keeps asking to be told.
                    let _ = up.try_send(());
                }
            });
            is_up.recv().await;
            return Ok(Some(listening));
        }
    };
    let broadcast = Broadcast {
        mode,
        ..Broadcast::default()
    };
    store.enable_broadcast(queue, &broadcast).await?;
    Ok(None)
}

fn report(options: &Options, rates: &[Vec<Vec<f64>>]) -> Report {
    let mut goals = Vec::new();
    let mut rows = Vec::new();
    for (which, (name, trigger)) in TRIGGERS.iter().enumerate() {
        let mut row = vec![Cell::Text((*name).to_owned())];
        for (index, load) in LOADS.iter().enumerate() {
            let none = &rates[index][0];
            let ratios: Vec<f64> = rates[index][which]
                .iter()
                .zip(none)
                .map(|(one, none)| one / none)
                .collect();
            let part = median(&ratios);
            row.push(Cell::Number(median(&rates[index][which]), 0));
            row.push(Cell::Number(part, 2));
            if let Some(goal) = goal(*trigger, *load) {
                goals.push(Goal {
                    wanted: format!("{name}, {}: at least {goal}", load.name),
                    measured: format!("{part:.2}"),
                    met: part >= goal,
                });
            }
        }
        rows.push(row);
    }
    Report {
        title: format!(
            "Queues: statements per second that send, by trigger; medians of {} alternating rounds",
            options.rounds
        ),
        columns: vec![
            "trigger",
            "send, sync on",
            "×",
            "send, sync off",
            "×",
            "batch, sync on",
            "×",
            "batch, sync off",
            "×",
        ],
        rows,
        goals,
        notes: vec![
            "×: of the rate without a trigger in the same round; 8 clients that send one message, 4 that send 100.".into(),
        ],
    }
}

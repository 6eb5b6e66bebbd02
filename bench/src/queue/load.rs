//! A steady stream of sends: C11. Everything is handled, wake-ups are bounded, and nothing is lost.

use std::{
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use parking_lot::Mutex;
use rowcall_backend::queue::{
    Broadcast, Database, Job, JobError, Kind, Mode, QueueName, QueueStore, SignalOptions, Worker,
};
use rowcall_realtime::channel::{ChannelSpec, Event};
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval_at},
};
use tokio_postgres::AsyncMessage;
use tokio_util::sync::CancellationToken;

use super::{database, project::Project};
use crate::{
    machine,
    numbers::{number, percentile},
    report::{Cell, Goal, Report, progress},
    server::{Place, Server, connect},
    system::SystemClock,
};

/// Connections that send, in turn.
const CLIENTS: u32 = 8;
/// The window of both gates.
const GATE_MS: u16 = 100;
/// Windows in a second.
const WINDOWS: f64 = 1_000.0 / GATE_MS as f64;
/// Everything is handled by then, after the last send.
const LIMIT: Duration = Duration::from_secs(30);
/// What the triggers notify on.
const CHANNEL: &str = "rowcall_queue";

/// What is measured.
#[derive(Clone, Debug, Args)]
pub(crate) struct Options {
    /// Sends per second
    #[arg(long, default_value_t = 1_000)]
    per_second: u32,
    /// For how long, in seconds
    #[arg(long, default_value_t = 60)]
    seconds: u32,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    Direct,
    Realtime,
}

impl Way {
    /// Wake-ups a second that are bounded. One sender opens a window of broadcasts, and one more may come at its end; every
    /// sender that is under way when a worker goes to sleep notifies once.
    fn goal(self) -> f64 {
        match self {
            Self::Direct => WINDOWS * f64::from(CLIENTS),
            Self::Realtime => WINDOWS * 2.0,
        }
    }
}

struct Measured {
    name: &'static str,
    way: Way,
    sent: u32,
    per_second: f64,
    handled: u32,
    twice: u32,
    left: i64,
    events_per_second: f64,
    millis: Vec<f64>,
}

/// Runs both ways, one after the other.
pub(super) async fn run(
    place: &Place,
    options: &Options,
) -> Result<(Report, Vec<(&'static str, String)>)> {
    let server = Server::start(place).await?;
    let machine = machine::describe(server.directory(), server.version().await?)?;
    let mut all = Vec::new();
    for (name, way) in [
        ("by the database (NOTIFY)", Way::Direct),
        ("over Realtime, gated 100 ms", Way::Realtime),
    ] {
        let database = database(&server).await?;
        let one = measure(&server.url(&database), name, way, options).await?;
        progress(format_args!(
            "{name:<30} {:.0} sends/s, {} of {} handled, {:.1} wake-ups/s, p99 {:.2} ms",
            one.per_second,
            one.handled,
            one.sent,
            one.events_per_second,
            percentile(&one.millis, 0.99)
        ));
        all.push(one);
    }
    server.stop().await;
    Ok((report(options, &all), machine))
}

/// When each message was sent, and what the handlers saw.
struct Book {
    start: Instant,
    /// Microseconds after the start, by number; sends write before they send.
    sent: Vec<AtomicU64>,
    handled: Vec<AtomicU32>,
    millis: Mutex<Vec<f64>>,
}

impl Book {
    fn new(messages: u32) -> Self {
        Self {
            start: Instant::now(),
            sent: (0..messages).map(|_| AtomicU64::new(0)).collect(),
            handled: (0..messages).map(|_| AtomicU32::new(0)).collect(),
            millis: Mutex::default(),
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn handle(&self, n: usize) {
        let micros = self.now() - self.sent[n].load(Ordering::Relaxed);
        self.millis
            .lock()
            .push(number(i64::try_from(micros).unwrap_or(i64::MAX)) / 1_000.0);
        self.handled[n].fetch_add(1, Ordering::Relaxed);
    }

    fn handled(&self, at_least: u32) -> u32 {
        let enough = |one: &&AtomicU32| one.load(Ordering::Relaxed) >= at_least;
        u32::try_from(self.handled.iter().filter(enough).count()).unwrap_or(u32::MAX)
    }
}

#[derive(serde::Deserialize)]
struct Numbered {
    n: usize,
}

async fn measure(url: &str, name: &'static str, way: Way, options: &Options) -> Result<Measured> {
    let project = match way {
        Way::Realtime => Some(Project::start(url).await?),
        Way::Direct => None,
    };
    let queue = QueueName::new("bench")?;
    let store = QueueStore::new(Database::new(url, 1)?);
    store.create(&queue, Kind::Logged).await?;
    store.enable_wake(&queue).await?;
    let messages = options.per_second * options.seconds;
    let book = Arc::new(Book::new(messages));
    let heard = Arc::new(AtomicU64::new(0));
    let handling = Arc::clone(&book);
    let mut builder = Worker::builder()
        .queue("bench")
        .handler(move |job: Job<Numbered>| {
            handling.handle(job.data.n);
            async { Ok::<_, JobError>(()) }
        })
        .concurrency(100)
        .signals(SignalOptions::default());
    let mut watching = JoinSet::new();
    match &project {
        Some(project) => {
            let broadcast = Broadcast {
                mode: Mode::Gated(GATE_MS),
                ..Broadcast::default()
            };
            store.enable_broadcast(&queue, &broadcast).await?;
            let mut channel = project
                .client()?
                .join(ChannelSpec::new(&broadcast.channel))
                .await?;
            let heard = Arc::clone(&heard);
            let (up, is_up) = tokio::sync::oneshot::channel();
            watching.spawn(async move {
                let mut up = Some(up);
                while let Some(event) = channel.next().await {
                    match event {
                        Event::Up => drop(up.take().map(|up| up.send(()))),
                        Event::Broadcast(_) => drop(heard.fetch_add(1, Ordering::Relaxed)),
                        _ => {}
                    }
                }
            });
            is_up.await.context("the channel was not joined")?;
            builder = builder.realtime(project.client()?, broadcast, Arc::new(SystemClock));
        }
        None => watch_notifications(url, &heard, &mut watching).await?,
    }
    let worker = builder.connect(url).await?;
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    let running = tokio::spawn(async move { worker.run(stopped).await });
    let began = Instant::now();
    send_all(url, &book, options).await?;
    let sending = began.elapsed();
    let deadline = Instant::now() + LIMIT;
    while book.handled(1) < messages && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let events = heard.load(Ordering::Relaxed);
    stop.cancel();
    running.await?;
    let left = store.metrics(&queue).await?.queue_length;
    if let Some(project) = project {
        project.stack.shutdown().await;
    }
    let millis = std::mem::take(&mut *book.millis.lock());
    Ok(Measured {
        name,
        way,
        sent: messages,
        per_second: f64::from(messages) / sending.as_secs_f64(),
        handled: book.handled(1),
        twice: book.handled(2),
        left,
        events_per_second: number(i64::try_from(events)?) / sending.as_secs_f64(),
        millis,
    })
}

/// Counts the notifications of the triggers on a connection of its own.
async fn watch_notifications(
    url: &str,
    heard: &Arc<AtomicU64>,
    watching: &mut JoinSet<()>,
) -> Result<()> {
    let (client, mut connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await?;
    let heard = Arc::clone(heard);
    watching.spawn(async move {
        while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
            if matches!(message, AsyncMessage::Notification(_)) {
                heard.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    client.batch_execute(&format!("listen {CHANNEL}")).await?;
    // The connection lives as long as its client.
    watching.spawn(async move {
        let _client = client;
        std::future::pending::<()>().await;
    });
    Ok(())
}

/// Sends at a steady rate: each client its share, spread evenly.
async fn send_all(url: &str, book: &Arc<Book>, options: &Options) -> Result<()> {
    if options.per_second == 0 {
        bail!("--per-second must be at least 1");
    }
    let messages = options.per_second * options.seconds;
    let pause = Duration::from_secs(1) / options.per_second;
    let begin = Instant::now() + Duration::from_millis(500);
    let mut clients = JoinSet::new();
    for first in 0..CLIENTS {
        let client = connect(url).await?;
        let send = client
            .prepare("select pgmq.send('bench', jsonb_build_object('n', $1::int))")
            .await?;
        let book = Arc::clone(book);
        clients.spawn(async move {
            let mut ticks = interval_at(begin + pause * first, pause * CLIENTS);
            // Who is late catches up: the rate is what is asked for.
            ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
            for n in (first..messages).step_by(CLIENTS as usize) {
                ticks.tick().await;
                book.sent[n as usize].store(book.now(), Ordering::Relaxed);
                client.query(&send, &[&i32::try_from(n)?]).await?;
            }
            Ok::<_, anyhow::Error>(())
        });
    }
    while let Some(done) = clients.join_next().await {
        done??;
    }
    Ok(())
}

fn report(options: &Options, all: &[Measured]) -> Report {
    let rows = all
        .iter()
        .map(|one| {
            vec![
                Cell::Text(one.name.to_owned()),
                Cell::Number(one.per_second, 0),
                Cell::Number(f64::from(one.handled), 0),
                Cell::Number(f64::from(one.twice), 0),
                Cell::Number(one.events_per_second, 1),
                Cell::Number(percentile(&one.millis, 0.5), 2),
                Cell::Number(percentile(&one.millis, 0.99), 2),
                Cell::Number(percentile(&one.millis, 1.0), 2),
            ]
        })
        .collect();
    let goals = all
        .iter()
        .flat_map(|one| {
            [
                Goal {
                    wanted: format!("{}: all {} handled, none left", one.name, one.sent),
                    measured: format!("{} handled, {} left", one.handled, one.left),
                    met: one.handled == one.sent && one.left == 0,
                },
                Goal {
                    wanted: format!(
                        "{}: at most {:.0} wake-ups a second",
                        one.name,
                        one.way.goal()
                    ),
                    measured: format!("{:.1}", one.events_per_second),
                    met: one.events_per_second <= one.way.goal(),
                },
            ]
        })
        .collect();
    Report {
        title: format!(
            "Queues: {} sends a second for {} s, one worker",
            options.per_second, options.seconds
        ),
        columns: vec![
            "woken",
            "sends/s",
            "handled",
            "twice",
            "wake-ups/s",
            "send → start p50 ms",
            "p99 ms",
            "max ms",
        ],
        rows,
        goals,
        notes: vec!["The commit of the send is part of the latency.".into()],
    }
}

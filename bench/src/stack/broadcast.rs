//! Broadcast: from one socket to 500, and among 50.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use clap::Args;
use tokio::sync::Barrier;

use super::{
    server::Server as Stack,
    socket::{Socket, is_reply, joined, stamp},
};
use crate::{
    machine,
    numbers::{number, percentile},
    report::{Cell, Report, progress},
    server::{Place, Server},
    usage::Worker,
};

const TOPIC: &str = "realtime:bench";
const CONFIG: &str = r#"{"broadcast":{"ack":true,"self":false}}"#;
/// Bytes read at once.
const ROOM: usize = 64 * 1024;
/// What is sent besides the time.
const TEXT: usize = 100;
/// A run that takes longer has lost something.
const LIMIT: Duration = Duration::from_mins(5);

/// What is measured.
#[derive(Clone, Debug, Args)]
pub(crate) struct Options {
    /// How many messages each sender sends
    #[arg(long, default_value_t = 2_000)]
    messages: usize,
    /// How many messages may wait for their acknowledgement in the runs under load
    #[arg(long, default_value_t = 8)]
    window: usize,
}

/// One run.
#[derive(Clone, Copy)]
struct Case {
    name: &'static str,
    senders: usize,
    receivers: usize,
    /// Whether the senders are among the receivers.
    among: bool,
    messages: usize,
    window: usize,
}

impl Case {
    fn expected(self, is_sender: bool) -> usize {
        let others = if is_sender {
            self.senders - 1
        } else {
            self.senders
        };
        others * self.messages
    }
}

#[derive(Default)]
struct Outcome {
    seconds: f64,
    ages: Vec<f64>,
    server: f64,
}

/// Measures all cases.
pub(crate) async fn run(
    place: &Place,
    options: &Options,
) -> Result<(Report, Vec<(&'static str, String)>)> {
    super::raise_file_limit()?;
    let postgres = Server::start(place).await?;
    let machine = machine::describe(postgres.directory(), postgres.version().await?)?;
    let database = postgres.create(None).await?;
    let stack = Stack::start(&postgres.url(&database)).await?;
    let Options { messages, window } = *options;
    let one = |name, window, messages| Case {
        name,
        senders: 1,
        receivers: 500,
        among: false,
        messages,
        window,
    };
    let all = |name, window, messages| Case {
        name,
        senders: 50,
        receivers: 50,
        among: true,
        messages,
        window,
    };
    let few = (messages / 10).max(1);
    let mut report = Report {
        title: format!("Broadcast: {TEXT} bytes of text in each message, acknowledged"),
        columns: vec![
            "case",
            "messages/s",
            "deliveries/s",
            "p50 ms",
            "p99 ms",
            "server CPU µs/delivery",
        ],
        notes: vec![
            "Clients run on the same machine and take about as much of it as the server does."
                .into(),
            "One at a time: a sender waits for the acknowledgement of each message.".into(),
        ],
        ..Report::default()
    };
    for case in [
        one("1 → 500, one at a time", 1, messages),
        one("1 → 500, under load", window, messages),
        all("50 → 50, one at a time", 1, few),
        all("50 → 50, under load", window, few),
    ] {
        progress(case.name);
        let outcome = measure(&stack, case).await?;
        let sent = number(i64::try_from(case.senders * case.messages)?);
        let deliveries = number(i64::try_from(outcome.ages.len())?);
        report.rows.push(vec![
            Cell::Text(case.name.to_owned()),
            Cell::Number(sent / outcome.seconds, 0),
            Cell::Number(deliveries / outcome.seconds, 0),
            Cell::Number(percentile(&outcome.ages, 0.5), 2),
            Cell::Number(percentile(&outcome.ages, 0.99), 2),
            Cell::Number(outcome.server * 1e6 / deliveries, 2),
        ]);
    }
    stack.stop().await?;
    postgres.stop().await;
    Ok((report, machine))
}

async fn measure(stack: &Stack, case: Case) -> Result<Outcome> {
    let key = stack.keys.anon_key();
    let open = |count| sockets(stack.address, key, count);
    let senders = open(case.senders).await?;
    let receivers = if case.among {
        Vec::new()
    } else {
        open(case.receivers).await?
    };
    let begin = Instant::now();
    let ready = Arc::new(Barrier::new(senders.len() + receivers.len() + 1));
    let mut running = tokio::task::JoinSet::new();
    let sending = senders.into_iter().map(|socket| (socket, case.messages));
    let reading = receivers.into_iter().map(|socket| (socket, 0));
    for (socket, sends) in sending.chain(reading) {
        let ready = Arc::clone(&ready);
        running.spawn(async move {
            ready.wait().await;
            take_part(socket, case, sends, begin).await
        });
    }
    let worker = Worker::Process(stack.pid()?);
    let cpu = worker.cpu()?;
    ready.wait().await;
    let started = Instant::now();
    let mut outcome = Outcome::default();
    let gather = async {
        while let Some(ages) = running.join_next().await {
            outcome.ages.extend(ages??);
        }
        Ok::<_, anyhow::Error>(())
    };
    tokio::time::timeout(LIMIT, gather)
        .await
        .context("messages were lost")??;
    outcome.seconds = started.elapsed().as_secs_f64();
    outcome.server = worker.cpu()?.saturating_sub(cpu).as_secs_f64();
    Ok(outcome)
}

async fn sockets(address: SocketAddr, key: &str, count: usize) -> Result<Vec<Socket>> {
    joined(address, key, count, ROOM, |_| {
        (TOPIC.to_owned(), CONFIG.to_owned(), None)
    })
    .await
}

/// Sends and receives until all has come; how old the messages were, in milliseconds.
async fn take_part(
    mut socket: Socket,
    case: Case,
    sends: usize,
    begin: Instant,
) -> Result<Vec<f64>> {
    let text = "x".repeat(TEXT);
    let expected = case.expected(sends > 0);
    let (mut sent, mut acknowledged) = (0, 0);
    let mut ages = Vec::with_capacity(expected);
    while acknowledged < sends || ages.len() < expected {
        while sent < sends && sent - acknowledged < case.window {
            let at = begin.elapsed().as_micros();
            let payload = format!(r#"{{"at":"@{at}","text":"{text}"}}"#);
            socket.send_broadcast(TOPIC, &payload).await?;
            sent += 1;
        }
        let message = socket.next().await?;
        if let Some(at) = stamp(message) {
            let age = begin.elapsed().saturating_sub(Duration::from_micros(at));
            ages.push(age.as_secs_f64() * 1e3);
        } else if is_reply(message) {
            acknowledged += 1;
        }
    }
    Ok(ages)
}

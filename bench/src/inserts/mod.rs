//! What capturing costs the writers of a table.

mod client;

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use clap::Args;
use rowcall_backend::capture::{self, CaptureSpec};
use rowcall_core::{AgentOutput, EventKind, EventSet, Payload};
use rowcall_engine::{EngineHandle, EngineOptions, FnRunner};
use tokio::task::JoinHandle;

use self::client::Rate;
use crate::{
    machine,
    numbers::median,
    report::{Cell, Goal, Report, progress},
    server::{Place, Server, connect},
    workload,
};

/// The goal of the project.
const GOAL: f64 = 0.85;
/// How many clients write at once.
const CLIENTS: [u32; 3] = [1, 4, 16];

/// What is measured.
#[derive(Clone, Debug, Args)]
pub(crate) struct Options {
    /// How many seconds each case writes in one round
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// How often every case is run, interleaved; medians are shown
    #[arg(long, default_value_t = 5)]
    rounds: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Nothing on the table.
    Off,
    /// Captured, and no daemon listens.
    Captured,
    /// Captured, while an idle daemon listens that handles other tables.
    Listening,
    /// A trigger that notifies in every writing transaction, captured or not: what the gate is there to avoid.
    Notify,
}

struct Case {
    name: &'static str,
    kind: Kind,
    /// By [`CLIENTS`].
    rates: [Vec<Rate>; 3],
}

/// A daemon with nothing to do here.
struct Idle {
    handle: EngineHandle,
    running: JoinHandle<Result<()>>,
}

impl Idle {
    async fn start(url: &str) -> Result<Self> {
        let runner = FnRunner::new(|_context| async {
            Ok(AgentOutput {
                result: Payload::null(),
            })
        });
        let (engine, backend) = workload::engine(
            url,
            "idle",
            Arc::new(runner),
            EngineOptions::default(),
            None,
        )
        .await?;
        let handle = engine.handle();
        handle.set_apps(&[workload::app_of("public.others", 10)?]);
        let running = tokio::spawn(async move {
            engine.run().await?;
            backend.close().await;
            Ok(())
        });
        // Until it listens and has looked around.
        tokio::time::sleep(Duration::from_millis(500)).await;
        Ok(Self { handle, running })
    }

    async fn stop(self) -> Result<()> {
        self.handle.shutdown();
        self.running.await?
    }
}

const TABLE: &str = "create table public.tickets (id bigint generated always as identity primary key, \
    subject text not null, body text not null, created_at timestamptz not null default now())";
const NOTIFY: &str = "create function notify_each() returns trigger language plpgsql as $$ \
      begin perform pg_notify('each', ''); return null; end $$; \
    create trigger notify_each after insert on public.tickets for each statement execute function notify_each()";

async fn prepare(server: &Server, kind: Kind) -> Result<String> {
    let name = workload::migrated(server).await?;
    let mut client = connect(&server.url(&name)).await?;
    client.batch_execute(TABLE).await?;
    match kind {
        Kind::Off => {}
        Kind::Notify => client.batch_execute(NOTIFY).await?,
        Kind::Captured | Kind::Listening => {
            let spec = CaptureSpec {
                table: workload::SOURCE_TABLE.parse()?,
                events: [EventKind::Insert].into_iter().collect::<EventSet>(),
                filter: None,
            };
            capture::install(&mut client, &spec).await?;
        }
    }
    Ok(name)
}

async fn measure(
    server: &Server,
    template: &str,
    kind: Kind,
    clients: u32,
    seconds: u64,
) -> Result<Rate> {
    let database = server.create(Some(template)).await?;
    let url = server.url(&database);
    let idle = match kind {
        Kind::Listening => Some(Idle::start(&url).await?),
        _ => None,
    };
    server.checkpoint().await?;
    let rate = client::write(server, &url, clients, Duration::from_secs(seconds)).await?;
    if let Some(idle) = idle {
        idle.stop().await?;
    }
    server.drop(&database).await?;
    Ok(rate)
}

/// Runs all cases in rounds.
pub(crate) async fn run(
    place: &Place,
    options: &Options,
) -> Result<(Report, Vec<(&'static str, String)>)> {
    let server = Server::start(place).await?;
    let machine = machine::describe(server.directory(), server.version().await?)?;
    let mut cases = Vec::new();
    for (name, kind) in [
        ("no trigger", Kind::Off),
        ("captured", Kind::Captured),
        ("captured, idle daemon listening", Kind::Listening),
        (
            "pg_notify in every transaction (for comparison)",
            Kind::Notify,
        ),
    ] {
        let case = Case {
            name,
            kind,
            rates: Default::default(),
        };
        cases.push((prepare(&server, kind).await?, case));
    }
    for round in 1..=options.rounds {
        for (index, clients) in CLIENTS.into_iter().enumerate() {
            for (template, case) in &mut cases {
                let rate = measure(&server, template, case.kind, clients, options.seconds).await?;
                progress(format_args!(
                    "round {round}/{}  {clients:>2} clients  {:<48} {:>7.0}/s  PostgreSQL {:>5.1} µs",
                    options.rounds, case.name, rate.per_second, rate.postgres_us
                ));
                case.rates[index].push(rate);
            }
        }
    }
    server.stop().await;
    let cases: Vec<Case> = cases.into_iter().map(|(_, case)| case).collect();
    Ok((report(options, &cases), machine))
}

fn ratio(case: &Case, base: &Case, index: usize) -> f64 {
    let ratios: Vec<f64> = case.rates[index]
        .iter()
        .zip(&base.rates[index])
        .map(|(one, base)| one.per_second / base.per_second)
        .collect();
    median(&ratios)
}

fn report(options: &Options, cases: &[Case]) -> Report {
    let off = &cases[0];
    let mut goals = Vec::new();
    let mut rows = Vec::new();
    for case in cases {
        for (index, clients) in CLIENTS.into_iter().enumerate() {
            let middle = |value: fn(&Rate) -> f64| {
                median(&case.rates[index].iter().map(value).collect::<Vec<_>>())
            };
            let of_off = ratio(case, off, index);
            rows.push(vec![
                Cell::Text(case.name.to_owned()),
                Cell::Number(f64::from(clients), 0),
                Cell::Number(middle(|rate| rate.per_second), 0),
                Cell::Number(of_off, 2),
                Cell::Number(middle(|rate| rate.postgres_us), 1),
                Cell::Number(middle(|rate| rate.wal_bytes), 0),
            ]);
            if matches!(case.kind, Kind::Captured | Kind::Listening) {
                goals.push(Goal {
                    wanted: format!(
                        "{}, {clients} clients: at least {GOAL} of no trigger",
                        case.name
                    ),
                    measured: format!("{of_off:.2}"),
                    met: of_off >= GOAL,
                });
            }
        }
    }
    Report {
        title: format!(
            "Inserts: one row per transaction, {} s each, medians of {} rounds",
            options.seconds, options.rounds
        ),
        columns: vec![
            "case",
            "clients",
            "inserts/s",
            "× no trigger",
            "PG CPU µs/insert",
            "WAL B/insert",
        ],
        rows,
        goals,
        notes: vec!["× no trigger: within each round; median.".into()],
    }
}

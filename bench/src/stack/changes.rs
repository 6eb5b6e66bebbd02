//! `postgres_changes` to 500 subscribers, with and without row level security.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use clap::Args;
use tokio::sync::{Barrier, Semaphore};

use super::{
    server::Server as Stack,
    socket::{Socket, joined, stamp},
};
use crate::{
    machine,
    numbers::{number, percentile},
    report::{Cell, Goal, Report, progress},
    server::{Place, Server, connect},
    usage::{PostgresCpu, Worker},
};

/// What Supabase publishes for 500 subscribers: changes per second without row level security, and the upper end with it.
const PUBLISHED_PLAIN: f64 = 64.0;
const PUBLISHED_RLS: f64 = 40.0;
/// The goal of the project: so many times that.
const GOAL: f64 = 20.0;
/// Bytes read at once.
const ROOM: usize = 64 * 1024;
/// Connections that insert.
const WRITERS: usize = 8;
/// A run that takes longer has lost something.
const LIMIT: Duration = Duration::from_mins(5);
const TABLE: &str = "
    create table public.load (id bigint primary key, owner text not null, body text not null);
    grant all on public.load to anon, authenticated, service_role;
    alter publication supabase_realtime add table public.load;
";

/// What is measured.
#[derive(Clone, Debug, Args)]
pub(crate) struct Options {
    /// How many subscribers, each with a token of its own
    #[arg(long, default_value_t = 500)]
    subscribers: usize,
    /// How many changes without row level security; half as many with it
    #[arg(long, default_value_t = 10_000)]
    changes: usize,
    /// How many changes may be on their way at once
    #[arg(long, default_value_t = 256)]
    window: usize,
}

/// Who may see which rows.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rights {
    Open,
    /// Everybody sees every row, by a policy that looks at the token.
    Everybody,
    /// Everybody sees their own rows.
    Own,
}

#[derive(Clone, Copy)]
struct Case {
    name: &'static str,
    rights: Rights,
    subscribers: usize,
    changes: usize,
    window: usize,
}

#[derive(Default)]
struct Outcome {
    seconds: f64,
    ages: Vec<f64>,
    server: f64,
    postgres: f64,
}

/// Measures the floor and all cases.
pub(crate) async fn run(
    place: &Place,
    options: &Options,
) -> Result<(Report, Vec<(&'static str, String)>)> {
    super::raise_file_limit()?;
    let postgres = Server::start(place).await?;
    let machine = machine::describe(postgres.directory(), postgres.version().await?)?;
    let Options {
        subscribers,
        changes,
        window,
    } = *options;
    let case = |name, rights, changes| Case {
        name,
        rights,
        subscribers,
        changes,
        window,
    };
    let mut report = Report {
        title: format!("postgres_changes: single-row inserts to {subscribers} subscribers"),
        columns: vec![
            "case",
            "changes/s",
            "deliveries/s",
            "commit→socket p50 ms",
            "p99 ms",
            "server CPU ms/change",
            "PostgreSQL CPU ms/change",
        ],
        notes: vec![
            format!("At most {window} changes on their way at once, from {WRITERS} connections; the clients run on the same machine."),
            "Floor: pgoutput decodes the same inserts for one reader, in one call.".into(),
            "Published figures of Supabase Realtime for 500 subscribers: 64 changes/s without row level security, 30 to 40 with it.".into(),
        ],
        ..Report::default()
    };
    progress("floor");
    let floor = decode(&postgres, changes).await?;
    report.rows.push(
        [
            Cell::Text("floor: bare pgoutput decode".into()),
            Cell::Number(floor, 0),
        ]
        .into_iter()
        .chain(std::iter::repeat_n(Cell::Nothing, 5))
        .collect(),
    );
    let quiet = Case {
        window: 1,
        ..case("no RLS, one at a time", Rights::Open, changes.div_ceil(20))
    };
    for case in [
        quiet,
        case("no RLS", Rights::Open, changes),
        case("RLS, each sees own rows", Rights::Own, changes / 2),
        case("RLS, each sees all rows", Rights::Everybody, changes / 2),
    ] {
        progress(case.name);
        let outcome = measure(&postgres, case).await?;
        let rate = number(i64::try_from(case.changes)?) / outcome.seconds;
        let each = |seconds: f64| {
            Cell::Number(
                seconds * 1e3 / number(i64::try_from(case.changes).unwrap_or(1)),
                3,
            )
        };
        report.rows.push(vec![
            Cell::Text(case.name.to_owned()),
            Cell::Number(rate, 0),
            Cell::Number(
                number(i64::try_from(outcome.ages.len())?) / outcome.seconds,
                0,
            ),
            Cell::Number(percentile(&outcome.ages, 0.5), 2),
            Cell::Number(percentile(&outcome.ages, 0.99), 2),
            each(outcome.server),
            each(outcome.postgres),
        ]);
        let published = match case.rights {
            Rights::Open => PUBLISHED_PLAIN,
            Rights::Everybody | Rights::Own => PUBLISHED_RLS,
        };
        if case.window > 1 {
            report.goals.push(Goal {
                wanted: format!("{}: at least {GOAL} × {published}/s", case.name),
                measured: format!("{rate:.0}/s, {:.1} ×", rate / published),
                met: rate >= GOAL * published,
            });
        }
    }
    postgres.stop().await;
    Ok((report, machine))
}

/// How many inserts a second PostgreSQL decodes for a reader that does nothing.
async fn decode(postgres: &Server, changes: usize) -> Result<f64> {
    let database = postgres.create(None).await?;
    let client = connect(&postgres.url(&database)).await?;
    client
        .batch_execute(
            "create table public.load (id bigint primary key, owner text not null, body text not null);
             create publication floor for table public.load",
        )
        .await?;
    // Not in the transaction that made the table.
    client
        .batch_execute("select pg_create_logical_replication_slot('floor', 'pgoutput')")
        .await?;
    let insert = client
        .prepare("insert into public.load select $1::bigint, 'x', '@1'")
        .await?;
    client.batch_execute("set synchronous_commit = off").await?;
    for id in 0..i64::try_from(changes)? {
        client.execute(&insert, &[&id]).await?;
    }
    let started = Instant::now();
    client
        .execute(
            "select count(*) from pg_logical_slot_get_binary_changes('floor', null, null, 'proto_version', '1', \
             'publication_names', 'floor')",
            &[],
        )
        .await?;
    let rate = number(i64::try_from(changes)?) / started.elapsed().as_secs_f64();
    client
        .batch_execute("select pg_drop_replication_slot('floor')")
        .await?;
    drop(client);
    postgres.drop(&database).await?;
    Ok(rate)
}

/// What writers and readers of a run share.
struct Run {
    begin: Instant,
    /// When each change's commit was acknowledged, in microseconds.
    committed: Vec<AtomicU64>,
    /// Deliveries of each change that are still to come.
    missing: Vec<AtomicU32>,
    /// Room for changes on their way.
    room: Semaphore,
    next: AtomicU64,
}

async fn measure(postgres: &Server, case: Case) -> Result<Outcome> {
    let database = postgres.create(None).await?;
    let url = postgres.url(&database);
    let stack = Stack::start(&url).await?;
    let admin = connect(&url).await?;
    admin.batch_execute(TABLE).await?;
    let policy = match case.rights {
        Rights::Open => "",
        Rights::Everybody => {
            "alter table public.load enable row level security;
             create policy p on public.load for select to authenticated using ((select auth.uid()) is not null)"
        }
        Rights::Own => {
            "alter table public.load enable row level security;
             create policy p on public.load for select to authenticated using ((select auth.jwt() ->> 'sub') = owner)"
        }
    };
    admin.batch_execute(policy).await?;
    let config = r#"{"postgres_changes":[{"event":"*","schema":"public","table":"load"}]}"#;
    let key = stack.keys.anon_key();
    let all = joined(stack.address, key, case.subscribers, ROOM, |number| {
        let claims = serde_json::json!({"role": "authenticated", "sub": subject(number), "exp": 1_983_812_996});
        ("realtime:load".to_owned(), config.to_owned(), Some(stack.keys.sign(&claims)))
    })
    .await?;
    let each = if case.rights == Rights::Own {
        1
    } else {
        u32::try_from(case.subscribers)?
    };
    let run = Arc::new(Run {
        begin: Instant::now(),
        committed: (0..case.changes)
            .map(|_| AtomicU64::new(u64::MAX))
            .collect(),
        missing: (0..case.changes).map(|_| AtomicU32::new(each)).collect(),
        room: Semaphore::new(case.window),
        next: AtomicU64::new(0),
    });
    let ready = Arc::new(Barrier::new(case.subscribers + 1));
    let mut reading = tokio::task::JoinSet::new();
    for (number, socket) in all.into_iter().enumerate() {
        let expected = match case.rights {
            Rights::Own => (0..case.changes)
                .filter(|id| id % case.subscribers == number)
                .count(),
            Rights::Open | Rights::Everybody => case.changes,
        };
        reading.spawn(read(socket, expected, Arc::clone(&run), Arc::clone(&ready)));
    }
    let worker = Worker::Process(stack.pid()?);
    postgres.checkpoint().await?;
    ready.wait().await;
    let (cpu, postgres_cpu) = (worker.cpu()?, PostgresCpu::read(postgres.postmaster()?)?);
    let started = Instant::now();
    let mut writing = tokio::task::JoinSet::new();
    for _ in 0..WRITERS.min(case.window) {
        let client = connect(&url).await?;
        writing.spawn(write(client, case, Arc::clone(&run)));
    }
    let mut outcome = Outcome::default();
    let gather = async {
        while let Some(done) = writing.join_next().await {
            done??;
        }
        while let Some(seen) = reading.join_next().await {
            outcome.ages.extend(seen??.into_iter().map(|(id, at)| {
                let committed = run.committed[id].load(Ordering::Relaxed);
                // The change may be there before the acknowledgement.
                Duration::from_micros(at.saturating_sub(committed)).as_secs_f64() * 1e3
            }));
        }
        Ok::<_, anyhow::Error>(())
    };
    tokio::time::timeout(LIMIT, gather)
        .await
        .context("changes were lost")??;
    outcome.seconds = started.elapsed().as_secs_f64();
    outcome.server = worker.cpu()?.saturating_sub(cpu).as_secs_f64();
    let after = PostgresCpu::read(postgres.postmaster()?)?;
    outcome.postgres = after.since(&postgres_cpu).as_secs_f64();
    drop(admin);
    stack.stop().await?;
    postgres.drop(&database).await?;
    Ok(outcome)
}

fn subject(number: usize) -> String {
    format!("00000000-0000-0000-0000-{number:012}")
}

async fn write(client: tokio_postgres::Client, case: Case, run: Arc<Run>) -> Result<()> {
    let insert = client
        .prepare("insert into public.load (id, owner, body) values ($1, $2, $3)")
        .await?;
    loop {
        // Given back when the last subscriber has the change.
        run.room.acquire().await?.forget();
        let id = run.next.fetch_add(1, Ordering::Relaxed);
        let Some(committed) = run.committed.get(usize::try_from(id)?) else {
            run.room.add_permits(1);
            return Ok(());
        };
        let owner = subject(usize::try_from(id)? % case.subscribers);
        let body = format!("@{id}");
        client
            .execute(&insert, &[&i64::try_from(id)?, &owner, &body])
            .await?;
        let now = u64::try_from(run.begin.elapsed().as_micros())?;
        committed.store(now, Ordering::Relaxed);
    }
}

/// Reads until all has come; which change came when, in microseconds.
async fn read(
    mut socket: Socket,
    expected: usize,
    run: Arc<Run>,
    ready: Arc<Barrier>,
) -> Result<Vec<(usize, u64)>> {
    ready.wait().await;
    let mut seen = Vec::with_capacity(expected);
    while seen.len() < expected {
        let Some(id) = stamp(socket.next().await?) else {
            continue;
        };
        let id = usize::try_from(id)?;
        seen.push((id, u64::try_from(run.begin.elapsed().as_micros())?));
        if run.missing[id].fetch_sub(1, Ordering::Relaxed) == 1 {
            run.room.add_permits(1);
        }
    }
    Ok(seen)
}

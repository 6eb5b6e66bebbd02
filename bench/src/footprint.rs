//! Memory of an idle daemon and how long its start takes.

use std::{path::Path, time::Duration};

use anyhow::Result;
use clap::Args;

use crate::{
    daemon::{self, Daemon, Start},
    machine,
    numbers::{median, number},
    report::{Cell, Goal, Report, progress},
    server::Place,
    usage,
};

/// The goals of the project.
const MOST_MEMORY_MB: f64 = 30.0;
const LONGEST_START_S: f64 = 1.0;

/// What is measured.
#[derive(Clone, Debug, Args)]
pub(crate) struct Options {
    /// How often the daemon is started on its data directory
    #[arg(long, default_value_t = 7)]
    rounds: u32,
    /// How many seconds it idles before its memory is read
    #[arg(long, default_value_t = 10)]
    idle: u64,
}

struct Case {
    name: &'static str,
    stack: bool,
    started: Vec<f64>,
    resident: Vec<f64>,
    own: Vec<f64>,
    postgres: Vec<f64>,
}

/// MB of 10⁶ bytes.
fn megabytes(kib: u64) -> f64 {
    number(i64::try_from(kib).unwrap_or(0)) * 1024.0 / 1e6
}

/// Anonymous memory of the daemon's PostgreSQL: shared pages are counted once, in the page cache or not at all.
fn postgres_memory(daemon: u32) -> f64 {
    let mut all = usage::children(daemon);
    all.extend(
        all.clone()
            .into_iter()
            .flat_map(usage::children)
            .collect::<Vec<_>>(),
    );
    all.iter()
        .filter_map(|pid| usage::resident_kib(*pid).ok())
        .map(|(_, own)| megabytes(own))
        .sum()
}

async fn measure(
    place: &Place,
    program: &Path,
    data_dir: &Path,
    case: &mut Case,
    idle: Duration,
) -> Result<()> {
    let start = Start {
        program,
        data_dir,
        database_url: None,
        stack: case.stack,
        db_port: 24_900,
    };
    let daemon = Daemon::start(place, &start).await?;
    tokio::time::sleep(idle).await;
    let pid = daemon.pid()?;
    let (resident, own) = usage::resident_kib(pid)?;
    case.started.push(daemon.took.as_secs_f64());
    case.resident.push(megabytes(resident));
    case.own.push(megabytes(own));
    case.postgres.push(postgres_memory(pid));
    daemon.stop().await
}

/// Starts the daemon in rounds, with and without the stack.
pub(crate) async fn run(
    place: &Place,
    options: &Options,
) -> Result<(Report, Vec<(&'static str, String)>)> {
    let program = daemon::build().await?;
    let dir = place.directory()?;
    let machine = machine::describe(dir.path(), "of the data directory".into())?;
    let case = |name, stack| Case {
        name,
        stack,
        started: Vec::new(),
        resident: Vec::new(),
        own: Vec::new(),
        postgres: Vec::new(),
    };
    let mut cases = [
        case("rowcall up --no-stack", false),
        case("rowcall up", true),
    ];
    let data_dir = dir.path().join("data");
    // The first start makes the cluster.
    for one in &mut cases {
        measure(place, &program, &data_dir, one, Duration::ZERO).await?;
    }
    let first = cases[0].started[0];
    for one in &mut cases {
        *one = case(one.name, one.stack);
    }
    for round in 1..=options.rounds {
        for one in &mut cases {
            // Memory is read once: waiting for it in every round would say nothing new.
            let idle = if round == 1 { options.idle } else { 1 };
            measure(place, &program, &data_dir, one, Duration::from_secs(idle)).await?;
            progress(format_args!(
                "round {round}/{}  {:<24} ready after {:.2} s",
                options.rounds,
                one.name,
                one.started.last().copied().unwrap_or_default()
            ));
        }
    }
    Ok((report(&cases, first, options), machine))
}

fn report(cases: &[Case], first: f64, options: &Options) -> Report {
    let mut goals = Vec::new();
    let mut rows = Vec::new();
    for one in cases {
        let (memory, start) = (one.resident[0], median(&one.started));
        rows.push(vec![
            Cell::Text(one.name.to_owned()),
            Cell::Number(memory, 1),
            Cell::Number(one.own[0], 1),
            Cell::Number(one.postgres[0], 1),
            Cell::Number(start, 2),
            Cell::Number(one.started.iter().copied().fold(0.0, f64::max), 2),
        ]);
        goals.push(Goal {
            wanted: format!("{}: at most {MOST_MEMORY_MB} MB resident", one.name),
            measured: format!("{memory:.1} MB"),
            met: memory <= MOST_MEMORY_MB,
        });
        goals.push(Goal {
            wanted: format!("{}: ready within {LONGEST_START_S} s", one.name),
            measured: format!("{start:.2} s"),
            met: start <= LONGEST_START_S,
        });
    }
    Report {
        title: format!(
            "Footprint: `rowcall up` on an existing data directory, {} starts each",
            options.rounds
        ),
        columns: vec![
            "case",
            "daemon RSS MB",
            "of it anonymous MB",
            "PostgreSQL anonymous MB",
            "ready after s (median)",
            "(longest)",
        ],
        rows,
        goals,
        notes: vec![
            format!(
                "The very first start, which makes the cluster and its schema, took {first:.2} s."
            ),
            format!(
                "Memory after {} s without work; one app is configured.",
                options.idle
            ),
        ],
    }
}

//! Tasks per second, end to end.

mod graphile;
mod pgmq;
mod rowcall;
pub(crate) mod window;

use anyhow::Result;
use clap::Args;

use self::{
    graphile::{Installed, Peer},
    window::Measured,
};
use crate::{
    machine,
    numbers::median,
    report::{Cell, Goal, Report, progress},
    server::{Place, Server},
    workload,
};

/// Peers that run one statement or more per task get this part of the tasks, or the run would take minutes.
const SLOW_PART: u32 = 10;

/// What is measured.
#[derive(Clone, Debug, Args)]
pub(crate) struct Options {
    /// How many tasks are enqueued before each run
    #[arg(long, default_value_t = 50_000)]
    tasks: u32,
    /// How often every case is run, interleaved; medians are shown
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Tasks in one claim and verdicts in one settlement, of rowcall and of its floor
    #[arg(long, default_value_t = 500)]
    batch: u32,
    /// Run only the cases whose name holds this text; may be repeated
    #[arg(long, value_name = "TEXT")]
    only: Vec<String>,
}

#[derive(Clone, Debug)]
enum Kind {
    Floor { connections: u32 },
    Engine { engines: u32, with_store: bool },
    Pgmq,
    Graphile { peer: Peer, mode: &'static str },
}

struct Case {
    name: &'static str,
    kind: Kind,
}

/// What a case starts from.
struct Ready {
    case: Case,
    template: String,
    peer: Option<Installed>,
    results: Vec<Measured>,
}

fn cases() -> Vec<Case> {
    let case = |name, kind| Case { name, kind };
    let engine = |engines, with_store| Kind::Engine {
        engines,
        with_store,
    };
    let graphile = |peer, mode| Kind::Graphile { peer, mode };
    vec![
        case("floor: SQL, 1 connection", Kind::Floor { connections: 1 }),
        case("floor: SQL, 2 connections", Kind::Floor { connections: 2 }),
        case("floor: SQL, 4 connections", Kind::Floor { connections: 4 }),
        case("rowcall, 1 engine", engine(1, false)),
        case("rowcall, 1 engine, SQLite store", engine(1, true)),
        case("rowcall, 4 engines", engine(4, false)),
        case("rowcall, 4 engines, SQLite stores", engine(4, true)),
        case("pgmq read 50 + delete 50, 4 connections", Kind::Pgmq),
        case(
            "graphile-worker (Node), local queue 500",
            graphile(Peer::Node, "local-queue"),
        ),
        case(
            "graphile_worker (Rust), local queue 500",
            graphile(Peer::Rust, "local-queue"),
        ),
        case(
            "graphile-worker (Node), default",
            graphile(Peer::Node, "default"),
        ),
    ]
}

async fn prepare(server: &Server, options: &Options) -> Result<Vec<Ready>> {
    let mut all: Vec<Ready> = Vec::new();
    for case in cases() {
        let wanted =
            options.only.is_empty() || options.only.iter().any(|text| case.name.contains(text));
        if !wanted {
            continue;
        }
        let (template, peer) = match &case.kind {
            Kind::Floor { .. } | Kind::Engine { .. } => (workload::migrated(server).await?, None),
            Kind::Pgmq => (pgmq::prepare(server).await?, None),
            Kind::Graphile { peer, .. } => {
                let installed = graphile::install(*peer).await?;
                (
                    graphile::prepare(server, &installed).await?,
                    Some(installed),
                )
            }
        };
        all.push(Ready {
            case,
            template,
            peer,
            results: Vec::new(),
        });
    }
    Ok(all)
}

async fn measure(server: &Server, options: &Options, ready: &Ready) -> Result<Measured> {
    let database = server.create(Some(&ready.template)).await?;
    let (name, tasks) = (database.as_str(), options.tasks);
    let measured = match &ready.case.kind {
        Kind::Floor { connections } => {
            rowcall::floor(server, name, tasks, options.batch, *connections).await?
        }
        Kind::Engine {
            engines,
            with_store,
        } => rowcall::engines(server, name, tasks, options.batch, *engines, *with_store).await?,
        Kind::Pgmq => pgmq::run(server, name, tasks).await?,
        Kind::Graphile { mode, .. } => {
            let tasks = if *mode == "default" {
                tasks.div_ceil(SLOW_PART)
            } else {
                tasks
            };
            let peer = ready.peer.as_ref().expect("prepared with its peer");
            graphile::jobs(server, name, peer, mode, tasks).await?
        }
    };
    server.drop(&database).await?;
    Ok(measured)
}

/// Runs all cases in rounds.
pub(crate) async fn run(
    place: &Place,
    options: &Options,
) -> Result<(Report, Vec<(&'static str, String)>)> {
    let server = Server::start(place).await?;
    let machine = machine::describe(server.directory(), server.version().await?)?;
    let mut all = prepare(&server, options).await?;
    for round in 1..=options.rounds {
        for ready in &mut all {
            let measured = measure(&server, options, ready).await?;
            progress(format_args!(
                "round {round}/{}  {:<42} {:>8.0}/s  PostgreSQL {:>6.1} µs  worker {:>6.1} µs",
                options.rounds,
                ready.case.name,
                measured.per_second,
                measured.postgres_us,
                measured.worker_us,
            ));
            ready.results.push(measured);
        }
    }
    server.stop().await;
    Ok((report(options, &all), machine))
}

fn floors(all: &[Ready]) -> Vec<f64> {
    let is_floor = |one: &&Ready| matches!(one.case.kind, Kind::Floor { .. });
    let rounds = all.first().map_or(0, |one| one.results.len());
    (0..rounds)
        .map(|round| {
            all.iter()
                .filter(is_floor)
                .map(|one| one.results[round].per_second)
                .fold(0.0, f64::max)
        })
        .collect()
}

fn middle(ready: &Ready, value: impl Fn(&Measured) -> f64) -> f64 {
    median(&ready.results.iter().map(value).collect::<Vec<_>>())
}

/// The median over the rounds of the ratio within each round.
fn ratio(ready: &Ready, base: &[f64]) -> f64 {
    let ratios: Vec<f64> = ready
        .results
        .iter()
        .zip(base)
        .map(|(one, base)| one.per_second / base)
        .collect();
    median(&ratios)
}

fn report(options: &Options, all: &[Ready]) -> Report {
    let floors = floors(all);
    let rows = all
        .iter()
        .map(|ready| {
            let of_floor = if floors.iter().all(|floor| *floor > 0.0) {
                Cell::Number(ratio(ready, &floors), 2)
            } else {
                Cell::Nothing
            };
            vec![
                Cell::Text(ready.case.name.to_owned()),
                Cell::Number(middle(ready, |one| one.per_second), 0),
                of_floor,
                Cell::Number(middle(ready, |one| one.postgres_us), 1),
                Cell::Number(middle(ready, |one| one.worker_us), 1),
                Cell::Number(middle(ready, |one| one.statements), 4),
                Cell::Number(middle(ready, |one| one.wal_bytes), 0),
                Cell::Number(middle(ready, |one| one.others), 1),
            ]
        })
        .collect();
    Report {
        title: format!(
            "Throughput: {} pre-enqueued no-op tasks, batches of {}, medians of {} rounds",
            options.tasks, options.batch, options.rounds
        ),
        columns: vec![
            "case",
            "tasks/s",
            "× floor",
            "PG CPU µs/task",
            "worker CPU µs/task",
            "statements/task",
            "WAL B/task",
            "other load, cores",
        ],
        rows,
        goals: goals(all, &floors),
        notes: vec![
            "× floor: within each round, of the best floor of that round; median.".into(),
            format!(
                "graphile-worker by default runs {} tasks; statements inside functions are not counted.",
                options.tasks.div_ceil(SLOW_PART)
            ),
        ],
    }
}

fn goals(all: &[Ready], floors: &[f64]) -> Vec<Goal> {
    let peers: Vec<&Ready> = all
        .iter()
        .filter(|one| matches!(one.case.kind, Kind::Pgmq | Kind::Graphile { .. }))
        .collect();
    let rounds = floors.len();
    let best_peer: Vec<f64> = (0..rounds)
        .map(|round| {
            peers
                .iter()
                .map(|one| one.results[round].per_second)
                .fold(0.0, f64::max)
        })
        .collect();
    let cheapest = peers
        .iter()
        .map(|one| middle(one, |measured| measured.postgres_us))
        .fold(f64::INFINITY, f64::min);
    let mut goals = Vec::new();
    for ready in all {
        if !matches!(ready.case.kind, Kind::Engine { .. }) {
            continue;
        }
        let name = ready.case.name;
        if floors.iter().all(|floor| *floor > 0.0) {
            let of_floor = ratio(ready, floors);
            goals.push(Goal {
                wanted: format!("{name}: at least 0.8 of the floor"),
                measured: format!("{of_floor:.2}"),
                met: of_floor >= 0.8,
            });
        }
        if !peers.is_empty() {
            let of_peer = ratio(ready, &best_peer);
            goals.push(Goal {
                wanted: format!("{name}: ahead of every peer"),
                measured: format!("{of_peer:.2} of the best one"),
                met: of_peer > 1.0,
            });
            let cpu = middle(ready, |one| one.postgres_us);
            goals.push(Goal {
                wanted: format!("{name}: PostgreSQL CPU per task at or under the best peer"),
                measured: format!("{cpu:.1} µs against {cheapest:.1} µs"),
                met: cpu <= cheapest,
            });
        }
    }
    goals
}

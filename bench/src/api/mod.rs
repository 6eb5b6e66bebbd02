//! The local API of a running daemon: requests per second, waiting times, and memory after many of them.

mod floor;
mod http;

use std::{net::SocketAddr, path::Path, process::Stdio, time::Duration};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use tokio::process::Command;
use tokio_postgres::Client;

pub(crate) use self::floor::{BARE_SERVER, run_bare_server};
use self::{
    floor::{BareServer, Statement},
    http::{Request, Until},
};
use crate::{
    daemon::{self, Daemon, Start},
    machine,
    numbers::{median, number, percentile},
    report::{Cell, Goal, Report, progress},
    server::{Place, connect},
    usage,
};

/// How many clients ask at once.
const CLIENTS: [u32; 2] = [1, 16];

/// What activities hold, here and in the floors.
const RAW_DATA: &str = r#"{"type":"order","number":4711,"lines":[{"item":"a","count":2}]}"#;

/// Activities that are there before anything is listed.
const PREFILL: u64 = 1_000;

/// By how much memory may grow over all requests. What is kept per request is bounded: tables of ids, rings of events.
const MOST_GROWTH_MB: f64 = 30.0;

/// What is measured.
#[derive(Clone, Debug, Args)]
pub(crate) struct Options {
    /// How many seconds each case asks in one round
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// How often every case is run, interleaved with its floor; medians are shown
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// After how many requests of all kinds memory is read
    #[arg(long, default_value_t = 100_000)]
    requests: u64,
}

/// One run.
#[derive(Clone, Copy, Debug)]
struct Measured {
    per_second: f64,
    p50_ms: f64,
    p99_ms: f64,
}

impl Measured {
    fn of(took_ms: &[f64], elapsed: Duration) -> Self {
        Self {
            per_second: number(i64::try_from(took_ms.len()).unwrap_or(0)) / elapsed.as_secs_f64(),
            p50_ms: percentile(took_ms, 0.5),
            p99_ms: percentile(took_ms, 0.99),
        }
    }
}

struct Case {
    name: &'static str,
    floor_name: &'static str,
    request: Request,
    /// The statement that is its floor; the bare server's ping when there is none.
    floor: Option<Statement>,
    /// By [`CLIENTS`]: with the API, and its floor.
    runs: [Vec<(Measured, Measured)>; 2],
}

fn cases(key: &str) -> Vec<Case> {
    let credential = format!("Authorization: Bearer {key}\r\n");
    let insert = format!(r#"{{"raw_data":{RAW_DATA}}}"#);
    let trigger = format!(
        r#"{{"event":"task.trigger","event_id":"e-{{n}}","payload":{{"raw_data":{RAW_DATA},"auto_run":false}}}}"#
    );
    let case = |name, floor_name, request, floor| Case {
        name,
        floor_name,
        request,
        floor,
        runs: Default::default(),
    };
    vec![
        case(
            "GET /sdk/ping",
            "bare axum",
            Request::get("/sdk/ping", &credential),
            None,
        ),
        case(
            "GET /activities (50 rows)",
            "bare select",
            Request::get("/activities?limit=50", &credential),
            Some(Statement::List),
        ),
        case(
            "POST /activities",
            "bare insert",
            Request::post("/activities", &credential, &insert),
            Some(Statement::Insert),
        ),
        case(
            "POST /webhooks/realtimex (trigger → task row)",
            "bare insert",
            Request::post("/webhooks/realtimex", &credential, &trigger),
            Some(Statement::Insert),
        ),
    ]
}

/// Makes a developer's key.
async fn key(program: &Path, data_dir: &Path) -> Result<String> {
    let output = Command::new(program)
        .arg("--data-dir")
        .arg(data_dir)
        .args(["key", "add", "bench"])
        .stdin(Stdio::null())
        .output()
        .await?;
    if !output.status.success() {
        bail!(
            "rowcall key add failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// Where the daemon's local API listens.
fn address(data_dir: &Path) -> Result<SocketAddr> {
    let file: serde_json::Value =
        serde_json::from_slice(&std::fs::read(data_dir.join("daemon.json"))?)?;
    let port = file["api_port"]
        .as_u64()
        .context("daemon.json names no port")?;
    Ok(SocketAddr::from(([127, 0, 0, 1], u16::try_from(port)?)))
}

/// MB of 10⁶ bytes that a process holds.
fn resident(pid: u32) -> Result<f64> {
    let (resident, _) = usage::resident_kib(pid)?;
    Ok(number(i64::try_from(resident)?) * 1024.0 / 1e6)
}

/// Runs all cases in rounds, then many requests of all kinds.
pub(crate) async fn run(
    place: &Place,
    options: &Options,
) -> Result<(Report, Vec<(&'static str, String)>)> {
    let program = daemon::build().await?;
    let dir = place.directory()?;
    let machine = machine::describe(dir.path(), "of the data directory".into())?;
    let data_dir = dir.path().join("data");
    let start = Start {
        program: &program,
        data_dir: &data_dir,
        database_url: None,
        stack: false,
        db_port: 24_900,
    };
    let daemon = Daemon::start(place, &start).await?;
    let url = daemon::database_url(&program, &data_dir).await?;
    let (api, bare) = (address(&data_dir)?, BareServer::start().await?);
    let sql = connect(&url).await?;
    let mut cases = cases(&key(&program, &data_dir).await?);
    let fresh = resident(daemon.pid()?)?;
    let time = Duration::from_secs(options.seconds);
    for round in 1..=options.rounds {
        for (index, clients) in CLIENTS.into_iter().enumerate() {
            for case in &mut cases {
                reset(&sql).await?;
                let ours = http::send(api, &case.request, clients, Until::Time(time)).await?;
                let floor = match case.floor {
                    Some(statement) => floor::run(&url, statement, clients, time).await?,
                    None => {
                        http::send(bare.address, &case.request, clients, Until::Time(time)).await?
                    }
                };
                progress(format_args!(
                    "round {round}/{}  {clients:>2} clients  {:<46} {:>7.0}/s  p99 {:>6.2} ms  {} {:>7.0}/s",
                    options.rounds,
                    case.name,
                    ours.per_second,
                    ours.p99_ms,
                    case.floor_name,
                    floor.per_second
                ));
                case.runs[index].push((ours, floor));
            }
        }
    }
    let memory = memory(api, &sql, &cases, daemon.pid()?, options.requests).await?;
    daemon.stop().await?;
    Ok((report(options, &cases, fresh, memory), machine))
}

/// Makes every case begin with the same activities: a list takes longer the more there are.
async fn reset(sql: &Client) -> Result<()> {
    sql.batch_execute(&format!(
        "truncate public.rtx_activities; \
         insert into public.rtx_activities (raw_data) select '{RAW_DATA}'::jsonb from generate_series(1, {PREFILL}); \
         analyze public.rtx_activities"
    ))
    .await?;
    Ok(())
}

/// Memory before and after many requests, a quarter of each kind.
async fn memory(
    api: SocketAddr,
    sql: &Client,
    cases: &[Case],
    pid: u32,
    requests: u64,
) -> Result<(f64, f64)> {
    let before = resident(pid)?;
    let each = requests / u64::try_from(cases.len())?;
    for case in cases {
        reset(sql).await?;
        http::send(api, &case.request, 16, Until::Count(each)).await?;
        progress(format_args!(
            "{each} × {:<46} {:.1} MB",
            case.name,
            resident(pid)?
        ));
    }
    Ok((before, resident(pid)?))
}

fn report(options: &Options, cases: &[Case], fresh: f64, (before, after): (f64, f64)) -> Report {
    let mut rows = Vec::new();
    for case in cases {
        for (index, clients) in CLIENTS.into_iter().enumerate() {
            let runs = &case.runs[index];
            let middle = |value: fn(&(Measured, Measured)) -> f64| {
                median(&runs.iter().map(value).collect::<Vec<_>>())
            };
            rows.push(vec![
                Cell::Text(case.name.to_owned()),
                Cell::Number(f64::from(clients), 0),
                Cell::Number(middle(|(ours, _)| ours.per_second), 0),
                Cell::Number(
                    middle(|(ours, floor)| ours.per_second / floor.per_second),
                    2,
                ),
                Cell::Number(middle(|(ours, _)| ours.p50_ms), 2),
                Cell::Number(middle(|(ours, _)| ours.p99_ms), 2),
                Cell::Text(case.floor_name.to_owned()),
                Cell::Number(middle(|(_, floor)| floor.per_second), 0),
                Cell::Number(middle(|(_, floor)| floor.p99_ms), 2),
            ]);
        }
    }
    let growth = after - before;
    Report {
        title: format!(
            "Local API: kept connections, {} s each, medians of {} rounds",
            options.seconds, options.rounds
        ),
        columns: vec![
            "route", "clients", "requests/s", "× floor", "p50 ms", "p99 ms", "floor", "floor/s", "floor p99 ms",
        ],
        rows,
        goals: vec![Goal {
            wanted: format!(
                "{} more requests of all kinds: at most {MOST_GROWTH_MB} MB more memory",
                options.requests
            ),
            measured: format!("{before:.1} MB before, {after:.1} MB after ({growth:+.1} MB)"),
            met: growth <= MOST_GROWTH_MB,
        }],
        notes: vec![
            format!("The daemon held {fresh:.1} MB before the first round."),
            "The client shares the processors with the server, the floor and PostgreSQL; × floor: within each round, median."
                .into(),
            "Bare axum is a server with one route in a process of its own; bare statements are prepared ones over tokio-postgres, without HTTP."
                .into(),
            format!("Every case begins with {PREFILL} activities; a list sorts all there are."),
            "A trigger answers once its task is a row and its entry is in the calendar.".into(),
        ],
    }
}

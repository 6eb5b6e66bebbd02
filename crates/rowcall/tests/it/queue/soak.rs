//! B13: workers that reach their database and their project over bad wires, for as long as it is asked for: everything is
//! handled, nobody ends or hangs, and memory stays what it was.
//!
//! The small run is part of the tests; `cargo xtask soak [minutes]` is the long one.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{Json, Router, extract::State, routing::post};
use parking_lot::Mutex;
use rowcall_stack::{auth::Keys, stack::Stack};
use serde_json::{Value, json};

use super::{Place, Worker, realtime::project};
use crate::{
    project::wire::{Proxy, Weather},
    support::until,
};

/// Set by `cargo xtask soak` to a number of minutes.
const MINUTES: &str = "ROWCALL_SOAK_MINUTES";
/// Workers, each behind wires of its own.
const WORKERS: usize = 4;
/// How often memory is looked at in a long run.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// What memory may differ from what it was: 10 %, and this many kB for what the allocator and the libraries keep.
const MEMORY_SLACK_KB: u64 = 1_024;

struct Size {
    lasts: Duration,
    changes_every: Duration,
    jobs_each_change: usize,
    /// Whether it is long enough to judge memory by.
    judges_memory: bool,
}

fn size() -> Size {
    match std::env::var(MINUTES).ok().map(|text| text.parse::<u64>()) {
        Some(minutes) => Size {
            lasts: Duration::from_mins(minutes.expect("a number of minutes")),
            changes_every: Duration::from_secs(2),
            jobs_each_change: 20,
            judges_memory: true,
        },
        None => Size {
            lasts: Duration::from_secs(6),
            changes_every: Duration::from_millis(500),
            jobs_each_change: 20,
            judges_memory: false,
        },
    }
}

/// How often each job was handled.
type Handled = Arc<Mutex<HashMap<i64, u32>>>;

async fn handle(State(handled): State<Handled>, Json(task): Json<Value>) -> Json<Value> {
    let job = task["key"]["msg_id"].as_i64().expect("an id");
    *handled.lock().entry(job).or_default() += 1;
    Json(json!({ "ok": true }))
}

async fn service(handled: &Handled) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let url = format!("http://{}/", listener.local_addr().expect("an address"));
    let app = Router::new()
        .route("/", post(handle))
        .with_state(Arc::clone(handled));
    tokio::spawn(async move { axum::serve(listener, app).await });
    url
}

/// The same URL over a wire.
fn through(url: &url::Url, wire: &Proxy) -> String {
    let mut url = url.clone();
    let port = Some(wire.address().port());
    url.set_port(port).expect("a URL with a host");
    url.to_string()
}

/// Starts the workers, each behind two wires: to the database, and to the project.
async fn start(
    place: &Place,
    stack: &Stack,
    keys: &Keys,
    service: &str,
) -> (Vec<Worker>, Vec<Proxy>) {
    let database = url::Url::parse(&place.db.url()).expect("a URL");
    let target = SocketAddr::from(([127, 0, 0, 1], database.port().expect("a port")));
    let (mut workers, mut wires) = (Vec::new(), Vec::new());
    for number in 0..WORKERS {
        let to_database = Proxy::to(target).await;
        let to_project = Proxy::to(stack.addresses()[0]).await;
        let url = through(&database, &to_database);
        let (name, project) = (format!("w{number}"), to_project.url());
        let env = [
            ("DATABASE_URL", url.as_str()),
            ("SUPABASE_URL", project.as_str()),
            ("SUPABASE_KEY", keys.service_role_key()),
        ];
        let args = [
            "worker",
            "--name",
            &name,
            "--queue",
            "load",
            "--url",
            service,
            "--timeout",
            "3s",
            "--max-retries",
            "0",
            "--concurrency",
            "8",
            "--idle-wait",
            "500ms",
            "--no-setup",
        ];
        workers.push(place.worker_with(&args, &env).await);
        wires.extend([to_database, to_project]);
    }
    (workers, wires)
}

fn resident_kb(worker: &Worker) -> u64 {
    let pid = worker.child.id().expect("it runs");
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok())
        .unwrap_or(0)
}

fn median(mut values: Vec<u64>) -> u64 {
    values.sort_unstable();
    values[values.len() / 2]
}

/// The second and the last fifth of what was seen: the first one is the warming up.
fn flat(seen: &[u64]) -> (u64, u64) {
    let fifth = (seen.len() / 5).max(1);
    let second = seen[fifth..2 * fifth].to_vec();
    let last = seen[seen.len() - fifth..].to_vec();
    (median(second), median(last))
}

/// Says how much memory a worker takes, and fails when that is more or less in the end than after warming up.
fn judge(number: usize, seen: &[u64]) -> String {
    let (before, after) = flat(seen);
    let allowed = before / 10 + MEMORY_SLACK_KB;
    assert!(
        before.abs_diff(after) <= allowed,
        "memory of worker {number} is not flat: {seen:?} kB"
    );
    let most = seen.iter().max().expect("it was looked at");
    format!(
        "worker {number}: {before} kB after warming up, {after} kB at the end, {most} kB at most"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b13_bad_wires_cost_nothing_but_time() {
    let size = size();
    let handled = Handled::default();
    let service = service(&handled).await;
    let place = Place::new().await;
    let (stack, keys) = project(&place).await;
    place.done(&["queue", "create", "load"]).await;
    let (workers, wires) = start(&place, &stack, &keys, &service).await;
    let send = place
        .client
        .prepare(
            "select count(*) from pgmq.send_batch('load', array_fill('{}'::jsonb, array[$1::int]))",
        )
        .await
        .unwrap();
    let (mut seed, mut sent, mut changes) = (7, 0, 0_u32);
    let mut memory: Vec<Vec<u64>> = vec![Vec::new(); WORKERS];
    let (began, mut looked) = (Instant::now(), Instant::now());
    while began.elapsed() < size.lasts {
        for wire in &wires {
            wire.set(Weather::next(&mut seed));
        }
        changes += 1;
        let jobs = i32::try_from(size.jobs_each_change).unwrap();
        place.client.query(&send, &[&jobs]).await.unwrap();
        sent += size.jobs_each_change;
        if looked.elapsed() >= LOOK_EVERY {
            looked = Instant::now();
            for (seen, worker) in memory.iter_mut().zip(&workers) {
                seen.push(resident_kb(worker));
            }
        }
        tokio::time::sleep(size.changes_every).await;
    }
    for wire in &wires {
        wire.set(Weather::Fine);
    }
    let wanted = i64::try_from(sent).unwrap();
    until("every job is done", async || {
        let done = place.count("pgmq.a_load").await;
        if done == wanted {
            Ok(())
        } else {
            let logs: Vec<String> = workers.iter().map(|one| tail(&one.log())).collect();
            Err((done, wanted, logs))
        }
    })
    .await;
    let seconds = began.elapsed().as_secs_f64();
    assert_eq!(place.count("pgmq.q_load").await, 0);
    for worker in workers {
        let log = worker.log();
        assert!(!log.contains("panicked"), "{log}");
        assert!(
            !log.contains(keys.service_role_key()),
            "a key is in the log"
        );
        // It still listens to signals, and ends as one that never saw bad weather.
        worker.stop().await;
    }
    {
        let handled = handled.lock();
        assert_eq!(handled.len(), sent, "every job was handled");
        let again: u32 = handled.values().map(|times| times - 1).sum();
        eprintln!(
            "{WORKERS} workers, {changes} changes of weather, {seconds:.0} s, {sent} jobs, {again} handled again after their \
             worker lost its database"
        );
    }
    if size.judges_memory {
        for (number, seen) in memory.iter().enumerate() {
            eprintln!("{}", judge(number, seen));
        }
    }
    stack.shutdown().await;
}

fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(5)..].join("\n")
}

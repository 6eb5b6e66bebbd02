//! A3 with the binary: workers killed in the middle of their work lose nothing, and no message is handled twice at a time.
//!
//! The small run is part of the tests; `cargo xtask chaos` runs 8 workers and 10,000 jobs.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{Json, Router, extract::State, routing::post};
use nix::sys::signal::Signal;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::{Place, Worker};
use crate::support::until;

/// Set by `cargo xtask chaos`.
const FULL: &str = "ROWCALL_CHAOS_FULL";
/// What one job takes in the service.
const WORK: Duration = Duration::from_millis(5);

/// What the service saw, which all workers call: nobody else's word is needed.
#[derive(Default)]
struct Seen {
    /// How often each job is being handled right now.
    running: HashMap<i64, u32>,
    /// How often each job was handled to its end.
    done: HashMap<i64, u32>,
    overlaps: u32,
    broken_off: u32,
}

type Shared = Arc<Mutex<Seen>>;

/// A job under way; dropped unfinished when its worker's connection breaks.
struct Underway {
    seen: Shared,
    job: i64,
    finished: bool,
}

impl Drop for Underway {
    fn drop(&mut self) {
        let mut seen = self.seen.lock();
        *seen.running.entry(self.job).or_default() -= 1;
        if self.finished {
            *seen.done.entry(self.job).or_default() += 1;
        } else {
            seen.broken_off += 1;
        }
    }
}

async fn handle(State(seen): State<Shared>, Json(task): Json<Value>) -> Json<Value> {
    let job = task["key"]["msg_id"].as_i64().expect("an id");
    {
        let mut seen = seen.lock();
        let running = seen.running.entry(job).or_default();
        *running += 1;
        let twice = *running > 1;
        seen.overlaps += u32::from(twice);
    }
    let mut underway = Underway {
        seen,
        job,
        finished: false,
    };
    tokio::time::sleep(WORK).await;
    underway.finished = true;
    Json(json!({ "ok": true }))
}

struct Size {
    workers: usize,
    jobs: usize,
    kills: usize,
}

fn size() -> Size {
    if std::env::var_os(FULL).is_some() {
        Size {
            workers: 8,
            jobs: 10_000,
            kills: 12,
        }
    } else {
        Size {
            workers: 3,
            jobs: 1_000,
            kills: 3,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a3_killed_workers_lose_nothing_and_never_overlap() {
    let size = size();
    let seen = Shared::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let app = Router::new()
        .route("/", post(handle))
        .with_state(Arc::clone(&seen));
    tokio::spawn(async move { axum::serve(listener, app).await });
    let place = Place::new().await;
    place
        .done(&["queue", "create", "load", "--no-realtime"])
        .await;
    let fill = "select count(*) from pgmq.send_batch('load', (select array_agg(jsonb_build_object('n', n)) from generate_series(1, $1) n))";
    let jobs = i32::try_from(size.jobs).unwrap();
    place.client.query(fill, &[&jobs]).await.unwrap();
    let start = async |name: &str| {
        place
            .worker(&[
                "worker",
                "--name",
                name,
                "--queue",
                "load",
                "--url",
                &url,
                "--timeout",
                "2s",
                "--max-retries",
                "0",
                "--concurrency",
                "4",
                "--idle-wait",
                "200ms",
            ])
            .await
    };
    let began = Instant::now();
    let mut workers: Vec<(String, Worker)> = Vec::new();
    for number in 0..size.workers {
        let name = format!("w{number}");
        workers.push((name.clone(), start(&name).await));
    }
    for kill in 1..=size.kills {
        // Spread over the first three quarters of the work.
        let due = size.jobs * 3 * kill / (4 * size.kills);
        until("enough is done", async || {
            let done = seen.lock().done.len();
            if done >= due {
                Ok(())
            } else {
                Err((done, due))
            }
        })
        .await;
        let (name, mut victim) = workers.remove(0);
        victim.signal(Signal::SIGKILL);
        victim.ended().await;
        let again = start(&name).await;
        workers.push((name, again));
    }
    place
        .rows("pgmq.a_load", i64::from(jobs), &workers[0].1)
        .await;
    let seconds = began.elapsed().as_secs_f64();
    for (_, worker) in workers {
        worker.stop().await;
    }
    assert_eq!(place.count("pgmq.q_load").await, 0);
    let seen = seen.lock();
    assert_eq!(seen.overlaps, 0, "no message is handled twice at a time");
    assert_eq!(seen.done.len(), size.jobs, "every message was handled");
    let again: u32 = seen.done.values().map(|times| times - 1).sum();
    eprintln!(
        "{} workers, {} jobs, {} kills, {seconds:.1} s: {} broken off, {again} handled again after their worker died",
        size.workers, size.jobs, size.kills, seen.broken_off
    );
}

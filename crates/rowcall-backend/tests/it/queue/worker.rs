//! A7, A10, A13, A14, B6, C11: workers with typed handlers.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use rowcall_backend::queue::{Job, JobError, QueueOptions, SignalOptions, Worker, WorkerBuilder};
use rowcall_stack::testing::TestDb;
use tokio::{task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{SOON, count, database, eventually, json, name, send, store, value};

#[derive(Debug, serde::Deserialize)]
struct Numbered {
    n: usize,
}

/// Runs a worker until the token is canceled.
async fn run(db: &TestDb, builder: WorkerBuilder) -> (CancellationToken, JoinHandle<()>) {
    let worker = builder
        .options(creating())
        .connect(&db.url())
        .await
        .expect("connects");
    let client = db.connect().await;
    for spec in worker.backend().specs() {
        client
            .execute(
                "select rowcall_queue.enable_wake($1)",
                &[&spec.name.as_str()],
            )
            .await
            .unwrap();
    }
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    (stop, tokio::spawn(async move { worker.run(stopped).await }))
}

fn creating() -> QueueOptions {
    super::creating()
}

async fn empty(db: &TestDb, queue: &str) {
    let client = db.connect().await;
    let table = format!("pgmq.q_{queue}");
    eventually("the queue is empty", || async {
        (count(&client, &table).await == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a13_a_thousand_jobs_drain_without_waiting() {
    let db = database("1.5.1").await;
    let sum = Arc::new(AtomicUsize::new(0));
    let total = Arc::clone(&sum);
    let builder = Worker::builder()
        .queue("many")
        .handler(move |job: Job<Numbered>| {
            total.fetch_add(job.data.n, Ordering::Relaxed);
            async { Ok::<(), JobError>(()) }
        });
    let (stop, running) = run(&db, builder).await;
    send(&store(&db), "many", 1_000).await;
    let start = Instant::now();
    empty(&db, "many").await;
    assert!(
        start.elapsed() < SOON,
        "far below a poll: {:?}",
        start.elapsed()
    );
    assert_eq!(sum.load(Ordering::Relaxed), 499_500);
    stop.cancel();
    running.await.unwrap();
}

#[tokio::test]
async fn a7_a14_failures_panics_and_odd_messages_stay_alone() {
    let db = database("1.13.0").await;
    let failures = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&failures);
    let builder = Worker::builder()
        .queue("mixed")
        .with(|spec| {
            spec.visibility(Duration::from_secs(2))
                .max_attempts(2)
                .dead_letters(name("dead"))
                .pause(None)
        })
        .handler(|job: Job<Numbered>| async move {
            assert!(job.data.n != 1, "the handler breaks");
            if job.data.n == 2 {
                return Err(JobError::retry_in("not yet", Duration::from_millis(50)));
            }
            Ok(())
        })
        .on_error(move |failure| {
            heard.lock().push((failure.id, failure.attempt));
            panic!("hooks break too");
        });
    let (stop, running) = run(&db, builder).await;
    let store = store(&db);
    send(&store, "mixed", 5).await;
    store
        .send(
            &name("mixed"),
            &json(serde_json::json!("not an object")),
            Duration::ZERO,
        )
        .await
        .unwrap();
    empty(&db, "mixed").await;
    stop.cancel();
    running.await.unwrap();
    let mut failures = failures.lock().clone();
    failures.sort_unstable();
    assert_eq!(failures, [(2, 1), (2, 2), (3, 1), (3, 2), (6, 1), (6, 2)]);
    let letters = store.peek(&name("dead"), 9).await.unwrap();
    let mut errors: Vec<_> = letters
        .iter()
        .map(|letter| {
            value(&letter.message)["error_message"]
                .as_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    errors.sort();
    assert_eq!(errors.len(), 3);
    assert_eq!(errors[0], "not yet");
    assert!(
        errors[1].starts_with("the handler panicked: the handler breaks"),
        "{}",
        errors[1]
    );
    assert!(
        errors[2].starts_with("the message is not what its handler takes"),
        "{}",
        errors[2]
    );
}

#[tokio::test]
async fn a10_a_stop_finishes_what_runs_and_gives_back_the_rest() {
    let db = database("1.4.4").await;
    let (begun, go) = (Arc::new(AtomicUsize::new(0)), CancellationToken::new());
    let (counter, gate) = (Arc::clone(&begun), go.clone());
    let builder = Worker::builder()
        .queue("slow")
        .handler(move |job: Job<Numbered>| {
            counter.fetch_add(1, Ordering::Relaxed);
            let gate = gate.clone();
            async move {
                if job.data.n == 0 {
                    gate.cancelled().await;
                } else {
                    std::future::pending::<()>().await;
                }
                Ok::<(), JobError>(())
            }
        })
        .concurrency(2)
        .grace(Duration::from_millis(500));
    let (stop, running) = run(&db, builder).await;
    send(&store(&db), "slow", 5).await;
    eventually("two run", || async {
        (begun.load(Ordering::Relaxed) == 2).then_some(())
    })
    .await;
    stop.cancel();
    go.cancel();
    let start = Instant::now();
    running.await.unwrap();
    assert!(start.elapsed() < SOON);
    let client = db.connect().await;
    assert_eq!(
        count(&client, "pgmq.a_slow").await,
        1,
        "what could finish did"
    );
    assert_eq!(
        count(&client, "pgmq.q_slow where vt <= now() and read_ct = 0").await,
        4,
        "the rest is there at once, uncounted"
    );
}

#[tokio::test]
async fn a3_running_jobs_keep_their_lease_and_a_lost_lease_stops_its_handler() {
    let db = database("1.13.0").await;
    let (starts, ends) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (started, ended) = (Arc::clone(&starts), Arc::clone(&ends));
    let builder = Worker::builder()
        .queue("long")
        .with(|spec| {
            spec.visibility(Duration::from_millis(600))
                .max_attempts(None)
        })
        .handler(move |_: Job<Numbered>| {
            started.fetch_add(1, Ordering::Relaxed);
            let ended = Arc::clone(&ended);
            async move {
                tokio::time::sleep(Duration::from_millis(1_500)).await;
                ended.fetch_add(1, Ordering::Relaxed);
                Ok::<(), JobError>(())
            }
        });
    let (stop, running) = run(&db, builder).await;
    send(&store(&db), "long", 1).await;
    empty(&db, "long").await;
    assert_eq!(
        (starts.load(Ordering::Relaxed), ends.load(Ordering::Relaxed)),
        (1, 1),
        "longer than its lease, and run once"
    );
    send(&store(&db), "long", 1).await;
    eventually("it runs", || async {
        (starts.load(Ordering::Relaxed) == 2).then_some(())
    })
    .await;
    // Somebody takes it away, and finishes it.
    let client = db.connect().await;
    client.batch_execute("select pgmq.set_vt('long', 2, 0); select pgmq.read('long', 60, 1); select pgmq.archive('long', 2)").await.unwrap();
    tokio::time::sleep(Duration::from_millis(1_800)).await;
    assert_eq!(
        ends.load(Ordering::Relaxed),
        1,
        "the handler was stopped at its heartbeat"
    );
    stop.cancel();
    running.await.unwrap();
}

#[tokio::test]
async fn b3_an_idle_worker_starts_at_once_and_sleeps_in_peace() {
    let db = database("1.13.0").await;
    let (sender, mut started) = tokio::sync::mpsc::channel(8);
    let builder = Worker::builder()
        .queue("idle")
        .handler(move |job: Job<Numbered>| {
            let sender = sender.clone();
            async move {
                sender
                    .send((job.id, Instant::now()))
                    .await
                    .map_err(|_| "nobody waits")
            }
        })
        .signals(SignalOptions {
            idle: Duration::from_mins(10),
            ..SignalOptions::default()
        });
    let (stop, running) = run(&db, builder).await;
    let client = db.connect().await;
    let store = store(&db);
    for round in 1..=5 {
        eventually("the gate is armed", || async {
            (count(&client, "rowcall_queue.waiting where armed").await == 1).then_some(())
        })
        .await;
        let sent = Instant::now();
        send(&store, "idle", 1).await;
        let (id, at) = tokio::time::timeout(super::PATIENCE, started.recv())
            .await
            .unwrap()
            .unwrap();
        assert_eq!(id, round);
        assert!(at - sent < SOON, "{:?}", at - sent);
    }
    stop.cancel();
    running.await.unwrap();
}

/// C11, at a size for every day: two workers keep up with a steady stream, and few wake-ups are enough for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn c11_a_stream_of_sends_is_handled_with_few_wake_ups() {
    const SENDS: usize = 2_000;
    let db = database("1.13.0").await;
    let done = Arc::new(AtomicUsize::new(0));
    let mut workers = Vec::new();
    for _ in 0..2 {
        let done = Arc::clone(&done);
        let builder = Worker::builder()
            .queue("stream")
            .handler(move |_: Job<Numbered>| {
                done.fetch_add(1, Ordering::Relaxed);
                async { Ok::<(), JobError>(()) }
            });
        workers.push(run(&db, builder).await);
    }
    let client = db.connect().await;
    let updates = "select n_tup_upd from pg_stat_user_tables where relname = 'waiting'";
    let began = Instant::now();
    for _ in 0..SENDS {
        client
            .execute("select pgmq.send('stream', '{\"n\": 1}'::jsonb)", &[])
            .await
            .unwrap();
    }
    empty(&db, "stream").await;
    assert_eq!(done.load(Ordering::Relaxed), SENDS);
    client
        .batch_execute(
            "do $$ begin perform pg_stat_force_next_flush();
             exception when undefined_function then null; -- PostgreSQL 14 counts in its own time
             end $$",
        )
        .await
        .unwrap();
    let armed: i64 = client.query_one(updates, &[]).await.unwrap().get(0);
    // Each of the two workers opens the gate ten times a second at most, and each time somebody closes it: forty moves a
    // second, however many sends. Some more for the beginning and the end.
    let seconds = i64::try_from(began.elapsed().as_secs()).unwrap() + 1;
    assert!(
        armed <= 40 * seconds + 40,
        "the gate moved {armed} times in {seconds} s"
    );
    for (stop, running) in workers {
        stop.cancel();
        running.await.unwrap();
    }
}

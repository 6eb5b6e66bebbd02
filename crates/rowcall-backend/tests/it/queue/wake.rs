//! B3–B7, B11, B12, C7: workers are woken, and never too late.

use std::{collections::HashSet, time::Duration};

use futures_util::{StreamExt as _, stream::BoxStream};
use rowcall_backend::queue::{Database, QueueBackend, QueueSignals, QueueSpec, SignalOptions};
use rowcall_core::{Signal, ports::SignalSource as _};
use rowcall_stack::testing::TestDb;
use tokio::time::{Instant, timeout};

use super::{
    PATIENCE, SOON, VERSIONS, backend, claim, completed, database, failed, id, name, send, store,
};
use rowcall_core::ports::Coordinator as _;

/// Fallbacks so rare that a test which needs them fails.
const RARE: SignalOptions = SignalOptions {
    listen: true,
    idle: Duration::from_mins(10),
    poll: Duration::from_mins(10),
    gate: Duration::from_millis(100),
    jitter: 0.0,
};
async fn enabled(db: &TestDb, queues: &[&str]) -> QueueBackend {
    let backend = backend(
        db,
        queues
            .iter()
            .map(|queue| QueueSpec::new(name(queue)).pause(None)),
    )
    .await;
    let client = db.connect().await;
    for queue in queues {
        client
            .execute("select rowcall_queue.enable_wake($1)", &[queue])
            .await
            .unwrap();
    }
    backend
}

/// Opens the stream and waits until it is connected.
async fn up(backend: &QueueBackend, options: SignalOptions) -> BoxStream<'static, Signal> {
    let mut signals = QueueSignals::new(backend.clone(), options).signals();
    assert_eq!(next(&mut signals).await, Signal::Up);
    signals
}

async fn next(signals: &mut BoxStream<'static, Signal>) -> Signal {
    timeout(PATIENCE, signals.next())
        .await
        .expect("a signal in time")
        .expect("the stream never ends")
}

/// The name of the table the next wake-up is about.
async fn dirty(signals: &mut BoxStream<'static, Signal>) -> String {
    match next(signals).await {
        Signal::Dirty { table, .. } => table.name().to_owned(),
        other => panic!("{other:?}"),
    }
}

/// Waits until the gate is armed, so that what follows is seen by its notification.
async fn armed(db: &TestDb) {
    let client = db.connect().await;
    super::eventually("the gate is armed", || async {
        (super::count(&client, "rowcall_queue.waiting where not armed").await == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn b3_c4_a_message_wakes_at_once() {
    for version in VERSIONS {
        let db = database(version).await;
        let backend = enabled(&db, &["Jobs-1"]).await;
        let mut signals = up(&backend, RARE).await;
        armed(&db).await;
        let start = Instant::now();
        send(&store(&db), "Jobs-1", 1).await;
        assert_eq!(dirty(&mut signals).await, "q_jobs-1", "{version}");
        assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
    }
}

#[tokio::test]
async fn b4_what_is_there_before_is_seen_first() {
    let db = database("1.13.0").await;
    let backend = enabled(&db, &["early"]).await;
    send(&store(&db), "early", 1).await;
    let mut signals = up(&backend, RARE).await;
    assert_eq!(dirty(&mut signals).await, "q_early");
}

#[tokio::test]
async fn b5_c7_other_queues_wake_nobody() {
    let db = database("1.5.1").await;
    let queues: Vec<String> = (0..100).map(|n| format!("queue-{n}")).collect();
    let names: Vec<&str> = queues.iter().map(String::as_str).collect();
    let all = enabled(&db, &names).await;
    let mine = backend(&db, [QueueSpec::new(name("queue-42"))]).await;
    let mut signals = up(&mine, RARE).await;
    let client = db.connect().await;
    client
        .batch_execute("update rowcall_queue.waiting set armed = true")
        .await
        .unwrap();
    for queue in &queues {
        client
            .execute("select pgmq.send($1, '{}'::jsonb)", &[queue])
            .await
            .unwrap();
    }
    let heard = timeout(Duration::from_millis(500), async {
        let mut heard = Vec::new();
        loop {
            heard.push(dirty(&mut signals).await);
            claim(&mine, 10).await;
            client
                .execute("select pgmq.send('queue-41', '{}'::jsonb)", &[])
                .await
                .unwrap();
            if heard.len() > 5 {
                return heard;
            }
        }
    })
    .await;
    assert!(
        heard.is_err(),
        "woken more often than there were messages: {heard:?}"
    );
    drop(all);
}

#[tokio::test]
async fn b7_delayed_and_retried_messages_wake_at_their_time() {
    for version in VERSIONS {
        let db = database(version).await;
        let backend = enabled(&db, &["later"]).await;
        let mut signals = up(&backend, RARE).await;
        armed(&db).await;
        let start = Instant::now();
        store(&db)
            .send(
                &name("later"),
                &super::json(serde_json::json!({})),
                Duration::from_secs(2),
            )
            .await
            .unwrap();
        assert_eq!(dirty(&mut signals).await, "q_later");
        let waited = start.elapsed();
        assert!(
            waited >= Duration::from_millis(1_990) && waited < SOON,
            "{version}: {waited:?}"
        );
        // A failure with a delay: nobody but ourselves knows of it.
        let one = claim(&backend, 1).await.pop().expect("it is visible");
        let start = Instant::now();
        let mut verdict = failed(one.lease.into_key(), "later");
        if let rowcall_core::ports::Verdict::Failed { retry_in, .. } = &mut verdict.verdict {
            *retry_in = Some(Duration::from_millis(700));
        }
        backend.settle(&[verdict]).await.unwrap();
        while claim(&backend, 1).await.is_empty() {
            dirty(&mut signals).await;
        }
        let waited = start.elapsed();
        assert!(
            waited >= Duration::from_millis(690) && waited < SOON,
            "{version}: {waited:?}"
        );
    }
}

#[tokio::test]
async fn b7_a_crash_elsewhere_wakes_the_others_when_the_lease_ends() {
    let db = database("1.13.0").await;
    let lease = Duration::from_millis(1_500);
    let spec = QueueSpec::new(name("shared")).visibility(lease);
    let (crashing, idle) = (
        backend(&db, [spec.clone()]).await,
        backend(&db, [spec]).await,
    );
    db.connect()
        .await
        .batch_execute("select rowcall_queue.enable_wake('shared')")
        .await
        .unwrap();
    let mut signals = up(&idle, RARE).await;
    armed(&db).await;
    send(&store(&db), "shared", 1).await;
    assert_eq!(dirty(&mut signals).await, "q_shared");
    let start = Instant::now();
    assert_eq!(claim(&crashing, 1).await.len(), 1);
    let won = loop {
        dirty(&mut signals).await;
        if let Some(won) = claim(&idle, 1).await.pop() {
            break won;
        }
    };
    assert_eq!(won.task.attempt, 2);
    let waited = start.elapsed();
    assert!(
        waited + Duration::from_millis(10) >= lease && waited < lease + SOON,
        "{waited:?}"
    );
}

#[tokio::test]
async fn b7_what_is_given_back_wakes_other_processes() {
    let db = database("1.4.4").await;
    let giving = enabled(&db, &["shared"]).await;
    let waiting = backend(&db, [QueueSpec::new(name("shared"))]).await;
    send(&store(&db), "shared", 1).await;
    let held = claim(&giving, 1).await.pop().unwrap();
    let mut signals = up(&waiting, RARE).await;
    armed(&db).await;
    giving.release(&[held.lease.into_key()]).await.unwrap();
    assert_eq!(dirty(&mut signals).await, "q_shared");
    assert_eq!(claim(&waiting, 1).await.len(), 1);
}

#[tokio::test]
async fn b11_without_triggers_it_polls() {
    let db = database("1.5.1").await;
    let backend = backend(&db, [QueueSpec::new(name("plain"))]).await;
    let often = SignalOptions {
        poll: Duration::from_millis(200),
        ..RARE
    };
    let mut signals = up(&backend, often).await;
    send(&store(&db), "plain", 1).await;
    assert_eq!(dirty(&mut signals).await, "q_plain");
}

#[tokio::test]
async fn b11_a_database_out_of_reach_is_a_signal_not_an_end() {
    let db = database("1.13.0").await;
    let backend = enabled(&db, &["q"]).await;
    let nowhere = Database::new("postgres://nobody:x@127.0.0.1:1/none", 1).unwrap();
    assert!(
        QueueBackend::open(nowhere, Vec::new(), super::creating())
            .await
            .is_err()
    );
    let mut signals = up(&backend, RARE).await;
    db.connect()
        .await
        .batch_execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and query like '%rowcall_queue.waiting%' and pid <> pg_backend_pid()")
        .await
        .unwrap();
    let reason = loop {
        match next(&mut signals).await {
            Signal::Down { reason, retry_in } => {
                assert_eq!(retry_in, Duration::from_secs(1));
                break reason;
            }
            other => assert!(!matches!(other, Signal::Up)),
        }
    };
    assert!(!reason.is_empty());
    // B12: it comes back by itself and looks for what was missed.
    send(&store(&db), "q", 1).await;
    assert_eq!(next(&mut signals).await, Signal::Up);
    assert_eq!(dirty(&mut signals).await, "q_q");
}

#[tokio::test]
async fn a_busy_worker_is_left_alone_until_it_waits_again() {
    let db = database("1.13.0").await;
    let backend = enabled(&db, &["q"]).await;
    let source = QueueSignals::new(backend.clone(), RARE);
    source.set_busy(true).await.unwrap();
    let mut signals = source.signals();
    assert_eq!(next(&mut signals).await, Signal::Up);
    let first = timeout(Duration::from_millis(300), signals.next()).await;
    assert!(first.is_err(), "its first look finds nothing: {first:?}");
    let client = db.connect().await;
    for _ in 0..20 {
        client
            .batch_execute("select pgmq.send('q', '{}'::jsonb)")
            .await
            .unwrap();
    }
    assert_eq!(
        super::count(&client, "rowcall_queue.waiting where armed").await,
        0
    );
    let heard = timeout(Duration::from_millis(300), signals.next()).await;
    assert!(heard.is_err(), "{heard:?}");
    source.set_busy(false).await.unwrap();
    assert_eq!(dirty(&mut signals).await, "q_q");
}

/// B4 on a real database: senders with transactions of random lengths, two workers, and fallbacks that never come.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn b4_no_real_interleaving_wakes_late() {
    const SENDERS: u64 = 6;
    const EACH: u64 = 60;
    let db = database("1.13.0").await;
    let first = enabled(&db, &["race"]).await;
    let second = backend(&db, [QueueSpec::new(name("race"))]).await;
    let mut workers = tokio::task::JoinSet::new();
    let (done, _) = tokio::sync::broadcast::channel::<()>(1);
    for worker in [first, second] {
        let mut stop = done.subscribe();
        workers.spawn(async move {
            let mut signals = up(&worker, RARE).await;
            let mut latencies = Vec::new();
            loop {
                tokio::select! {
                    _ = stop.recv() => return latencies,
                    Some(_) = signals.next() => {}
                }
                loop {
                    let claimed = claim(&worker, 100).await;
                    if claimed.is_empty() {
                        break;
                    }
                    for one in claimed {
                        latencies.push(id(&one));
                        worker
                            .settle(&[completed(one.lease.into_key())])
                            .await
                            .unwrap();
                    }
                }
            }
        });
    }
    let mut senders = tokio::task::JoinSet::new();
    for sender in 0..SENDERS {
        let client = db.connect().await;
        senders.spawn(async move {
            let mut random = 0x9e37_79b9 ^ (sender + 1);
            let mut pick = |limit: u64| {
                random = random ^ (random << 13);
                random ^= random >> 7;
                random ^= random << 17;
                random % limit
            };
            for _ in 0..EACH {
                client
                    .batch_execute("begin; select pgmq.send('race', '{}'::jsonb)")
                    .await
                    .unwrap();
                let hold = if pick(10) == 0 { pick(900) } else { pick(8) };
                tokio::time::sleep(Duration::from_millis(hold)).await;
                client
                    .batch_execute(if pick(8) == 0 { "rollback" } else { "commit" })
                    .await
                    .unwrap();
                tokio::time::sleep(Duration::from_millis(pick(60))).await;
            }
        });
    }
    while let Some(sent) = senders.join_next().await {
        sent.unwrap();
    }
    // Whatever was committed last is still handled in time, and nothing is left.
    let client = db.connect().await;
    let deadline = Instant::now() + SOON;
    while super::count(&client, "pgmq.q_race").await > 0 {
        assert!(
            Instant::now() < deadline,
            "a message waits although two workers are idle"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    done.send(()).unwrap();
    let mut handled = HashSet::new();
    while let Some(ids) = workers.join_next().await {
        for id in ids.unwrap() {
            assert!(handled.insert(id), "{id} was handled twice");
        }
    }
    let archived = super::count(&client, "pgmq.a_race").await;
    assert_eq!(handled.len(), usize::try_from(archived).unwrap());
    assert!(handled.len() > 250);
}

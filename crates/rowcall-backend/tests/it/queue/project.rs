//! Queues of a project of which only the URL and a key are known: with our functions there, and with Supabase's own six.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures_util::StreamExt as _;
use parking_lot::Mutex;
use rowcall_backend::queue::{
    Broadcast, Finish, Job, JobError, QueueBackend, QueueError, QueueOptions, QueueProject,
    QueueSignals, QueueSpec, QueueStore, RetryDelay, SignalOptions, Worker,
};
use rowcall_core::{
    Backoff, ErrorClass, Signal,
    ports::{Coordinator as _, Fence, SignalSource as _},
};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};
use tokio_postgres::Client;

use super::{
    PATIENCE, batch, claim, claim_soon, completed, count, eventually, failed, id, name, rules,
    stack::{Project, RARE, dirty, next},
    value,
};

/// Leaves the functions that Supabase Studio makes.
const STOCK: &str = "do $$ declare one regprocedure; begin
  for one in select oid::regprocedure from pg_proc where pronamespace = 'pgmq_public'::regnamespace
    and proname not in ('send', 'send_batch', 'read', 'pop', 'archive', 'delete')
  loop execute format('drop function %s cascade', one); end loop; end $$";

/// What a project has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum With {
    Ours,
    Stock,
}

impl With {
    /// A lease that is waited for. Where our clock is the fence, a slow machine must settle within it.
    fn lease(self) -> Duration {
        match self {
            Self::Ours => Duration::from_secs(1),
            Self::Stock => Duration::from_secs(5),
        }
    }
}

const BOTH: [(With, &str); 3] = [
    (With::Ours, "1.4.4"),
    (With::Ours, "1.13.0"),
    (With::Stock, "1.5.1"),
];

/// A project, and a session in its database that the code under test does not have.
struct Place {
    project: Project,
    client: Client,
    queues: QueueProject,
    with: With,
}

impl Place {
    async fn new(with: With, version: &'static str) -> Self {
        let sql = if with == With::Stock { STOCK } else { "" };
        let project = Project::start_with(version, sql, |_| {}).await;
        let queues = queues(&project, project.keys.service_role_key());
        let client = project.db.connect().await;
        Self {
            project,
            client,
            queues,
            with,
        }
    }

    async fn queue(&self, queue: &str) {
        self.client
            .execute("select pgmq.create($1)", &[&queue])
            .await
            .unwrap();
    }

    /// Makes the queues, and a backend on them.
    async fn backend(&self, specs: impl IntoIterator<Item = QueueSpec>) -> QueueBackend {
        let specs: Vec<QueueSpec> = specs.into_iter().collect();
        for spec in &specs {
            self.queue(spec.name.as_str()).await;
            if let Some(letters) = &spec.dead_letters {
                self.queue(letters.as_str()).await;
            }
        }
        let backend =
            QueueBackend::project(self.queues.clone(), specs, QueueOptions::default()).await;
        let backend = backend.expect("the project is there");
        assert_eq!(backend.renews(), self.with == With::Ours);
        backend
    }

    async fn send(&self, queue: &str, message: Value) -> i64 {
        let store = QueueStore::of_project(self.queues.clone());
        let message = super::json(message);
        let sent = store.send(&name(queue), &message, Duration::ZERO).await;
        sent.expect("sends")
    }

    async fn count(&self, table: &str) -> i64 {
        count(&self.client, table).await
    }

    async fn letters(&self, queue: &str) -> Vec<Value> {
        let sql = format!("select message::text from pgmq.\"q_{queue}\" order by msg_id");
        let rows = self.client.query(&sql, &[]).await.unwrap();
        let texts = rows.iter().map(|row| row.get::<_, String>(0));
        texts.map(|text| text.parse().unwrap()).collect()
    }
}

fn queues(project: &Project, key: &str) -> QueueProject {
    let clock = Arc::new(crate::supabase::project::SystemClock);
    QueueProject::new(project.stack.url(), key.to_owned().into(), PATIENCE, clock).unwrap()
}

fn spec(queue: &str) -> QueueSpec {
    QueueSpec::new(name(queue)).pause(None)
}

#[tokio::test]
async fn a1_a3_a4_a5_messages_are_sent_claimed_and_ended_over_http() {
    for (with, version) in BOTH {
        let place = Place::new(with, version).await;
        let specs = [
            spec("In-Box"),
            spec("fast").finish(Finish::Delete),
            spec("once").visibility(Duration::ZERO),
        ];
        let backend = place.backend(specs).await;
        for n in 0..5 {
            place.send("In-Box", json!({ "n": n })).await;
        }
        let first = claim(&backend, 2).await;
        let rest = claim(&backend, 9).await;
        let seen: Vec<Value> = first
            .iter()
            .chain(&rest)
            .map(|one| value(&one.task.raw_data)["n"].clone())
            .collect();
        assert_eq!(seen, [0, 1, 2, 3, 4], "{with:?} {version}");
        assert_eq!((id(&first[0]), first[0].task.attempt), (1, 1));
        assert!(claim(&backend, 9).await.is_empty());
        let settlements: Vec<_> = first
            .into_iter()
            .chain(rest)
            .map(|one| completed(one.lease.into_key()))
            .collect();
        let fences = backend.settle(&settlements).await.unwrap();
        assert_eq!(fences, [Fence::Held; 5], "{with:?} {version}");
        let left = (
            place.count("pgmq.\"q_in-box\"").await,
            place.count("pgmq.\"a_in-box\"").await,
        );
        assert_eq!(left, (0, 5));
        // Settled and claimed in one go, deleted, and popped.
        for n in 0..2 {
            place.send("fast", json!(n)).await;
        }
        let one = claim(&backend, 1).await.remove(0);
        let (fences, next) = backend
            .settle_and_claim(
                &rules("m1"),
                &[completed(one.lease.into_key())],
                &batch(&backend, 1),
            )
            .await
            .unwrap();
        assert_eq!((fences, id(&next[0])), (vec![Fence::Held], 2));
        let left = (
            place.count("pgmq.q_fast").await,
            place.count("pgmq.a_fast").await,
        );
        assert_eq!(left, (1, 0), "{with:?} {version}");
        place.send("once", json!({ "secret": true })).await;
        let popped = claim(&backend, 9).await.remove(0);
        assert_eq!(place.count("pgmq.q_once").await, 0, "{with:?} {version}");
        assert_eq!(popped.task.attempt, 1);
        let given_back = backend.release(&[popped.lease.into_key()]).await.unwrap();
        assert_eq!(given_back, [Fence::Held]);
        assert_eq!(
            place.count("pgmq.q_once").await,
            1,
            "what was popped is sent again"
        );
    }
}

#[tokio::test]
async fn a6_a14_failing_and_crashing_attempts_end_in_a_dead_letter() {
    for (with, version) in BOTH {
        let place = Place::new(with, version).await;
        // Stock functions cannot make a message visible sooner.
        let soon = spec("work")
            .visibility(with.lease())
            .max_attempts(2)
            .dead_letters(name("work-dead"))
            .retry(RetryDelay::After(Backoff {
                base: Duration::ZERO,
                cap: Duration::ZERO,
            }));
        let backend = place.backend([soon]).await;
        let odd = place.send("work", json!("not an object")).await;
        for attempt in 1..=2 {
            let one = claim_soon(&backend).await;
            assert_eq!((id(&one), one.task.attempt), (odd, attempt));
            let fences = backend
                .settle(&[failed(one.lease.into_key(), "bad \u{0} \"day\"")])
                .await
                .unwrap();
            assert_eq!(fences, [Fence::Held], "{with:?} {version}");
        }
        // One whose workers crash twice is given up before it runs again.
        let crashed = place.send("work", json!({ "a": 1 })).await;
        for attempt in 1..=2 {
            let one = claim_soon(&backend).await;
            assert_eq!((id(&one), one.task.attempt), (crashed, attempt));
        }
        eventually("the crashed message is given up", || async {
            assert!(claim(&backend, 9).await.is_empty());
            (place.count("pgmq.\"q_work-dead\"").await == 2).then_some(())
        })
        .await;
        let letters = place.letters("work-dead").await;
        let brief = |letter: &Value| {
            let of = |key: &str| letter[key].clone();
            (
                of("original_queue"),
                of("original_job_id"),
                of("attempt_count"),
                of("error_type"),
                of("job_data"),
            )
        };
        assert_eq!(
            brief(&letters[0]),
            (
                json!("work"),
                json!(odd),
                json!(2),
                json!("AgentError"),
                json!("not an object")
            )
        );
        assert_eq!(
            letters[0]["error_message"], "bad \u{fffd} \"day\"",
            "{with:?} {version}"
        );
        assert_eq!(
            brief(&letters[1]),
            (
                json!("work"),
                json!(crashed),
                json!(2),
                json!("AttemptsExhausted"),
                json!({ "a": 1 })
            )
        );
        for letter in &letters {
            let at = letter["timestamp"].as_str().unwrap();
            assert!(at.parse::<jiff::Timestamp>().is_ok(), "{at}");
            let keys = letter.as_object().unwrap().len();
            let id = letter["dead_letter_id"].as_str();
            match with {
                With::Ours => assert_eq!((keys, id), (7, None)),
                With::Stock => assert!(keys == 8 && id.unwrap().starts_with("work/"), "{letter}"),
            }
        }
        let left = (
            place.count("pgmq.q_work").await,
            place.count("pgmq.a_work").await,
        );
        assert_eq!(left, (0, 2), "{with:?} {version}");
    }
}

#[tokio::test]
async fn a3_a_lease_that_ran_out_settles_nothing() {
    for (with, version) in BOTH {
        let place = Place::new(with, version).await;
        let backend = place
            .backend([spec("jobs").visibility(Duration::from_secs(1))])
            .await;
        place.send("jobs", json!({})).await;
        let mine = claim(&backend, 1).await.remove(0).lease.into_key();
        // Somebody else reads it as soon as that is possible.
        eventually("another reader gets it", || async {
            let read = place
                .queues
                .read(&name("jobs"), Duration::from_mins(1), 1)
                .await;
            (read.unwrap().len() == 1).then_some(())
        })
        .await;
        let fences = backend.settle(&[completed(mine)]).await.unwrap();
        assert_eq!(fences, [Fence::Lost], "{with:?} {version}");
        assert_eq!(place.count("pgmq.q_jobs").await, 1, "it is the other's");
    }
}

#[tokio::test]
async fn a3_a10_leases_are_renewed_and_given_back_where_our_functions_are() {
    let place = Place::new(With::Ours, "1.5.1").await;
    let backend = place.backend([spec("jobs")]).await;
    assert!(backend.capabilities().renew && backend.capabilities().fenced_by_attempt);
    place.send("jobs", json!({})).await;
    let one = claim(&backend, 1).await.remove(0).lease.into_key();
    place
        .client
        .batch_execute("update pgmq.q_jobs set vt = now() + interval '1 second'")
        .await
        .unwrap();
    let keys = [one.clone()];
    assert_eq!(backend.renew(&keys).await.unwrap(), [Fence::Held]);
    assert_eq!(backend.mark_processing(&keys).await.unwrap(), [Fence::Held]);
    let left: bool = place
        .client
        .query_one(
            "select vt > now() + interval '4 minutes' from pgmq.q_jobs",
            &[],
        )
        .await
        .unwrap()
        .get(0);
    assert!(left, "renewed for a whole time-out");
    assert_eq!(backend.release(&keys).await.unwrap(), [Fence::Held]);
    let again = claim(&backend, 1).await.remove(0);
    assert_eq!(again.task.attempt, 1, "what did not run does not count");
    assert_eq!(
        backend.renew(&[one]).await.unwrap(),
        [Fence::Held],
        "the same attempt of the same machine"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b3_b7_sends_and_delayed_messages_wake_over_realtime() {
    for (with, version) in BOTH {
        let place = Place::new(with, version).await;
        let backend = place.backend([spec("jobs")]).await;
        let broadcast = Broadcast::default();
        super::store(&place.project.db)
            .enable_broadcast(&name("jobs"), &broadcast)
            .await
            .unwrap();
        let client = place.project.realtime();
        let source = QueueSignals::realtime(backend.clone(), RARE, client, broadcast);
        let mut signals = source.signals();
        while next(&mut signals).await != Signal::Up {}
        place.send("jobs", json!({ "n": 1 })).await;
        let one = eventually_dirty(&backend, &mut signals).await;
        assert_eq!(id(&one), 1, "{with:?} {version}");
        backend
            .settle(&[completed(one.lease.into_key())])
            .await
            .unwrap();
        let start = Instant::now();
        let store = QueueStore::of_project(place.queues.clone());
        let delay = Duration::from_secs(2);
        store
            .send(&name("jobs"), &super::json(json!({ "n": 2 })), delay)
            .await
            .unwrap();
        let one = eventually_dirty(&backend, &mut signals).await;
        assert_eq!(id(&one), 2);
        // Polling would come after ten minutes; how late it is depends on the machine.
        assert!(start.elapsed() >= Duration::from_millis(1_900));
    }
}

/// Claims when told to, until there is something.
async fn eventually_dirty(
    backend: &QueueBackend,
    signals: &mut futures_util::stream::BoxStream<'static, Signal>,
) -> rowcall_core::ports::Claimed {
    loop {
        dirty(signals).await;
        if let Some(one) = claim(backend, 1).await.pop() {
            return one;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b7_a_failed_message_wakes_at_its_time_without_realtime() {
    for (with, version) in BOTH {
        let place = Place::new(with, version).await;
        let backend = place.backend([spec("jobs").visibility(with.lease())]).await;
        place.send("jobs", json!({})).await;
        let rare = SignalOptions {
            listen: false,
            ..RARE
        };
        let mut signals = QueueSignals::new(backend.clone(), rare).signals();
        let one = eventually_dirty(&backend, &mut signals).await;
        let mut failure = failed(one.lease.into_key(), "no");
        if let rowcall_core::ports::Verdict::Failed { retry_in, .. } = &mut failure.verdict {
            *retry_in = None;
        }
        assert_eq!(backend.settle(&[failure]).await.unwrap(), [Fence::Held]);
        let again = timeout(PATIENCE, eventually_dirty(&backend, &mut signals));
        let again = again.await.expect("it comes back at its time");
        assert_eq!(again.task.attempt, 2, "{with:?} {version}");
        drop(signals.next());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a1_aimq_and_typed_workers_share_a_queue() {
    const JOBS: usize = 120;
    for (with, version) in BOTH {
        let place = Place::new(with, version).await;
        place.queue("shared").await;
        let done: Arc<Mutex<HashMap<i64, Vec<&'static str>>>> = Arc::default();
        let stop = tokio_util::sync::CancellationToken::new();
        let mut workers = Vec::new();
        for _ in 0..2 {
            let done = Arc::clone(&done);
            let worker = Worker::builder()
                .queue("shared")
                .handler(move |job: Job<Value>| {
                    let done = Arc::clone(&done);
                    async move {
                        done.lock().entry(job.id).or_default().push("ours");
                        Ok::<(), JobError>(())
                    }
                })
                .concurrency(3)
                .signals(SignalOptions {
                    poll: Duration::from_millis(100),
                    ..RARE
                })
                .open_project(place.queues.clone())
                .await
                .unwrap();
            let stop = stop.clone();
            workers.push(tokio::spawn(async move { worker.run(stop).await }));
        }
        // As AIMQ does: read one, handle it, archive it.
        for _ in 0..2 {
            let (queues, done, stop) = (place.queues.clone(), Arc::clone(&done), stop.clone());
            workers.push(tokio::spawn(async move {
                let queue = name("shared");
                while !stop.is_cancelled() {
                    let read = queues.read(&queue, Duration::from_mins(5), 1).await;
                    let Some(message) = read.unwrap().pop() else {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                        continue;
                    };
                    done.lock().entry(message.msg_id).or_default().push("aimq");
                    assert!(queues.archive(&queue, message.msg_id).await.unwrap());
                }
            }));
        }
        let messages: Vec<_> = (0..JOBS).map(|n| super::json(json!({ "n": n }))).collect();
        let sent = place
            .queues
            .send_batch(&name("shared"), &messages, Duration::ZERO)
            .await
            .unwrap();
        assert_eq!(sent.len(), JOBS);
        eventually("every job is archived", || async {
            (place.count("pgmq.a_shared").await == i64::try_from(JOBS).unwrap()).then_some(())
        })
        .await;
        stop.cancel();
        for worker in workers {
            worker.await.unwrap();
        }
        let done = std::mem::take(&mut *done.lock());
        assert_eq!(done.len(), JOBS, "{with:?} {version}");
        assert!(done.values().all(|by| by.len() == 1), "{done:?}");
        assert_eq!(place.count("pgmq.q_shared").await, 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a3_a_handler_that_takes_too_long_is_stopped_where_leases_are_not_renewed() {
    let place = Place::new(With::Stock, "1.5.1").await;
    place.queue("slow").await;
    let errors: Arc<Mutex<Vec<String>>> = Arc::default();
    let told = Arc::clone(&errors);
    let worker = Worker::builder()
        .queue("slow")
        .with(|spec| spec.visibility(Duration::from_secs(1)))
        .handler(|_: Job<Value>| async {
            std::future::pending::<()>().await;
            Ok::<(), JobError>(())
        })
        .on_error(move |failure| told.lock().push(failure.error.message.clone()))
        .open_project(place.queues.clone())
        .await
        .unwrap();
    place.send("slow", json!({})).await;
    let stop = tokio_util::sync::CancellationToken::new();
    let stopped = stop.clone();
    let running = tokio::spawn(async move { worker.run(stopped).await });
    let first = eventually("it fails", || async { errors.lock().first().cloned() }).await;
    assert!(first.contains("visibility time-out"), "{first}");
    stop.cancel();
    running.await.unwrap();
}

#[tokio::test]
async fn c10_what_is_missing_or_refused_is_said_with_what_to_do() {
    let place = Place::new(With::Stock, "1.5.1").await;
    let store = QueueStore::of_project(place.queues.clone());
    let queue = name("nope");
    let missing = place.queues.read(&queue, Duration::ZERO, 1).await;
    assert!(
        matches!(missing, Err(QueueError::Missing(_))),
        "{missing:?}"
    );
    // A missing queue counts as empty, and is read once it is there.
    let specs = vec![spec("nope")];
    let backend = QueueBackend::project(place.queues.clone(), specs, QueueOptions::default());
    let backend = backend.await.unwrap();
    assert!(claim(&backend, 1).await.is_empty());
    let unknown = place.queues.list().await.unwrap_err();
    assert!(
        unknown.to_string().contains("rowcall queue migration"),
        "{unknown}"
    );
    let unable = store.purge(&queue).await.unwrap_err();
    assert!(unable.to_string().contains("DATABASE_URL"), "{unable}");
    place.queue("nope").await;
    place.send("nope", json!({})).await;
    backend
        .maintain(&rules("m1"), &backend.selectors())
        .await
        .unwrap();
    assert_eq!(claim(&backend, 1).await.len(), 1);

    let anon = queues(&place.project, place.project.keys.anon_key());
    let denied = anon.read(&queue, Duration::ZERO, 1).await.unwrap_err();
    assert!(denied.to_string().contains("service key"), "{denied}");
    assert_eq!(denied.class(), ErrorClass::Unauthorized);
    let wrong = queues(&place.project, "eyJhbGciOiJIUzI1NiJ9.e30.bm8");
    let wrong = wrong.look().await.unwrap_err();
    assert!(wrong.to_string().contains("check SUPABASE_KEY"), "{wrong}");

    let hidden = Project::start_with("1.5.1", "", |config| {
        config.rest.schemas = vec!["public".to_owned()];
    })
    .await;
    let unexposed = queues(&hidden, hidden.keys.service_role_key());
    let unexposed = unexposed.look().await.unwrap_err();
    assert!(
        unexposed
            .to_string()
            .contains("does not expose the schema pgmq_public"),
        "{unexposed}"
    );
}

#[tokio::test]
async fn c10_our_functions_are_not_anons() {
    let place = Place::new(With::Ours, "1.13.0").await;
    for (call, body) in [
        ("rowcall_work", json!({ "steps": [] })),
        ("rowcall_claim", json!({ "claim": {} })),
        ("rowcall_due", json!({ "queue_names": [] })),
    ] {
        let anon = place.project.keys.anon_key();
        let (status, answer) = place.project.rpc(call, body.clone(), anon).await;
        assert_eq!(answer["code"], "42501", "{call} {status} {answer}");
        let service = place.project.keys.service_role_key();
        let (status, answer) = place.project.rpc(call, body, service).await;
        assert_eq!(status, 200, "{call} {answer}");
    }
}

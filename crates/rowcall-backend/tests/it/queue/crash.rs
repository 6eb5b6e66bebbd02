//! A3, B6: many consumers, some of which crash. Nothing is lost, and nothing is held twice at a time.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use rowcall_backend::queue::{QueueBackend, QueueSpec};
use rowcall_core::ports::{Coordinator as _, Fence};
use tokio::time::Instant;

use super::{backend, batch, completed, count, database, id, name, rules, send, store};

const JOBS: usize = 10_000;
const WORKERS: usize = 8;
/// Long enough that a worker on a slow machine does not lose leases it still uses, short enough to wait for.
const LEASE: Duration = Duration::from_secs(3);
/// The database's clock and ours are the same here; only scheduling lies between reading them.
const TOLERANCE: Duration = Duration::from_millis(20);

/// Who holds what, as the workers themselves saw it.
#[derive(Default)]
struct History {
    /// For each job under way: when its last lease was taken.
    held: HashMap<i64, Instant>,
    done: HashMap<i64, usize>,
    overlaps: usize,
}

impl History {
    /// `asked` is before the claim was sent: the lease began after it.
    fn claimed(&mut self, job: i64, asked: Instant, answered: Instant) {
        if let Some(before) = self.held.insert(job, asked)
            && answered + TOLERANCE < before + LEASE
        {
            self.overlaps += 1;
        }
    }

    fn settled(&mut self, job: i64) {
        self.held.remove(&job);
        *self.done.entry(job).or_default() += 1;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a3_b6_consumers_never_overlap_and_lose_nothing() {
    let db = database("1.13.0").await;
    let spec = QueueSpec::new(name("load"))
        .visibility(LEASE)
        .max_attempts(None)
        .pause(None);
    let first = backend(&db, [spec.clone()]).await;
    send(&store(&db), "load", JOBS).await;
    let history = Arc::new(Mutex::new(History::default()));
    let crashes = Arc::new(AtomicUsize::new(0));
    let mut workers = tokio::task::JoinSet::new();
    for worker in 0..WORKERS {
        let (db_url, spec) = (db.url(), spec.clone());
        let (history, crashes) = (Arc::clone(&history), Arc::clone(&crashes));
        workers.spawn(async move {
            let queue = QueueBackend::connect(&db_url, vec![spec], super::creating())
                .await
                .unwrap();
            consume(worker, &queue, &history, &crashes).await;
        });
    }
    while let Some(done) = workers.join_next().await {
        done.unwrap();
    }
    {
        let history = history.lock();
        assert_eq!(history.overlaps, 0);
        assert_eq!(history.done.len(), JOBS, "every job was done");
        assert!(
            history.done.values().all(|times| *times == 1),
            "settled once each"
        );
        assert!(crashes.load(Ordering::Relaxed) > 20);
    }
    let client = db.connect().await;
    assert_eq!(count(&client, "pgmq.q_load").await, 0);
    assert_eq!(
        usize::try_from(count(&client, "pgmq.a_load").await).unwrap(),
        JOBS
    );
    drop(first);
}

/// Claims batches of several sizes; every so often a batch is dropped as if the process had died.
async fn consume(
    worker: usize,
    queue: &QueueBackend,
    history: &Mutex<History>,
    crashes: &AtomicUsize,
) {
    let rules = rules(&format!("m{worker}"));
    let mut settlements = Vec::new();
    for turn in 0.. {
        let limit = [1, 7, 40, 100][(turn + worker) % 4];
        let asked = Instant::now();
        let ids: Vec<i64> = settlements
            .iter()
            .map(|one: &rowcall_core::ports::Settlement| queue_id(&one.lease.task.id))
            .collect();
        let (fences, claimed) = queue
            .settle_and_claim(&rules, &settlements, &batch(queue, limit))
            .await
            .unwrap();
        let answered = Instant::now();
        let finished = {
            let mut history = history.lock();
            for (job, fence) in ids.into_iter().zip(&fences) {
                if *fence == Fence::Held {
                    history.settled(job);
                }
            }
            for one in &claimed {
                history.claimed(id(one), asked, answered);
            }
            history.done.len() == JOBS
        };
        settlements.clear();
        if claimed.is_empty() {
            if finished {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        } else if (turn + worker).is_multiple_of(5) && turn < 60 {
            crashes.fetch_add(1, Ordering::Relaxed);
        } else {
            settlements.extend(
                claimed
                    .into_iter()
                    .map(|one| completed(one.lease.into_key())),
            );
        }
    }
}

fn queue_id(id: &rowcall_core::TaskId) -> i64 {
    id.to_string().parse().expect("a message id")
}

//! A5, A6, A8: how messages end, in every version.

use std::time::Duration;

use rowcall_backend::queue::{Finish, QueueBackend, QueueOptions, QueueSpec};
use rowcall_core::ports::{Coordinator as _, Fence, Settlement, Verdict};
use serde_json::json;

use super::{
    VERSIONS, backend, batch, claim, claim_soon, completed, count, database, failed, id, name,
    rules, send, store, value,
};

fn spec(queue: &str) -> QueueSpec {
    QueueSpec::new(name(queue)).pause(None)
}

#[tokio::test]
async fn a5_handled_messages_are_archived_or_gone() {
    const JOBS: usize = 10_000;
    for version in VERSIONS {
        let db = database(version).await;
        let client = db.connect().await;
        for (finish, archived) in [(Finish::Archive, JOBS), (Finish::Delete, 0)] {
            let label = format!("q{}", archived.min(1));
            let queue = backend(&db, [spec(&label).finish(finish)]).await;
            send(&store(&db), &label, JOBS).await;
            let mut settlements: Vec<Settlement> = Vec::new();
            let mut done = 0;
            loop {
                let (fences, claimed) = queue
                    .settle_and_claim(&rules("m1"), &settlements, &batch(&queue, 500))
                    .await
                    .unwrap();
                assert!(fences.iter().all(|fence| *fence == Fence::Held));
                done += fences.len();
                if claimed.is_empty() {
                    break;
                }
                settlements = claimed
                    .into_iter()
                    .map(|one| completed(one.lease.into_key()))
                    .collect();
            }
            let left = count(&client, &format!("pgmq.q_{label}")).await;
            let kept = count(&client, &format!("pgmq.a_{label}")).await;
            assert_eq!(
                (done, left, usize::try_from(kept).unwrap()),
                (JOBS, 0, archived),
                "{version} {finish:?}"
            );
        }
    }
}

#[tokio::test]
async fn a6_failing_attempts_end_in_one_dead_letter() {
    for version in VERSIONS {
        let db = database(version).await;
        let queue = backend(
            &db,
            [spec("Work").max_attempts(3).dead_letters(name("Work-Dead"))],
        )
        .await;
        let store = store(&db);
        send(&store, "Work", 2).await;
        for attempt in 1..=3 {
            let mut claimed = claim(&queue, 9).await;
            assert_eq!(claimed.len(), if attempt == 1 { 2 } else { 1 }, "{version}");
            assert_eq!(claimed[0].task.attempt, attempt);
            if attempt == 1 {
                let healthy = claimed.pop().unwrap();
                assert_eq!(
                    queue
                        .settle(&[completed(healthy.lease.into_key())])
                        .await
                        .unwrap(),
                    [Fence::Held]
                );
            }
            let lease = claimed.pop().unwrap().lease.into_key();
            assert_eq!(
                queue.settle(&[failed(lease, "it\0 broke")]).await.unwrap(),
                [Fence::Held]
            );
        }
        assert!(
            claim(&queue, 9).await.is_empty(),
            "three executions, not more"
        );
        let letters = store.peek(&name("work-dead"), 9).await.unwrap();
        assert_eq!(letters.len(), 1);
        let letter = value(&letters[0].message);
        let keys: Vec<&str> = letter
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        let mut expected = [
            "original_queue",
            "original_job_id",
            "attempt_count",
            "error_type",
            "error_message",
            "timestamp",
            "job_data",
        ];
        expected.sort_unstable_by_key(|key| (key.len(), *key));
        assert_eq!(keys, expected, "jsonb orders its keys like this");
        assert_eq!(letter["original_queue"], json!("Work"));
        assert_eq!(letter["original_job_id"], json!(1));
        assert_eq!(letter["attempt_count"], json!(3));
        assert_eq!(letter["error_message"], json!("it\u{fffd} broke"));
        assert_eq!(letter["job_data"], json!({"n": 0}));
        let at: jiff::Timestamp = letter["timestamp"].as_str().unwrap().parse().unwrap();
        assert!(at.duration_until(letters[0].enqueued_at).as_secs().abs() < 60);
        let client = db.connect().await;
        assert_eq!(count(&client, "pgmq.q_work").await, 0);
        assert_eq!(count(&client, "pgmq.a_work").await, 2);
    }
}

#[tokio::test]
async fn a6_crashing_attempts_count_too() {
    for version in VERSIONS {
        let db = database(version).await;
        let lease = Duration::from_millis(60);
        let queue = backend(
            &db,
            [spec("crash")
                .visibility(lease)
                .max_attempts(3)
                .dead_letters(name("dead"))],
        )
        .await;
        let store = store(&db);
        send(&store, "crash", 1).await;
        for attempt in 1..=3 {
            // Claimed, and never heard of again.
            assert_eq!(claim_soon(&queue).await.task.attempt, attempt);
        }
        send(&store, "crash", 1).await;
        // Looking for more work is what finds the dead one, and it does not stand in the way of the living.
        let next = super::eventually("the dead one is buried", || async {
            let claimed = claim(&queue, 1).await;
            (store.peek(&name("dead"), 1).await.unwrap().len() == 1).then_some(claimed)
        })
        .await;
        assert!(next.iter().all(|one| id(one) == 2));
        let letter = value(&store.peek(&name("dead"), 9).await.unwrap()[0].message);
        assert_eq!(
            (&letter["attempt_count"], &letter["error_type"]),
            (&json!(3), &json!("AttemptsExhausted"))
        );
        assert_eq!(count(&db.connect().await, "pgmq.a_crash").await, 1);
    }
}

/// The letter and the end of its message are one statement: when the letter cannot be written, the message stays.
#[tokio::test]
async fn a6_without_its_letter_a_message_does_not_end() {
    let db = database("1.5.1").await;
    let store = store(&db);
    let lease = Duration::from_millis(60);
    let queue = backend(
        &db,
        [spec("work")
            .visibility(lease)
            .max_attempts(1)
            .dead_letters(name("dead"))],
    )
    .await;
    send(&store, "work", 2).await;
    let client = db.connect().await;
    client
        .batch_execute(
            "create function refuse() returns trigger language plpgsql as 'begin raise exception ''full''; end'; \
             create trigger refuse before insert on pgmq.q_dead for each row execute function refuse()",
        )
        .await
        .unwrap();
    let claimed = claim(&queue, 1).await.pop().unwrap().lease.into_key();
    let refused = queue.settle(&[failed(claimed.clone(), "no")]).await;
    assert!(
        refused.is_err()
            && count(&client, "pgmq.q_work").await == 2
            && count(&client, "pgmq.a_work").await == 0
    );
    // Gone altogether: what would be given up is tried again instead, and others are still claimed.
    store.drop(&name("dead")).await.unwrap();
    let queue = QueueBackend::connect(&db.url(), queue.specs().to_vec(), QueueOptions::default())
        .await
        .unwrap();
    assert_eq!(
        queue.settle(&[failed(claimed, "no")]).await.unwrap(),
        [Fence::Held]
    );
    let again = super::eventually("both are claimed", || async {
        let claimed = claim(&queue, 9).await;
        (claimed.len() == 2).then_some(claimed)
    });
    assert_eq!(again.await.len(), 2);
}

#[tokio::test]
async fn a6_without_a_dead_letter_queue_it_is_archived_even_where_messages_are_deleted() {
    let db = database("1.4.4").await;
    let queue = backend(&db, [spec("work").max_attempts(1).finish(Finish::Delete)]).await;
    send(&store(&db), "work", 1).await;
    let lease = claim(&queue, 1).await.pop().unwrap().lease.into_key();
    queue.settle(&[failed(lease, "no")]).await.unwrap();
    assert_eq!(count(&db.connect().await, "pgmq.a_work").await, 1);
}

#[tokio::test]
async fn one_round_trip_settles_and_claims_whatever_the_verdicts() {
    for version in VERSIONS {
        let db = database(version).await;
        let queue = backend(
            &db,
            [
                spec("mix").max_attempts(2).dead_letters(name("dead")),
                spec("other"),
            ],
        )
        .await;
        let store = store(&db);
        send(&store, "mix", 3).await;
        let mut first = claim(&queue, 3).await;
        let again = first.pop().unwrap().lease.into_key();
        queue.settle(&[failed(again, "once")]).await.unwrap();
        let again = claim(&queue, 1).await.pop().unwrap();
        assert_eq!(again.task.attempt, 2);
        let (retry, done) = (first.pop().unwrap(), first.pop().unwrap());
        send(&store, "other", 1).await;
        send(&store, "mix", 1).await;
        let later = Verdict::Failed {
            error: "later".into(),
            retry_in: Some(Duration::from_mins(1)),
        };
        let settlements = [
            completed(done.lease.into_key()),
            Settlement {
                lease: retry.lease.into_key(),
                verdict: later,
            },
            failed(again.lease.into_key(), "twice"),
        ];
        let (fences, claimed) = queue
            .settle_and_claim(&rules("m1"), &settlements, &batch(&queue, 9))
            .await
            .unwrap();
        assert_eq!(fences, [Fence::Held; 3], "{version}");
        assert_eq!(claimed.len(), 2, "{version}");
        let client = db.connect().await;
        assert_eq!(count(&client, "pgmq.a_mix").await, 2, "{version}");
        assert_eq!(count(&client, "pgmq.q_dead").await, 1, "{version}");
        assert_eq!(
            count(&client, "pgmq.q_mix").await,
            2,
            "{version}: one waits, one is claimed"
        );
    }
}

//! Which messages are claimed first, and how many, in every version.

use std::collections::HashMap;

use rowcall_backend::queue::{QueueBackend, QueueError, QueueSpec, ReadOrder};
use rowcall_core::ports::{Coordinator as _, Fence};

use super::{backend, batch, claim, completed, database, id, name, rules, send, store, value};

fn spec(queue: &str) -> QueueSpec {
    QueueSpec::new(name(queue))
}

#[tokio::test]
async fn releasing_gives_back_at_once_and_does_not_count() {
    let db = database("1.5.1").await;
    let queue = backend(&db, [spec("back").max_attempts(2)]).await;
    send(&store(&db), "back", 1).await;
    for _ in 0..5 {
        let claimed = claim(&queue, 1).await.pop().unwrap();
        assert_eq!(claimed.task.attempt, 1);
        assert_eq!(
            queue.release(&[claimed.lease.into_key()]).await.unwrap(),
            [Fence::Held]
        );
    }
}

#[tokio::test]
async fn priorities_come_first_and_equals_take_turns() {
    let db = database("1.13.0").await;
    let queue = backend(
        &db,
        [
            spec("low").priority(-1),
            spec("a"),
            spec("b"),
            spec("high").priority(9),
        ],
    )
    .await;
    let store = store(&db);
    for of in ["low", "a", "b", "high"] {
        send(&store, of, 4).await;
    }
    let source = |one: &rowcall_core::ports::Claimed| one.task.source.name().to_owned();
    let first: Vec<_> = claim(&queue, 6).await.iter().map(source).collect();
    assert_eq!(first.iter().filter(|name| *name == "q_high").count(), 4);
    assert!(!first.contains(&"q_low".to_owned()), "{first:?}");
    let mut seen = HashMap::<String, usize>::new();
    for _ in 0..4 {
        for one in claim(&queue, 1).await {
            *seen.entry(source(&one)).or_default() += 1;
        }
    }
    assert!(
        seen.contains_key("q_a") && seen.contains_key("q_b"),
        "one full queue does not starve its equal: {seen:?}"
    );
    let rest = claim(&queue, 100).await;
    assert_eq!(rest.last().map(source), Some("q_low".to_owned()));
    assert_eq!(6 + 4 + rest.len(), 16);
}

#[tokio::test]
async fn a_queue_keeps_to_its_own_limit() {
    let db = database("1.5.1").await;
    let queue = backend(&db, [spec("narrow").concurrency(2), spec("wide")]).await;
    let store = store(&db);
    send(&store, "narrow", 5).await;
    send(&store, "wide", 5).await;
    let claimed = claim(&queue, 100).await;
    let (narrow, wide): (Vec<_>, Vec<_>) = claimed
        .into_iter()
        .partition(|one| one.task.source.name() == "q_narrow");
    assert_eq!((narrow.len(), wide.len()), (2, 5));
    assert!(claim(&queue, 100).await.is_empty());
    // Settling one makes room for one, in the same statement.
    let done = completed(narrow.into_iter().next().unwrap().lease.into_key());
    let (fences, next) = queue
        .settle_and_claim(&rules("m1"), &[done], &batch(&queue, 100))
        .await
        .unwrap();
    assert_eq!((fences, next.len()), (vec![Fence::Held], 1));
}

#[tokio::test]
async fn fifo_groups_keep_their_order() {
    let db = database("1.13.0").await;
    let client = db.connect().await;
    for (order, function) in [
        (ReadOrder::GroupHeads, "heads"),
        (ReadOrder::Grouped, "grouped"),
        (ReadOrder::RoundRobin, "rr"),
    ] {
        let queue = backend(&db, [spec(function).order(order)]).await;
        for n in 0..6 {
            let group = ["x", "y"][n % 2];
            client
                .execute(
                    "select pgmq.send($1::text, jsonb_build_object('n', $2::int), jsonb_build_object('x-pgmq-group', $3::text))",
                    &[&function, &i32::try_from(n).unwrap(), &group],
                )
                .await
                .unwrap();
        }
        let mut done = HashMap::<String, Vec<i64>>::new();
        while done.values().map(Vec::len).sum::<usize>() < 6 {
            let claimed = claim(&queue, 2).await;
            assert!(!claimed.is_empty(), "{order:?}");
            for one in claimed {
                let key = value(one.task.key.as_ref().unwrap());
                let group = key["headers"]["x-pgmq-group"].as_str().unwrap().to_owned();
                done.entry(group).or_default().push(id(&one));
                assert_eq!(
                    queue
                        .settle(&[completed(one.lease.into_key())])
                        .await
                        .unwrap(),
                    [Fence::Held]
                );
            }
        }
        assert_eq!(done["x"], [1, 3, 5], "{order:?}");
        assert_eq!(done["y"], [2, 4, 6], "{order:?}");
    }
}

#[tokio::test]
async fn fifo_groups_need_a_pgmq_that_has_them() {
    let db = database("1.5.1").await;
    let specs = vec![spec("ordered").order(ReadOrder::Grouped)];
    let error = QueueBackend::connect(&db.url(), specs, super::creating())
        .await
        .unwrap_err();
    assert!(matches!(error, QueueError::TooOld { .. }), "{error}");
    assert!(error.to_string().contains("1.9"));
}

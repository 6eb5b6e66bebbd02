//! A3, A4, A14, B6: claiming, in every version.

use std::{collections::HashMap, time::Duration};

use rowcall_backend::queue::{QueueBackend, QueueError, QueueOptions, QueueSpec, ReadOrder};
use rowcall_core::{
    TaskState,
    ports::{ClaimOrder, ClaimOutcome, Coordinator as _, Fence, Ineligible},
};
use tokio::time::Instant;

use super::{
    VERSIONS, backend, batch, claim, claim_soon, completed, count, database, eventually, id, json,
    name, rules, send, store, value,
};

fn spec(queue: &str) -> QueueSpec {
    QueueSpec::new(name(queue))
}

#[tokio::test]
async fn a3_a_lease_that_runs_out_is_claimed_again_at_its_time() {
    for version in VERSIONS {
        let db = database(version).await;
        let queue = backend(&db, [spec("Q-1").visibility(Duration::from_millis(700))]).await;
        send(&store(&db), "Q-1", 1).await;
        let before = Instant::now();
        let first = claim(&queue, 10).await.pop().unwrap();
        assert_eq!((first.task.attempt, first.lease.key().attempt), (1, 1));
        assert_eq!(value(&first.task.raw_data), serde_json::json!({"n": 0}));
        assert_eq!(
            value(first.task.key.as_ref().unwrap()),
            serde_json::json!({"queue": "Q-1", "msg_id": 1})
        );
        assert!(claim(&queue, 10).await.is_empty(), "one holder");
        let second = claim_soon(&queue).await;
        let waited = before.elapsed();
        assert!(
            waited >= Duration::from_millis(690),
            "{version}: after {waited:?}"
        );
        assert_eq!((second.task.attempt, second.task.retry_count), (2, 1));
        // The first holder is fenced in everything it does; the second is not.
        let stale = first.lease.key().clone();
        assert_eq!(
            queue.settle(&[completed(stale.clone())]).await.unwrap(),
            [Fence::Lost]
        );
        assert_eq!(
            queue.renew(std::slice::from_ref(&stale)).await.unwrap(),
            [Fence::Lost]
        );
        assert_eq!(
            queue
                .mark_processing(std::slice::from_ref(&stale))
                .await
                .unwrap(),
            [Fence::Lost]
        );
        assert_eq!(queue.release(&[stale]).await.unwrap(), [Fence::Lost]);
        let held = second.lease.into_key();
        assert_eq!(
            queue.renew(std::slice::from_ref(&held)).await.unwrap(),
            [Fence::Held]
        );
        assert_eq!(
            queue
                .mark_processing(std::slice::from_ref(&held))
                .await
                .unwrap(),
            [Fence::Held]
        );
        assert_eq!(
            queue.settle(&[completed(held.clone())]).await.unwrap(),
            [Fence::Held]
        );
        assert_eq!(
            queue.settle(&[completed(held)]).await.unwrap(),
            [Fence::Lost],
            "settled once"
        );
    }
}

#[tokio::test]
async fn a3_whoever_else_reads_takes_the_lease() {
    let db = database("1.5.1").await;
    let queue = backend(&db, [spec("shared")]).await;
    send(&store(&db), "shared", 1).await;
    let ours = claim(&queue, 1).await.pop().unwrap().lease.into_key();
    let client = db.connect().await;
    // AIMQ, pgmq-js: a time-out of nothing, then a read.
    client
        .batch_execute("select pgmq.set_vt('shared', 1, 0); select pgmq.read('shared', 30, 1)")
        .await
        .unwrap();
    assert_eq!(
        queue.settle(&[completed(ours)]).await.unwrap(),
        [Fence::Lost]
    );
    assert_eq!(count(&client, "pgmq.q_shared").await, 1);
}

#[tokio::test]
async fn a3_renewing_keeps_a_lease() {
    let db = database("1.13.0").await;
    let queue = backend(&db, [spec("long").visibility(Duration::from_millis(600))]).await;
    send(&store(&db), "long", 1).await;
    let lease = claim(&queue, 1).await.pop().unwrap().lease.into_key();
    let until = Instant::now() + Duration::from_millis(1_500);
    while Instant::now() < until {
        assert_eq!(
            queue.renew(std::slice::from_ref(&lease)).await.unwrap(),
            [Fence::Held]
        );
        assert!(claim(&queue, 1).await.is_empty());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(
        queue.settle(&[completed(lease)]).await.unwrap(),
        [Fence::Held]
    );
}

#[tokio::test]
async fn a4_popped_messages_are_gone_before_they_run() {
    for version in VERSIONS {
        let db = database(version).await;
        let queue = backend(&db, [spec("once").visibility(Duration::ZERO)]).await;
        send(&store(&db), "once", 3).await;
        let client = db.connect().await;
        let mut claimed = claim(&queue, 2).await;
        assert_eq!(
            claimed
                .iter()
                .map(|one| one.task.attempt)
                .collect::<Vec<_>>(),
            [1, 1]
        );
        assert_eq!(count(&client, "pgmq.q_once").await, 1);
        let (second, first) = (claimed.pop().unwrap(), claimed.pop().unwrap());
        let lease = first.lease.into_key();
        assert_eq!(
            queue.renew(std::slice::from_ref(&lease)).await.unwrap(),
            [Fence::Held]
        );
        assert_eq!(
            queue.settle(&[completed(lease)]).await.unwrap(),
            [Fence::Held]
        );
        assert_eq!(
            count(&client, "pgmq.a_once").await,
            0,
            "nothing is archived"
        );
        // Given back unrun, it is sent again, because it is nowhere else.
        let message = second.task.raw_data.clone();
        assert_eq!(
            queue.release(&[second.lease.into_key()]).await.unwrap(),
            [Fence::Held]
        );
        let rest = claim(&queue, 5).await;
        assert_eq!(rest.len(), 2);
        assert_eq!(rest[1].task.raw_data, message);
    }
}

#[tokio::test]
async fn a14_messages_that_are_no_objects_are_claimed_like_others() {
    let db = database("1.4.4").await;
    let queue = backend(&db, [spec("odd")]).await;
    let store = store(&db);
    for message in [
        serde_json::json!("x"),
        serde_json::json!([1]),
        serde_json::json!(7),
    ] {
        store
            .send(&name("odd"), &json(message), Duration::ZERO)
            .await
            .unwrap();
    }
    db.connect()
        .await
        .batch_execute("insert into pgmq.q_odd (vt, message) values (now(), null)")
        .await
        .unwrap();
    let messages: Vec<_> = claim(&queue, 9)
        .await
        .iter()
        .map(|one| value(&one.task.raw_data))
        .collect();
    assert_eq!(
        messages,
        [
            serde_json::json!("x"),
            serde_json::json!([1]),
            serde_json::json!(7),
            serde_json::Value::Null
        ]
    );
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

#[tokio::test]
async fn a_missing_queue_is_empty_until_it_is_made() {
    let db = database("1.4.4").await;
    let queue = QueueBackend::connect(&db.url(), vec![spec("later")], QueueOptions::default())
        .await
        .unwrap();
    assert!(claim(&queue, 1).await.is_empty());
    let store = store(&db);
    store
        .create(&name("later"), rowcall_backend::queue::Kind::Logged)
        .await
        .unwrap();
    send(&store, "later", 1).await;
    assert!(
        queue
            .maintain(&rules("m1"), &queue.selectors())
            .await
            .unwrap()
            .ready
    );
    assert_eq!(claim(&queue, 1).await.len(), 1);
    // And when it goes away again, that is no error either.
    store.drop(&name("later")).await.unwrap();
    assert!(claim(&queue, 1).await.is_empty());
}

#[tokio::test]
async fn one_message_can_be_claimed_by_its_name() {
    let db = database("1.5.1").await;
    let queue = backend(&db, [spec("named").max_attempts(1)]).await;
    let store = store(&db);
    send(&store, "named", 3).await;
    let delayed = store
        .send(
            &name("named"),
            &json(serde_json::json!({})),
            Duration::from_mins(1),
        )
        .await
        .unwrap();
    let named = |id: i64| rowcall_core::TaskRef {
        table: name("named").table(),
        id: id.to_string().parse().unwrap(),
    };
    let ClaimOutcome::Won(won) = queue.claim(&rules("m1"), &named(2)).await.unwrap() else {
        panic!("nobody holds it");
    };
    assert_eq!(id(&won), 2);
    assert!(matches!(
        queue.claim(&rules("m2"), &named(2)).await.unwrap(),
        ClaimOutcome::Held { by: None }
    ));
    assert!(matches!(
        queue.claim(&rules("m2"), &named(delayed)).await.unwrap(),
        ClaimOutcome::Ineligible(Ineligible::AlreadyAttempted)
    ));
    let lease = won.lease.into_key();
    let view = queue.inspect(&lease.task).await.unwrap().unwrap();
    assert_eq!(
        (view.state, view.status.as_str()),
        (Some(TaskState::Claimed), "invisible")
    );
    queue.settle(&[completed(lease)]).await.unwrap();
    assert!(matches!(
        queue.claim(&rules("m1"), &named(2)).await.unwrap(),
        ClaimOutcome::Ineligible(Ineligible::Final)
    ));
    assert!(matches!(
        queue.claim(&rules("m1"), &named(99)).await.unwrap(),
        ClaimOutcome::Gone
    ));
}

#[tokio::test]
async fn sweeps_page_through_what_is_visible_the_newest_first() {
    let db = database("1.13.0").await;
    let queue = backend(&db, [spec("one"), spec("two")]).await;
    let store = store(&db);
    for n in 0..4 {
        send(&store, if n % 2 == 0 { "one" } else { "two" }, 3).await;
    }
    store
        .send(
            &name("one"),
            &json(serde_json::json!({})),
            Duration::from_mins(1),
        )
        .await
        .unwrap();
    let (mut before, mut seen) = (None, Vec::new());
    loop {
        let page = queue
            .sweep(&queue.selectors(), before.clone(), 5)
            .await
            .unwrap();
        let Some(last) = page.last() else { break };
        before = Some((last.task.created_at, last.task.task.clone()));
        seen.extend(
            page.into_iter()
                .map(|view| (view.task.created_at, view.task.task)),
        );
    }
    assert_eq!(seen.len(), 12);
    assert!(seen.is_sorted_by(|a, b| a.0 >= b.0) && (1..12).all(|n| !seen[..n].contains(&seen[n])));
    let mut newest = batch(&queue, 1);
    newest.order = ClaimOrder::NewestFirst;
    let claimed = queue.claim_next(&rules("m1"), &newest).await.unwrap();
    assert_eq!(id(&claimed[0]), 6);
}

#[tokio::test]
async fn maintenance_says_what_is_due() {
    let db = database("1.13.0").await;
    let queue = backend(&db, [spec("due")]).await;
    let look = || async {
        queue
            .maintain(&rules("m1"), &queue.selectors())
            .await
            .unwrap()
    };
    let idle = look().await;
    assert_eq!((idle.ready, idle.next_retry), (false, None));
    store(&db)
        .send(
            &name("due"),
            &json(serde_json::json!({})),
            Duration::from_secs(1),
        )
        .await
        .unwrap();
    let later = look().await;
    assert!(
        !later.ready
            && later
                .next_retry
                .is_some_and(|next| next <= Duration::from_secs(1)),
        "{later:?}"
    );
    eventually("it is due", || async { look().await.ready.then_some(()) }).await;
}

//! A3, A4, A14, B6: claiming, in every version.

use std::time::Duration;

use rowcall_backend::queue::QueueSpec;
use rowcall_core::ports::{Coordinator as _, Fence};
use tokio::time::Instant;

use super::{
    VERSIONS, backend, claim, claim_soon, completed, count, database, json, name, send, store,
    value,
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

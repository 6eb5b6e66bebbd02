//! A8: when failed messages come back, in every version.

use std::time::Duration;

use rowcall_backend::queue::{QueueSpec, RetryDelay};
use rowcall_core::{
    Backoff,
    ports::{Coordinator as _, Settlement, Verdict},
};

use super::{backend, claim, database, failed, id, name, rules, send, store};

fn spec(queue: &str) -> QueueSpec {
    QueueSpec::new(name(queue)).pause(None)
}

#[tokio::test]
async fn failed_messages_come_back_when_they_should() {
    let db = database("1.13.0").await;
    let backoff = Backoff {
        base: Duration::from_secs(30),
        cap: Duration::from_mins(10),
    };
    let queue = backend(
        &db,
        [
            spec("soon"),
            spec("later").retry(RetryDelay::After(backoff)),
        ],
    )
    .await;
    let (store, client) = (store(&db), db.connect().await);
    send(&store, "soon", 2).await;
    send(&store, "later", 1).await;
    for one in claim(&queue, 9).await {
        let given = (id(&one) == 2).then_some(Duration::from_secs(77));
        let verdict = Verdict::Failed {
            error: "no".into(),
            retry_in: given,
        };
        queue
            .settle(&[Settlement {
                lease: one.lease.into_key(),
                verdict,
            }])
            .await
            .unwrap();
    }
    let hidden = |table: &'static str| {
        let client = &client;
        async move {
            let sql = format!(
                "select round(extract(epoch from vt - clock_timestamp()))::int from pgmq.{table} order by msg_id"
            );
            let rows = client.query(&sql, &[]).await.unwrap();
            rows.iter()
                .map(|row| row.get::<_, i32>(0))
                .collect::<Vec<_>>()
        }
    };
    let soon = hidden("q_soon").await;
    assert!(
        (280..=300).contains(&soon[0]),
        "at the end of its lease: {soon:?}"
    );
    assert!(
        (70..=77).contains(&soon[1]),
        "when the verdict says: {soon:?}"
    );
    let later = hidden("q_later").await;
    assert!(
        (25..=30).contains(&later[0]),
        "after the queue's delay: {later:?}"
    );
}

#[tokio::test]
async fn a8_a_failing_queue_pauses_alone() {
    let db = database("1.5.1").await;
    let pause = Backoff {
        base: Duration::from_secs(10),
        cap: Duration::from_mins(5),
    };
    let queue = backend(
        &db,
        [
            spec("broken").pause(pause).max_attempts(None),
            spec("healthy").pause(pause),
        ],
    )
    .await;
    let store = store(&db);
    send(&store, "broken", 5).await;
    for _ in 0..2 {
        let lease = claim(&queue, 1).await.pop().unwrap().lease.into_key();
        queue.settle(&[failed(lease, "down")]).await.unwrap();
    }
    send(&store, "healthy", 1).await;
    let claimed = claim(&queue, 9).await;
    assert_eq!(claimed.len(), 1, "the broken queue pauses");
    assert_eq!(claimed[0].task.source.name(), "q_healthy");
    let due = queue
        .maintain(&rules("m1"), &queue.selectors())
        .await
        .unwrap();
    assert!(
        !due.ready
            && due
                .next_retry
                .is_some_and(|next| next > Duration::from_secs(10)),
        "{due:?}"
    );
}

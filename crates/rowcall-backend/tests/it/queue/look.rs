//! What sweeps and people see and do, in every version.

use std::time::Duration;

use rowcall_backend::queue::{QueueBackend, QueueOptions, QueueSpec};
use rowcall_core::{
    TaskState,
    ports::{
        AdminOutcome, ClaimOrder, ClaimOutcome, Coordinator as _, Fence, Ineligible, TaskAdmin,
        TaskQuery,
    },
};

use super::{
    backend, batch, claim, completed, database, eventually, id, json, name, rules, send, store,
};

fn spec(queue: &str) -> QueueSpec {
    QueueSpec::new(name(queue))
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

#[tokio::test]
async fn people_can_retry_release_and_cancel() {
    let db = database("1.13.0").await;
    let queue = backend(&db, [spec("desk").max_attempts(1)]).await;
    send(&store(&db), "desk", 2).await;
    let mut claimed = claim(&queue, 2).await;
    let (second, first) = (
        claimed.pop().unwrap().lease.into_key(),
        claimed.pop().unwrap().lease.into_key(),
    );
    let query = TaskQuery {
        limit: 10,
        ..TaskQuery::default()
    };
    let views = TaskAdmin::list(&queue, &query, &rules("m1").retry)
        .await
        .unwrap();
    assert!(
        views.len() == 2
            && views
                .iter()
                .all(|view| view.state == Some(TaskState::Claimed) && view.needs_attention)
    );
    // A retry by a person gives all attempts back.
    assert_eq!(queue.retry(&first.task).await.unwrap(), AdminOutcome::Done);
    assert_eq!(claim(&queue, 9).await[0].task.attempt, 1);
    assert_eq!(
        TaskAdmin::release(&queue, &second.task).await.unwrap(),
        AdminOutcome::Done
    );
    assert_eq!(
        queue.settle(&[completed(second.clone())]).await.unwrap(),
        [Fence::Lost]
    );
    assert_eq!(
        TaskAdmin::cancel(&queue, &second.task, "no").await.unwrap(),
        AdminOutcome::Done
    );
    assert_eq!(
        TaskAdmin::cancel(&queue, &second.task, "no").await.unwrap(),
        AdminOutcome::NotApplicable(TaskState::Completed)
    );
}

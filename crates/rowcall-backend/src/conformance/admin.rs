//! What people do.

use rowcall_core::{
    RetryPolicy, TaskState,
    ports::{AdminOutcome, Fence, TaskQuery},
};

use super::{
    Fixture, batch, claim_next, completed, failed, json, numbered, read, refs, rules, settle_one,
    win,
};
use crate::memory::NewTask;

/// A retried task starts a new life: nobody tried it, anybody may.
pub async fn retrying_forgets_the_past(fixture: &dyn Fixture) {
    let Some(admin) = fixture.admin() else { return };
    let task = fixture.insert(numbered(1)).await;
    for name in ["m1", "m2", "m3"] {
        let lease = win(fixture, &rules(name), &task).await.lease.into_key();
        settle_one(fixture, failed(&lease, None)).await;
    }
    assert_eq!(admin.retry(&task).await.expect("works"), AdminOutcome::Done);
    let view = read(fixture, &task).await;
    assert_eq!(
        (view.state, view.needs_attention),
        (Some(TaskState::Pending), false)
    );
    assert_eq!(
        (view.task.retry_count, view.task.attempted_by.len()),
        (0, 0)
    );
    let claimed = claim_next(fixture, &rules("m1"), &batch(5)).await;
    assert_eq!(
        (refs(&claimed), claimed[0].task.attempt),
        (vec![task.clone()], 4)
    );
    assert_eq!(
        admin.cancel(&task, "wrong").await.expect("works"),
        AdminOutcome::Done
    );
    assert_eq!(
        admin.retry(&task).await.expect("works"),
        AdminOutcome::Done,
        "out of canceled"
    );
    assert_eq!(read(fixture, &task).await.state, Some(TaskState::Pending));
}

/// A released holder is fenced.
pub async fn releasing_fences_the_holder(fixture: &dyn Fixture) {
    let Some(admin) = fixture.admin() else { return };
    let task = fixture.insert(numbered(1)).await;
    let lease = win(fixture, &rules("m1"), &task).await.lease.into_key();
    assert_eq!(
        admin.release(&task).await.expect("works"),
        AdminOutcome::Done
    );
    assert_eq!(settle_one(fixture, completed(&lease)).await, Fence::Lost);
    assert_eq!(claim_next(fixture, &rules("m2"), &batch(5)).await.len(), 1);
}

/// A canceled task is nobody's, whoever held it.
pub async fn canceling_fences_the_holder(fixture: &dyn Fixture) {
    let Some(admin) = fixture.admin() else { return };
    for leased in [false, true] {
        let task = fixture.insert(numbered(1)).await;
        let lease = if leased {
            Some(win(fixture, &rules("m1"), &task).await.lease.into_key())
        } else {
            None
        };
        assert_eq!(
            admin.cancel(&task, "changed my mind").await.expect("works"),
            AdminOutcome::Done
        );
        if let Some(lease) = lease {
            let renewed = fixture.coordinator().renew(&[lease]).await;
            assert_eq!(renewed.expect("works"), [Fence::Lost]);
        }
        let view = read(fixture, &task).await;
        assert_eq!(
            (view.state, view.locked_by),
            (Some(TaskState::Canceled), None)
        );
        assert_eq!(view.error_message.as_deref(), Some("changed my mind"));
    }
    assert!(
        claim_next(fixture, &rules("m2"), &batch(5))
            .await
            .is_empty()
    );
}

/// Completed is completed, and what makes no sense says why.
pub async fn what_makes_no_sense_is_refused(fixture: &dyn Fixture) {
    let Some(admin) = fixture.admin() else { return };
    let task = fixture.insert(numbered(1)).await;
    let refused = AdminOutcome::NotApplicable;
    assert_eq!(
        admin.retry(&task).await.expect("works"),
        refused(TaskState::Pending)
    );
    assert_eq!(
        admin.release(&task).await.expect("works"),
        refused(TaskState::Pending)
    );
    let lease = win(fixture, &rules("m1"), &task).await.lease.into_key();
    assert_eq!(
        admin.retry(&task).await.expect("works"),
        refused(TaskState::Claimed)
    );
    settle_one(fixture, completed(&lease)).await;
    let before = read(fixture, &task).await;
    for outcome in [
        admin.retry(&task).await,
        admin.release(&task).await,
        admin.cancel(&task, "x").await,
    ] {
        assert_eq!(outcome.expect("works"), refused(TaskState::Completed));
    }
    assert_eq!(read(fixture, &task).await, before);
    let unknown = rowcall_core::TaskRef {
        id: uuid::Uuid::from_u128(u128::MAX).into(),
        ..task
    };
    assert_eq!(
        admin.cancel(&unknown, "x").await.expect("works"),
        AdminOutcome::NotFound
    );
}

/// Lists by state, source and need, the newest first, in pages.
pub async fn lists_what_is_asked(fixture: &dyn Fixture) {
    let Some(admin) = fixture.admin() else { return };
    let orders: rowcall_core::TableName = "shop.orders".parse().expect("a table");
    let first = fixture
        .insert(NewTask::captured(orders.clone(), json("{\"n\": 1}")))
        .await;
    let second = fixture.insert(numbered(2)).await;
    let third = fixture.insert(numbered(3)).await;
    let lease = win(fixture, &rules("m1"), &second).await.lease.into_key();
    settle_one(fixture, failed(&lease, None)).await;
    let strict = RetryPolicy {
        max_attempts: 1,
        ..RetryPolicy::default()
    };
    let ask = async |query: TaskQuery| {
        let limit = if query.limit == 0 { 50 } else { query.limit };
        let views = admin
            .list(&TaskQuery { limit, ..query }, &strict)
            .await
            .expect("works");
        views
            .into_iter()
            .map(|view| view.task.task)
            .collect::<Vec<_>>()
    };
    let all = TaskQuery::default;
    assert_eq!(
        ask(all()).await,
        [third.clone(), second.clone(), first.clone()]
    );
    let page = TaskQuery {
        limit: 1,
        offset: 1,
        ..all()
    };
    assert_eq!(ask(page).await, std::slice::from_ref(&second));
    let states = vec![TaskState::Failed, TaskState::Completed];
    assert_eq!(
        ask(TaskQuery { states, ..all() }).await,
        std::slice::from_ref(&second)
    );
    let source = Some(orders);
    assert_eq!(ask(TaskQuery { source, ..all() }).await, [first]);
    let event = Some(rowcall_core::EventKind::Delete);
    assert!(ask(TaskQuery { event, ..all() }).await.is_empty());
    assert_eq!(
        ask(TaskQuery {
            needs_attention: true,
            ..all()
        })
        .await,
        [second]
    );
}

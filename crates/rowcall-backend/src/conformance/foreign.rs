//! Rows that other clients of the protocol wrote or changed.

use std::time::Duration;

use rowcall_core::{
    TaskState,
    ports::{ClaimOutcome, Fence, Ineligible},
};

use super::{
    Fixture, batch, claim, claim_next, completed, failed, machine, numbered, read, refs, rules,
    settle_one, win,
};

/// Null status is pending, null machines are none, a null count is zero.
pub async fn nulls_are_what_they_mean(fixture: &dyn Fixture) {
    let task = fixture.insert(numbered(1)).await;
    fixture.set_nulls(&task).await;
    assert_eq!(read(fixture, &task).await.state, Some(TaskState::Pending));
    let claimed = claim_next(fixture, &rules("m1"), &batch(5)).await;
    assert_eq!(refs(&claimed), std::slice::from_ref(&task));
    assert_eq!(
        settle_one(fixture, failed(claimed[0].lease.key(), None)).await,
        Fence::Held
    );
    let view = read(fixture, &task).await;
    assert_eq!(
        (view.task.retry_count, &view.task.attempted_by[..]),
        (1, &[machine("m1")][..])
    );
    let other = fixture.insert(numbered(2)).await;
    fixture.set_nulls(&other).await;
    assert_eq!(win(fixture, &rules("m1"), &other).await.task.retry_count, 0);
}

/// A status that is nobody's word here is not touched.
pub async fn unknown_words_are_left_alone(fixture: &dyn Fixture) {
    let task = fixture.insert(numbered(1)).await;
    fixture.set_status(&task, Some("rejected")).await;
    let outcome = claim(fixture, &rules("m1"), &task).await;
    assert!(
        matches!(outcome, ClaimOutcome::Ineligible(Ineligible::UnknownState)),
        "{outcome:?}"
    );
    assert!(
        claim_next(fixture, &rules("m1"), &batch(5))
            .await
            .is_empty()
    );
    let view = read(fixture, &task).await;
    assert_eq!((view.state, view.status.as_str()), (None, "rejected"));
}

/// A foreign client may complete our task: its functions do not check. Then we write nothing more.
pub async fn a_foreign_completion_fences_us(fixture: &dyn Fixture) {
    let task = fixture.insert(numbered(1)).await;
    let lease = win(fixture, &rules("m1"), &task).await.lease.into_key();
    fixture.set_status(&task, Some("completed")).await;
    assert_eq!(settle_one(fixture, failed(&lease, None)).await, Fence::Lost);
    let renewed = fixture.coordinator().renew(&[lease]).await;
    assert_eq!(renewed.expect("renewing works"), [Fence::Lost]);
    assert_eq!(read(fixture, &task).await.state, Some(TaskState::Completed));
}

/// A lock without a time is infinitely old.
pub async fn a_lock_without_time_is_stale(fixture: &dyn Fixture) {
    let task = fixture.insert(numbered(1)).await;
    fixture.set_status(&task, Some("claimed")).await;
    fixture.set_lock(&task, Some("desktop"), None).await;
    let lease = win(fixture, &rules("m1"), &task).await.lease.into_key();
    fixture
        .set_lock(&task, Some("desktop"), Some(Duration::ZERO))
        .await;
    assert_eq!(
        settle_one(fixture, completed(&lease)).await,
        Fence::Lost,
        "the desktop holds it now"
    );
}

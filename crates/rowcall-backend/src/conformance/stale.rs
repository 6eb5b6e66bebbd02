//! Leases that expired.

use rowcall_core::{
    TaskState,
    ports::{ClaimOutcome, Fence},
};

use super::{
    FRESH, Fixture, STALE, claim, completed, machine, numbered, read, rules, selector, settle_one,
    win,
};

/// A lease counts until the last second.
pub async fn a_fresh_lease_is_held(fixture: &dyn Fixture) {
    let task = fixture.insert(numbered(1)).await;
    let _claimed = win(fixture, &rules("m1"), &task).await;
    fixture.age(&task, FRESH).await;
    let other = claim(fixture, &rules("m2"), &task).await;
    assert!(matches!(other, ClaimOutcome::Held { .. }), "{other:?}");
}

/// An expired lease is up for a claim by name.
pub async fn a_stale_lease_is_claimed(fixture: &dyn Fixture) {
    let task = fixture.insert(numbered(1)).await;
    let _claimed = win(fixture, &rules("m1"), &task).await;
    fixture.age(&task, STALE).await;
    let second = win(fixture, &rules("m2"), &task).await;
    assert_eq!(second.task.attempt, 2);
    assert_eq!(read(fixture, &task).await.locked_by, Some(machine("m2")));
}

/// A machine that slept through its lease writes nothing over the new holder.
pub async fn a_zombie_is_fenced(fixture: &dyn Fixture) {
    let task = fixture.insert(numbered(1)).await;
    let zombie = win(fixture, &rules("m1"), &task).await.lease.into_key();
    fixture.age(&task, STALE).await;
    let holder = win(fixture, &rules("m2"), &task).await.lease.into_key();
    assert_eq!(settle_one(fixture, completed(&zombie)).await, Fence::Lost);
    let coordinator = fixture.coordinator();
    assert_eq!(
        coordinator
            .renew(std::slice::from_ref(&zombie))
            .await
            .expect("works"),
        [Fence::Lost]
    );
    assert_eq!(
        coordinator.release(&[zombie]).await.expect("works"),
        [Fence::Lost]
    );
    let view = read(fixture, &task).await;
    assert_eq!(
        (view.state, view.locked_by),
        (Some(TaskState::Claimed), Some(machine("m2")))
    );
    assert_eq!(settle_one(fixture, completed(&holder)).await, Fence::Held);
}

/// Regular maintenance returns expired leases of every table to pending, and fences their holders.
pub async fn recovery_returns_stale_leases(fixture: &dyn Fixture) {
    let (first, second) = (
        fixture.insert(numbered(1)).await,
        fixture.insert(numbered(2)).await,
    );
    let zombie = win(fixture, &rules("m1"), &first).await.lease.into_key();
    let running = win(fixture, &rules("m1"), &second).await.lease.into_key();
    let marked = fixture.coordinator().mark_processing(&[running]).await;
    assert_eq!(marked.expect("works"), [Fence::Held]);
    for task in [&first, &second] {
        fixture.age(task, STALE).await;
    }
    let selectors = [selector("public.rtx_activities", None)];
    let found = fixture
        .coordinator()
        .maintain(&rules("m2"), &selectors)
        .await
        .expect("works");
    let mut recovered = found.recovered;
    recovered.sort();
    let mut expected = vec![first.clone(), second.clone()];
    expected.sort();
    assert_eq!(recovered, expected);
    assert!(found.ready, "what was recovered can be claimed");
    let view = read(fixture, &first).await;
    assert_eq!(
        (view.state, view.locked_by, view.task.retry_count),
        (Some(TaskState::Pending), None, 0)
    );
    assert_eq!(settle_one(fixture, completed(&zombie)).await, Fence::Lost);
    assert_eq!(win(fixture, &rules("m2"), &first).await.task.attempt, 2);
}

/// Maintenance leaves living leases alone, and says that there is nothing to do.
pub async fn recovery_leaves_fresh_leases(fixture: &dyn Fixture) {
    let task = fixture.insert(numbered(1)).await;
    let lease = win(fixture, &rules("m1"), &task).await.lease.into_key();
    fixture.age(&task, FRESH).await;
    let selectors = [selector("public.rtx_activities", None)];
    let found = fixture
        .coordinator()
        .maintain(&rules("m2"), &selectors)
        .await
        .expect("works");
    assert_eq!(found, rowcall_core::ports::Maintenance::default());
    assert_eq!(settle_one(fixture, completed(&lease)).await, Fence::Held);
}

/// The holder itself may take its stale lease again, as another attempt.
pub async fn a_holder_takes_its_own_stale_lease(fixture: &dyn Fixture) {
    let task = fixture.insert(numbered(1)).await;
    let old = win(fixture, &rules("m1"), &task).await.lease.into_key();
    fixture.age(&task, STALE).await;
    let new = win(fixture, &rules("m1"), &task).await.lease.into_key();
    assert_eq!((old.attempt, new.attempt), (1, 2));
    assert_eq!(settle_one(fixture, completed(&old)).await, Fence::Lost);
    assert_eq!(settle_one(fixture, completed(&new)).await, Fence::Held);
}

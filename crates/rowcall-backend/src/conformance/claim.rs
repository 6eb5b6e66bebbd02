//! Claims of one named task.

use rowcall_core::{
    EventKind, TaskId, TaskRef, TaskState,
    ports::{ClaimOutcome, Ineligible},
};

use super::{
    Fixture, activities, canceled, claim, completed, json, machine, numbered, read, rules,
    settle_one, win,
};
use crate::memory::NewTask;

/// A claim leases the task to the machine.
pub async fn claiming_leases_a_task(fixture: &dyn Fixture) {
    let task = fixture.insert(numbered(1)).await;
    let before = read(fixture, &task).await;
    assert_eq!(
        (before.state, before.task.attempt),
        (Some(TaskState::Pending), 0)
    );
    let claimed = win(fixture, &rules("m1"), &task).await;
    let key = claimed.lease.key();
    assert_eq!(
        (&key.task, &key.machine, key.attempt),
        (&task, &machine("m1"), 1)
    );
    let view = read(fixture, &task).await;
    assert_eq!(view.state, Some(TaskState::Claimed));
    assert_eq!(view.locked_by, Some(machine("m1")));
    assert!(view.locked_at.is_some() && view.completed_at.is_none());
}

/// Losing is an outcome that says who holds the task, also for the holder itself.
pub async fn losing_names_the_holder(fixture: &dyn Fixture) {
    let task = fixture.insert(numbered(1)).await;
    let _claimed = win(fixture, &rules("m1"), &task).await;
    for name in ["m1", "m2"] {
        match claim(fixture, &rules(name), &task).await {
            ClaimOutcome::Held { by } => assert_eq!(by, Some(machine("m1"))),
            other => panic!("held by m1, but {other:?}"),
        }
    }
}

/// Completed and canceled tasks are final.
pub async fn final_tasks_are_not_claimed(fixture: &dyn Fixture) {
    for settlement in [completed, canceled] {
        let task = fixture.insert(numbered(1)).await;
        let claimed = win(fixture, &rules("m1"), &task).await;
        settle_one(fixture, settlement(claimed.lease.key())).await;
        let again = claim(fixture, &rules("m2"), &task).await;
        assert!(
            matches!(again, ClaimOutcome::Ineligible(Ineligible::Final)),
            "{again:?}"
        );
    }
}

/// What does not exist is gone, whatever its id looks like.
pub async fn unknown_tasks_are_gone(fixture: &dyn Fixture) {
    let present = fixture.insert(numbered(1)).await;
    let unknown = TaskId::Uuid(uuid::Uuid::from_u128(u128::MAX));
    let odd: TaskId = "not-a-uuid".parse().expect("a key");
    for (table, id) in [
        (activities(), unknown),
        (activities(), odd),
        ("shop.orders".parse().expect("a table"), present.id.clone()),
    ] {
        let task = TaskRef { table, id };
        assert!(
            matches!(
                claim(fixture, &rules("m1"), &task).await,
                ClaimOutcome::Gone
            ),
            "{task}"
        );
        assert!(
            fixture
                .coordinator()
                .inspect(&task)
                .await
                .expect("inspecting works")
                .is_none()
        );
    }
}

/// Each claim is another attempt, so that an older lease of the same machine is fenced.
pub async fn attempts_count_claims(fixture: &dyn Fixture) {
    let task = fixture.insert(numbered(1)).await;
    for attempt in 1..=3 {
        let claimed = win(fixture, &rules("m1"), &task).await;
        assert_eq!(
            (claimed.task.attempt, claimed.lease.key().attempt),
            (attempt, attempt)
        );
        let released = fixture
            .coordinator()
            .release(&[claimed.lease.into_key()])
            .await;
        assert_eq!(
            released.expect("releasing works"),
            [rowcall_core::ports::Fence::Held]
        );
    }
}

/// The agent gets what was captured, byte for byte where it is JSON.
pub async fn a_claim_carries_the_task(fixture: &dyn Fixture) {
    let new = NewTask {
        source: "shop.Orders".parse().expect("a table"),
        event: EventKind::Update,
        key: Some(json("{\"id\": 9007199254740993}")),
        raw_data: json("{\"note\": \"ä \\\"quoted\\\"\", \"amount\": 0.10000000000000000001}"),
        old_data: Some(json("{\"note\": null}")),
    };
    let task = fixture.insert(new.clone()).await;
    let claimed = win(fixture, &rules("m1"), &task).await.task;
    assert_eq!((&claimed.source, claimed.event), (&new.source, new.event));
    assert_eq!(claimed.key, new.key);
    assert_eq!(claimed.raw_data, new.raw_data);
    assert_eq!(claimed.old_data, new.old_data);
    assert_eq!((claimed.retry_count, claimed.attempted_by.len()), (0, 0));
    assert_eq!(
        read(fixture, &task).await.task.created_at,
        claimed.created_at
    );
}

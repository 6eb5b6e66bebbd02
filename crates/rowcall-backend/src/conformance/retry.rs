//! What happens after a failed attempt.

use std::time::Duration;

use rowcall_core::{
    TaskRef, TaskState,
    ports::{ClaimOutcome, ClaimRules, Ineligible},
};

use super::{
    Fixture, STALE, batch, claim, claim_next, completed, failed, machine, numbered, read, refs,
    retryable, rules, same_machine, selector, settle_one, win,
};

const DELAY: Duration = Duration::from_mins(1);

async fn fail_by(
    fixture: &dyn Fixture,
    rules: &ClaimRules,
    task: &TaskRef,
    retry_in: Option<Duration>,
) {
    let lease = win(fixture, rules, task).await.lease.into_key();
    settle_one(fixture, failed(&lease, retry_in)).await;
}

/// A failed task is another machine's next task.
pub async fn another_machine_tries_again(fixture: &dyn Fixture) {
    let task = fixture.insert(numbered(1)).await;
    fail_by(fixture, &rules("m1"), &task, None).await;
    let second = claim_next(fixture, &rules("m2"), &retryable(5)).await;
    assert_eq!(refs(&second), std::slice::from_ref(&task));
    assert_eq!((second[0].task.attempt, second[0].task.retry_count), (2, 1));
    assert_eq!(second[0].task.attempted_by, [machine("m1")]);
    settle_one(fixture, completed(second[0].lease.key())).await;
    let view = read(fixture, &task).await;
    assert_eq!(view.state, Some(TaskState::Completed));
    assert_eq!(
        view.error_message.as_deref(),
        Some("it broke"),
        "the last error stays visible"
    );
}

/// As published: the machine that failed a task does not get it again, also when it is pending once more.
pub async fn the_same_machine_does_not(fixture: &dyn Fixture) {
    let task = fixture.insert(numbered(1)).await;
    fail_by(fixture, &rules("m1"), &task, Some(Duration::ZERO)).await;
    for _ in 0..2 {
        let again = claim(fixture, &rules("m1"), &task).await;
        assert!(
            matches!(
                again,
                ClaimOutcome::Ineligible(Ineligible::AlreadyAttempted)
            ),
            "{again:?}"
        );
        assert!(
            claim_next(fixture, &rules("m1"), &retryable(5))
                .await
                .is_empty()
        );
        fixture.set_status(&task, Some("pending")).await;
    }
    assert!(
        claim_next(fixture, &rules("m1"), &batch(5))
            .await
            .is_empty()
    );
}

/// With the policy on, the same machine tries again after its delay and not before; other machines need not wait.
pub async fn the_same_machine_waits_its_turn(fixture: &dyn Fixture) {
    let task = fixture.insert(numbered(1)).await;
    let rules = same_machine("m1");
    fail_by(fixture, &rules, &task, Some(DELAY)).await;
    let early = claim(fixture, &rules, &task).await;
    assert!(
        matches!(
            early,
            ClaimOutcome::Ineligible(Ineligible::AlreadyAttempted)
        ),
        "{early:?}"
    );
    assert!(claim_next(fixture, &rules, &retryable(5)).await.is_empty());
    fixture.age(&task, DELAY).await;
    let due = claim_next(fixture, &rules, &retryable(5)).await;
    assert_eq!(refs(&due), std::slice::from_ref(&task));
    settle_one(fixture, failed(due[0].lease.key(), Some(DELAY))).await;
    assert_eq!(
        win(fixture, &self::rules("m2"), &task).await.task.attempt,
        3
    );
}

/// At the limit nobody claims the task any more: a person must look.
pub async fn the_limit_needs_attention(fixture: &dyn Fixture) {
    let task = fixture.insert(numbered(1)).await;
    for name in ["m1", "m2", "m3"] {
        assert!(!read(fixture, &task).await.needs_attention);
        fail_by(fixture, &rules(name), &task, None).await;
    }
    assert!(read(fixture, &task).await.needs_attention);
    let fourth = claim(fixture, &rules("m4"), &task).await;
    assert!(
        matches!(fourth, ClaimOutcome::Ineligible(Ineligible::NeedsAttention)),
        "{fourth:?}"
    );
    assert!(
        claim_next(fixture, &rules("m4"), &retryable(5))
            .await
            .is_empty()
    );
    let found = fixture
        .coordinator()
        .maintain(
            &same_machine("m3"),
            &[selector("public.rtx_activities", None)],
        )
        .await
        .expect("works");
    assert!(!found.ready && found.next_retry.is_none());
}

/// Maintenance says how long until this machine may try again, and only this machine's delays count.
pub async fn the_next_retry_is_known(fixture: &dyn Fixture) {
    let rules = same_machine("m1");
    let selectors = [selector("public.rtx_activities", None)];
    for delay in [3 * DELAY, DELAY, 2 * DELAY] {
        let task = fixture.insert(numbered(1)).await;
        fail_by(fixture, &rules, &task, Some(delay)).await;
    }
    let coordinator = fixture.coordinator();
    let found = coordinator
        .maintain(&rules, &selectors)
        .await
        .expect("works");
    let next = found.next_retry.expect("a delay is running");
    assert!(!found.ready);
    assert!(next <= DELAY && next > DELAY / 2, "{next:?}");
    let other = coordinator
        .maintain(&same_machine("m2"), &selectors)
        .await
        .expect("works");
    assert_eq!((other.ready, other.next_retry), (true, None));
    let published = coordinator
        .maintain(&self::rules("m1"), &selectors)
        .await
        .expect("works");
    assert_eq!((published.ready, published.next_retry), (false, None));
}

/// Recovery forgets the lock, not who failed.
pub async fn a_recovered_task_keeps_its_history(fixture: &dyn Fixture) {
    let task = fixture.insert(numbered(1)).await;
    fail_by(fixture, &rules("m1"), &task, None).await;
    let _claimed = win(fixture, &rules("m2"), &task).await;
    fixture.age(&task, STALE).await;
    let selectors = [selector("public.rtx_activities", None)];
    let found = fixture
        .coordinator()
        .maintain(&rules("m1"), &selectors)
        .await
        .expect("works");
    assert_eq!(found.recovered, std::slice::from_ref(&task));
    assert!(!found.ready, "m1 failed it before");
    let view = read(fixture, &task).await;
    assert_eq!(
        (view.task.retry_count, &view.task.attempted_by[..]),
        (1, &[machine("m1")][..])
    );
    assert!(
        claim_next(fixture, &rules("m1"), &batch(5))
            .await
            .is_empty()
    );
    assert_eq!(claim_next(fixture, &rules("m3"), &batch(5)).await.len(), 1);
}

/// A machine that fails twice is listed once and counted twice.
pub async fn machines_are_listed_once(fixture: &dyn Fixture) {
    let task = fixture.insert(numbered(1)).await;
    let rules = same_machine("m1");
    for _ in 0..2 {
        fail_by(fixture, &rules, &task, None).await;
    }
    let view = read(fixture, &task).await;
    assert_eq!(
        (view.task.retry_count, &view.task.attempted_by[..]),
        (2, &[machine("m1")][..])
    );
}

/// `ready` is exactly whether a claim would find something.
pub async fn ready_says_what_a_claim_would_find(fixture: &dyn Fixture) {
    let coordinator = fixture.coordinator();
    let selectors = [selector("shop.orders", Some("n=gt.1"))];
    let ready = async |name: &str| {
        coordinator
            .maintain(&rules(name), &selectors)
            .await
            .expect("works")
            .ready
    };
    assert!(!ready("m1").await, "nothing there");
    fixture.insert(numbered(5)).await;
    let order = |row: &str| {
        crate::memory::NewTask::captured("shop.orders".parse().expect("a table"), super::json(row))
    };
    fixture.insert(order("{\"n\": 1}")).await;
    assert!(!ready("m1").await, "nothing selected");
    let task = fixture.insert(order("{\"n\": 2}")).await;
    assert!(ready("m1").await, "pending");
    let lease = win(fixture, &rules("m1"), &task).await.lease.into_key();
    assert!(!ready("m1").await, "leased");
    settle_one(fixture, failed(&lease, None)).await;
    assert!(!ready("m1").await, "failed by this machine");
    assert!(ready("m2").await, "failed by another");
}

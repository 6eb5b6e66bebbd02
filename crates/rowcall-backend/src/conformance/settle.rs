//! Renewals, releases and settlements, and the fence before them.

use std::time::Duration;

use rowcall_core::{
    Lease, LeaseKey, TaskState,
    ports::{ClaimOutcome, Claimed, Fence, Verdict},
};

use super::{
    FRESH, Fixture, batch, canceled, claim, claim_next, completed, failed, json, machine, numbered,
    read, refs, rules, settle_one, win,
};

async fn leased(fixture: &dyn Fixture, name: &str) -> LeaseKey {
    let task = fixture.insert(numbered(1)).await;
    win(fixture, &rules(name), &task).await.lease.into_key()
}

/// Completion writes the result and the time, and leaves the lock columns, which say who did it.
pub async fn completing_writes_the_result(fixture: &dyn Fixture) {
    let lease = leased(fixture, "m1").await;
    assert_eq!(settle_one(fixture, completed(&lease)).await, Fence::Held);
    let view = read(fixture, &lease.task).await;
    assert_eq!(view.state, Some(TaskState::Completed));
    assert_eq!(view.result, Some(json("{\"ok\": true}")));
    assert!(view.completed_at.is_some());
    assert_eq!(view.locked_by, Some(machine("m1")));
    assert_eq!(view.task.retry_count, 0);
}

/// Failure clears the lock, names the machine, counts, and says why.
pub async fn failing_clears_the_lock_and_names_the_machine(fixture: &dyn Fixture) {
    let lease = leased(fixture, "m1").await;
    assert_eq!(settle_one(fixture, failed(&lease, None)).await, Fence::Held);
    let view = read(fixture, &lease.task).await;
    assert_eq!(view.state, Some(TaskState::Failed));
    assert_eq!(view.error_message.as_deref(), Some("it broke"));
    assert_eq!(
        (view.task.retry_count, &view.task.attempted_by[..]),
        (1, &[machine("m1")][..])
    );
    assert_eq!(
        (view.locked_by, view.locked_at, view.retry_at),
        (None, None, None)
    );
    assert!(view.completed_at.is_none() && view.result.is_none());
}

/// Cancelation invites nobody to retry.
pub async fn canceling_is_final(fixture: &dyn Fixture) {
    let lease = leased(fixture, "m1").await;
    assert_eq!(settle_one(fixture, canceled(&lease)).await, Fence::Held);
    let view = read(fixture, &lease.task).await;
    assert_eq!(view.state, Some(TaskState::Canceled));
    assert_eq!(view.error_message.as_deref(), Some("not wanted"));
    assert_eq!((view.locked_by, view.task.retry_count), (None, 0));
}

/// An answer that was lost on the way is asked for again: the same verdict on the same lease stands and changes nothing.
pub async fn a_repeated_settlement_stands(fixture: &dyn Fixture) {
    for settlement in [completed, |lease: &LeaseKey| failed(lease, None), canceled] {
        let lease = leased(fixture, "m1").await;
        assert_eq!(settle_one(fixture, settlement(&lease)).await, Fence::Held);
        let first = read(fixture, &lease.task).await;
        assert_eq!(settle_one(fixture, settlement(&lease)).await, Fence::Held);
        assert_eq!(read(fixture, &lease.task).await, first);
    }
}

/// Another verdict on a settled lease is lost; a completed task never changes.
pub async fn a_second_verdict_is_lost(fixture: &dyn Fixture) {
    let lease = leased(fixture, "m1").await;
    settle_one(fixture, completed(&lease)).await;
    let first = read(fixture, &lease.task).await;
    assert_eq!(settle_one(fixture, failed(&lease, None)).await, Fence::Lost);
    assert_eq!(settle_one(fixture, canceled(&lease)).await, Fence::Lost);
    let coordinator = fixture.coordinator();
    let leases = [lease.clone()];
    assert_eq!(
        coordinator.release(&leases).await.expect("works"),
        [Fence::Lost]
    );
    assert_eq!(
        coordinator.renew(&leases).await.expect("works"),
        [Fence::Lost]
    );
    assert_eq!(read(fixture, &lease.task).await, first);
}

/// Answers come in the order of the questions, whatever the verdicts and machines.
pub async fn settles_many_in_order(fixture: &dyn Fixture) {
    let mut leases = Vec::new();
    for name in ["m1", "m1", "m2", "m1", "m2"] {
        leases.push(leased(fixture, name).await);
    }
    settle_one(fixture, completed(&leases[1])).await;
    let settlements = [
        completed(&leases[0]),
        failed(&leases[1], None),
        failed(&leases[2], None),
        canceled(&leases[3]),
        completed(&leases[4]),
    ];
    let fences = fixture
        .coordinator()
        .settle(&settlements)
        .await
        .expect("settling works");
    assert_eq!(
        fences,
        [
            Fence::Held,
            Fence::Lost,
            Fence::Held,
            Fence::Held,
            Fence::Held
        ]
    );
    let states = [
        TaskState::Completed,
        TaskState::Completed,
        TaskState::Failed,
        TaskState::Canceled,
        TaskState::Completed,
    ];
    for (lease, state) in leases.iter().zip(states) {
        assert_eq!(read(fixture, &lease.task).await.state, Some(state));
    }
    assert!(
        fixture
            .coordinator()
            .settle(&[])
            .await
            .expect("settling works")
            .is_empty()
    );
}

/// Of two verdicts on one lease in one call the first counts.
pub async fn duplicates_in_one_call(fixture: &dyn Fixture) {
    let lease = leased(fixture, "m1").await;
    let settlements = [completed(&lease), failed(&lease, None), completed(&lease)];
    let fences = fixture
        .coordinator()
        .settle(&settlements)
        .await
        .expect("settling works");
    assert_eq!(fences, [Fence::Held, Fence::Lost, Fence::Held]);
    assert_eq!(
        read(fixture, &lease.task).await.state,
        Some(TaskState::Completed)
    );
}

/// A renewed lease is as good as new.
pub async fn renewing_keeps_a_lease_alive(fixture: &dyn Fixture) {
    let lease = leased(fixture, "m1").await;
    for _ in 0..3 {
        fixture.age(&lease.task, FRESH).await;
        let renewed = fixture
            .coordinator()
            .renew(std::slice::from_ref(&lease))
            .await;
        assert_eq!(renewed.expect("renewing works"), [Fence::Held]);
    }
    let other = claim(fixture, &rules("m2"), &lease.task).await;
    assert!(matches!(other, ClaimOutcome::Held { .. }), "{other:?}");
    assert_eq!(settle_one(fixture, completed(&lease)).await, Fence::Held);
}

/// A running task is marked, renewed, settled and held like a claimed one.
pub async fn processing_is_marked_and_still_ours(fixture: &dyn Fixture) {
    let lease = leased(fixture, "m1").await;
    let leases = [lease.clone()];
    let coordinator = fixture.coordinator();
    for _ in 0..2 {
        assert_eq!(
            coordinator.mark_processing(&leases).await.expect("works"),
            [Fence::Held]
        );
        assert_eq!(
            read(fixture, &lease.task).await.state,
            Some(TaskState::Processing)
        );
    }
    assert_eq!(
        coordinator.renew(&leases).await.expect("works"),
        [Fence::Held]
    );
    assert!(matches!(
        claim(fixture, &rules("m2"), &lease.task).await,
        ClaimOutcome::Held { .. }
    ));
    assert!(
        claim_next(fixture, &rules("m2"), &batch(5))
            .await
            .is_empty()
    );
    assert_eq!(settle_one(fixture, completed(&lease)).await, Fence::Held);
    assert_eq!(
        coordinator.mark_processing(&leases).await.expect("works"),
        [Fence::Lost]
    );
}

/// Giving back is no failure, and the same machine may claim again.
pub async fn releasing_counts_no_failure(fixture: &dyn Fixture) {
    let lease = leased(fixture, "m1").await;
    let released = fixture
        .coordinator()
        .release(std::slice::from_ref(&lease))
        .await;
    assert_eq!(released.expect("releasing works"), [Fence::Held]);
    let view = read(fixture, &lease.task).await;
    assert_eq!(view.state, Some(TaskState::Pending));
    assert_eq!((view.locked_by, view.locked_at), (None, None));
    assert_eq!(
        (view.task.retry_count, view.task.attempted_by.len()),
        (0, 0)
    );
    assert_eq!(settle_one(fixture, completed(&lease)).await, Fence::Lost);
    assert_eq!(
        win(fixture, &rules("m1"), &lease.task).await.task.attempt,
        2
    );
}

/// Another machine's name on the same attempt opens nothing.
pub async fn strangers_are_fenced(fixture: &dyn Fixture) {
    let lease = leased(fixture, "m1").await;
    let forged = LeaseKey {
        machine: machine("m2"),
        ..lease.clone()
    };
    let coordinator = fixture.coordinator();
    let leases = [forged.clone()];
    assert_eq!(
        coordinator.renew(&leases).await.expect("works"),
        [Fence::Lost]
    );
    assert_eq!(
        coordinator.mark_processing(&leases).await.expect("works"),
        [Fence::Lost]
    );
    assert_eq!(
        coordinator.release(&leases).await.expect("works"),
        [Fence::Lost]
    );
    for settlement in [completed(&forged), failed(&forged, None), canceled(&forged)] {
        assert_eq!(settle_one(fixture, settlement).await, Fence::Lost);
    }
    assert_eq!(settle_one(fixture, completed(&lease)).await, Fence::Held);
}

/// The same machine with an older attempt is fenced as well.
pub async fn an_old_attempt_is_fenced(fixture: &dyn Fixture) {
    let old = leased(fixture, "m1").await;
    fixture
        .coordinator()
        .release(std::slice::from_ref(&old))
        .await
        .expect("releasing works");
    let new = win(fixture, &rules("m1"), &old.task).await.lease.into_key();
    assert_eq!(settle_one(fixture, completed(&old)).await, Fence::Lost);
    assert_eq!(
        fixture.coordinator().renew(&[old]).await.expect("works"),
        [Fence::Lost]
    );
    assert_eq!(settle_one(fixture, completed(&new)).await, Fence::Held);
}

/// Settling one batch and claiming the next is one step; what is settled is not claimed in it.
pub async fn settles_and_claims_at_once(fixture: &dyn Fixture) {
    let mut inserted = Vec::new();
    for n in 0..6 {
        inserted.push(fixture.insert(numbered(n)).await);
    }
    let rules = rules("m1");
    let mut claimed = claim_next(fixture, &rules, &batch(2)).await;
    let mut seen = refs(&claimed);
    while !claimed.is_empty() {
        let settlements: Vec<_> = claimed
            .drain(..)
            .map(|Claimed { lease, .. }| completed(&Lease::into_key(lease)))
            .collect();
        let both = fixture
            .coordinator()
            .settle_and_claim(&rules, &settlements, &batch(2))
            .await;
        let (fences, next) = both.expect("settling and claiming works");
        assert_eq!(fences, vec![Fence::Held; settlements.len()]);
        seen.extend(refs(&next));
        claimed = next;
    }
    assert_eq!(seen, inserted);
    for task in &inserted {
        assert_eq!(read(fixture, task).await.state, Some(TaskState::Completed));
    }
}

/// The fence holds in the combined step too, for mixed verdicts, and the claim is made all the same.
pub async fn settle_and_claim_fences_too(fixture: &dyn Fixture) {
    let (good, lost, broken) = (
        leased(fixture, "m1").await,
        leased(fixture, "m1").await,
        leased(fixture, "m1").await,
    );
    fixture
        .coordinator()
        .release(std::slice::from_ref(&lost))
        .await
        .expect("releasing works");
    let next = fixture.insert(numbered(9)).await;
    let settlements = [
        completed(&lost),
        completed(&good),
        failed(&broken, Some(Duration::from_mins(1))),
    ];
    let both = fixture
        .coordinator()
        .settle_and_claim(&rules("m1"), &settlements, &batch(5))
        .await;
    let (fences, claimed) = both.expect("settling and claiming works");
    assert_eq!(fences, [Fence::Lost, Fence::Held, Fence::Held]);
    assert_eq!(refs(&claimed), [lost.task.clone(), next]);
    assert_eq!(
        read(fixture, &good.task).await.state,
        Some(TaskState::Completed)
    );
    let broken = read(fixture, &broken.task).await;
    assert_eq!(broken.state, Some(TaskState::Failed));
    assert!(broken.retry_at.is_some());
    assert!(matches!(settlements[1].verdict, Verdict::Completed(_)));
}

/// One answer that cannot be stored as it is neither fails the others nor is lost silently.
pub async fn odd_values_do_not_spoil_a_batch(fixture: &dyn Fixture) {
    let mut leases = Vec::new();
    for _ in 0..5 {
        leases.push(leased(fixture, "m1").await);
    }
    let with = |lease: &LeaseKey, result: &str| rowcall_core::ports::Settlement {
        lease: lease.clone(),
        verdict: Verdict::Completed(json(result)),
    };
    let huge = format!("{{\"n\": 1e{}}}", "9".repeat(9));
    let settlements = [
        completed(&leases[0]),
        with(
            &leases[1],
            "{\"text\": \"a\\u0000b \\ud800 \\ud83d\\ude00\"}",
        ),
        with(&leases[2], &huge),
        rowcall_core::ports::Settlement {
            lease: leases[3].clone(),
            verdict: Verdict::Failed {
                error: "a\0b".into(),
                retry_in: Some(Duration::MAX),
            },
        },
    ];
    let both = fixture
        .coordinator()
        .settle_and_claim(&rules("m1"), &settlements, &batch(1))
        .await;
    let (fences, _) = both.expect("settling and claiming works");
    assert_eq!(fences, [Fence::Held; 4]);
    assert_eq!(
        read(fixture, &leases[0].task).await.state,
        Some(TaskState::Completed)
    );
    assert_eq!(
        read(fixture, &leases[1].task).await.state,
        Some(TaskState::Completed)
    );
    let huge = read(fixture, &leases[2].task).await;
    assert!(matches!(
        huge.state,
        Some(TaskState::Completed | TaskState::Failed)
    ));
    assert_eq!(
        read(fixture, &leases[3].task).await.state,
        Some(TaskState::Failed)
    );
    assert_eq!(
        settle_one(fixture, completed(&leases[4])).await,
        Fence::Held
    );
}

/// An old and a new attempt of one task in one call: only the new one counts.
pub async fn two_attempts_in_one_call(fixture: &dyn Fixture) {
    for new_first in [false, true] {
        let old = leased(fixture, "m1").await;
        fixture
            .coordinator()
            .release(std::slice::from_ref(&old))
            .await
            .expect("releasing works");
        let new = win(fixture, &rules("m1"), &old.task).await.lease.into_key();
        let mut settlements = vec![completed(&old), completed(&new)];
        let mut expected = vec![Fence::Lost, Fence::Held];
        if new_first {
            settlements.reverse();
            expected.reverse();
        }
        let fences = fixture
            .coordinator()
            .settle(&settlements)
            .await
            .expect("settling works");
        assert_eq!(fences, expected);
    }
}

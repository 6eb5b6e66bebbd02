//! Several machines at once.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use rowcall_core::{
    TaskRef, TaskState,
    ports::{ClaimOutcome, Claimed, Fence},
};

use super::{Fixture, batch, claim, claim_next, completed, numbered, read, refs, rules};

const MACHINES: usize = 6;
const TASKS: usize = 60;

async fn fill(fixture: &dyn Fixture) -> Vec<TaskRef> {
    let mut tasks = Vec::new();
    for n in 0..TASKS {
        tasks.push(fixture.insert(numbered(n)).await);
    }
    tasks.sort();
    tasks
}

/// However many claim, each task goes to one of them, and none is left.
pub async fn every_task_is_claimed_once(fixture: &dyn Fixture) {
    let tasks = fill(fixture).await;
    let machines = (0..MACHINES).map(|number| async move {
        let rules = rules(&format!("m{number}"));
        let mut mine = Vec::new();
        loop {
            let some = claim_next(fixture, &rules, &batch(4)).await;
            if some.is_empty() {
                return mine;
            }
            mine.extend(refs(&some));
        }
    });
    let mut claimed = join_all(machines).await.concat();
    // A machine may find nothing while another is still choosing; nobody is working any more now.
    claimed.extend(refs(
        &claim_next(fixture, &rules("last"), &batch(500)).await,
    ));
    claimed.sort();
    assert_eq!(claimed, tasks);
}

/// All machines want the same task: one wins, the others hear who.
pub async fn claims_by_name_have_one_winner(fixture: &dyn Fixture) {
    for n in 0..10 {
        let task = &fixture.insert(numbered(n)).await;
        let outcomes = join_all((0..MACHINES).map(|number| async move {
            let rules = rules(&format!("m{number}"));
            claim(fixture, &rules, task).await
        }))
        .await;
        let winners: Vec<_> = outcomes
            .iter()
            .filter(|one| matches!(one, ClaimOutcome::Won(_)))
            .collect();
        assert_eq!(winners.len(), 1, "{outcomes:?}");
        assert!(
            outcomes
                .iter()
                .all(|one| matches!(one, ClaimOutcome::Won(_) | ClaimOutcome::Held { .. }))
        );
    }
}

/// Machines that settle and claim in one step finish everything, each task by the machine that held it.
pub async fn settling_claimers_lose_nothing(fixture: &dyn Fixture) {
    let tasks = fill(fixture).await;
    let machines = (0..MACHINES).map(|number| async move {
        let rules = rules(&format!("m{number}"));
        let mut done = BTreeMap::new();
        let mut claimed = claim_next(fixture, &rules, &batch(5)).await;
        while !claimed.is_empty() {
            let settlements: Vec<_> = claimed
                .drain(..)
                .map(|Claimed { lease, .. }| completed(&lease.into_key()))
                .collect();
            let both = fixture
                .coordinator()
                .settle_and_claim(&rules, &settlements, &batch(5))
                .await;
            let (fences, next) = both.expect("settling and claiming works");
            assert_eq!(fences, vec![Fence::Held; settlements.len()]);
            done.extend(
                settlements
                    .into_iter()
                    .map(|one| (one.lease.task, one.lease.machine)),
            );
            claimed = next;
        }
        done
    });
    let done = join_all(machines).await;
    assert_eq!(
        done.iter().map(BTreeMap::len).sum::<usize>(),
        TASKS,
        "nothing was settled twice"
    );
    for (task, machine) in done.into_iter().flatten() {
        let view = read(fixture, &task).await;
        assert_eq!(
            (view.state, view.locked_by),
            (Some(TaskState::Completed), Some(machine))
        );
        assert!(tasks.binary_search(&task).is_ok());
    }
}

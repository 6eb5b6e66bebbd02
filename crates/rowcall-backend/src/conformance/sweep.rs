//! Looking for missed tasks.

use rowcall_core::{TaskRef, TaskState};

use super::{Fixture, completed, failed, json, numbered, rules, selector, settle_one, win};
use crate::memory::NewTask;

/// Pending and failed tasks, the newest first; nothing that is leased or final.
pub async fn lists_pending_and_failed_newest_first(fixture: &dyn Fixture) {
    let mut tasks = Vec::new();
    for n in 0..4 {
        tasks.push(fixture.insert(numbered(n)).await);
    }
    let lease = win(fixture, &rules("m1"), &tasks[0]).await.lease.into_key();
    settle_one(fixture, failed(&lease, None)).await;
    let lease = win(fixture, &rules("m1"), &tasks[1]).await.lease.into_key();
    settle_one(fixture, completed(&lease)).await;
    let _claimed = win(fixture, &rules("m1"), &tasks[2]).await;
    let selectors = [selector("public.rtx_activities", None)];
    let found = fixture
        .coordinator()
        .sweep(&selectors, None, 50)
        .await
        .expect("sweeping works");
    let seen: Vec<_> = found
        .iter()
        .map(|view| (view.task.task.clone(), view.state))
        .collect();
    assert_eq!(
        seen,
        [
            (tasks[3].clone(), Some(TaskState::Pending)),
            (tasks[0].clone(), Some(TaskState::Failed))
        ]
    );
}

/// Pages follow each other without gaps or repeats.
pub async fn pages_do_not_overlap(fixture: &dyn Fixture) {
    let mut tasks = Vec::new();
    for n in 0..7 {
        tasks.push(fixture.insert(numbered(n)).await);
    }
    let lease = win(fixture, &rules("m1"), &tasks[3]).await.lease.into_key();
    settle_one(fixture, failed(&lease, None)).await;
    let selectors = [selector("public.rtx_activities", None)];
    let mut seen: Vec<TaskRef> = Vec::new();
    let mut before = None;
    loop {
        let page = fixture
            .coordinator()
            .sweep(&selectors, before, 3)
            .await
            .expect("sweeping works");
        let Some(last) = page.last() else { break };
        before = Some((last.task.created_at, last.task.task.clone()));
        seen.extend(page.iter().map(|view| view.task.task.clone()));
        assert!(seen.len() <= tasks.len(), "pages overlap");
    }
    tasks.reverse();
    assert_eq!(seen, tasks);
}

/// Selectors apply.
pub async fn sweeps_only_what_is_selected(fixture: &dyn Fixture) {
    fixture.insert(numbered(1)).await;
    let row = |n: u32| {
        NewTask::captured(
            "shop.orders".parse().expect("a table"),
            json(&format!("{{\"n\": {n}}}")),
        )
    };
    fixture.insert(row(1)).await;
    let wanted = fixture.insert(row(2)).await;
    let selectors = [selector("shop.orders", Some("n=eq.2"))];
    let found = fixture
        .coordinator()
        .sweep(&selectors, None, 50)
        .await
        .expect("sweeping works");
    assert_eq!(
        found
            .iter()
            .map(|view| view.task.task.clone())
            .collect::<Vec<_>>(),
        [wanted]
    );
    assert!(
        fixture
            .coordinator()
            .sweep(&[], None, 50)
            .await
            .expect("sweeping works")
            .is_empty()
    );
}

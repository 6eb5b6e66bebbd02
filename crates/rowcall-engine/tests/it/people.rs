//! What people ask of a running engine.

use std::{sync::atomic::Ordering, time::Duration};

use rowcall_core::{Payload, TaskState, ports::Ineligible};
use rowcall_engine::{Report, RunReply, Stage, StopReply, What};

use crate::{
    double::Op,
    world::{World, app, app_with, pass},
};

#[tokio::test(start_paused = true)]
async fn review_tasks_wait_for_a_person() {
    let mut world = World::new();
    let before = world.insert("letters");
    let mut node = world.start(vec![app_with("desk", "letters", "clerk", 1, "review")]);
    let review = |what: &What| match what {
        What::Review { task, .. } => Some(task.clone()),
        _ => None,
    };
    assert_eq!(node.hear(review).await, before);
    let after = world.insert("letters");
    assert_eq!(node.hear(review).await, after);
    pass(Duration::from_mins(10)).await;
    assert_eq!(world.state(&before).await, TaskState::Pending);
    assert!(
        world.double.calls(Op::ClaimNext).is_empty(),
        "nothing is claimed by itself"
    );
    let reply = node.handle.run_task(&after).await.unwrap();
    assert!(
        matches!(reply, RunReply::Started { attempt: 1, .. }),
        "{reply:?}"
    );
    assert_eq!(node.settled(&after).await, TaskState::Completed);
    assert_eq!(world.state(&before).await, TaskState::Pending);
}

#[tokio::test(start_paused = true)]
async fn every_review_task_is_found_page_by_page() {
    let mut world = World::silent();
    for _ in 0..700 {
        world.insert("letters");
    }
    let mut node = world.start(vec![app_with("desk", "letters", "clerk", 1, "review")]);
    let mut seen = std::collections::BTreeSet::new();
    while seen.len() < 700 {
        let task = node
            .hear(|what| match what {
                What::Review { task, .. } => Some(task.clone()),
                _ => None,
            })
            .await;
        assert!(seen.insert(task), "shown once");
    }
    let sizes: Vec<usize> = world
        .double
        .calls(Op::Sweep)
        .iter()
        .map(|call| call.size)
        .collect();
    assert_eq!(sizes[..3], [50, 500, 500]);
}

#[tokio::test(start_paused = true)]
async fn running_a_task_says_why_not() {
    let mut world = World::silent();
    let node = world.start(vec![
        app("shop", "orders", "slow", 1),
        app("ink", "letters", "clerk", 1),
    ]);
    pass(Duration::from_secs(10)).await;
    let (a, b) = (world.insert("orders"), world.insert("orders"));
    let run = |task: rowcall_core::TaskRef| {
        let handle = node.handle.clone();
        async move { handle.run_task(&task).await.unwrap() }
    };
    assert!(matches!(run(a.clone()).await, RunReply::Started { .. }));
    assert_eq!(run(a.clone()).await, RunReply::AlreadyRunning);
    assert!(matches!(run(b.clone()).await, RunReply::NoPlace { .. }));
    assert_eq!(run(world.insert("unrouted")).await, RunReply::NoRoute);
    let mut ghost = a.clone();
    ghost.id = uuid::Uuid::from_u128(99).into();
    assert_eq!(run(ghost).await, RunReply::NotFound);
    let letter = world.insert("letters");
    let now = rowcall_core::Clock::now(&world.clock);
    world.double.model.set_status(&letter, Some("claimed"));
    world
        .double
        .model
        .set_lock(&letter, Some("thief"), Some(now));
    assert!(
        matches!(run(letter.clone()).await, RunReply::Held { by: Some(by) } if by.as_str() == "thief")
    );
    world.double.model.set_status(&letter, Some("completed"));
    let reason = Ineligible::Final;
    assert_eq!(run(letter).await, RunReply::Ineligible { reason });
}

#[tokio::test(start_paused = true)]
async fn a_released_task_is_pending_again_without_a_failure() {
    let mut world = World::silent();
    // A route for review: nobody claims the task again by itself.
    let node = world.start(vec![app_with("shop", "orders", "slow", 1, "review")]);
    let task = world.insert("orders");
    let reply = node.handle.run_task(&task).await.unwrap();
    assert!(matches!(reply, RunReply::Started { .. }), "{reply:?}");
    let run = world.agents.run(&task).await;
    assert_eq!(node.handle.release(&task).await.unwrap(), StopReply::Done);
    assert!(run.stop.is_cancelled());
    let view = world.view(&task).await;
    assert_eq!(
        (view.state, view.task.retry_count),
        (Some(TaskState::Pending), 0)
    );
    assert_eq!(view.locked_by, None);
    assert_eq!(
        node.handle.release(&task).await.unwrap(),
        StopReply::NotHere
    );
}

#[tokio::test(start_paused = true)]
async fn a_canceled_task_stops_and_is_never_claimed_again() {
    let mut world = World::new();
    let node = world.start(vec![app("shop", "orders", "slow", 1)]);
    let task = world.insert("orders");
    let run = world.agents.run(&task).await;
    assert_eq!(
        node.handle.cancel(&task, "not needed").await.unwrap(),
        StopReply::Done
    );
    assert!(run.stop.is_cancelled());
    pass(Duration::from_mins(30)).await;
    let view = world.view(&task).await;
    assert_eq!(
        (view.state, view.task.attempt),
        (Some(TaskState::Canceled), 1)
    );
    assert_eq!(view.error_message.as_deref(), Some("not needed"));
    assert_eq!(
        node.handle.cancel(&task, "again").await.unwrap(),
        StopReply::NotHere
    );
}

#[tokio::test(start_paused = true)]
async fn apps_change_while_tasks_run() {
    let mut world = World::new();
    let tasks: Vec<_> = (0..4).map(|_| world.insert("orders")).collect();
    let mut node = world.start(vec![app("shop", "orders", "slow", 1)]);
    world.agents.begun(1).await;
    // A higher limit takes effect at once, and the running task goes on.
    assert!(
        node.handle
            .set_apps(&[app("shop", "orders", "slow", 3)])
            .is_empty()
    );
    world.agents.begun(3).await;
    pass(Duration::from_secs(10)).await;
    assert_eq!(world.agents.running.load(Ordering::SeqCst), 3);
    // No apps: nothing new starts, what runs is settled all the same.
    node.handle.set_apps(&[]);
    pass(Duration::from_secs(1)).await;
    let running: Vec<_> = world
        .agents
        .started
        .lock()
        .iter()
        .map(|(task, ..)| task.clone())
        .collect();
    for task in &running {
        world.agents.run(task).await.complete();
    }
    node.settled_count(3).await;
    pass(Duration::from_mins(5)).await;
    let left = tasks.iter().find(|task| !running.contains(task)).unwrap();
    assert_eq!(world.state(left).await, TaskState::Pending);
    // Back again: it is found without a signal.
    node.handle.set_apps(&[app("shop", "orders", "clerk", 1)]);
    assert_eq!(node.settled(left).await, TaskState::Completed);
}

#[tokio::test(start_paused = true)]
async fn an_app_that_leaves_and_comes_back_keeps_its_limit() {
    let mut world = World::new();
    for _ in 0..4 {
        world.insert("orders");
    }
    let node = world.start(vec![app("shop", "orders", "slow", 2)]);
    world.agents.begun(2).await;
    node.handle.set_apps(&[]);
    pass(Duration::from_secs(1)).await;
    node.handle.set_apps(&[app("shop", "orders", "slow", 2)]);
    pass(Duration::from_secs(30)).await;
    assert_eq!(
        world.agents.started.lock().len(),
        2,
        "both places are still taken"
    );
}

#[tokio::test(start_paused = true)]
async fn the_status_shows_what_runs() {
    let mut world = World::new();
    let node = world.start(vec![app("shop", "orders", "slow", 2)]);
    let task = world.insert("orders");
    let _run = world.agents.run(&task).await;
    let status = node.handle.status().await.unwrap();
    let running = &status.running[0];
    assert_eq!(
        (&running.task, running.attempt, running.stage),
        (&task, 1, Stage::Running)
    );
    assert_eq!(
        (running.app.as_str(), running.agent.as_str()),
        ("shop", "slow")
    );
    assert_eq!(
        (
            status.apps[0].slots_used,
            status.apps[0].slots,
            status.apps[0].routes
        ),
        (1, 2, 1)
    );
    assert!(status.sources[0].up);
    node.handle
        .report(&task.id, None, Report::Completed(Payload::null()))
        .await
        .unwrap();
    let status = node.handle.status().await.unwrap();
    assert_eq!(status.running[0].stage, Stage::Lingering);
    let json = serde_json::to_value(&status).unwrap();
    assert_eq!(json["counters"]["completed"], 1);
}

#[tokio::test(start_paused = true)]
async fn events_replay_from_an_id_with_growing_ids() {
    let mut world = World::new();
    let mut node = world.start(vec![app("shop", "orders", "clerk", 2)]);
    pass(Duration::from_secs(1)).await;
    let mut first = node.handle.events();
    let task = world.insert("orders");
    node.settled(&task).await;
    let mut ids = Vec::new();
    let mut words = Vec::new();
    while let Some(rowcall_engine::Heard::Event(event)) = first.try_next() {
        ids.push(event.id);
        words.push(
            serde_json::to_value(&*event).unwrap()["event"]
                .as_str()
                .unwrap()
                .to_owned(),
        );
    }
    assert!(ids.is_sorted() && ids.len() >= 4);
    for word in ["signal", "claimed", "started", "settled"] {
        assert!(words.iter().any(|w| w == word), "{word} in {words:?}");
    }
    let mut replay = node.handle.events_after(ids[1]);
    match replay.next().await {
        rowcall_engine::Heard::Event(event) => assert_eq!(event.id, ids[2]),
        rowcall_engine::Heard::Missed(count) => panic!("missed {count}"),
    }
}

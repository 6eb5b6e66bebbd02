//! Stopping: the grace, the release, the hard way.

use std::time::Duration;

use rowcall_core::TaskState;
use rowcall_engine::{EngineError, EngineOptions, RunReply};
use tokio::time::Instant;

use crate::{
    double::{Fault, Op},
    world::{World, app, options, pass},
};

#[tokio::test(start_paused = true)]
async fn an_idle_engine_stops_at_once() {
    let mut world = World::new();
    let node = world.start(vec![app("shop", "orders", "clerk", 1)]);
    pass(Duration::from_secs(10)).await;
    let start = Instant::now();
    node.handle.shutdown();
    assert_eq!(world.stopped().await.abandoned, 0);
    assert_eq!(start.elapsed(), Duration::ZERO);
    node.handle.stopped().await;
    assert!(matches!(
        node.handle.status().await,
        Err(EngineError::Stopped)
    ));
}

#[tokio::test(start_paused = true)]
async fn running_tasks_finish_within_the_grace_and_nothing_new_starts() {
    let mut world = World::new();
    let node = world.start(vec![app("shop", "orders", "slow", 1)]);
    let task = world.insert("orders");
    let run = world.agents.run(&task).await;
    node.handle.shutdown();
    pass(Duration::from_secs(1)).await;
    let late = world.insert("orders");
    pass(Duration::from_secs(10)).await;
    assert_eq!(
        node.handle.run_task(&late).await.unwrap(),
        RunReply::Stopping
    );
    assert!(!run.stop.is_cancelled());
    run.complete();
    world.stopped().await;
    assert_eq!(world.state(&task).await, TaskState::Completed);
    assert_eq!(world.state(&late).await, TaskState::Pending);
}

#[tokio::test(start_paused = true)]
async fn after_the_grace_tasks_are_stopped_and_given_back() {
    let mut world = World::new();
    let node = world.start(vec![app("shop", "orders", "slow", 2)]);
    let (a, b) = (world.insert("orders"), world.insert("orders"));
    world.agents.begun(2).await;
    let start = Instant::now();
    node.handle.shutdown();
    let summary = world.stopped().await;
    assert_eq!(start.elapsed(), options().shutdown_grace);
    assert_eq!((summary.abandoned, summary.counters.released), (0, 2));
    for task in [&a, &b] {
        let view = world.view(task).await;
        assert_eq!(
            (view.state, view.task.retry_count),
            (Some(TaskState::Pending), 0)
        );
    }
    assert_eq!(world.double.calls(Op::Release).len(), 1, "in one statement");
}

#[tokio::test(start_paused = true)]
async fn heartbeats_go_on_during_the_grace() {
    let mut world = World::new();
    let options = EngineOptions {
        shutdown_grace: Duration::from_mins(10),
        ..options()
    };
    let node = world.start_as("m1", vec![app("shop", "orders", "slow", 1)], options, None);
    let task = world.insert("orders");
    let run = world.agents.run(&task).await;
    node.handle.shutdown();
    pass(Duration::from_mins(7)).await;
    assert!(world.double.calls(Op::Renew).len() >= 3);
    run.complete();
    world.stopped().await;
    assert_eq!(world.state(&task).await, TaskState::Completed);
}

#[tokio::test(start_paused = true)]
async fn agents_that_do_not_end_are_dropped_after_the_limit() {
    let mut world = World::new();
    let node = world.start(vec![app("shop", "orders", "deaf", 1)]);
    let task = world.insert("orders");
    let _run = world.agents.run(&task).await;
    let start = Instant::now();
    node.handle.shutdown();
    assert_eq!(world.stopped().await.abandoned, 0);
    assert_eq!(
        start.elapsed(),
        options().shutdown_grace + options().stop_limit
    );
    assert_eq!(world.state(&task).await, TaskState::Pending);
}

#[tokio::test(start_paused = true)]
async fn a_second_call_stops_hard() {
    let mut world = World::new();
    let node = world.start(vec![app("shop", "orders", "deaf", 1)]);
    let task = world.insert("orders");
    let _run = world.agents.run(&task).await;
    node.handle.shutdown();
    pass(Duration::from_secs(2)).await;
    let start = Instant::now();
    node.handle.shutdown();
    world.stopped().await;
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert_eq!(
        world.state(&task).await,
        TaskState::Pending,
        "given back all the same"
    );
}

#[tokio::test(start_paused = true)]
async fn a_stop_without_the_database_ends_all_the_same() {
    let mut world = World::new();
    let node = world.start(vec![app("shop", "orders", "slow", 1)]);
    let task = world.insert("orders");
    let run = world.agents.run(&task).await;
    world.double.set_down(true);
    run.complete();
    pass(Duration::from_secs(1)).await;
    let start = Instant::now();
    node.handle.shutdown();
    assert_eq!(world.stopped().await.abandoned, 1);
    let most = options().shutdown_grace + options().stop_limit + options().farewell_limit;
    assert!(
        start.elapsed() <= most + Duration::from_secs(1),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn a_claim_under_way_at_the_stop_is_given_back() {
    let mut world = World::new();
    let node = world.start(vec![app("shop", "orders", "clerk", 1)]);
    pass(Duration::from_secs(10)).await;
    let answer = std::sync::Arc::new(tokio::sync::Notify::new());
    world
        .double
        .fault(Op::ClaimNext, Fault::Hold(std::sync::Arc::clone(&answer)));
    let task = world.insert("orders");
    pass(Duration::from_millis(5)).await;
    node.handle.shutdown();
    pass(Duration::from_millis(5)).await;
    assert_eq!(world.state(&task).await, TaskState::Claimed);
    answer.notify_waiters();
    world.stopped().await;
    assert_eq!(world.state(&task).await, TaskState::Pending);
    assert!(world.agents.started.lock().is_empty());
}

//! Failed attempts: who tries again, when, and when nobody does.

use std::time::Duration;

use rowcall_core::{Backoff, RetryPolicy, TaskState};
use rowcall_engine::{EngineOptions, What};
use tokio::time::Instant;

use crate::{
    double::Op,
    world::{World, app, options, pass},
};

fn retrying(base: u64) -> EngineOptions {
    EngineOptions {
        retry: RetryPolicy {
            max_attempts: 3,
            same_machine: Some(Backoff {
                base: Duration::from_secs(base),
                cap: Duration::from_mins(10),
            }),
        },
        ..options()
    }
}

#[tokio::test(start_paused = true)]
async fn the_machine_that_failed_does_not_try_again_by_default() {
    let mut world = World::new();
    let mut node = world.start(vec![app("shop", "orders", "failing", 1)]);
    let task = world.insert("orders");
    assert_eq!(node.settled(&task).await, TaskState::Failed);
    pass(Duration::from_hours(1)).await;
    let view = world.view(&task).await;
    assert_eq!((view.task.attempt, view.task.retry_count), (1, 1));
    assert_eq!(
        world.double.calls(Op::Announce).len(),
        1,
        "the others were told"
    );
}

#[tokio::test(start_paused = true)]
async fn another_machine_tries_at_once() {
    let mut world = World::new();
    let mut bad = world.start_as(
        "m1",
        vec![app("shop", "orders", "failing", 1)],
        options(),
        None,
    );
    let task = world.insert("orders");
    assert_eq!(bad.settled(&task).await, TaskState::Failed);
    let mut good = world.start_as(
        "m2",
        vec![app("shop", "orders", "clerk", 1)],
        options(),
        None,
    );
    assert_eq!(good.settled(&task).await, TaskState::Completed);
    let next = world.insert("orders");
    let start = Instant::now();
    pass(Duration::from_secs(1)).await;
    assert_eq!(world.state(&next).await, TaskState::Completed);
    assert!(start.elapsed() <= Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn with_one_machine_retries_back_off_and_then_need_a_person() {
    let mut world = World::new();
    let mut node = world.start_as(
        "m1",
        vec![app("shop", "orders", "failing", 1)],
        retrying(10),
        None,
    );
    let task = world.insert("orders");
    let mut waits = Vec::new();
    for _ in 0..3 {
        let (retry, attention) = node
            .hear(|what| match what {
                What::Failed {
                    retry_in_ms,
                    needs_attention,
                    ..
                } => Some((*retry_in_ms, *needs_attention)),
                _ => None,
            })
            .await;
        waits.push((retry, attention));
    }
    assert_eq!(
        waits,
        [(Some(10_000), false), (Some(20_000), false), (None, true)]
    );
    let starts: Vec<Instant> = world
        .agents
        .started
        .lock()
        .iter()
        .map(|(_, _, at)| *at)
        .collect();
    let gaps: Vec<u64> = starts
        .windows(2)
        .map(|pair| (pair[1] - pair[0]).as_secs())
        .collect();
    assert_eq!(gaps, [10, 20]);
    pass(Duration::from_hours(2)).await;
    let view = world.view(&task).await;
    assert_eq!((view.task.attempt, view.needs_attention), (3, true));
    assert_eq!(
        node.handle.status().await.unwrap().counters.needs_attention,
        1
    );
}

#[tokio::test(start_paused = true)]
async fn a_restarted_machine_finds_its_retry_times_in_the_database() {
    let mut world = World::silent();
    let mut node = world.start_as(
        "m1",
        vec![app("shop", "orders", "failing", 1)],
        retrying(40),
        None,
    );
    let task = world.insert("orders");
    assert_eq!(node.settled(&task).await, TaskState::Failed);
    let start = Instant::now();
    node.handle.shutdown();
    world.stopped().await;
    let mut node = world.start_as(
        "m1",
        vec![app("shop", "orders", "clerk", 1)],
        retrying(40),
        None,
    );
    assert_eq!(node.settled(&task).await, TaskState::Completed);
    assert_eq!(start.elapsed().as_secs(), 40);
}

#[tokio::test(start_paused = true)]
async fn three_failures_on_different_machines_need_a_person() {
    let mut world = World::new();
    let task = world.insert("orders");
    for name in ["m1", "m2", "m3", "m4"] {
        let _node = world.start_as(
            name,
            vec![app("shop", "orders", "failing", 1)],
            options(),
            None,
        );
        pass(Duration::from_mins(3)).await;
    }
    let view = world.view(&task).await;
    assert_eq!((view.task.retry_count, view.needs_attention), (3, true));
    assert_eq!(view.task.attempted_by.len(), 3);
}

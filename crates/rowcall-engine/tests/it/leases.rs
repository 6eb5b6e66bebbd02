//! Heartbeats, lost leases, zombies, stale leases of others.

use std::time::Duration;

use rowcall_core::{ErrorClass, TaskState};
use rowcall_engine::{FencedAt, What};
use tokio::time::Instant;

use crate::{
    double::{Double, Fault, Op},
    world::{World, app, done, options, pass},
};

fn fenced(what: &What) -> Option<FencedAt> {
    match what {
        What::Fenced { at, .. } => Some(*at),
        _ => None,
    }
}

#[tokio::test(start_paused = true)]
async fn leases_are_renewed_every_two_minutes_in_one_statement() {
    let mut world = World::new();
    let mut node = world.start(vec![app("shop", "orders", "slow", 5)]);
    pass(Duration::from_secs(20)).await;
    let start = Instant::now();
    let (a, b) = (world.insert("orders"), world.insert("orders"));
    world.agents.begun(2).await;
    pass(Duration::from_mins(7)).await;
    let beats: Vec<(u64, usize)> = world
        .double
        .calls(Op::Renew)
        .iter()
        .map(|call| ((call.at - start).as_secs(), call.size))
        .collect();
    assert_eq!(beats, [(120, 2), (240, 2), (360, 2)]);
    assert_eq!(world.state(&a).await, TaskState::Processing);
    world.agents.run(&a).await.complete();
    world.agents.run(&b).await.complete();
    node.settled_count(2).await;
    world.double.forget_calls();
    pass(Duration::from_mins(10)).await;
    assert!(
        world.double.calls(Op::Renew).is_empty(),
        "nothing is left to renew"
    );
}

#[tokio::test(start_paused = true)]
async fn only_tasks_that_take_a_while_are_marked_processing() {
    let mut world = World::new();
    let mut node = world.start(vec![
        app("shop", "orders", "clerk", 5),
        app("desk", "tickets", "slow", 9),
    ]);
    let quick = world.insert("orders");
    node.settled(&quick).await;
    pass(Duration::from_secs(5)).await;
    assert!(world.double.calls(Op::Mark).is_empty());
    let slow = [world.insert("tickets"), world.insert("tickets")];
    world.agents.begun(3).await;
    pass(Duration::from_millis(900)).await;
    assert_eq!(world.state(&slow[0]).await, TaskState::Claimed);
    pass(Duration::from_millis(600)).await;
    let marks = world.double.calls(Op::Mark);
    assert_eq!((marks.len(), marks[0].size), (1, 2));
    assert_eq!(world.state(&slow[1]).await, TaskState::Processing);
}

#[tokio::test(start_paused = true)]
async fn a_lost_lease_stops_its_agent_and_drops_the_result() {
    let mut world = World::new();
    let mut node = world.start(vec![app("shop", "orders", "slow", 1)]);
    let task = world.insert("orders");
    let run = world.agents.run(&task).await;
    world.double.model.set_lock(
        &task,
        Some("thief"),
        Some(rowcall_core::Clock::now(&world.clock)),
    );
    assert_eq!(node.hear(fenced).await, FencedAt::Renew);
    assert!(run.stop.is_cancelled());
    run.end(done(r#"{"mine":1}"#));
    pass(Duration::from_secs(5)).await;
    let view = world.view(&task).await;
    assert_eq!(view.locked_by.unwrap().as_str(), "thief");
    assert_eq!(view.result, None);
    let status = node.handle.status().await.unwrap();
    assert_eq!(
        (
            status.counters.fenced,
            status.running.len(),
            status.slots_used
        ),
        (1, 0, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn a_result_that_comes_after_the_lease_is_fenced() {
    let mut world = World::new();
    let mut node = world.start(vec![app("shop", "orders", "slow", 1)]);
    let task = world.insert("orders");
    let run = world.agents.run(&task).await;
    world.double.model.set_lock(
        &task,
        Some("thief"),
        Some(rowcall_core::Clock::now(&world.clock)),
    );
    run.end(done(r#"{"mine":1}"#));
    assert_eq!(node.hear(fenced).await, FencedAt::Settle);
    assert_eq!(world.view(&task).await.result, None);
}

#[tokio::test(start_paused = true)]
async fn failing_renewals_are_repeated_and_do_no_harm_in_time() {
    let mut world = World::new();
    let mut node = world.start(vec![app("shop", "orders", "slow", 1)]);
    let task = world.insert("orders");
    let run = world.agents.run(&task).await;
    for _ in 0..20 {
        world
            .double
            .fault(Op::Renew, Fault::Reject(ErrorClass::Retryable));
    }
    pass(Duration::from_mins(12)).await;
    assert!(!run.stop.is_cancelled());
    run.complete();
    assert_eq!(node.settled(&task).await, TaskState::Completed);
}

#[tokio::test(start_paused = true)]
async fn without_renewals_for_a_ttl_the_agent_is_stopped() {
    let mut world = World::new();
    let mut node = world.start(vec![app("shop", "orders", "slow", 1)]);
    pass(Duration::from_secs(20)).await;
    let start = Instant::now();
    let task = world.insert("orders");
    let run = world.agents.run(&task).await;
    for _ in 0..200 {
        world
            .double
            .fault(Op::Renew, Fault::Reject(ErrorClass::Retryable));
    }
    run.stop.cancelled().await;
    assert_eq!(start.elapsed(), Duration::from_mins(5));
    assert_eq!(node.hear(fenced).await, FencedAt::Presumed);
    // Nobody else took it: it was given back and is claimed anew.
    run.end(done("{}"));
    let again = world.agents.run(&task).await;
    assert_eq!(again.context.lease.attempt, 2);
    assert_eq!(world.view(&task).await.result, None);
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_never_answers_does_not_keep_a_dead_lease() {
    let mut world = World::new();
    let _node = world.start(vec![app("shop", "orders", "slow", 1)]);
    pass(Duration::from_secs(20)).await;
    let start = Instant::now();
    let task = world.insert("orders");
    let run = world.agents.run(&task).await;
    for _ in 0..50 {
        world.double.fault(Op::Renew, Fault::Hang);
    }
    run.stop.cancelled().await;
    assert_eq!(start.elapsed(), Duration::from_mins(5));
}

#[tokio::test(start_paused = true)]
async fn a_zombie_cannot_overwrite_the_new_holder() {
    let mut world = World::new();
    let frozen = Double::new(world.double.model.clone(), false);
    let mut zombie = world.start_over(
        frozen.clone(),
        "zombie",
        vec![app("shop", "orders", "deaf", 1)],
        options(),
        None,
    );
    let task = world.insert("orders");
    let old = world.agents.run(&task).await;
    frozen.set_down(true);
    let mut node = world.start_as(
        "alive",
        vec![app("shop", "orders", "deaf", 1)],
        options(),
        None,
    );
    let new = world.agents.run(&task).await;
    assert_eq!(new.context.lease.machine.as_str(), "alive");
    // The zombie comes back and has a result.
    frozen.set_down(false);
    old.end(done(r#"{"by":"zombie"}"#));
    assert_eq!(zombie.hear(fenced).await, FencedAt::Presumed);
    pass(Duration::from_secs(30)).await;
    assert_eq!(world.view(&task).await.result, None);
    new.end(done(r#"{"by":"alive"}"#));
    assert_eq!(node.settled(&task).await, TaskState::Completed);
    pass(Duration::from_mins(10)).await;
    assert_eq!(
        world.view(&task).await.result.unwrap().get(),
        r#"{"by":"alive"}"#
    );
}

#[tokio::test(start_paused = true)]
async fn stale_leases_of_a_dead_machine_are_recovered_and_announced() {
    let mut world = World::silent();
    let task = world.insert("orders");
    world.double.model.set_lock(
        &task,
        Some("dead"),
        Some(rowcall_core::Clock::now(&world.clock)),
    );
    world.double.model.set_status(&task, Some("processing"));
    let start = Instant::now();
    let mut node = world.start(vec![app("shop", "orders", "clerk", 1)]);
    node.hear(|what| matches!(what, What::Recovered { .. }).then_some(()))
        .await;
    assert!(
        start.elapsed() > Duration::from_mins(5),
        "not before it was stale"
    );
    assert!(start.elapsed() < Duration::from_mins(6) + Duration::from_secs(10));
    assert_eq!(node.settled(&task).await, TaskState::Completed);
    assert_eq!(world.double.calls(Op::Announce).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_takes_too_long_fails() {
    let mut world = World::new();
    let mut node = world.start(vec![app("shop", "orders", "slow", 1)]);
    pass(Duration::from_secs(20)).await;
    let start = Instant::now();
    let task = world.insert("orders");
    let run = world.agents.run(&task).await;
    let error = node
        .hear(|what| match what {
            What::Failed { error, .. } => Some(error.clone()),
            _ => None,
        })
        .await;
    assert!(error.contains("time-out"), "{error}");
    assert_eq!(start.elapsed(), Duration::from_mins(30));
    assert!(run.stop.is_cancelled());
    assert_eq!(world.state(&task).await, TaskState::Failed);
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_does_not_end_when_asked_is_dropped() {
    let mut world = World::new();
    let mut node = world.start(vec![app("shop", "orders", "deaf", 1)]);
    let (first, second) = (world.insert("orders"), world.insert("orders"));
    world.agents.begun(1).await;
    let task = world.agents.started.lock()[0].0.clone();
    let next = if task == first { second } else { first };
    let _deaf = world.agents.run(&task).await;
    node.settled(&task).await;
    // The time-out is written, the place stays taken until the run is dropped.
    let timed_out = Instant::now();
    let _next = world.agents.run(&next).await;
    assert_eq!(timed_out.elapsed(), options().stop_limit);
}

#[tokio::test(start_paused = true)]
async fn a_source_without_renewals_keeps_its_leases() {
    let mut world = World::new();
    world.double.renew = false;
    let mut node = world.start(vec![app("shop", "orders", "slow", 1)]);
    let task = world.insert("orders");
    let run = world.agents.run(&task).await;
    // Longer than a lease lives by the published protocol; nobody recovers here.
    pass(Duration::from_mins(4)).await;
    assert!(world.double.calls(Op::Renew).is_empty());
    pass(Duration::from_mins(1) + Duration::from_secs(30)).await;
    assert!(!run.stop.is_cancelled());
    run.complete();
    node.settled_count(1).await;
}

//! Permits, batches, order, and that no wake-up is lost.

use std::{sync::Arc, sync::atomic::Ordering, time::Duration};

use rowcall_core::{App, AppId, MachineId, SequentialIds, TaskState};
use rowcall_engine::{Engine, EngineOptions, Source, What};
use tokio::{sync::Notify, time::Instant};

use crate::{
    double::{Fault, Op},
    world::{World, app, options, pass, settle_down},
};

#[tokio::test(start_paused = true)]
async fn a_new_row_is_claimed_run_and_settled_at_once() {
    let mut world = World::new();
    let mut node = world.start(vec![app("shop", "orders", "clerk", 1)]);
    pass(Duration::from_secs(30)).await;
    let before = Instant::now();
    let task = world.insert("orders");
    assert_eq!(node.settled(&task).await, TaskState::Completed);
    assert_eq!(before.elapsed(), Duration::ZERO, "no timer was waited for");
    let view = world.view(&task).await;
    assert_eq!(
        (view.task.attempt, view.state),
        (1, Some(TaskState::Completed))
    );
}

#[tokio::test(start_paused = true)]
async fn an_app_never_runs_more_than_its_limit_nor_claims_more() {
    let mut world = World::new();
    for _ in 0..10 {
        world.insert("orders");
    }
    let mut node = world.start(vec![app("shop", "orders", "clerk", 3)]);
    node.settled_count(10).await;
    assert_eq!(world.agents.most.load(Ordering::SeqCst), 3);
    for claim in world.double.calls(Op::ClaimNext) {
        assert!(claim.size <= 3, "asked for {} with 3 places", claim.size);
    }
}

#[tokio::test(start_paused = true)]
async fn the_machine_limit_bounds_all_apps_together() {
    let mut world = World::new();
    for table in ["a", "b", "c"] {
        for _ in 0..5 {
            world.insert(table);
        }
    }
    let apps: Vec<App> = ["a", "b", "c"].map(|t| app(t, t, "slow", 5)).into();
    let options = EngineOptions {
        concurrency: 4,
        ..options()
    };
    let node = world.start_as("m1", apps, options, None);
    world.agents.begun(4).await;
    pass(Duration::from_secs(10)).await;
    assert_eq!(world.agents.running.load(Ordering::SeqCst), 4);
    assert_eq!(node.handle.status().await.unwrap().slots_used, 4);
}

/// Handlers of two tables: `warm` is a warm worker that takes two tasks at once, `deaf` has no limit of its own.
fn with_worker(limit: u32) -> App {
    let manifest = serde_json::json!({
        "name": "shop",
        "agents": [{ "id": "warm", "kind": "worker", "app_type": "custom", "command": "./warm", "concurrency": 2 }],
        "config": {
            "supabase": { "tables": ["warm", "cold"], "max_concurrent_tasks": limit },
            "agentHandlers": [
                { "tableName": "warm", "agentId": "warm", "eventTypes": ["INSERT"] },
                { "tableName": "cold", "agentId": "deaf", "eventTypes": ["INSERT"] }
            ]
        }
    });
    App::parse(&manifest.to_string(), None).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_worker_is_never_given_more_than_it_takes() {
    let mut world = World::new();
    let warm: Vec<_> = (0..6).map(|_| world.insert("warm")).collect();
    for _ in 0..6 {
        world.insert("cold");
    }
    let mut node = world.start(vec![with_worker(5)]);
    world.agents.begun(5).await;
    pass(Duration::from_mins(1)).await;
    let of_worker = || {
        let started = world.agents.started.lock();
        started
            .iter()
            .filter(|(task, ..)| warm.contains(task))
            .map(|(task, ..)| task.clone())
            .collect::<Vec<_>>()
    };
    let first = of_worker();
    assert_eq!((first.len(), world.agents.started.lock().len()), (2, 5));
    let mut claimed = 0;
    for task in &warm {
        claimed += usize::from(world.state(task).await != TaskState::Pending);
    }
    assert_eq!(
        claimed, 2,
        "what the worker cannot take is left to other machines"
    );
    world.agents.run(&first[0]).await.complete();
    assert_eq!(node.settled(&first[0]).await, TaskState::Completed);
    world.agents.begun(6).await;
    assert!(of_worker().len() <= 3);
    let status = node.handle.status().await.unwrap();
    assert_eq!(
        status.apps.len(),
        1,
        "an app is one app, whatever agents it has"
    );
    assert_eq!((status.apps[0].slots_used, status.apps[0].routes), (5, 2));
}

#[tokio::test(start_paused = true)]
async fn all_tasks_of_a_worker_are_done_in_turn() {
    let mut world = World::new();
    let warm: Vec<_> = (0..7).map(|_| world.insert("warm")).collect();
    let mut node = world.start(vec![with_worker(50)]);
    for done in 1..=warm.len() {
        world.agents.begun(done).await;
        settle_down().await;
        assert!(world.agents.running.load(Ordering::SeqCst) <= 2);
        let (task, ..) = world.agents.started.lock()[done - 1].clone();
        world.agents.run(&task).await.complete();
        node.settled(&task).await;
    }
    assert_eq!(world.agents.most.load(Ordering::SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn a_place_is_free_only_when_the_agent_is_gone() {
    let mut world = World::new();
    let (first, second) = (world.insert("orders"), world.insert("orders"));
    let node = world.start(vec![app("shop", "orders", "slow", 1)]);
    world.agents.begun(1).await;
    let (task, ..) = world.agents.started.lock()[0].clone();
    let other = if task == first { second } else { first };
    let report = rowcall_engine::Report::Completed(rowcall_core::Payload::empty_object());
    node.handle.report(&task.id, None, report).await.unwrap();
    assert_eq!(world.state(&task).await, TaskState::Completed);
    pass(Duration::from_secs(30)).await;
    assert_eq!(
        world.agents.started.lock().len(),
        1,
        "its place is still taken"
    );
    world.agents.run(&task).await.complete();
    world.agents.run(&other).await.complete();
}

#[tokio::test(start_paused = true)]
async fn a_signal_during_a_claim_is_not_lost() {
    let mut world = World::silent();
    let node = world.start(vec![app("shop", "orders", "clerk", 9)]);
    pass(Duration::from_secs(30)).await;
    // The claim has looked already, its answer is on the way, and only then the row comes.
    let answer = Arc::new(Notify::new());
    world
        .double
        .fault(Op::ClaimNext, Fault::Hold(Arc::clone(&answer)));
    let hint = rowcall_core::Signal::Dirty {
        table: rowcall_core::TableName::activities(),
        task: None,
    };
    world.double.send(hint.clone());
    settle_down().await;
    world
        .double
        .fault(Op::ClaimNext, Fault::Hold(Arc::clone(&answer)));
    world.insert("orders");
    world.double.send(hint);
    settle_down().await;
    let started = Instant::now();
    answer.notify_waiters();
    settle_down().await;
    answer.notify_waiters();
    world.agents.begun(1).await;
    assert_eq!(
        started.elapsed(),
        Duration::ZERO,
        "found without waiting for a poll"
    );
    drop(node);
}

#[tokio::test(start_paused = true)]
async fn a_backlog_is_worked_off_in_batches_and_round_trips_are_shared() {
    let mut world = World::new();
    for _ in 0..5_000 {
        world.insert("orders");
    }
    let options = EngineOptions {
        concurrency: 2_000,
        event_ring: 100_000,
        ..options()
    };
    let mut node = world.start_as(
        "m1",
        vec![app("shop", "orders", "clerk", 2_000)],
        options,
        None,
    );
    node.settled_count(5_000).await;
    let claims = world.double.calls(Op::ClaimNext).len();
    let settles = world.double.calls(Op::Settle).len();
    assert!(
        claims < 40 && settles < 60,
        "{claims} claims, {settles} settlements for 5,000 tasks"
    );
    let status = node.handle.status().await.unwrap();
    assert_eq!((status.counters.completed, status.slots_used), (5_000, 0));
}

#[tokio::test(start_paused = true)]
async fn settle_and_claim_go_together_when_tasks_follow_each_other() {
    let mut world = World::new();
    for _ in 0..20 {
        world.insert("orders");
    }
    let mut node = world.start(vec![app("shop", "orders", "clerk", 1)]);
    node.settled_count(20).await;
    let (claims, settles) = (
        world.double.calls(Op::ClaimNext),
        world.double.calls(Op::Settle),
    );
    let shared = settles
        .iter()
        .filter(|settle| {
            claims
                .iter()
                .any(|claim| claim.detail == settle.detail && !settle.detail.is_empty())
        })
        .count();
    assert!(shared >= 15, "{shared} of 20 settlements rode with a claim");
}

#[tokio::test(start_paused = true)]
async fn the_start_takes_the_newest_first_and_then_all_others() {
    let mut world = World::silent();
    let mut tasks = Vec::new();
    for _ in 0..8 {
        tasks.push(world.insert("orders"));
        pass(Duration::from_secs(1)).await;
    }
    let options = EngineOptions {
        sweep_page: 3,
        ..options()
    };
    let mut node = world.start_as("m1", vec![app("shop", "orders", "clerk", 1)], options, None);
    node.settled_count(8).await;
    let order: Vec<usize> = world
        .agents
        .started
        .lock()
        .iter()
        .map(|(task, ..)| tasks.iter().position(|t| t == task).unwrap())
        .collect();
    assert_eq!(order, [7, 6, 5, 0, 1, 2, 3, 4]);
}

#[tokio::test(start_paused = true)]
async fn the_start_also_takes_what_failed_on_another_machine() {
    let mut world = World::silent();
    let task = world.insert("orders");
    {
        let mut other = world.start_as(
            "m0",
            vec![app("shop", "orders", "failing", 1)],
            options(),
            None,
        );
        assert_eq!(other.settled(&task).await, TaskState::Failed);
        other.handle.shutdown();
        world.stopped().await;
    }
    let mut node = world.start(vec![app("shop", "orders", "clerk", 1)]);
    assert_eq!(node.settled(&task).await, TaskState::Completed);
    assert_eq!(world.view(&task).await.task.attempt, 2);
}

#[tokio::test(start_paused = true)]
async fn routes_choose_the_agent_and_leave_other_tables_alone() {
    let mut world = World::new();
    let mut node = world.start(vec![
        app("shop", "orders", "clerk", 1),
        app("desk", "tickets", "failing", 1),
    ]);
    let (order, ticket, other) = (
        world.insert("orders"),
        world.insert("tickets"),
        world.insert("letters"),
    );
    node.settled_count(2).await;
    assert_eq!(world.state(&ticket).await, TaskState::Failed);
    assert_eq!(world.state(&order).await, TaskState::Completed);
    pass(Duration::from_mins(5)).await;
    assert_eq!(world.state(&other).await, TaskState::Pending);
}

#[tokio::test(start_paused = true)]
async fn filters_are_part_of_the_route() {
    let mut world = World::new();
    let manifest = r#"{"name": "shop", "config": {
        "supabase": {"tables": ["orders"], "filter": "total=gt.100", "max_concurrent_tasks": 5},
        "agentHandlers": [{"tableName": "orders", "agentId": "clerk"}]}}"#;
    let mut node = world.start(vec![App::parse(manifest, None).unwrap()]);
    let small = world.insert_row("orders", r#"{"total": 5}"#);
    let large = world.insert_row("orders", r#"{"total": 500}"#);
    assert_eq!(node.settled(&large).await, TaskState::Completed);
    pass(Duration::from_mins(2)).await;
    assert_eq!(world.state(&small).await, TaskState::Pending);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_agent_is_named_and_its_tasks_stay() {
    let mut world = World::new();
    let task = world.insert("orders");
    let node = world.start(vec![app("shop", "orders", "ghost", 1)]);
    pass(Duration::from_mins(2)).await;
    let problems = node.handle.status().await.unwrap().problems;
    assert!(problems[0].problem.contains("ghost") && problems[0].problem.contains("clerk"));
    assert_eq!(world.state(&task).await, TaskState::Pending);
}

#[tokio::test(start_paused = true)]
async fn a_panicking_runner_is_a_failed_attempt() {
    let mut world = World::new();
    let mut node = world.start(vec![app("shop", "orders", "broken", 1)]);
    let task = world.insert("orders");
    let error = node
        .hear(|what| match what {
            What::Failed { error, .. } => Some(error.clone()),
            _ => None,
        })
        .await;
    assert!(error.contains("the agent is broken"), "{error}");
    assert_eq!(world.state(&task).await, TaskState::Failed);
    let status = node.handle.status().await.unwrap();
    assert_eq!((status.counters.panics, status.slots_used), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn the_gate_is_closed_under_load_and_opened_after_it() {
    let mut world = World::new();
    for _ in 0..2_000 {
        world.insert("orders");
    }
    let mut node = world.start(vec![app("shop", "orders", "clerk", 50)]);
    node.settled_count(2_000).await;
    pass(Duration::from_secs(1)).await;
    let told = world.double.told_busy();
    assert_eq!((told.first(), told.last()), (Some(&true), Some(&false)));
    // A row that nobody announced because the gate was closed is found by the look after its opening.
    assert!(node.handle.status().await.unwrap().running.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_place_freed_by_one_source_serves_another() {
    let mut world = World::new();
    let other = World::new();
    let runner = world.agents.runner();
    let source = |name: &str, double: &crate::double::Double, app: &str| {
        let double = Arc::new(double.clone());
        Source::new(name, double.clone(), double).serving([AppId::new(app).unwrap()])
    };
    let engine = Engine::builder()
        .machine(MachineId::new("m1").unwrap())
        .clock(Arc::new(world.clock.clone()))
        .ids(Arc::new(SequentialIds::default()))
        .agents(runner.specs())
        .runner(Arc::new(runner))
        .options(EngineOptions {
            concurrency: 1,
            ..options()
        })
        .source(source("here", &world.double, "shop"))
        .source(source("there", &other.double, "desk"))
        .apps(vec![
            app("shop", "orders", "slow", 1),
            app("desk", "tickets", "clerk", 1),
        ])
        .build()
        .unwrap();
    let node = world.spawn(engine);
    let order = world.insert("orders");
    let run = world.agents.run(&order).await;
    let ticket = other.insert("tickets");
    pass(Duration::from_mins(2)).await;
    assert_eq!(other.state(&ticket).await, TaskState::Pending);
    let freed = Instant::now();
    run.complete();
    world.agents.begun(2).await;
    assert_eq!(freed.elapsed(), Duration::ZERO);
    settle_down().await;
    assert_eq!(other.state(&ticket).await, TaskState::Completed);
    let status = node.handle.status().await.unwrap();
    assert_eq!(status.sources.len(), 2);
}

#[test]
fn an_engine_says_what_it_lacks() {
    let error = Engine::builder().build().unwrap_err().to_string();
    assert!(error.contains("machine id"), "{error}");
}

//! Settlements through bad connections.

use std::time::Duration;

use proptest::prelude::*;
use rowcall_core::{ErrorClass, TaskState};
use rowcall_engine::{EngineOptions, Heard, What};
use tokio::time::Instant;

use crate::{
    double::{Fault, Op},
    world::{World, app, done, options, pass},
};

#[tokio::test(start_paused = true)]
async fn a_settlement_is_kept_through_an_outage() {
    let mut world = World::new();
    let mut node = world.start(vec![app("shop", "orders", "slow", 1)]);
    let task = world.insert("orders");
    let run = world.agents.run(&task).await;
    world.double.set_down(true);
    run.end(done(r#"{"n":1}"#));
    // Longer than the lease lives: nobody could take it, so the result still counts.
    pass(Duration::from_mins(10)).await;
    let status = node.handle.status().await.unwrap();
    assert_eq!(status.sources[0].settling, 1);
    world.double.set_down(false);
    assert_eq!(node.settled(&task).await, TaskState::Completed);
    assert_eq!(world.view(&task).await.result.unwrap().get(), r#"{"n":1}"#);
    assert_eq!(world.view(&task).await.task.attempt, 1);
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_is_not_a_lost_result() {
    let mut world = World::new();
    let mut node = world.start(vec![app("shop", "orders", "slow", 1)]);
    let task = world.insert("orders");
    let run = world.agents.run(&task).await;
    world.double.fault(Op::Settle, Fault::LoseAnswer);
    run.end(done(r#"{"n":1}"#));
    assert_eq!(node.settled(&task).await, TaskState::Completed);
    let status = node.handle.status().await.unwrap();
    assert_eq!((status.counters.fenced, status.counters.completed), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_never_answers_is_given_up() {
    let mut world = World::new();
    let mut node = world.start(vec![app("shop", "orders", "slow", 1)]);
    let task = world.insert("orders");
    let run = world.agents.run(&task).await;
    world.double.fault(Op::Settle, Fault::Hang);
    let start = Instant::now();
    run.end(done("{}"));
    assert_eq!(node.settled(&task).await, TaskState::Completed);
    assert!(
        start.elapsed() < Duration::from_secs(31),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn an_adapter_that_panics_is_an_error_like_others() {
    let mut world = World::new();
    let mut node = world.start(vec![app("shop", "orders", "clerk", 1)]);
    pass(Duration::from_secs(20)).await;
    world.double.fault(Op::ClaimNext, Fault::Panic);
    let task = world.insert("orders");
    let error = node
        .hear(|what| match what {
            What::SourceTrouble { error, .. } => Some(error.clone()),
            _ => None,
        })
        .await;
    assert!(error.contains("scripted panic"), "{error}");
    assert_eq!(node.settled(&task).await, TaskState::Completed);
}

#[tokio::test(start_paused = true)]
async fn one_refused_result_does_not_take_the_others_with_it() {
    let mut world = World::new();
    let options = EngineOptions {
        event_ring: 10_000,
        ..options()
    };
    let mut node = world.start_as("m1", vec![app("shop", "orders", "slow", 40)], options, None);
    let tasks: Vec<_> = (0..40).map(|_| world.insert("orders")).collect();
    world.agents.begun(40).await;
    world.double.set_poison("poison");
    for (index, task) in tasks.iter().enumerate() {
        let result = if index == 17 {
            r#"{"p":"poison"}"#
        } else {
            "{}"
        };
        world.agents.run(task).await.end(done(result));
    }
    node.settled_count(40).await;
    for (index, task) in tasks.iter().enumerate() {
        let expected = if index == 17 {
            TaskState::Failed
        } else {
            TaskState::Completed
        };
        assert_eq!(world.state(task).await, expected, "task {index}");
    }
    let error = world.view(&tasks[17]).await.error_message.unwrap();
    assert!(
        error.contains("could not be stored") && error.contains("Unicode"),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_refused_claim_of_one_app_does_not_stop_the_others() {
    let mut world = World::silent();
    let mut node = world.start(vec![
        app("shop", "orders", "clerk", 1),
        app("desk", "tickets", "clerk", 1),
    ]);
    world.double.send(rowcall_core::Signal::Up);
    pass(Duration::from_mins(2)).await;
    world.double.forget_calls();
    for _ in 0..6 {
        world
            .double
            .fault(Op::ClaimNext, Fault::Reject(ErrorClass::Permanent));
    }
    let (order, ticket) = (world.insert("orders"), world.insert("tickets"));
    world.double.send(rowcall_core::Signal::Dirty {
        table: rowcall_core::TableName::activities(),
        task: None,
    });
    node.settled_count(2).await;
    assert_eq!(world.state(&order).await, TaskState::Completed);
    assert_eq!(world.state(&ticket).await, TaskState::Completed);
    let claims = world.double.calls(Op::ClaimNext).len();
    assert!(
        claims < 20,
        "{claims} claims: refused ones are not repeated in a hurry"
    );
}

#[tokio::test(start_paused = true)]
async fn a_claim_whose_answer_is_lost_comes_back_when_its_lease_is_over() {
    let mut world = World::new();
    let mut node = world.start(vec![app("shop", "orders", "clerk", 1)]);
    pass(Duration::from_secs(20)).await;
    world.double.fault(Op::ClaimNext, Fault::LoseAnswer);
    let task = world.insert("orders");
    pass(Duration::from_secs(10)).await;
    assert_eq!(world.state(&task).await, TaskState::Claimed);
    assert_eq!(node.settled(&task).await, TaskState::Completed);
    assert_eq!(world.view(&task).await.task.attempt, 2);
}

fn fault() -> impl Strategy<Value = (Op, Fault)> {
    let op = prop::sample::select(vec![
        Op::ClaimNext,
        Op::Settle,
        Op::Maintain,
        Op::Renew,
        Op::Release,
        Op::Inspect,
        Op::Mark,
    ]);
    let fault = prop_oneof![
        Just(Fault::Reject(ErrorClass::Retryable)),
        Just(Fault::Reject(ErrorClass::Conflict)),
        Just(Fault::LoseAnswer),
        Just(Fault::Hang),
        Just(Fault::Panic),
        (1u64..600_000).prop_map(|ms| Fault::Delay(Duration::from_millis(ms))),
    ];
    (op, fault)
}

/// Runs tasks on machines whose calls fail as listed, and tells how often each task was settled, over all machines.
async fn settled_under(faults: Vec<(Op, Fault)>, tasks: usize, machines: usize) -> Vec<usize> {
    let mut world = World::new();
    let tasks: Vec<_> = (0..tasks).map(|_| world.insert("orders")).collect();
    for (op, fault) in faults {
        world.double.fault(op, fault);
    }
    let mut nodes: Vec<_> = (0..machines)
        .map(|number| {
            let apps = vec![app("shop", "orders", "clerk", 3)];
            world.start_as(&format!("m{number}"), apps, options(), None)
        })
        .collect();
    pass(Duration::from_hours(3)).await;
    let mut counts = vec![0; tasks.len()];
    for node in &mut nodes {
        while let Some(Heard::Event(event)) = node.events.try_next() {
            if let What::Settled { task, .. } = &event.what {
                counts[tasks.iter().position(|t| t == task).unwrap()] += 1;
            }
        }
    }
    for task in &tasks {
        assert_eq!(world.state(task).await, TaskState::Completed);
    }
    counts
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_faults_lose_nothing_and_double_nothing(
        faults in prop::collection::vec(fault(), 0..60),
        tasks in 1usize..40,
        machines in 1usize..4,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        let counts = runtime.block_on(settled_under(faults, tasks, machines));
        // A machine that never learnt of its own success tells of none; nobody tells of a second one.
        prop_assert!(counts.iter().all(|count| *count <= 1), "{counts:?}");
    }
}

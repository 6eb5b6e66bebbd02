//! What the engine does without signals, and how little when nothing happens.

use std::time::Duration;

use rowcall_core::{Signal, TableName, TaskState};
use tokio::time::Instant;

use crate::{
    double::Op,
    world::{World, app, pass},
};

#[tokio::test(start_paused = true)]
async fn an_idle_engine_sends_one_statement_a_minute() {
    let mut world = World::new();
    let _node = world.start(vec![app("shop", "orders", "clerk", 1)]);
    pass(Duration::from_mins(2)).await;
    world.double.forget_calls();
    pass(Duration::from_hours(1)).await;
    let calls = world.double.all_calls();
    assert!(
        calls.iter().all(|call| call.op == Op::Maintain),
        "{calls:?}"
    );
    assert!(
        (59..=61).contains(&calls.len()),
        "{} calls in an hour",
        calls.len()
    );
}

#[tokio::test(start_paused = true)]
async fn without_signals_rows_are_found_within_the_poll_interval() {
    let mut world = World::silent();
    let mut node = world.start(vec![app("shop", "orders", "clerk", 1)]);
    world.double.send(Signal::Up);
    pass(Duration::from_mins(2)).await;
    let task = world.insert("orders");
    let start = Instant::now();
    assert_eq!(node.settled(&task).await, TaskState::Completed);
    assert!(
        start.elapsed() <= Duration::from_mins(1),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn polls_are_closer_while_the_source_is_down() {
    let mut world = World::silent();
    let mut node = world.start(vec![app("shop", "orders", "clerk", 1)]);
    world.double.send(Signal::Up);
    pass(Duration::from_mins(2)).await;
    world.double.send(Signal::Down {
        reason: "the line is cut".into(),
        retry_in: Duration::from_secs(1),
    });
    pass(Duration::from_secs(20)).await;
    let status = node.handle.status().await.unwrap();
    assert!(!status.sources[0].up);
    let task = world.insert("orders");
    let start = Instant::now();
    node.settled(&task).await;
    assert!(
        start.elapsed() <= Duration::from_secs(5),
        "{:?}",
        start.elapsed()
    );
    // Back up: what was missed is looked for at once, and the polls are wide again.
    let missed = world.insert("orders");
    world.double.send(Signal::Up);
    let start = Instant::now();
    node.settled(&missed).await;
    assert_eq!(start.elapsed(), Duration::ZERO);
    pass(Duration::from_mins(1)).await;
    world.double.forget_calls();
    pass(Duration::from_mins(10)).await;
    assert!(world.double.calls(Op::Maintain).len() <= 11);
}

#[tokio::test(start_paused = true)]
async fn after_activity_the_engine_looks_again_by_itself() {
    let mut world = World::silent();
    let mut node = world.start(vec![app("shop", "orders", "clerk", 5)]);
    world.double.send(Signal::Up);
    pass(Duration::from_mins(2)).await;
    for wait in [40, 400, 4_000] {
        world.double.send(Signal::Dirty {
            table: TableName::activities(),
            task: None,
        });
        pass(Duration::from_millis(wait)).await;
        // Committed after the wake-up it shares, by a writer whose own wake-up was held back.
        let task = world.insert("orders");
        let start = Instant::now();
        node.settled(&task).await;
        assert!(
            start.elapsed() <= Duration::from_millis(wait / 4 + 100),
            "{:?}",
            start.elapsed()
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_signal_stream_that_ends_is_a_source_that_is_down() {
    let mut world = World::silent();
    let mut node = world.start(vec![app("shop", "orders", "clerk", 5)]);
    pass(Duration::from_secs(1)).await;
    let task = world.insert("orders");
    assert_eq!(node.settled(&task).await, TaskState::Completed);
}

#[tokio::test(start_paused = true)]
async fn a_source_that_fails_is_waited_out_and_shown() {
    let mut world = World::new();
    let mut node = world.start(vec![app("shop", "orders", "clerk", 5)]);
    pass(Duration::from_mins(1)).await;
    world.double.set_down(true);
    world.double.forget_calls();
    let task = world.insert("orders");
    pass(Duration::from_mins(1)).await;
    let tries = world.double.all_calls().len();
    assert!(
        (12..40).contains(&tries),
        "{tries} tries in a minute, waiting longer each time"
    );
    let status = node.handle.status().await.unwrap();
    let trouble = status.sources[0].trouble.clone().unwrap();
    assert!(trouble.contains("scripted failure"), "{trouble}");
    world.double.set_down(false);
    assert_eq!(node.settled(&task).await, TaskState::Completed);
    pass(Duration::from_secs(1)).await;
    assert_eq!(node.handle.status().await.unwrap().sources[0].trouble, None);
}

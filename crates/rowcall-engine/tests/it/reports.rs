//! Reports by webhook, case by case of the published contract.

use std::time::Duration;

use rowcall_core::{Payload, TaskId, TaskState};
use rowcall_engine::{Report, ReportReply, What};

use crate::{
    double::{Double, Fault, Op},
    world::{Node, World, app, options, pass},
};

fn completed(result: &str) -> Report {
    Report::Completed(Payload::from_text(result.to_owned()).unwrap())
}

async fn report(node: &Node, task: &rowcall_core::TaskRef, report: Report) -> ReportReply {
    node.handle.report(&task.id, None, report).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn an_outcome_is_answered_when_it_is_written() {
    let mut world = World::new();
    let node = world.start(vec![app("shop", "orders", "slow", 1)]);
    let task = world.insert("orders");
    let run = world.agents.run(&task).await;
    world
        .double
        .fault(Op::Settle, Fault::Delay(Duration::from_secs(3)));
    let reply = report(&node, &task, completed(r#"{"category":"billing"}"#)).await;
    assert_eq!(
        reply,
        ReportReply::Accepted {
            state: TaskState::Completed
        }
    );
    assert_eq!(
        world.view(&task).await.result.unwrap().get(),
        r#"{"category":"billing"}"#
    );
    assert!(
        run.context.reported.is_cancelled(),
        "the runner knows that its word no longer counts"
    );
    assert!(!run.stop.is_cancelled(), "the program may end by itself");
    run.end(crate::world::failed("exit code 1"));
    pass(Duration::from_secs(1)).await;
    assert_eq!(world.state(&task).await, TaskState::Completed);
}

#[tokio::test(start_paused = true)]
async fn a_repeat_is_fine_and_another_outcome_changes_nothing() {
    let mut world = World::new();
    let node = world.start(vec![app("shop", "orders", "slow", 1)]);
    let task = world.insert("orders");
    let run = world.agents.run(&task).await;
    let state = TaskState::Completed;
    assert_eq!(
        report(&node, &task, completed("{}")).await,
        ReportReply::Accepted { state }
    );
    assert_eq!(
        report(&node, &task, completed("{}")).await,
        ReportReply::Repeated { state }
    );
    let failed = Report::Failed("changed my mind".into());
    assert_eq!(
        report(&node, &task, failed.clone()).await,
        ReportReply::AlreadyFinal { state }
    );
    // The same once the program is gone, and from what the database says.
    run.complete();
    pass(Duration::from_secs(1)).await;
    assert_eq!(
        report(&node, &task, completed("{}")).await,
        ReportReply::Repeated { state }
    );
    assert_eq!(
        report(&node, &task, failed.clone()).await,
        ReportReply::AlreadyFinal { state }
    );
    let other = world.start_as("m1", vec![], options(), None);
    assert_eq!(
        report(&other, &task, completed("{}")).await,
        ReportReply::Repeated { state }
    );
    assert_eq!(
        report(&other, &task, failed).await,
        ReportReply::AlreadyFinal { state }
    );
}

#[tokio::test(start_paused = true)]
async fn two_reports_at_once_have_one_winner() {
    let mut world = World::new();
    let node = world.start(vec![app("shop", "orders", "slow", 1)]);
    let task = world.insert("orders");
    let _run = world.agents.run(&task).await;
    world
        .double
        .fault(Op::Settle, Fault::Delay(Duration::from_secs(1)));
    let (first, same, other) = tokio::join!(
        report(&node, &task, completed("{}")),
        report(&node, &task, completed("{}")),
        report(&node, &task, Report::Failed("no".into())),
    );
    let state = TaskState::Completed;
    assert_eq!(first, ReportReply::Accepted { state });
    assert_eq!(same, ReportReply::Repeated { state });
    assert_eq!(other, ReportReply::AlreadyFinal { state });
}

#[tokio::test(start_paused = true)]
async fn an_unknown_task_is_not_found() {
    let mut world = World::new();
    let node = world.start(vec![app("shop", "orders", "slow", 1)]);
    let id = TaskId::Uuid(uuid::Uuid::from_u128(77));
    let reply = node
        .handle
        .report(&id, None, completed("{}"))
        .await
        .unwrap();
    assert_eq!(reply, ReportReply::NotFound);
}

#[tokio::test(start_paused = true)]
async fn a_task_of_another_machine_is_refused_with_its_name() {
    let mut world = World::new();
    let _holder = world.start_as(
        "m1",
        vec![app("shop", "orders", "slow", 1)],
        options(),
        None,
    );
    let task = world.insert("orders");
    let _run = world.agents.run(&task).await;
    let other = world.start_as("m2", vec![], options(), None);
    let reply = report(&other, &task, completed("{}")).await;
    assert!(matches!(reply, ReportReply::HeldElsewhere { by: Some(by) } if by.as_str() == "m1"));
    assert_eq!(world.view(&task).await.result, None);
}

#[tokio::test(start_paused = true)]
async fn a_report_after_the_lease_is_a_conflict() {
    let mut world = World::new();
    let node = world.start(vec![app("shop", "orders", "deaf", 1)]);
    let task = world.insert("orders");
    let _run = world.agents.run(&task).await;
    let now = rowcall_core::Clock::now(&world.clock);
    world.double.model.set_lock(&task, Some("thief"), Some(now));
    // The engine does not know yet: the database's fence says so.
    let reply = report(&node, &task, completed("{}")).await;
    assert!(matches!(reply, ReportReply::LeaseLost { .. }), "{reply:?}");
    let again = report(&node, &task, completed("{}")).await;
    assert!(matches!(again, ReportReply::LeaseLost { .. }), "{again:?}");
    assert_eq!(world.view(&task).await.result, None);
}

#[tokio::test(start_paused = true)]
async fn a_report_for_a_task_that_is_pending_again_is_a_conflict() {
    let mut world = World::silent();
    let node = world.start(vec![app("desk", "tickets", "slow", 1)]);
    let task = world.insert("orders");
    let reply = report(&node, &task, completed("{}")).await;
    let state = Some(TaskState::Pending);
    assert_eq!(
        reply,
        ReportReply::LeaseLost {
            state,
            holder: None
        }
    );
}

#[tokio::test(start_paused = true)]
async fn progress_is_shown_and_changes_nothing() {
    let mut world = World::new();
    let mut node = world.start(vec![app("shop", "orders", "slow", 1)]);
    let task = world.insert("orders");
    let run = world.agents.run(&task).await;
    let state = TaskState::Processing;
    assert_eq!(
        report(&node, &task, Report::Started).await,
        ReportReply::Accepted { state }
    );
    let half = Report::Progress(Payload::from_text(r#"{"percent":50}"#.into()).unwrap());
    assert_eq!(
        report(&node, &task, half).await,
        ReportReply::Accepted { state }
    );
    let heard = node
        .hear(|what| match what {
            What::Progress { data, .. } => Some(data.get().to_owned()),
            _ => None,
        })
        .await;
    assert_eq!(heard, r#"{"percent":50}"#);
    assert!(!run.context.reported.is_cancelled());
    run.complete();
    assert_eq!(node.settled(&task).await, TaskState::Completed);
    let late = report(&node, &task, Report::Started).await;
    assert_eq!(
        late,
        ReportReply::AlreadyFinal {
            state: TaskState::Completed
        }
    );
}

#[tokio::test(start_paused = true)]
async fn failed_and_canceled_drive_the_row() {
    let mut world = World::new();
    let node = world.start(vec![app("shop", "orders", "slow", 2)]);
    let (a, b) = (world.insert("orders"), world.insert("orders"));
    let (_a, _b) = (world.agents.run(&a).await, world.agents.run(&b).await);
    let reply = report(&node, &a, Report::Failed("no such customer\0".into())).await;
    assert_eq!(
        reply,
        ReportReply::Accepted {
            state: TaskState::Failed
        }
    );
    let view = world.view(&a).await;
    assert_eq!(
        view.error_message.as_deref(),
        Some("no such customer\u{fffd}")
    );
    assert_eq!((view.task.retry_count, view.locked_by), (1, None));
    assert_eq!(view.task.attempted_by[0].as_str(), "m1");
    let reply = report(&node, &b, Report::Canceled(None)).await;
    assert_eq!(
        reply,
        ReportReply::Accepted {
            state: TaskState::Canceled
        }
    );
    assert_eq!(world.state(&b).await, TaskState::Canceled);
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_answered_in_time_and_the_result_kept() {
    let mut world = World::new();
    let mut node = world.start(vec![app("shop", "orders", "slow", 1)]);
    let task = world.insert("orders");
    let _run = world.agents.run(&task).await;
    world.double.set_down(true);
    let start = tokio::time::Instant::now();
    let reply = report(&node, &task, completed(r#"{"n":1}"#)).await;
    assert_eq!(
        reply,
        ReportReply::Unconfirmed {
            state: TaskState::Completed
        }
    );
    assert_eq!(start.elapsed(), options().report_timeout);
    world.double.set_down(false);
    assert_eq!(node.settled(&task).await, TaskState::Completed);
    let state = TaskState::Completed;
    assert_eq!(
        report(&node, &task, completed(r#"{"n":1}"#)).await,
        ReportReply::Repeated { state }
    );
}

#[tokio::test(start_paused = true)]
async fn an_old_attempt_cannot_speak_for_a_new_one() {
    let mut world = World::new();
    let node = world.start(vec![app("shop", "orders", "slow", 1)]);
    let task = world.insert("orders");
    let _run = world.agents.run(&task).await;
    let reply = node
        .handle
        .report(&task.id, Some(7), completed("{}"))
        .await
        .unwrap();
    assert!(matches!(reply, ReportReply::LeaseLost { .. }), "{reply:?}");
    let reply = node
        .handle
        .report(&task.id, Some(1), completed("{}"))
        .await
        .unwrap();
    assert_eq!(
        reply,
        ReportReply::Accepted {
            state: TaskState::Completed
        }
    );
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_outlived_its_daemon_is_heard() {
    let mut world = World::new();
    let gone = Double::new(world.double.model.clone(), false);
    let dead = world.start_over(
        gone.clone(),
        "m1",
        vec![app("shop", "orders", "deaf", 1)],
        options(),
        None,
    );
    let task = world.insert("orders");
    let _run = world.agents.run(&task).await;
    gone.set_down(true);
    dead.handle.abort();
    world.stopped().await;
    let node = world.start(vec![app("shop", "orders", "slow", 1)]);
    let reply = report(&node, &task, completed(r#"{"n":1}"#)).await;
    assert_eq!(
        reply,
        ReportReply::Accepted {
            state: TaskState::Completed
        }
    );
    assert_eq!(world.view(&task).await.result.unwrap().get(), r#"{"n":1}"#);
}

//! The reference model and PostgreSQL, step by step: the same calls give the same answers and leave the same rows, and every
//! change of state on the way is one the state machine allows.

mod side;
mod step;

use std::sync::Arc;

use proptest::{prelude::*, strategy::ValueTree, test_runner::TestRunner};
use rowcall_backend::MemoryCoordinator;
use rowcall_core::{FixedClock, SequentialIds, TaskState};

use self::{
    side::Side,
    step::{Step, step},
};
use super::database::{Database, database};

const SEQUENCES: usize = 60;
const STEPS: usize = 40;

fn state(row: &str) -> Option<TaskState> {
    row.split(' ').next().unwrap().parse().ok()
}

/// Whether this step may take a task from one state to the other. What foreign clients write is theirs.
fn allowed(step: &Step, from: Option<TaskState>, to: Option<TaskState>) -> bool {
    match (step, from, to) {
        (Step::Status { .. }, ..) => true,
        (Step::Retry(_), Some(TaskState::Canceled), Some(TaskState::Pending)) => true,
        // A stale lease is taken over in one step.
        (Step::Claim { .. }, Some(from), Some(TaskState::Claimed)) if from.is_leased() => true,
        (_, Some(from), Some(to)) => from == to || from.allows(to),
        // A word of somebody else's is mended by people only.
        (Step::Retry(_) | Step::Take(_) | Step::Cancel(_), None, Some(_)) => true,
        (_, from, to) => from == to,
    }
}

async fn compare(database: &Database, runner: &mut TestRunner) {
    let steps: Vec<Step> = prop::collection::vec(step(), STEPS)
        .new_tree(runner)
        .unwrap()
        .current();
    let clock = FixedClock::at("2026-01-01T00:00:00Z".parse().unwrap());
    let model = crate::memory::Model {
        coordinator: MemoryCoordinator::new(
            Arc::new(clock.clone()),
            Arc::new(SequentialIds::default()),
        ),
        clock,
    };
    database
        .client
        .batch_execute("truncate rtx_activities")
        .await
        .unwrap();
    let (mut memory, mut sql) = (Side::new(&model).await, Side::new(database).await);
    let mut before = memory.rows().await;
    for (number, step) in steps.iter().enumerate() {
        let said = (memory.take(step).await, sql.take(step).await);
        assert_eq!(said.0, said.1, "the answers to step {number} of {steps:#?}");
        let rows = memory.rows().await;
        assert_eq!(
            rows,
            sql.rows().await,
            "the rows after step {number} of {steps:#?}"
        );
        for (before, after) in before.iter().zip(&rows) {
            let (from, to) = (state(before), state(after));
            assert!(
                allowed(step, from, to),
                "{step:?} took a task from {from:?} to {to:?}"
            );
        }
        before = rows;
    }
}

#[tokio::test]
async fn sql_does_what_the_model_does() {
    let database = database().await;
    let mut runner = TestRunner::deterministic();
    for _ in 0..SEQUENCES {
        compare(&database, &mut runner).await;
    }
}

//! What the conformance suite does not see: signals and the model's own levers.

use std::sync::Arc;

use futures_util::{FutureExt, StreamExt};
use rowcall_core::{FixedClock, Payload, SequentialIds, Signal, ports::SignalSource};

use super::{MemoryCoordinator, NewTask, SIGNAL_BUFFER};

fn model() -> MemoryCoordinator {
    let clock = FixedClock::at(jiff::Timestamp::UNIX_EPOCH);
    MemoryCoordinator::new(Arc::new(clock), Arc::new(SequentialIds::default()))
}

#[tokio::test]
async fn signals_say_up_and_then_what_changed() {
    let model = model();
    let mut signals = model.signals();
    assert_eq!(signals.next().await, Some(Signal::Up));
    let task = model.insert(NewTask::direct(Payload::empty_object()));
    let Some(Signal::Dirty { task: told, .. }) = signals.next().await else {
        panic!("an insert is a signal");
    };
    assert_eq!(told, Some(task));
}

#[tokio::test]
async fn a_listener_that_sleeps_loses_signals_and_blocks_nobody() {
    let model = model();
    let mut signals = model.signals();
    for _ in 0..SIGNAL_BUFFER + 10 {
        model.insert(NewTask::direct(Payload::empty_object()));
    }
    let mut heard = 0;
    while let Some(Some(Signal::Dirty { .. } | Signal::Up)) = signals.next().now_or_never() {
        heard += 1;
    }
    assert_eq!(heard, SIGNAL_BUFFER + 1);
}

//! The reference model passes its own suite.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use jiff::Timestamp;
use rowcall_backend::{MemoryCoordinator, NewTask, conformance::Fixture};
use rowcall_core::{
    Clock, FixedClock, SequentialIds, TaskRef,
    ports::{Coordinator, TaskAdmin},
};

pub(crate) struct Model {
    pub(crate) clock: FixedClock,
    pub(crate) coordinator: MemoryCoordinator,
}

fn model() -> Model {
    let clock = FixedClock::at("2026-01-01T00:00:00Z".parse::<Timestamp>().unwrap());
    let coordinator =
        MemoryCoordinator::new(Arc::new(clock.clone()), Arc::new(SequentialIds::default()));
    Model { clock, coordinator }
}

#[async_trait]
impl Fixture for Model {
    fn coordinator(&self) -> &dyn Coordinator {
        &self.coordinator
    }

    fn admin(&self) -> Option<&dyn TaskAdmin> {
        Some(&self.coordinator)
    }

    async fn insert(&self, task: NewTask) -> TaskRef {
        self.clock.advance(Duration::from_millis(1));
        self.coordinator.insert(task)
    }

    async fn age(&self, task: &TaskRef, by: Duration) {
        self.coordinator.age(task, by);
    }

    async fn set_status(&self, task: &TaskRef, status: Option<&str>) {
        self.coordinator.set_status(task, status);
    }

    async fn set_lock(&self, task: &TaskRef, by: Option<&str>, since: Option<Duration>) {
        let at = since.map(|since| self.clock.now().checked_sub(since).unwrap());
        self.coordinator.set_lock(task, by, at);
    }

    async fn set_nulls(&self, task: &TaskRef) {
        self.coordinator.set_nulls(task);
    }
}

rowcall_backend::conformance!(model());

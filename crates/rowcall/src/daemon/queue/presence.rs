//! Noting what this worker does, and telling its channel.

use std::sync::Arc;

use async_trait::async_trait;
use rowcall_backend::queue::{QueueBackend, QueueName};
use rowcall_core::{
    AgentError, AgentOutput, Clock as _, TaskId, TaskRef,
    ports::{AgentRunner, RunContext},
};
use tokio_util::sync::CancellationToken;

use super::wake::Presence;
use crate::system::SystemClock;

/// Says *busy* before a message is handled, and *idle* after the last one.
pub(super) struct Announcing {
    inner: Arc<dyn AgentRunner>,
    backend: QueueBackend,
    presence: Presence,
}

impl Announcing {
    pub(super) fn new(
        inner: Arc<dyn AgentRunner>,
        backend: QueueBackend,
        presence: Presence,
    ) -> Self {
        Self {
            inner,
            backend,
            presence,
        }
    }

    fn begin(&self, task: &TaskRef) -> Option<Busy> {
        let TaskId::Key(id) = &task.id else {
            return None;
        };
        let queue = self.backend.queue_of(&task.table)?.clone();
        let id = id.parse().ok()?;
        let presence = self.presence.clone();
        presence.book.lock().begin(&queue, id, SystemClock.now());
        presence.publish();
        Some(Busy {
            presence,
            queue,
            id,
        })
    }
}

/// A message being handled; ends when dropped, however the run ended.
struct Busy {
    presence: Presence,
    queue: QueueName,
    id: i64,
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.presence.book.lock().end(&self.queue, self.id);
        self.presence.publish();
    }
}

#[async_trait]
impl AgentRunner for Announcing {
    async fn run(
        &self,
        context: RunContext,
        stop: CancellationToken,
    ) -> Result<AgentOutput, AgentError> {
        let _busy = self.begin(&context.task.task);
        self.backend.started(&context.task.task);
        self.inner.run(context, stop).await
    }
}

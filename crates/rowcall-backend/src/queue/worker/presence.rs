//! What others see of a worker on its channel.

use std::sync::Arc;

use rowcall_core::{Clock, LeaseKey};

use crate::queue::{
    backend::QueueBackend, name::QueueName, presence::PresenceBook, signals::QueueSignals,
};

/// A worker on its channel.
pub(super) struct Seen<'a> {
    book: PresenceBook,
    source: &'a QueueSignals,
    backend: &'a QueueBackend,
    clock: Arc<dyn Clock>,
}

impl<'a> Seen<'a> {
    /// Says that it has come.
    pub(super) fn new(
        name: &str,
        source: &'a QueueSignals,
        backend: &'a QueueBackend,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let queues = backend.specs().iter().map(|spec| spec.name.clone());
        let seen = Self {
            book: PresenceBook::new(name, queues),
            source,
            backend,
            clock,
        };
        seen.source.publish(seen.book.presence());
        seen
    }

    /// A handler is about to run.
    pub(super) fn begin(&mut self, lease: &LeaseKey) {
        if let Some((queue, id)) = self.job(lease) {
            self.book.begin(&queue, id, self.clock.now());
            self.source.publish(self.book.presence());
        }
    }

    /// It has ended.
    pub(super) fn end(&mut self, lease: &LeaseKey) {
        if let Some((queue, id)) = self.job(lease) {
            self.book.end(&queue, id);
            self.source.publish(self.book.presence());
        }
    }

    fn job(&self, lease: &LeaseKey) -> Option<(QueueName, i64)> {
        let queue = self.backend.queue_of(&lease.task.table)?.clone();
        Some((queue, self.backend.locate(&lease.task)?.1))
    }
}

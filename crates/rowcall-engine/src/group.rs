//! Spawned work with a name and an owner: nothing outlives the group, and a panic is a result.

use std::{any::Any, future::Future, panic::AssertUnwindSafe};

use futures_util::FutureExt as _;
use tokio::task::{AbortHandle, JoinSet};

/// A named set of spawned tasks. Dropping it aborts what still runs.
#[derive(Debug)]
pub(crate) struct TaskGroup<T> {
    name: &'static str,
    set: JoinSet<T>,
}

impl<T: Send + 'static> TaskGroup<T> {
    pub(crate) fn new(name: &'static str) -> Self {
        Self {
            name,
            set: JoinSet::new(),
        }
    }

    pub(crate) fn spawn(&mut self, task: impl Future<Output = T> + Send + 'static) -> AbortHandle {
        self.set.spawn(task)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.set.is_empty()
    }

    /// The next task that ended; `None` when nothing runs. Cancel-safe. Aborted tasks are passed over.
    pub(crate) async fn next(&mut self) -> Option<T> {
        loop {
            match self.set.join_next().await? {
                Ok(output) => return Some(output),
                Err(error) => self.note(&error),
            }
        }
    }

    /// A task that has ended already.
    pub(crate) fn try_next(&mut self) -> Option<T> {
        loop {
            match self.set.try_join_next()? {
                Ok(output) => return Some(output),
                Err(error) => self.note(&error),
            }
        }
    }

    pub(crate) fn abort(&mut self) {
        self.set.abort_all();
    }

    fn note(&self, error: &tokio::task::JoinError) {
        // Members catch their own panics, so only an abort is expected here.
        if !error.is_cancelled() {
            tracing::error!(group = self.name, %error, "a task of the engine broke down");
        }
    }
}

/// Runs a future; a panic becomes its message.
pub(crate) async fn catch_panic<T>(task: impl Future<Output = T>) -> Result<T, String> {
    AssertUnwindSafe(task)
        .catch_unwind()
        .await
        .map_err(|panic| panic_message(&*panic))
}

/// The text of a panic.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_a_result() {
        let mut group = TaskGroup::new("test");
        group.spawn(catch_panic(async {
            assert!(std::hint::black_box(false), "oh no");
        }));
        assert_eq!(group.next().await, Some(Err("oh no".to_owned())));
        assert!(group.next().await.is_none());
    }
}

//! What all loops of one engine share.

use std::{collections::BTreeSet, fmt, sync::Arc};

use rowcall_core::{
    AppId, Clock, IdSource, MachineId, RetryPolicy, Task,
    ports::{AgentRunner, Verdict},
};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{
    admission::Slots, bus::Bus, options::EngineOptions, status::Counters, store::TaskStore,
};

/// The longest error text that is written to the database, in bytes.
const MAX_ERROR_BYTES: usize = 16 * 1024;

/// A text the database can store: bounded, and without the one character that PostgreSQL has no room for.
pub(crate) fn storable(text: &str) -> String {
    let text = text.replace('\0', "\u{fffd}");
    if text.len() <= MAX_ERROR_BYTES {
        return text;
    }
    format!("{} …", &text[..text.floor_char_boundary(MAX_ERROR_BYTES)])
}

pub(crate) struct Shared {
    pub(crate) machine: MachineId,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ids: Arc<dyn IdSource>,
    pub(crate) options: EngineOptions,
    pub(crate) runner: Arc<dyn AgentRunner>,
    pub(crate) store: Arc<dyn TaskStore>,
    pub(crate) bus: Arc<Bus>,
    pub(crate) counters: Counters,
    /// The places of the machine, over all apps and sources.
    pub(crate) slots: Arc<Slots>,
    /// Canceled by a soft stop: nothing more is claimed.
    pub(crate) soft: CancellationToken,
    /// Canceled by a hard stop: agents are dropped.
    pub(crate) hard: CancellationToken,
    /// Apps that a source names for itself: the sources for everybody leave them alone.
    pub(crate) elsewhere: BTreeSet<AppId>,
    /// One per source: told when another source gave places back.
    pub(crate) freed: Vec<Arc<Notify>>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("machine", &self.machine)
            .finish_non_exhaustive()
    }
}

impl Shared {
    /// The verdict of a failed attempt: whether this machine tries again depends on the retry policy.
    pub(crate) fn failure(&self, retry: &RetryPolicy, task: &Task, error: &str) -> Verdict {
        let failures = task.retry_count.saturating_add(1);
        Verdict::Failed {
            error: storable(error),
            retry_in: retry
                .same_machine
                .filter(|_| failures < retry.max_attempts)
                .map(|backoff| backoff.delay(failures, self.ids.unit())),
        }
    }

    /// Tells the other sources that places were given back. A `Notify` keeps the news for a loop that is not waiting.
    pub(crate) fn tell_freed(&self, by: usize) {
        for (index, notify) in self.freed.iter().enumerate() {
            if index != by {
                notify.notify_one();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_texts_can_be_stored() {
        assert_eq!(storable("a\0b"), "a\u{fffd}b");
        let long = storable(&"é".repeat(MAX_ERROR_BYTES));
        assert!(long.len() < MAX_ERROR_BYTES + 8 && long.ends_with('…'));
    }
}

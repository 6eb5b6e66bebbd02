//! Which messages this process holds: for the limits per queue, and for popped messages, which are nowhere else.

use std::{collections::HashMap, time::Duration};

use jiff::Timestamp;
use rowcall_core::Payload;
use tokio::time::Instant;

/// One held message.
#[derive(Debug)]
struct Held {
    /// When its lease runs out unless renewed; then it no longer counts.
    until: Instant,
    kept: Option<Kept>,
    /// It was ended, and the answer about it has not been given yet.
    ended: bool,
    /// How long it had been visible when it was claimed, and when that was; until its handler starts.
    waited: Option<(Duration, Instant)>,
}

/// What is remembered of a message that cannot be read again.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    pub(super) message: Payload,
    pub(super) enqueued_at: Timestamp,
    pub(super) attempt: i32,
    /// When it is visible again at the latest: counted from the answer, because the request took time.
    pub(super) back: Instant,
    /// It is nowhere else now.
    pub(super) popped: bool,
}

/// The messages this process holds.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    held: HashMap<(usize, i64), Held>,
}

impl InFlight {
    /// Notes a claim; `kept` is what cannot be read again.
    pub(super) fn claim(
        &mut self,
        (queue, id): (usize, i64),
        until: Instant,
        kept: Option<Kept>,
        waited: Option<Duration>,
    ) {
        let waited = waited.map(|waited| (waited, Instant::now()));
        let held = Held {
            until,
            kept,
            ended: false,
            waited,
        };
        self.held.insert((queue, id), held);
    }

    /// Notes a renewal.
    pub(super) fn hold(&mut self, queue: usize, id: i64, until: Instant) {
        self.held
            .entry((queue, id))
            .and_modify(|held| held.until = until)
            .or_insert(Held {
                until,
                kept: None,
                ended: false,
                waited: None,
            });
    }

    /// How long a message waited for its handler, which starts now; only once.
    pub(super) fn started(&mut self, queue: usize, id: i64) -> Option<Duration> {
        let (waited, claimed) = self.held.get_mut(&(queue, id))?.waited.take()?;
        Some(waited + claimed.elapsed())
    }

    /// A message that is ours now: what was kept of it, and until when.
    pub(super) fn kept(&self, queue: usize, id: i64, now: Instant) -> Option<(&Kept, Instant)> {
        let held = self.held.get(&(queue, id))?;
        (held.until > now).then(|| Some((held.kept.as_ref()?, held.until)))?
    }

    /// Notes that a message was ended.
    pub(super) fn note_end(&mut self, queue: usize, id: i64) {
        if let Some(held) = self.held.get_mut(&(queue, id)) {
            held.ended = true;
        }
    }

    /// Whether a message was ended before.
    pub(super) fn has_ended(&self, queue: usize, id: i64) -> bool {
        self.held.get(&(queue, id)).is_some_and(|held| held.ended)
    }

    /// Forgets a message, and returns it when it was popped.
    pub(super) fn end(&mut self, queue: usize, id: i64) -> Option<Payload> {
        let held = self.held.remove(&(queue, id))?;
        held.kept
            .filter(|kept| kept.popped)
            .map(|kept| kept.message)
    }

    /// Whether the lease on a message may have run out by then; true for one we know nothing of.
    pub(super) fn ends_before(&self, queue: usize, id: i64, then: Instant) -> bool {
        self.held
            .get(&(queue, id))
            .is_none_or(|held| held.until < then)
    }

    /// How many messages of a queue are held. Leases that ran out are forgotten, so this is bounded by what can be held.
    pub(super) fn count(&mut self, queue: usize, now: Instant) -> u32 {
        self.held.retain(|_, held| held.until > now);
        let count = self.held.keys().filter(|(held, _)| *held == queue).count();
        u32::try_from(count).unwrap_or(u32::MAX)
    }
}

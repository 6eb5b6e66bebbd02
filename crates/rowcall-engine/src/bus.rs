//! What the engine tells the world: typed events with growing ids, kept in a bounded ring.
//!
//! Subscribers read from the ring by id, so one that comes late or lags sees either every event or how many it missed.
//! Publishing never waits for anybody.

use std::{collections::VecDeque, fmt, sync::Arc};

use jiff::Timestamp;
use parking_lot::Mutex;
use rowcall_core::{AgentId, AppId, Payload, TableName, TaskRef, TaskState, ports::OutputStream};
use serde::Serialize;
use tokio::sync::watch;

/// The longest text (a log line, an error) in an event, in bytes. The store keeps the rest.
pub const MAX_EVENT_TEXT: usize = 2_048;

/// How much memory the texts and payloads of the ring may take, in bytes.
const MAX_RING_BYTES: usize = 8 * 1024 * 1024;

/// Event ids start at the wall clock's milliseconds times this, so that they grow across restarts as well: a subscriber
/// that remembers an id from before misses nothing and repeats nothing.
const IDS_PER_MILLISECOND: u64 = 1_024;

/// One event.
#[derive(Clone, Debug, Serialize)]
pub struct EngineEvent {
    /// Grows with every event of this machine, across restarts.
    pub id: u64,
    /// When, by the machine's clock.
    pub at: Timestamp,
    /// The source it concerns; empty for the engine itself.
    pub source: Arc<str>,
    /// What happened.
    #[serde(flatten)]
    pub what: What,
}

/// Where a lost lease showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FencedAt {
    /// At a heartbeat: the agent was stopped.
    Renew,
    /// At the settlement: the result was dropped.
    Settle,
    /// No renewal got through for as long as a lease lives; the agent was stopped.
    Presumed,
    /// This machine was granted a newer attempt of the same task.
    Reclaimed,
}

/// What happened.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum What {
    /// Signals flow.
    SourceUp,
    /// They do not; the engine polls more closely.
    SourceDown {
        /// Why.
        reason: String,
        /// When the source tries again, in milliseconds.
        retry_in_ms: u64,
    },
    /// A call to the source failed.
    SourceTrouble {
        /// Which call.
        during: &'static str,
        /// The error.
        error: String,
        /// When it is tried again, in milliseconds.
        retry_in_ms: u64,
    },
    /// A hint that work may be there.
    Signal {
        /// The table to look at.
        table: TableName,
        /// The row, where the source knows it.
        task: Option<TaskRef>,
    },
    /// A task is ours.
    Claimed {
        /// The task.
        task: TaskRef,
        /// Which claim of it this is.
        attempt: u32,
        /// For which app.
        app: AppId,
    },
    /// Its agent was started.
    Started {
        /// The task.
        task: TaskRef,
        /// Which attempt.
        attempt: u32,
        /// The app.
        app: AppId,
        /// The agent.
        agent: AgentId,
    },
    /// The agent said how far it is.
    Progress {
        /// The task.
        task: TaskRef,
        /// Which attempt.
        attempt: u32,
        /// What it said.
        data: Payload,
    },
    /// The agent printed a line.
    Log {
        /// The task.
        task: TaskRef,
        /// Which attempt.
        attempt: u32,
        /// On which output.
        stream: OutputStream,
        /// The line, cut to [`MAX_EVENT_TEXT`].
        line: String,
    },
    /// A verdict was written: completed or canceled.
    Settled {
        /// The task.
        task: TaskRef,
        /// Which attempt.
        attempt: u32,
        /// The app.
        app: AppId,
        /// The state it has now.
        state: TaskState,
        /// From claim to settlement, in milliseconds.
        ran_ms: u64,
    },
    /// A failed attempt was written.
    Failed {
        /// The task.
        task: TaskRef,
        /// Which attempt.
        attempt: u32,
        /// The app.
        app: AppId,
        /// Why.
        error: String,
        /// When this machine tries again, in milliseconds; other machines may at once.
        retry_in_ms: Option<u64>,
        /// It failed so often that a person must look.
        needs_attention: bool,
    },
    /// The lease was lost; what the agent did is dropped.
    Fenced {
        /// The task.
        task: TaskRef,
        /// Which attempt.
        attempt: u32,
        /// Where it showed.
        at: FencedAt,
    },
    /// A task was given back unrun, or stopped.
    Released {
        /// The task.
        task: TaskRef,
        /// Which attempt.
        attempt: u32,
    },
    /// A stale lease was returned to `pending`.
    Recovered {
        /// The task.
        task: TaskRef,
    },
    /// A task waits in the calendar for a person.
    Review {
        /// The task.
        task: TaskRef,
        /// The app.
        app: AppId,
        /// Who would handle it.
        agent: AgentId,
    },
    /// Routes or limits changed.
    AppsChanged {
        /// How many apps there are now.
        apps: usize,
    },
    /// The local store could not write.
    StoreTrouble {
        /// The error.
        error: String,
    },
    /// A soft or hard stop began.
    Stopping {
        /// Whether agents are dropped at once.
        hard: bool,
    },
}

impl What {
    /// Bytes beyond the event's own size, for the ring's bound.
    fn weight(&self) -> usize {
        match self {
            Self::SourceDown { reason: text, .. }
            | Self::SourceTrouble { error: text, .. }
            | Self::Log { line: text, .. }
            | Self::Failed { error: text, .. }
            | Self::StoreTrouble { error: text } => text.len(),
            Self::Progress { data, .. } => data.get().len(),
            _ => 0,
        }
    }
}

/// Cuts a text for an event, at a character's end.
pub(crate) fn cut(text: &str) -> String {
    text[..text.floor_char_boundary(MAX_EVENT_TEXT)].to_owned()
}

#[derive(Debug)]
struct Ring {
    events: VecDeque<EngineEvent>,
    bytes: usize,
    next_id: u64,
    capacity: usize,
}

/// The ring and who waits for it.
pub(crate) struct Bus {
    ring: Mutex<Ring>,
    latest: watch::Sender<u64>,
}

impl fmt::Debug for Bus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bus").finish_non_exhaustive()
    }
}

impl Bus {
    pub(crate) fn new(now: Timestamp, capacity: usize) -> Self {
        let start = u64::try_from(now.as_millisecond()).unwrap_or(0) * IDS_PER_MILLISECOND;
        Self {
            ring: Mutex::new(Ring {
                events: VecDeque::new(),
                bytes: 0,
                next_id: start + 1,
                capacity,
            }),
            latest: watch::Sender::new(start),
        }
    }

    /// Publishes events of one moment and one source, in order.
    pub(crate) fn publish(
        &self,
        at: Timestamp,
        source: &Arc<str>,
        whats: impl IntoIterator<Item = What>,
    ) {
        let mut ring = self.ring.lock();
        for what in whats {
            let id = ring.next_id;
            ring.next_id += 1;
            ring.bytes += what.weight();
            ring.events.push_back(EngineEvent {
                id,
                at,
                source: Arc::clone(source),
                what,
            });
            while ring.events.len() > ring.capacity || ring.bytes > MAX_RING_BYTES {
                let Some(old) = ring.events.pop_front() else {
                    break;
                };
                ring.bytes -= old.what.weight();
            }
        }
        let latest = ring.next_id - 1;
        drop(ring);
        if self.latest.receiver_count() > 0 {
            self.latest.send_replace(latest);
        }
    }

    /// Events after `after`; `None` means those from now on.
    pub(crate) fn subscribe(self: &Arc<Self>, after: Option<u64>) -> Subscription {
        let wake = self.latest.subscribe();
        let ring = self.ring.lock();
        let cursor = after.unwrap_or(ring.next_id - 1).min(ring.next_id - 1);
        drop(ring);
        Subscription {
            bus: Arc::clone(self),
            wake,
            cursor,
            buffer: VecDeque::new(),
        }
    }

    /// Up to `limit` events after `cursor`, and how many were pushed out before they could be read.
    fn read(&self, cursor: u64, limit: usize) -> (u64, VecDeque<EngineEvent>) {
        let ring = self.ring.lock();
        let Some(first) = ring.events.front().map(|event| event.id) else {
            return (0, VecDeque::new());
        };
        let missed = (first - 1).saturating_sub(cursor);
        let skip = usize::try_from((cursor + 1).saturating_sub(first)).unwrap_or(usize::MAX);
        let events = ring.events.iter().skip(skip).take(limit).cloned().collect();
        (missed, events)
    }
}

/// How many events a subscription copies out of the ring at once.
const READ_AT_ONCE: usize = 256;

/// What a subscription yields.
#[derive(Clone, Debug)]
pub enum Heard {
    /// The next event.
    Event(Box<EngineEvent>),
    /// So many events were pushed out of the ring before this subscriber read them.
    Missed(u64),
}

/// A reader of the engine's events.
pub struct Subscription {
    bus: Arc<Bus>,
    wake: watch::Receiver<u64>,
    cursor: u64,
    buffer: VecDeque<EngineEvent>,
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("cursor", &self.cursor)
            .finish_non_exhaustive()
    }
}

impl Subscription {
    /// The next event, waiting for it. Cancel-safe. It never ends by itself: the engine's last event is `stopping`.
    pub async fn next(&mut self) -> Heard {
        loop {
            if let Some(heard) = self.try_next() {
                return heard;
            }
            // The sender lives in the bus that we hold, so this cannot fail; new events are seen by the next read.
            let _ = self.wake.changed().await;
        }
    }

    /// The next event, if there is one already.
    pub fn try_next(&mut self) -> Option<Heard> {
        if self.buffer.is_empty() {
            self.wake.mark_unchanged();
            let (missed, events) = self.bus.read(self.cursor, READ_AT_ONCE);
            self.buffer = events;
            if missed > 0 {
                self.cursor += missed;
                return Some(Heard::Missed(missed));
            }
        }
        let event = self.buffer.pop_front()?;
        self.cursor = event.id;
        Some(Heard::Event(Box::new(event)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bus(capacity: usize) -> (Arc<Bus>, Arc<str>) {
        (
            Arc::new(Bus::new(Timestamp::UNIX_EPOCH, capacity)),
            "s".into(),
        )
    }

    fn ids(subscription: &mut Subscription) -> Vec<Result<u64, u64>> {
        std::iter::from_fn(|| subscription.try_next())
            .map(|heard| match heard {
                Heard::Event(event) => Ok(event.id),
                Heard::Missed(missed) => Err(missed),
            })
            .collect()
    }

    #[test]
    fn a_late_subscriber_replays_from_its_id() {
        let (bus, name) = bus(10);
        bus.publish(Timestamp::UNIX_EPOCH, &name, vec![What::SourceUp; 4]);
        let mut from_now = bus.subscribe(None);
        let mut replay = bus.subscribe(Some(2));
        bus.publish(Timestamp::UNIX_EPOCH, &name, [What::SourceUp]);
        assert_eq!(ids(&mut from_now), [Ok(5)]);
        assert_eq!(ids(&mut replay), [Ok(3), Ok(4), Ok(5)]);
    }

    #[test]
    fn a_lagging_subscriber_learns_what_it_missed() {
        let (bus, name) = bus(3);
        let mut slow = bus.subscribe(None);
        bus.publish(Timestamp::UNIX_EPOCH, &name, vec![What::SourceUp; 5]);
        assert_eq!(ids(&mut slow), [Err(2), Ok(3), Ok(4), Ok(5)]);
    }

    #[test]
    fn the_ring_is_bounded_in_bytes() {
        let (bus, name) = bus(1_000_000);
        let line = "x".repeat(MAX_EVENT_TEXT);
        for _ in 0..10 {
            let lines = (0..1_000).map(|_| What::StoreTrouble {
                error: line.clone(),
            });
            bus.publish(Timestamp::UNIX_EPOCH, &name, lines);
        }
        let ring = bus.ring.lock();
        assert!(ring.bytes <= MAX_RING_BYTES && ring.events.len() >= 4_000);
    }

    #[tokio::test]
    async fn waiting_ends_with_the_next_event() {
        let (bus, name) = bus(10);
        let mut subscription = bus.subscribe(None);
        let (heard, ()) = tokio::join!(subscription.next(), async {
            tokio::task::yield_now().await;
            bus.publish(Timestamp::UNIX_EPOCH, &name, [What::SourceUp]);
        });
        assert!(matches!(heard, Heard::Event(event) if event.id == 1));
    }

    #[test]
    fn texts_are_cut_at_a_character() {
        let text = "é".repeat(MAX_EVENT_TEXT);
        assert_eq!(cut(&text).len(), MAX_EVENT_TEXT);
        assert!(cut("short") == "short");
    }
}

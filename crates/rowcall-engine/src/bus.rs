//! What the engine tells the world: typed events with growing ids, kept in a bounded ring.
//!
//! Subscribers read from the ring by id, so one that comes late or lags sees either every event or how many it missed.
//! Publishing never waits for anybody.

mod event;

use std::{collections::VecDeque, fmt, sync::Arc};

use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::watch;

pub(crate) use self::event::cut;
pub use self::event::{EngineEvent, FencedAt, MAX_EVENT_TEXT, What};

/// How much memory the texts and payloads of the ring may take, in bytes.
const MAX_RING_BYTES: usize = 8 * 1024 * 1024;

/// Event ids start at the wall clock's milliseconds times this, so that they grow across restarts as well: a subscriber
/// that remembers an id from before misses nothing and repeats nothing.
const IDS_PER_MILLISECOND: u64 = 1_024;

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

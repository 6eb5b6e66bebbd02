//! The bounded queue between the driver and the user of a channel.

use std::{collections::VecDeque, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::channel::Event;

/// How much may wait for the user of a channel.
#[derive(Debug, Clone, Copy)]
pub struct InboxLimits {
    /// Events.
    pub events: usize,
    /// Their weight, in bytes.
    pub bytes: usize,
}

impl Default for InboxLimits {
    fn default() -> Self {
        Self {
            events: 4_096,
            bytes: 16 << 20,
        }
    }
}

#[derive(Debug, Default)]
struct Queue {
    events: VecDeque<(usize, Event)>,
    bytes: usize,
    dropped: u64,
    /// Nobody takes events any more, or none will come.
    closed: bool,
}

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    limits: InboxLimits,
    arrived: Notify,
    /// Tells the driver that the user has gone.
    left: Arc<Notify>,
}

/// The driver's end. Dropping it ends the user's stream.
#[derive(Debug)]
pub(super) struct Feed(Arc<Shared>);

/// The user's end. Dropping it leaves the channel.
#[derive(Debug)]
pub(super) struct Inbox(Arc<Shared>);

/// Makes a queue; `left` is notified when the user's end is dropped.
pub(super) fn queue(limits: InboxLimits, left: Arc<Notify>) -> (Feed, Inbox) {
    let shared = Arc::new(Shared {
        queue: Mutex::default(),
        limits,
        arrived: Notify::new(),
        left,
    });
    (Feed(Arc::clone(&shared)), Inbox(shared))
}

impl Feed {
    /// Puts an event in. When there is no room, the oldest go: events are hints, and the user is told to look for itself.
    pub(super) fn push(&self, event: Event) {
        let weight = event.weight();
        let mut queue = self.0.queue.lock();
        if queue.closed {
            return;
        }
        let limits = self.0.limits;
        while !queue.events.is_empty()
            && (queue.events.len() >= limits.events || queue.bytes + weight > limits.bytes)
        {
            if let Some((weight, _)) = queue.events.pop_front() {
                queue.bytes -= weight;
                queue.dropped += 1;
            }
        }
        queue.bytes += weight;
        queue.events.push_back((weight, event));
        drop(queue);
        self.0.arrived.notify_one();
    }

    /// Whether the user has gone.
    pub(super) fn is_abandoned(&self) -> bool {
        self.0.queue.lock().closed
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.0.queue.lock().closed = true;
        self.0.arrived.notify_one();
    }
}

impl Inbox {
    /// The next event; nothing when the driver has ended and all was taken. Cancel-safe.
    pub(super) async fn next(&mut self) -> Option<Event> {
        loop {
            {
                let mut queue = self.0.queue.lock();
                if queue.dropped > 0 {
                    let dropped = std::mem::take(&mut queue.dropped);
                    return Some(Event::Lagged { dropped });
                }
                if let Some((weight, event)) = queue.events.pop_front() {
                    queue.bytes -= weight;
                    return Some(event);
                }
                if queue.closed {
                    return None;
                }
            }
            // A permit is kept when the event comes between the look and the wait.
            self.0.arrived.notified().await;
        }
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        let mut queue = self.0.queue.lock();
        queue.closed = true;
        queue.events.clear();
        queue.bytes = 0;
        drop(queue);
        self.0.left.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::channel::Cause;

    fn down(reason: &str) -> Event {
        Event::Down {
            cause: Cause::Connection,
            reason: reason.to_owned(),
            retry_in: Duration::ZERO,
        }
    }

    fn limits(events: usize, bytes: usize) -> (Feed, Inbox) {
        queue(InboxLimits { events, bytes }, Arc::default())
    }

    #[tokio::test]
    async fn a_slow_user_hears_how_much_it_missed_and_gets_the_newest() {
        let (feed, mut inbox) = limits(2, usize::MAX);
        for n in 0..5 {
            feed.push(down(&n.to_string()));
        }
        assert!(matches!(
            inbox.next().await,
            Some(Event::Lagged { dropped: 3 })
        ));
        for expected in ["3", "4"] {
            let Some(Event::Down { reason, .. }) = inbox.next().await else {
                panic!("an event is missing");
            };
            assert_eq!(reason, expected);
        }
        drop(feed);
        assert!(inbox.next().await.is_none());
    }

    #[tokio::test]
    async fn bytes_count_too() {
        let (feed, mut inbox) = limits(1_000, 10_000);
        for _ in 0..20 {
            feed.push(down(&"x".repeat(4_000)));
        }
        assert!(feed.0.queue.lock().bytes <= 10_000);
        assert!(matches!(
            inbox.next().await,
            Some(Event::Lagged { dropped: 18 })
        ));
    }

    #[tokio::test]
    async fn an_event_larger_than_the_queue_is_delivered_alone() {
        let (feed, mut inbox) = limits(8, 1_000);
        feed.push(down("small"));
        feed.push(down(&"x".repeat(5_000)));
        assert!(matches!(
            inbox.next().await,
            Some(Event::Lagged { dropped: 1 })
        ));
        assert!(inbox.next().await.is_some());
    }
}

//! When to look at the queues: a clock without I/O, so that a simulation can drive it through any interleaving.
//!
//! A *look* arms the gate (so that senders notify again), then asks what is visible now and when the next message becomes
//! visible. What makes looks lose nothing:
//!
//! - After a notification the gate is disarmed, so a look follows `rearm` later; whatever was sent in between is seen by it.
//! - A sender that was under way when the gate was armed may have read it disarmed, and its messages may commit after the look.
//!   Looks repeat until every transaction of that time has ended (`horizon`).
//! - Whoever takes a message and crashes makes it invisible after our last look: one more look (`trailing`) learns its time.

use std::time::Duration;

/// Looks are at least this far apart, whatever asks for them.
pub(super) const MIN_GAP: Duration = Duration::from_millis(20);
/// A message is looked for this much after its time, so that the database's clock agrees.
const SLACK: Duration = Duration::from_millis(2);
/// One more look this long after a wake-up: by then whoever else was woken has taken its messages.
const TRAILING: Duration = Duration::from_secs(1);
/// How often to look while transactions from before the last arming are under way.
const RECHECK: Duration = Duration::from_millis(500);

/// How often to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rhythm {
    /// Without any reason, while wake-ups work.
    pub(super) idle: Duration,
    /// Without any reason, while they do not.
    pub(super) poll: Duration,
    /// After a notification: at most one notification per queue comes in this time.
    pub(super) rearm: Duration,
}

/// What a look found out about time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Looked {
    /// Whether messages are visible: somebody takes them now.
    pub(super) ready: bool,
    /// How long until the next message becomes visible.
    pub(super) next: Option<Duration>,
    /// The oldest transaction under way.
    pub(super) xmin: u64,
    /// The next transaction to begin.
    pub(super) xmax: u64,
    /// Whether the gate of every queue is armed now.
    pub(super) armed: bool,
}

/// The plan of the next looks. All times count from an arbitrary start.
#[derive(Clone, Debug)]
pub(super) struct Watch {
    rhythm: Rhythm,
    /// Whether wake-ups come at all.
    wakes: bool,
    busy: bool,
    last: Option<Duration>,
    rearm_at: Option<Duration>,
    /// Something changed that other workers should hear of; also while busy.
    changed_at: Option<Duration>,
    trailing_at: Option<Duration>,
    visible_at: Option<Duration>,
    poll_at: Duration,
    horizon: Option<u64>,
    /// Whether the look under way is the first since something happened.
    fresh: bool,
}

impl Watch {
    /// A plan whose first look is due at once.
    pub(super) fn new(rhythm: Rhythm, wakes: bool, now: Duration) -> Self {
        Self {
            rhythm,
            wakes,
            busy: false,
            last: None,
            rearm_at: Some(now),
            changed_at: None,
            trailing_at: None,
            visible_at: None,
            poll_at: now,
            horizon: None,
            fresh: false,
        }
    }

    /// When to look next.
    pub(super) fn next(&self) -> Duration {
        // A busy worker reads by itself: only time and the fallback make it look.
        let woken = if self.busy {
            [None, None]
        } else {
            [self.rearm_at, self.trailing_at]
        };
        let timed = [self.changed_at, self.visible_at];
        let next = woken
            .into_iter()
            .chain(timed)
            .flatten()
            .fold(self.poll_at, Duration::min);
        self.last.map_or(next, |last| next.max(last + MIN_GAP))
    }

    /// Messages were sent.
    pub(super) fn notified(&mut self, now: Duration) {
        let at = now + self.rhythm.rearm;
        self.rearm_at = Some(self.rearm_at.map_or(at, |planned| planned.min(at)));
        self.trailing_at = Some(now + TRAILING);
    }

    /// Messages were sent, and the sender keeps silent for a while after it.
    pub(super) fn gated(&mut self, now: Duration, silence: Duration) {
        self.notified(now);
        let at = now + silence + self.rhythm.rearm;
        self.trailing_at = self.trailing_at.max(Some(at));
    }

    /// Wake-ups come, or do not come any more.
    pub(super) fn set_wakes(&mut self, wakes: bool, now: Duration) {
        self.wakes = wakes;
        if wakes {
            self.rearm_at = Some(now);
        } else {
            self.poll_at = self.poll_at.min(now + self.rhythm.poll);
        }
    }

    /// Something changed that no sender tells: look soon, but not for each change.
    pub(super) fn changed(&mut self, now: Duration) {
        let gap = self
            .last
            .map_or(now, |last| now.max(last + self.rhythm.rearm));
        self.changed_at.get_or_insert(gap);
    }

    /// The worker is busy anyway, or waits again.
    pub(super) fn set_busy(&mut self, busy: bool, now: Duration) {
        if self.busy && !busy {
            self.rearm_at = Some(now);
        }
        self.busy = busy;
    }

    /// A look begins; whether it should arm the gate.
    pub(super) fn begin(&mut self, now: Duration) -> bool {
        self.fresh = self.rearm_at.is_some_and(|at| at <= now);
        if self.fresh {
            self.rearm_at = None;
        }
        for planned in [&mut self.trailing_at, &mut self.changed_at] {
            if planned.is_some_and(|at| at <= now) {
                *planned = None;
            }
        }
        self.wakes && !self.busy
    }

    /// A look ended. `now` is when it began: what it found is at least as new.
    pub(super) fn looked(&mut self, now: Duration, looked: Looked) {
        self.last = Some(now);
        let every = if self.wakes {
            self.rhythm.idle
        } else {
            self.rhythm.poll
        };
        self.poll_at = now + every;
        self.visible_at = looked
            .next
            .map(|next| now.saturating_add(next).saturating_add(SLACK));
        if looked.ready {
            self.trailing_at = Some(now + TRAILING);
        }
        if self.busy || !self.wakes {
            self.horizon = None;
            return;
        }
        if !looked.armed {
            let at = now + self.rhythm.rearm;
            self.rearm_at = Some(self.rearm_at.map_or(at, |planned| planned.min(at)));
        }
        if self.fresh {
            self.horizon = Some(looked.xmax);
        }
        if self.horizon.is_some_and(|horizon| looked.xmin >= horizon) {
            self.horizon = None;
        }
        if self.horizon.is_some() {
            let at = now + RECHECK;
            self.trailing_at = Some(self.trailing_at.map_or(at, |planned| planned.min(at)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RHYTHM: Rhythm = Rhythm {
        idle: Duration::from_mins(1),
        poll: Duration::from_secs(10),
        rearm: Duration::from_millis(100),
    };

    fn quiet() -> Looked {
        Looked {
            ready: false,
            next: None,
            xmin: 7,
            xmax: 7,
            armed: true,
        }
    }

    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn an_idle_worker_looks_once_a_minute() {
        let mut watch = Watch::new(RHYTHM, true, at(0));
        let mut looks = Vec::new();
        while looks.len() < 4 {
            let now = watch.next();
            looks.push(now.as_secs());
            assert!(watch.begin(now));
            watch.looked(now, quiet());
        }
        assert_eq!(looks, [0, 60, 120, 180]);
    }

    #[test]
    fn without_wake_ups_it_polls() {
        let mut watch = Watch::new(RHYTHM, false, at(0));
        assert!(!watch.begin(at(0)));
        watch.looked(at(0), quiet());
        assert_eq!(watch.next(), RHYTHM.poll);
    }

    #[test]
    fn a_notification_is_followed_by_two_looks() {
        let mut watch = Watch::new(RHYTHM, true, at(0));
        watch.begin(at(0));
        watch.looked(at(0), quiet());
        watch.notified(at(5_000));
        assert_eq!(watch.next(), at(5_100));
        watch.begin(at(5_100));
        watch.looked(at(5_100), quiet());
        assert_eq!(watch.next(), at(6_000));
        watch.begin(at(6_000));
        watch.looked(at(6_000), quiet());
        assert_eq!(watch.next(), at(66_000));
    }

    #[test]
    fn transactions_from_before_keep_it_looking() {
        let mut watch = Watch::new(RHYTHM, true, at(0));
        watch.begin(at(0));
        watch.looked(at(0), Looked { xmin: 3, ..quiet() });
        assert_eq!(watch.next(), at(500));
        watch.begin(at(500));
        watch.looked(
            at(500),
            Looked {
                xmin: 3,
                xmax: 20,
                ..quiet()
            },
        );
        assert_eq!(watch.next(), at(1_000));
        watch.begin(at(1_000));
        // Newer ones do not matter.
        watch.looked(
            at(1_000),
            Looked {
                xmin: 7,
                xmax: 30,
                ..quiet()
            },
        );
        assert_eq!(watch.next(), at(61_000));
    }

    #[test]
    fn a_gated_sender_is_looked_after() {
        let mut watch = Watch::new(RHYTHM, true, at(0));
        watch.begin(at(0));
        watch.looked(at(0), quiet());
        watch.gated(at(1_000), at(5_000));
        let looks: Vec<Duration> = (0..2)
            .map(|_| {
                let now = watch.next();
                watch.begin(now);
                watch.looked(now, quiet());
                now
            })
            .collect();
        assert_eq!(looks, [at(1_100), at(6_100)]);
    }

    #[test]
    fn losing_wake_ups_makes_it_poll_and_their_return_makes_it_look() {
        let mut watch = Watch::new(RHYTHM, true, at(0));
        watch.begin(at(0));
        watch.looked(at(0), quiet());
        watch.set_wakes(false, at(1_000));
        assert_eq!(watch.next(), at(11_000));
        watch.set_wakes(true, at(2_000));
        assert_eq!(watch.next(), at(2_000));
    }

    #[test]
    fn delayed_messages_have_their_time() {
        let mut watch = Watch::new(RHYTHM, true, at(0));
        watch.begin(at(0));
        watch.looked(
            at(0),
            Looked {
                next: Some(at(2_000)),
                ..quiet()
            },
        );
        assert_eq!(watch.next(), at(2_002));
    }

    #[test]
    fn looks_never_spin() {
        let mut watch = Watch::new(RHYTHM, true, at(0));
        watch.begin(at(0));
        watch.looked(
            at(0),
            Looked {
                next: Some(at(0)),
                ..quiet()
            },
        );
        watch.notified(at(1));
        assert_eq!(watch.next(), MIN_GAP);
    }

    #[test]
    fn changes_are_told_even_when_busy_but_not_each() {
        let mut watch = Watch::new(RHYTHM, true, at(0));
        watch.begin(at(0));
        watch.looked(at(0), quiet());
        watch.set_busy(true, at(1));
        watch.notified(at(2));
        assert_eq!(watch.next(), RHYTHM.idle);
        watch.changed(at(3));
        assert_eq!(watch.next(), at(100));
        assert!(!watch.begin(at(100)), "a busy worker arms nothing");
        watch.looked(at(100), quiet());
        watch.set_busy(false, at(500));
        assert_eq!(watch.next(), at(500));
    }
}

//! B4: no interleaving of senders, looks and claims leaves a message waiting.
//!
//! A model of the database (transactions with ids, the gate with its row lock, notifications at commit) drives real
//! [`Watch`]es through random interleavings: transactions of any length, roll-backs, delayed messages, crashes of whoever
//! took a message. Fallback polling is set to 60 s, so whatever it would have to save counts as late.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    time::Duration,
};

use super::watch::{Looked, Rhythm, Watch};

const MESSAGES: usize = 10_000;
const PER_RUN: usize = 40;
/// The bound of B4.
const LATE: Duration = Duration::from_secs(1);

/// A small generator with a seed per run, so that a failure names its run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) % limit
    }

    fn millis(&mut self, limit: u64) -> Duration {
        Duration::from_micros(self.below(limit * 1_000))
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// A sender inserts; its trigger reads the gate.
    Send(usize),
    /// A sender's transaction ends.
    End(usize),
    /// A notification reaches a worker.
    Notified(usize),
    /// A worker looks, if its plan still says so.
    Look(usize),
    /// The second half of a look: what it sees.
    See(usize),
    /// A worker reads messages.
    Claim(usize),
}

#[derive(Clone, Debug, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts of a model"
)]
struct Message {
    delay: Duration,
    length: Duration,
    rolls_back: bool,
    notifies: bool,
    locks: bool,
    /// When it could be read: at commit, after its delay, after the crash of whoever had it.
    visible: Option<Duration>,
    crashes: bool,
    done: bool,
}

struct World {
    random: Random,
    now: Duration,
    order: u64,
    events: BinaryHeap<Reverse<(Duration, u64, Event)>>,
    messages: Vec<Message>,
    armed: bool,
    locked_by: Option<usize>,
    next_xid: u64,
    running: BTreeMap<u64, usize>,
    watches: Vec<Watch>,
    looking: Vec<Option<Duration>>,
    worst: Duration,
    notifications: usize,
}

impl World {
    fn new(seed: u64, workers: usize) -> Self {
        let rhythm = Rhythm {
            idle: Duration::from_mins(1),
            poll: Duration::from_secs(10),
            rearm: Duration::from_millis(100),
        };
        let mut world = Self {
            random: Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
            now: Duration::ZERO,
            order: 0,
            events: BinaryHeap::new(),
            messages: Vec::new(),
            armed: false,
            locked_by: None,
            next_xid: 100,
            running: BTreeMap::new(),
            watches: vec![Watch::new(rhythm, true, Duration::ZERO); workers],
            looking: vec![None; workers],
            worst: Duration::ZERO,
            notifications: 0,
        };
        let mut at = Duration::ZERO;
        for index in 0..PER_RUN {
            let random = &mut world.random;
            at += if random.one_in(4) {
                random.millis(3_000)
            } else {
                random.millis(60)
            };
            let message = Message {
                delay: if random.one_in(6) {
                    random.millis(4_000)
                } else {
                    Duration::ZERO
                },
                length: if random.one_in(5) {
                    random.millis(8_000)
                } else {
                    random.millis(30)
                },
                rolls_back: random.one_in(12),
                crashes: random.one_in(8),
                ..Message::default()
            };
            world.messages.push(message);
            world.at(at, Event::Send(index));
        }
        for worker in 0..workers {
            world.plan(worker);
        }
        world
    }

    fn at(&mut self, at: Duration, event: Event) {
        self.order += 1;
        self.events.push(Reverse((at, self.order, event)));
    }

    fn soon(&mut self, millis: u64, event: Event) {
        let at = self.now + self.random.millis(millis);
        self.at(at, event);
    }

    /// Puts the next look of a worker on the agenda; outdated entries are ignored when they come.
    fn plan(&mut self, worker: usize) {
        let at = self.watches[worker].next().max(self.now);
        self.at(at, Event::Look(worker));
    }

    fn run(mut self) -> (Duration, usize) {
        while let Some(Reverse((at, _, event))) = self.events.pop() {
            self.now = at;
            if self
                .messages
                .iter()
                .all(|message| message.done || (message.rolls_back && message.visible.is_none()))
                && self.running.is_empty()
                && !matches!(event, Event::Send(_))
            {
                return (self.worst, self.notifications);
            }
            self.step(event);
        }
        unreachable!("workers always plan another look")
    }

    fn step(&mut self, event: Event) {
        match event {
            Event::Send(index) => {
                let xid = self.next_xid;
                self.next_xid += 1;
                self.running.insert(xid, index);
                if self.armed {
                    let free = self.locked_by.is_none();
                    self.messages[index].notifies = true;
                    self.messages[index].locks = free;
                    if free {
                        self.locked_by = Some(index);
                    }
                }
                let end = self.now + self.messages[index].length;
                self.at(end, Event::End(index));
            }
            Event::End(index) => {
                self.running.retain(|_, running| *running != index);
                let message = self.messages[index].clone();
                if message.locks {
                    self.locked_by = None;
                    self.armed &= message.rolls_back;
                }
                if message.rolls_back {
                    return;
                }
                let sent = self.now.saturating_sub(message.length);
                self.messages[index].visible = Some(self.now.max(sent + message.delay));
                if message.notifies {
                    self.notifications += 1;
                    for worker in 0..self.watches.len() {
                        self.soon(20, Event::Notified(worker));
                    }
                }
            }
            Event::Notified(worker) => {
                self.watches[worker].notified(self.now);
                self.soon(10, Event::Claim(worker));
                self.plan(worker);
            }
            Event::Look(worker) => {
                if self.looking[worker].is_some() || self.watches[worker].next() > self.now {
                    return;
                }
                if self.watches[worker].begin(self.now) && self.locked_by.is_none() {
                    self.armed = true;
                }
                self.looking[worker] = Some(self.now);
                self.soon(10, Event::See(worker));
            }
            Event::See(worker) => {
                let began = self.looking[worker].take().expect("a look is under way");
                let times = self
                    .messages
                    .iter()
                    .filter(|message| !message.done)
                    .filter_map(|message| message.visible);
                let next = times.clone().filter(|at| *at > self.now).min();
                let ready = times.into_iter().any(|at| at <= self.now);
                let looked = Looked {
                    ready,
                    next: next.map(|at| at.saturating_sub(self.now)),
                    xmin: self.running.keys().next().copied().unwrap_or(self.next_xid),
                    xmax: self.next_xid,
                    armed: self.armed,
                };
                self.watches[worker].looked(began, looked);
                if ready {
                    self.soon(10, Event::Claim(worker));
                }
                self.plan(worker);
            }
            Event::Claim(_) => {
                let now = self.now;
                for index in 0..self.messages.len() {
                    let message = &mut self.messages[index];
                    let Some(visible) = message.visible.filter(|at| *at <= now && !message.done)
                    else {
                        continue;
                    };
                    self.worst = self.worst.max(now.saturating_sub(visible));
                    if message.crashes {
                        // Nobody says so: it becomes visible again after two seconds.
                        message.crashes = false;
                        message.visible = Some(now + Duration::from_secs(2));
                    } else {
                        message.done = true;
                    }
                }
            }
        }
    }
}

#[test]
fn b4_no_interleaving_wakes_late() {
    let mut notifications = 0;
    for seed in 0..(MESSAGES / PER_RUN) as u64 {
        for workers in [1, 3] {
            let (worst, sent) = World::new(seed + 1, workers).run();
            assert!(
                worst <= LATE,
                "run {seed} with {workers} workers: a message waited {worst:?}"
            );
            notifications += sent;
        }
    }
    // The gate does something, and does not close for good.
    assert!(
        notifications > MESSAGES / 10 && notifications < 2 * MESSAGES * 9 / 10,
        "{notifications}"
    );
}

//! The states of a channel and what moves it between them.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use super::{Backoff, Cause, ChannelSpec, Event, Link, PushError, PushId, Timing, track::Tracked};
use crate::{
    Outgoing, event,
    presence::{Board, Presences},
};

/// Where a channel is in its life.
#[derive(Debug)]
pub(super) enum State {
    /// There is no socket.
    Offline,
    /// The next join is made at `until`.
    Waiting { until: Instant },
    /// A join is under way.
    Joining { join_ref: String, deadline: Instant },
    /// Joined, but changes do not flow (yet). At `deadline` the channel is joined anew.
    Subscribing {
        join_ref: String,
        deadline: Instant,
        /// The server has said why not.
        denied: bool,
    },
    /// All flows.
    Live { join_ref: String, since: Instant },
}

/// One channel; see the module's description.
#[derive(Debug)]
pub struct Channel {
    pub(super) spec: ChannelSpec,
    pub(super) topic: String,
    pub(super) state: State,
    /// The server's ids of our change filters, in their order.
    pub(super) ids: Vec<i64>,
    pub(super) board: Board,
    /// The first `presence_state` of this join has come.
    pub(super) has_presence: bool,
    /// Bytes of presence frames since the board was weighed.
    pub(super) unweighed: usize,
    pub(super) tracked: Tracked,
    backoff: Backoff,
    /// The token changed while a join was under way.
    pub(super) token_stale: bool,
    /// The position of the last change, which rowcall's own server takes up after a rejoin.
    pub(super) position: Option<String>,
    /// A limit of the server that outlives the socket.
    not_before: Option<Instant>,
    pub(super) waiting: BTreeMap<String, (PushId, Instant)>,
    pub(super) events: VecDeque<Event>,
    pub(super) answered: VecDeque<(PushId, Result<(), PushError>)>,
}

impl Channel {
    /// A channel that waits for its socket.
    pub fn new(spec: ChannelSpec, timing: &Timing) -> Self {
        Self {
            topic: spec.topic(),
            spec,
            state: State::Offline,
            ids: Vec::new(),
            board: Board::new(),
            has_presence: false,
            unweighed: 0,
            tracked: Tracked::default(),
            backoff: Backoff::new(timing.backoff_base, timing.backoff_cap),
            token_stale: false,
            position: None,
            not_before: None,
            waiting: BTreeMap::new(),
            events: VecDeque::new(),
            answered: VecDeque::new(),
        }
    }

    /// The topic on the wire.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// Everybody who is present, as far as the server told.
    pub fn present(&self) -> &Presences {
        self.board.present()
    }

    /// Whether signals flow.
    pub fn is_live(&self) -> bool {
        matches!(self.state, State::Live { .. })
    }

    /// Whether signals have flowed long enough for delays to start over.
    pub fn is_stable(&self, now: Instant, timing: &Timing) -> bool {
        matches!(self.state, State::Live { since, .. } if now >= since + timing.stable_after)
    }

    /// What happened since the last call.
    pub fn pop_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// A push whose fate is known.
    pub fn pop_answered(&mut self) -> Option<(PushId, Result<(), PushError>)> {
        self.answered.pop_front()
    }

    /// There is a new socket: join, unless a limit says to wait.
    pub fn connected(&mut self, now: Instant, link: &mut Link) {
        let until = self.not_before.map_or(now, |limit| limit.max(now));
        self.state = State::Waiting { until };
        self.handle_timeout(now, link);
    }

    /// The socket is gone, or could not be made; another one is tried in `retry_in`.
    pub fn disconnected(
        &mut self,
        now: Instant,
        timing: &Timing,
        cause: Cause,
        reason: &str,
        retry_in: Duration,
    ) {
        if self.is_stable(now, timing) {
            self.backoff.reset();
        }
        self.state = State::Offline;
        self.forget_join(&PushError::Lost);
        self.say_down(cause, reason.to_owned(), retry_in);
    }

    /// The channel shall be left for good.
    pub fn leave(&mut self, link: &mut Link) {
        if let Some(join_ref) = self.join_ref().map(str::to_owned) {
            // A leave that does not fit any more is as good as sent: the socket is given up then.
            let _ = self.push(link, &join_ref, event::LEAVE, "{}");
        }
        self.state = State::Offline;
        self.forget_join(&PushError::Closed);
    }

    /// When [`Channel::handle_timeout`] is to be called next.
    pub fn next_timeout(&self, now: Instant) -> Option<Instant> {
        let state = match &self.state {
            State::Waiting { until } => Some(*until),
            State::Joining { deadline, .. } | State::Subscribing { deadline, .. } => {
                Some(*deadline)
            }
            State::Offline | State::Live { .. } => None,
        };
        let presence = if self.is_joined() {
            self.tracked.due(now)
        } else {
            None
        };
        let pushes = self.waiting.values().map(|(_, deadline)| *deadline).min();
        [state, presence, pushes].into_iter().flatten().min()
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant, link: &mut Link) {
        match &self.state {
            State::Waiting { until } if *until <= now => self.join(now, link),
            State::Joining { deadline, .. } if *deadline <= now => {
                let reason = "the server did not answer the join in time".to_owned();
                self.fail(now, link, Cause::Connection, reason);
            }
            State::Subscribing {
                deadline, denied, ..
            } if *deadline <= now => {
                if *denied {
                    self.join(now, link);
                } else {
                    let reason = "the server did not confirm the subscription to changes in time";
                    self.fail(now, link, Cause::Subscription, reason.to_owned());
                }
            }
            _ => {}
        }
        self.push_presence(now, link);
        while let Some(reference) = self
            .waiting
            .iter()
            .find(|(_, (_, deadline))| *deadline <= now)
            .map(|(reference, _)| reference.clone())
        {
            self.answer(&reference, Err(PushError::TimedOut));
        }
    }

    fn join(&mut self, now: Instant, link: &mut Link) {
        let join_ref = link.reference();
        let payload = self
            .spec
            .join_payload(link.token(), self.position.as_deref());
        let frame = Outgoing {
            join_ref: Some(&join_ref),
            reference: Some(&join_ref),
            topic: &self.topic,
            event: event::JOIN,
            payload: &payload,
        };
        self.token_stale = false;
        match link.send_frame(&frame) {
            Ok(()) => {
                let deadline = now + link.timing.join_within;
                self.state = State::Joining { join_ref, deadline };
            }
            Err(error) => self.fail(now, link, Cause::Connection, error.to_string()),
        }
    }

    /// The join was granted. `ids` are the server's ids of our filters.
    pub(super) fn joined(
        &mut self,
        now: Instant,
        link: &mut Link,
        join_ref: String,
        ids: Vec<i64>,
    ) {
        self.ids = ids;
        self.not_before = None;
        self.tracked.joined();
        if self.spec.changes.is_empty() {
            self.go_live(now, join_ref);
        } else {
            let deadline = now + link.timing.subscribe_within;
            self.state = State::Subscribing {
                join_ref,
                deadline,
                denied: false,
            };
        }
        if std::mem::take(&mut self.token_stale) {
            self.push_token(link);
        }
        self.push_presence(now, link);
    }

    pub(super) fn go_live(&mut self, now: Instant, join_ref: String) {
        self.state = State::Live {
            join_ref,
            since: now,
        };
        self.events.push_back(Event::Up);
    }

    /// Joined, but the server delivers no changes, for a reason that a person must remove: try again after a pause. It may
    /// also come round by itself before.
    pub(super) fn subscription_denied(&mut self, now: Instant, link: &mut Link, reason: String) {
        let Some(join_ref) = self.join_ref().map(str::to_owned) else {
            return;
        };
        if self.is_stable(now, &link.timing) {
            self.backoff.reset();
        }
        let pause = self
            .backoff
            .fail(link.unit())
            .max(link.timing.pause_after_limit);
        self.state = State::Subscribing {
            join_ref,
            deadline: now + pause,
            denied: true,
        };
        self.say_down(Cause::Subscription, reason, pause);
    }

    /// Not joined any more, or not at all: join again after a delay.
    pub(super) fn fail(&mut self, now: Instant, link: &mut Link, cause: Cause, reason: String) {
        if self.is_stable(now, &link.timing) {
            self.backoff.reset();
        }
        let mut delay = self.backoff.fail(link.unit());
        match cause {
            Cause::RateLimited => {
                delay = delay.max(link.timing.pause_after_limit);
                self.not_before = Some(now + delay);
            }
            Cause::Unauthorized => link.want_token(),
            Cause::Connection | Cause::Refused | Cause::Subscription => {}
        }
        self.state = State::Waiting { until: now + delay };
        self.forget_join(&PushError::Lost);
        self.say_down(cause, reason, delay);
    }

    fn say_down(&mut self, cause: Cause, reason: String, retry_in: Duration) {
        self.events.push_back(Event::Down {
            cause,
            reason,
            retry_in,
        });
    }

    /// Drops all that belonged to the join.
    fn forget_join(&mut self, error: &PushError) {
        self.ids.clear();
        self.board.clear();
        self.has_presence = false;
        self.unweighed = 0;
        for (push, _) in std::mem::take(&mut self.waiting).into_values() {
            self.answered.push_back((push, Err(error.clone())));
        }
    }

    /// The reference of the current join, once it is granted or under way.
    pub(super) fn join_ref(&self) -> Option<&str> {
        match &self.state {
            State::Offline | State::Waiting { .. } => None,
            State::Joining { join_ref, .. }
            | State::Subscribing { join_ref, .. }
            | State::Live { join_ref, .. } => Some(join_ref),
        }
    }

    pub(super) fn is_joined(&self) -> bool {
        matches!(self.state, State::Subscribing { .. } | State::Live { .. })
    }
}

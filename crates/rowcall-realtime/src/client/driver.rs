//! The one task that keeps a socket and its channels alive.

use std::{
    collections::BTreeMap,
    future::{Future, pending, poll_fn},
    pin::Pin,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use secrecy::SecretString;
use tokio::{
    sync::{Notify, mpsc, oneshot, watch},
    time::{sleep_until, timeout},
};
use tokio_tungstenite::tungstenite;

use super::{
    Command, Config, JoinError, Pushed, Status,
    config::{TokenError, TokenSource},
    connect::{Refusal, Socket, connect},
    inbox::Feed,
    line::{Heard, Line, now},
    session::{ChannelId, Dead, Session},
};
use crate::{
    Version,
    channel::{Backoff, Cause, Event, Jitter, Link, PushError, PushId, Timing},
    presence::Presences,
};

/// Channels one client may have; servers allow 100 per connection.
pub const MAX_CHANNELS: usize = 100;

type Connected = Result<(Box<Socket>, Option<SecretString>), Refusal>;
type Token = Result<Option<SecretString>, TokenError>;
type Later<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What the driver knows of a channel's user.
struct User {
    feed: Feed,
    present: watch::Sender<Arc<Presences>>,
}

/// Where the driver is between sockets.
enum Phase {
    /// There is no channel, so no socket is needed.
    Idle,
    /// Until the next attempt.
    Pausing(Instant),
    /// An attempt is under way.
    Connecting(Later<Connected>),
    /// There is a socket.
    Online(Line),
    /// The last channel was left, the goodbye is being written.
    Closing(Later<()>),
}

/// What came of waiting.
enum Step {
    Connected(Connected),
    Heard(Heard),
    /// The last words of a session that no channel needs any more are written.
    Spoken,
    Closed,
}

/// The one task that keeps a socket and its channels alive: run it with [`Driver::run`].
pub struct Driver {
    config: Config,
    session: Session,
    users: BTreeMap<ChannelId, User>,
    answers: BTreeMap<PushId, oneshot::Sender<Pushed>>,
    commands: mpsc::Receiver<Command>,
    left: Arc<Notify>,
    status: watch::Sender<Status>,
    phase: Phase,
    version: Version,
    backoff: Backoff,
    fetching: Option<Later<Token>>,
    next_push: u64,
    next_channel: u64,
}

impl std::fmt::Debug for Driver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Driver")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl Driver {
    pub(super) fn new(
        mut config: Config,
        commands: mpsc::Receiver<Command>,
        left: Arc<Notify>,
        status: watch::Sender<Status>,
    ) -> Self {
        let timing = config.timing.clone();
        let jitter: Jitter = std::mem::replace(&mut config.jitter, Box::new(|| 0.0));
        Self {
            backoff: Backoff::new(timing.backoff_base, timing.backoff_cap),
            session: Session::new(timing, jitter),
            config,
            users: BTreeMap::new(),
            answers: BTreeMap::new(),
            commands,
            left,
            status,
            phase: Phase::Idle,
            version: Version::V2,
            fetching: None,
            next_push: 0,
            next_channel: 0,
        }
    }

    /// Runs until every [`super::Client`], [`super::Subscription`] and [`super::Sender`] is dropped. Dropping the future closes
    /// the socket without a word; all subscriptions then end.
    pub async fn run(mut self) {
        while self.turn().await {}
        self.close().await;
    }

    /// Waits for one thing to happen and deals with it. Says whether there is more to do.
    async fn turn(&mut self) -> bool {
        self.move_on();
        let now = now();
        let wake = self.wake_at(now);
        let is_last = self.session.is_empty();
        let Self {
            phase,
            session,
            commands,
            left,
            fetching,
            ..
        } = self;
        // Every branch is cancel-safe: futures that carry progress live in `self`, the others only wait.
        tokio::select! {
            command = commands.recv() => {
                let Some(command) = command else { return false };
                self.obey(command);
            }
            () = left.notified() => self.reap(),
            step = advance(phase, &mut session.link, is_last) => self.go_on(step),
            token = fetched(fetching) => self.take_token(token),
            () = sleep(wake) => self.wake(),
        }
        self.deliver();
        true
    }

    /// Starts what the phase calls for.
    fn move_on(&mut self) {
        let idle = self.session.is_empty();
        match &self.phase {
            Phase::Idle if !idle => self.start_connecting(),
            Phase::Pausing(_) | Phase::Connecting(_) if idle => {
                self.enter(Phase::Idle, Status::Idle);
            }
            Phase::Pausing(until) if *until <= now() => self.start_connecting(),
            Phase::Online(line)
                if idle && line.is_flushed() && !self.session.link.has_waiting() =>
            {
                self.start_closing();
            }
            _ => {}
        }
    }

    fn start_closing(&mut self) {
        let within = self.config.timing.write_within;
        self.session.offline();
        self.fetching = None;
        let phase = std::mem::replace(&mut self.phase, Phase::Idle);
        if let Phase::Online(line) = phase {
            let closing = Box::pin(line.goodbye(within));
            self.enter(Phase::Closing(closing), Status::Idle);
        }
    }

    fn enter(&mut self, phase: Phase, status: Status) {
        self.phase = phase;
        self.status.send_replace(status);
    }

    fn start_connecting(&mut self) {
        let dial = Arc::clone(&self.config.dial);
        let tokens = Arc::clone(&self.config.tokens);
        let endpoint = self.config.endpoint.clone();
        let handshake = self.config.handshake_url(self.version);
        let Timing {
            connect_within,
            token_within,
            ..
        } = self.config.timing;
        let attempt = async move {
            let token = fetch(tokens, token_within).await.map_err(|error| {
                Refusal::new(
                    Cause::Unauthorized,
                    format!("no token to join with: {error}"),
                )
            })?;
            let socket = timeout(connect_within, connect(&*dial, &endpoint, &handshake))
                .await
                .map_err(|_| {
                    Refusal::new(Cause::Connection, "the server did not answer in time")
                })??;
            Ok((Box::new(socket), token))
        };
        self.fetching = None;
        self.enter(Phase::Connecting(Box::pin(attempt)), Status::Connecting);
    }

    fn go_on(&mut self, step: Step) {
        match step {
            Step::Connected(Ok((socket, token))) => {
                self.enter(Phase::Online(Line::new(socket)), Status::Connected);
                self.session.set_token(token);
                self.session.connected(now(), self.version);
            }
            Step::Connected(Err(refusal)) => {
                if refusal.other_version {
                    self.version = match self.version {
                        Version::V1 => Version::V2,
                        Version::V2 => Version::V1,
                    };
                }
                self.lose(refusal);
            }
            Step::Heard(Heard::Received(message)) => self.receive(&message),
            Step::Heard(Heard::Lost(reason)) => self.lose(Refusal::new(Cause::Connection, reason)),
            // The next turn closes the socket.
            Step::Spoken => {}
            Step::Closed => self.phase = Phase::Idle,
        }
    }

    fn receive(&mut self, message: &tungstenite::Message) {
        let heard = match message {
            tungstenite::Message::Text(text) => self.session.handle_text(now(), text),
            tungstenite::Message::Binary(bytes) => self.session.handle_binary(bytes),
            // Pings are answered, and a close is confirmed, by the WebSocket library.
            _ => Ok(()),
        };
        if let Err(Dead(reason)) = heard {
            self.lose(Refusal::new(Cause::Refused, reason));
        }
        self.look_for_token();
    }

    fn wake(&mut self) {
        let now = now();
        let within = self.config.timing.write_within;
        if let Phase::Online(line) = &self.phase
            && line
                .deadline(within)
                .is_some_and(|deadline| deadline <= now)
        {
            let reason = "the server does not read what it is sent";
            self.lose(Refusal::new(Cause::Connection, reason));
            return;
        }
        if let Err(Dead(reason)) = self.session.handle_timeout(now) {
            self.lose(Refusal::new(Cause::Connection, reason));
        }
        self.look_for_token();
    }

    /// The socket is gone, or could not be made: try again after a while.
    fn lose(&mut self, refusal: Refusal) {
        let now = now();
        if self.session.is_stable(now) {
            self.backoff.reset();
        }
        let mut delay = self.backoff.fail(self.session.link.unit());
        if refusal.cause == Cause::RateLimited {
            delay = delay.max(self.config.timing.pause_after_limit);
        }
        if let Some(asked) = refusal.retry_after {
            delay = delay.max(asked);
        }
        let Refusal { cause, reason, .. } = refusal;
        tracing::debug!(%reason, ?delay, "no connection to Realtime");
        self.session.disconnected(now, cause, &reason, delay);
        self.fetching = None;
        let status = Status::Waiting {
            reason,
            retry_in: delay,
        };
        self.enter(Phase::Pausing(now + delay), status);
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Join { spec, user, answer } => {
                let taken = self.session.has_topic(&spec.topic());
                if taken || self.users.len() >= MAX_CHANNELS {
                    let error = if taken {
                        JoinError::Taken(spec.name().to_owned())
                    } else {
                        JoinError::TooMany
                    };
                    // The caller may have gone meanwhile; then nobody needs the answer.
                    let _ = answer.send(Err(error));
                    return;
                }
                self.next_channel += 1;
                let id = ChannelId(self.next_channel);
                let (feed, present) = user;
                if answer.send(Ok(id)).is_ok() {
                    self.users.insert(id, User { feed, present });
                    self.session.add(now(), id, spec);
                }
            }
            Command::Track { id, payload } => self.session.track(now(), id, payload),
            Command::Broadcast {
                id,
                event,
                payload,
                answer,
            } => {
                self.next_push += 1;
                let push = PushId(self.next_push);
                let Some((channel, link)) = self.session.sender(id) else {
                    let _ = answer.send(Err(PushError::Closed));
                    return;
                };
                self.answers.insert(push, answer);
                match payload {
                    super::Payload::Json(text) => {
                        channel.broadcast(now(), &event, &text, push, link);
                    }
                    super::Payload::Bytes(bytes) => {
                        channel.broadcast_bytes(now(), &event, &bytes, push, link);
                    }
                }
            }
            Command::RefreshToken => self.fetch_token(),
        }
    }

    /// Leaves the channels whose users have gone.
    fn reap(&mut self) {
        let gone: Vec<ChannelId> = self
            .users
            .iter()
            .filter(|(_, user)| user.feed.is_abandoned())
            .map(|(id, _)| *id)
            .collect();
        for id in gone {
            self.users.remove(&id);
            self.session.remove(id);
        }
    }

    fn look_for_token(&mut self) {
        if self.session.link.take_token_wanted() {
            self.config.tokens.rejected();
            self.fetch_token();
        } else if self.session.take_heartbeat_sent() {
            self.fetch_token();
        }
    }

    fn fetch_token(&mut self) {
        if matches!(self.phase, Phase::Online(_)) && self.fetching.is_none() {
            let tokens = Arc::clone(&self.config.tokens);
            self.fetching = Some(Box::pin(fetch(tokens, self.config.timing.token_within)));
        }
    }

    fn take_token(&mut self, token: Token) {
        self.fetching = None;
        match token {
            Ok(token) => self.session.set_token(token),
            // The old one may still do; if not, the server says so.
            Err(error) => tracing::warn!(%error, "no fresh token for Realtime"),
        }
    }

    /// Hands out what has happened.
    fn deliver(&mut self) {
        while let Some((id, event)) = self.session.pop_event() {
            let Some(user) = self.users.get(&id) else {
                continue;
            };
            if matches!(event, Event::Presence(_) | Event::Down { .. }) {
                let channel = self.session.channel(id);
                let present = channel.map(|channel| channel.present().clone());
                user.present
                    .send_replace(Arc::new(present.unwrap_or_default()));
            }
            user.feed.push(event);
        }
        while let Some((push, outcome)) = self.session.pop_answered() {
            if let Some(answer) = self.answers.remove(&push) {
                let _ = answer.send(outcome);
            }
        }
    }

    fn wake_at(&self, now: Instant) -> Option<Instant> {
        let phase = match &self.phase {
            Phase::Pausing(until) => Some(*until),
            Phase::Online(line) => line.deadline(self.config.timing.write_within),
            Phase::Idle | Phase::Connecting(_) | Phase::Closing(_) => None,
        };
        let session = self.session.next_timeout(now);
        phase.into_iter().chain(session).min()
    }

    /// Says goodbye to the server, in the time of one write.
    async fn close(mut self) {
        self.users.clear();
        if let Phase::Online(line) = self.phase {
            line.goodbye(self.config.timing.write_within).await;
        }
    }
}

async fn fetch(tokens: Arc<dyn TokenSource>, within: Duration) -> Token {
    timeout(within, tokens.token()).await.unwrap_or_else(|_| {
        Err(TokenError(
            "the token source did not answer in time".to_owned(),
        ))
    })
}

async fn fetched(fetching: &mut Option<Later<Token>>) -> Token {
    match fetching {
        Some(future) => future.await,
        None => pending().await,
    }
}

async fn sleep(until: Option<Instant>) {
    match until {
        Some(until) => sleep_until(until.into()).await,
        None => pending().await,
    }
}

/// Goes on with what the phase does. `is_last` says that the socket is only open until what waits is written.
async fn advance(phase: &mut Phase, link: &mut Link, is_last: bool) -> Step {
    match phase {
        Phase::Idle | Phase::Pausing(_) => pending().await,
        Phase::Connecting(attempt) => Step::Connected(attempt.await),
        Phase::Online(open) => {
            poll_fn(|cx| match open.poll(link, cx) {
                Poll::Ready(heard) => Poll::Ready(Step::Heard(heard)),
                Poll::Pending if is_last && open.is_flushed() && !link.has_waiting() => {
                    Poll::Ready(Step::Spoken)
                }
                Poll::Pending => Poll::Pending,
            })
            .await
        }
        Phase::Closing(closing) => {
            closing.await;
            Step::Closed
        }
    }
}

//! Wake-ups: one listening connection, and the gate that keeps writers from notifying a daemon that is busy anyway.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use futures_util::{
    StreamExt,
    stream::{self, BoxStream},
};
use parking_lot::Mutex;
use rowcall_core::{Backoff, Signal, SourceError, TableName, ports::SignalSource};
use rowcall_postgres::Connection;
use tokio::{
    sync::{Notify, watch},
    task::JoinSet,
    time::Instant,
};
use tokio_postgres::{AsyncMessage, Client};

use super::{PostgresBackend, error};

/// The channel of `rowcall.wake()`.
const CHANNEL: &str = "rowcall_wake";
/// Waiting times before the listening connection is opened again.
const RECONNECT: Backoff = Backoff {
    base: Duration::from_millis(250),
    cap: Duration::from_secs(30),
};
/// So many notifications within [`STORM_WINDOW`] close the gate for [`STORM_PAUSE`], whatever the engine says: by then every
/// writer pays for a wake-up that nobody needs any more.
const STORM: u32 = 32;
const STORM_WINDOW: Duration = Duration::from_millis(100);
const STORM_PAUSE: Duration = Duration::from_millis(200);

/// Until when writers are told not to notify this daemon.
pub(super) struct Gate(watch::Sender<Option<Instant>>);

impl Default for Gate {
    fn default() -> Self {
        Self(watch::Sender::new(None))
    }
}

/// What a listener has to say next. A later state of the link replaces an earlier one and any number of hints are one, so
/// nothing queues up behind a slow engine.
#[derive(Default)]
struct Mailbox {
    next: Mutex<Next>,
    changed: Notify,
}

#[derive(Default)]
struct Next {
    link: Option<Signal>,
    dirty: bool,
}

impl Mailbox {
    fn link(&self, signal: Signal) {
        self.next.lock().link = Some(signal);
        self.changed.notify_one();
    }

    fn dirty(&self) {
        self.next.lock().dirty = true;
        self.changed.notify_one();
    }

    fn take(&self) -> Option<Signal> {
        let mut next = self.next.lock();
        if let Some(link) = next.link.take() {
            return Some(link);
        }
        std::mem::take(&mut next.dirty).then(|| Signal::Dirty {
            table: TableName::activities(),
            task: None,
        })
    }

    async fn receive(&self) -> Signal {
        loop {
            // Cancel-safe: a permit that is lost with this future leaves the mail in its place.
            if let Some(signal) = self.take() {
                return signal;
            }
            self.changed.notified().await;
        }
    }
}

#[async_trait]
impl SignalSource for PostgresBackend {
    /// `Up` when the listening connection stands, `Down` when it is lost, and `Dirty` whenever tasks may have come. Each stream has a
    /// connection of its own; it is closed when the stream is dropped.
    fn signals(&self) -> BoxStream<'static, Signal> {
        let mailbox = Arc::new(Mailbox::default());
        let mut listener = JoinSet::new();
        let (backend, sender) = (self.clone(), Arc::clone(&mailbox));
        listener.spawn(async move { backend.listen_for_ever(&sender).await });
        stream::unfold((mailbox, listener), |(mailbox, listener)| async move {
            let signal = mailbox.receive().await;
            Some((signal, (mailbox, listener)))
        })
        .boxed()
    }

    /// `true` closes the gate for a short while; to be repeated while it is so (cheap: most calls send nothing). `false` opens it,
    /// and a `Dirty` follows for what was written meanwhile.
    async fn set_busy(&self, busy: bool) -> Result<(), SourceError> {
        let closed_until = *self.0.gate.0.borrow();
        let now = Instant::now();
        if busy {
            let quiet_for = self.0.config.quiet_for;
            match closed_until {
                Some(until) if until > now + quiet_for / 2 => Ok(()),
                _ => self.close_gate(quiet_for).await,
            }
        } else if closed_until.is_some() {
            let sql = "select rowcall.listen($1, null)";
            self.0
                .connections
                .query("opening the gate", sql, &[&self.0.config.listener])
                .await?;
            // Now, and not a moment before: what commits from here on notifies, what committed before is looked for.
            self.0.gate.0.send_replace(Some(now));
            Ok(())
        } else {
            Ok(())
        }
    }
}

impl PostgresBackend {
    async fn close_gate(&self, quiet_for: Duration) -> Result<(), SourceError> {
        let sql = "select rowcall.listen($1, $2)";
        let seconds = quiet_for.as_secs_f64();
        self.0
            .connections
            .query(
                "closing the gate",
                sql,
                &[&self.0.config.listener, &seconds],
            )
            .await?;
        // A little later than the database's: the look after it must not come before.
        let until = Instant::now() + quiet_for;
        self.0.gate.0.send_if_modified(|current| {
            let later = current.is_none_or(|current| current < until);
            if later {
                *current = Some(until);
            }
            later
        });
        Ok(())
    }

    pub(super) async fn forget_listener(&self) -> Result<(), SourceError> {
        let sql = "select rowcall.unlisten($1)";
        self.0
            .connections
            .query(
                "leaving the list of listeners",
                sql,
                &[&self.0.config.listener],
            )
            .await
            .map(drop)
    }

    /// Never returns: it is aborted with the stream.
    async fn listen_for_ever(&self, mailbox: &Mailbox) {
        let mut failures = 0;
        loop {
            let error = match self.listen_once(mailbox, &mut failures).await {
                Ok(never) => match never {},
                Err(error) => error,
            };
            failures += 1;
            let retry_in = RECONNECT.delay(failures, self.jitter(failures));
            tracing::debug!(%error, ?retry_in, "not listening for tasks");
            mailbox.link(Signal::Down {
                reason: error.to_string(),
                retry_in,
            });
            tokio::time::sleep(retry_in).await;
        }
    }

    /// Spreads the machines of a restarted database without a source of chance: each waits by its own name.
    fn jitter(&self, failures: u32) -> f64 {
        let mut hasher = DefaultHasher::new();
        (&self.0.config.listener, failures).hash(&mut hasher);
        f64::from((hasher.finish() >> 32) as u32) / f64::from(u32::MAX)
    }

    async fn listen_once(
        &self,
        mailbox: &Mailbox,
        failures: &mut u32,
    ) -> Result<std::convert::Infallible, SourceError> {
        let config = &self.0.config;
        let what = "listening for tasks";
        let limit = config.connect_timeout;
        let (client, connection) = tokio::time::timeout(limit, config.server.connect())
            .await
            .map_err(|_| error::timed_out(what))?
            .map_err(|error| error::from_postgres(what, error))?;
        self.listen_on(client, connection, mailbox, failures).await
    }

    /// Sends nothing once it listens: an idle daemon costs the server nothing.
    async fn listen_on(
        &self,
        client: Client,
        mut connection: Connection,
        mailbox: &Mailbox,
        failures: &mut u32,
    ) -> Result<std::convert::Infallible, SourceError> {
        let what = "listening for tasks";
        let mut messages = stream::poll_fn(move |context| connection.poll_message(context));
        let register = register(&client, &self.0.config.listener);
        let mut register = std::pin::pin!(tokio::time::timeout(
            self.0.config.connect_timeout,
            register
        ));
        let mut listening = false;
        let mut storm = Storm::default();
        let mut gate = self.0.gate.0.subscribe();
        let mut closing = JoinSet::new();
        loop {
            let reopens = *gate.borrow_and_update();
            // Cancel-safe, all of them: a stream's next message, a pinned future, a watch, a deadline and a join.
            tokio::select! {
                done = &mut register, if !listening => {
                    done.map_err(|_| error::timed_out(what))?
                        .map_err(|error| error::from_postgres(what, error))?;
                    listening = true;
                    *failures = 0;
                    mailbox.link(Signal::Up);
                }
                message = messages.next() => match message {
                    Some(Ok(AsyncMessage::Notification(hint))) if hint.channel() == CHANNEL => {
                        mailbox.dirty();
                        if storm.is_one(Instant::now()) {
                            let backend = self.clone();
                            closing.spawn(async move { backend.close_gate(STORM_PAUSE).await });
                        }
                    }
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return Err(error::from_postgres(what, error)),
                    None => {
                        let class = rowcall_core::ErrorClass::Retryable;
                        return Err(SourceError::new(class, "listening for tasks failed: the server closed the connection"));
                    }
                },
                _ = gate.changed() => {}
                () = at(reopens) => {
                    // The gate is open again. What was written while it was closed was announced to nobody.
                    let opened = self.0.gate.0.send_if_modified(|current| {
                        let same = *current == reopens;
                        if same {
                            *current = None;
                        }
                        same
                    });
                    if opened {
                        mailbox.dirty();
                    }
                }
                Some(closed) = closing.join_next() => {
                    if let Ok(Err(error)) = closed {
                        tracing::debug!(%error, "could not close the gate");
                    }
                }
            }
        }
    }
}

/// Listens first and becomes known second: a writer that sees the entry reaches us.
async fn register(client: &Client, name: &str) -> Result<(), tokio_postgres::Error> {
    client
        .batch_execute(&format!("set rowcall.quiet = 'on'; listen {CHANNEL}"))
        .await?;
    client
        .execute("select rowcall.listen($1, null)", &[&name])
        .await?;
    Ok(())
}

/// Waits for a deadline, for ever without one.
async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// Counts notifications.
#[derive(Default)]
struct Storm {
    window: Option<Instant>,
    heard: u32,
}

impl Storm {
    /// Counts one; true when it makes a storm, once per window.
    fn is_one(&mut self, now: Instant) -> bool {
        match self.window {
            Some(start) if now.duration_since(start) < STORM_WINDOW => self.heard += 1,
            _ => {
                self.window = Some(now);
                self.heard = 1;
            }
        }
        self.heard == STORM
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn mail_is_coalesced_and_the_link_comes_first() {
        let mailbox = Mailbox::default();
        mailbox.dirty();
        mailbox.link(Signal::Down {
            reason: "gone".into(),
            retry_in: Duration::ZERO,
        });
        mailbox.link(Signal::Up);
        mailbox.dirty();
        assert_eq!(mailbox.receive().await, Signal::Up);
        assert!(matches!(mailbox.receive().await, Signal::Dirty { .. }));
        assert_eq!(mailbox.take(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_storm_is_many_in_a_short_time() {
        let mut storm = Storm::default();
        for _ in 0..10 * STORM {
            tokio::time::advance(Duration::from_millis(5)).await;
            assert!(!storm.is_one(Instant::now()), "20 in 100 ms are none");
        }
        let many = (0..3 * STORM)
            .filter(|_| storm.is_one(Instant::now()))
            .count();
        assert_eq!(many, 1, "one storm is closed once");
    }
}

//! `postgres_changes`: from the WAL to channels.
//!
//! One task reads the replication slot and hands batches on, in commit order ([`reader`], [`dispatch`]). For each table a plan
//! of who gets what is kept ([`plan`]); filters are evaluated here where their result follows from the text PostgreSQL prints,
//! row level security by the database, once for each distinct token and batch ([`deliver`], [`visibility`]).

mod decimal;
mod deliver;
mod dispatch;
mod filter;
mod pgoutput;
mod plan;
mod position;
mod predicate;
mod question;
mod reader;
mod record;
mod relation;
mod ring;
mod settle;
mod slot;
mod subscribe;
mod subscription;
mod tunnel;
mod value;
mod visibility;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::channel::Wanted;
use super::database::{Database, QueryError};
use super::error::RealtimeError;
use super::hub::Hub;
use super::limits::Limits;
use super::token::Identity;
use super::topic::ChannelId;
use super::ws::CloseCode;
use dispatch::CatchUp;
use position::Position;
use subscription::Registry;

pub(crate) use position::parse_lsn;
pub use slot::Slot;
pub(crate) use subscription::{Audience, Subscription};

/// The publication whose tables are read, as on Supabase.
const PUBLICATION: &str = "supabase_realtime";
/// The publication over `realtime.messages`, as on Supabase.
const MESSAGES_PUBLICATION: &str = "supabase_realtime_messages_publication";
/// The notice after every successful subscription.
pub(crate) const SUBSCRIBED: &str = "Subscribed to PostgreSQL";
/// Clients that come back and wait to be served from the ring.
const MAX_CATCH_UPS: usize = 1_024;
/// How long starting waits for the first session.
const START_TIMEOUT: Duration = Duration::from_secs(70);

/// Whether changes are being read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Status {
    Connecting,
    Streaming,
    /// And why not.
    Down(String),
}

/// What the reader and those who subscribe share.
#[derive(Debug)]
pub(crate) struct State {
    registry: RwLock<Registry>,
    database: Arc<Database>,
    hub: Arc<Hub>,
    limits: Limits,
    slot: Slot,
    /// Application name of the replication session, unique to this server.
    application: String,
    status: watch::Sender<Status>,
    /// Channels that are being served from the ring, with the subscription a new token brought meanwhile.
    catching_up: Mutex<HashMap<ChannelId, Option<Subscription>>>,
}

/// The handle of those who subscribe.
#[derive(Debug)]
pub(crate) struct Changes {
    state: Arc<State>,
    catch_ups: mpsc::Sender<CatchUp>,
}

impl Changes {
    /// Starts reading and waits until changes flow.
    pub(crate) async fn start(
        database: Arc<Database>,
        hub: Arc<Hub>,
        limits: Limits,
        slot: Slot,
        application: String,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) -> Result<Arc<Self>, RealtimeError> {
        check_wal_level(&database).await?;
        let (catch_ups, commands) = mpsc::channel(MAX_CATCH_UPS);
        let state = Arc::new(State {
            registry: RwLock::default(),
            database,
            hub,
            limits,
            slot,
            application,
            status: watch::Sender::new(Status::Connecting),
            catching_up: Mutex::default(),
        });
        let read = reader::read_loop(Arc::clone(&state), commands);
        let at_end = Arc::clone(&state);
        tasks.spawn(async move {
            stop.run_until_cancelled(read).await;
            slot::drop_slot(&at_end.database, &at_end.slot).await;
        });
        let changes = Arc::new(Self { state, catch_ups });
        changes.first_session().await?;
        Ok(changes)
    }

    async fn first_session(&self) -> Result<(), RealtimeError> {
        let mut status = self.state.status.subscribe();
        let first = status.wait_for(|status| *status != Status::Connecting);
        let first = match tokio::time::timeout(START_TIMEOUT, first).await {
            Ok(Ok(status)) => status.clone(),
            Ok(Err(_)) | Err(_) => Status::Down("no session in time".to_owned()),
        };
        match first {
            Status::Connecting | Status::Streaming => Ok(()),
            Status::Down(reason) => Err(RealtimeError::Stream { reason }),
        }
    }

    /// Comes back when changes are being read.
    pub(crate) async fn streaming(&self) {
        let mut status = self.state.status.subscribe();
        if status
            .wait_for(|status| *status == Status::Streaming)
            .await
            .is_err()
        {
            // The server is ending; so is whoever waits.
            std::future::pending::<()>().await;
        }
    }

    /// Checks what a channel asks for; nothing is subscribed yet. `since` is the last change the client has seen.
    pub(crate) async fn prepare(
        &self,
        identity: &Arc<Identity>,
        wanted: &Arc<Wanted>,
        since: Option<&str>,
    ) -> Result<Subscription, QueryError> {
        // Delivery has to be live before the join is answered.
        self.streaming().await;
        self.state
            .check(identity, wanted, since.and_then(Position::parse))
            .await
    }

    /// Subscribes a channel. `announce` queues what the client has to see first and is told how it went; no change can come
    /// before it.
    pub(crate) fn enter(
        &self,
        audience: Audience,
        subscription: Subscription,
        announce: impl FnOnce(&Result<(), String>),
    ) {
        let audience = Arc::new(audience);
        if let Some(since) = subscription.since {
            announce(&subscription.notice);
            self.state.catching_up.lock().insert(audience.channel, None);
            let catch_up = CatchUp {
                audience: Arc::clone(&audience),
                subscription,
                since,
            };
            if let Err(error) = self.catch_ups.try_send(catch_up) {
                // It has to come again, rather than go on with a gap.
                tracing::warn!(%error, "too many clients come back at once");
                audience
                    .outbox
                    .close(CloseCode::TryLater, "too many clients come back at once");
            }
            return;
        }
        let mut registry = self.state.registry.write();
        announce(&subscription.notice);
        registry.insert(audience, subscription);
    }

    /// Subscribes a channel anew, after its token changed.
    pub(crate) fn renew(
        &self,
        channel: ChannelId,
        subscription: Subscription,
        announce: impl FnOnce(&Result<(), String>),
    ) {
        let mut catching_up = self.state.catching_up.lock();
        let mut registry = self.state.registry.write();
        announce(&subscription.notice);
        match catching_up.get_mut(&channel) {
            Some(renewed) => *renewed = Some(subscription),
            None => drop(registry.replace(channel, subscription)),
        }
    }

    /// Ends a channel's subscription.
    pub(crate) fn leave(&self, channel: ChannelId) {
        self.state.catching_up.lock().remove(&channel);
        self.state.registry.write().remove(channel);
    }

    /// Whether changes are being read, and why not.
    pub(crate) fn status(&self) -> Status {
        self.state.status.borrow().clone()
    }
}

impl State {
    async fn check(
        &self,
        identity: &Arc<Identity>,
        wanted: &Arc<Wanted>,
        since: Option<Position>,
    ) -> Result<Subscription, QueryError> {
        subscribe::prepare(&self.database, identity, wanted, since).await
    }

    /// Makes a client live that was served from the ring, unless it has left meanwhile.
    fn go_live(&self, audience: Arc<Audience>, subscription: Subscription) {
        let mut catching_up = self.catching_up.lock();
        if let Some(renewed) = catching_up.remove(&audience.channel) {
            let mut registry = self.registry.write();
            registry.insert(audience, renewed.unwrap_or(subscription));
        }
    }

    /// Changes were lost: those who listened are told to come back and catch up.
    fn give_up_subscribers(&self) {
        for outbox in self.registry.read().outboxes() {
            outbox.close(CloseCode::Restart, "changes were lost, catch up");
        }
    }
}

async fn check_wal_level(database: &Database) -> Result<(), RealtimeError> {
    let client = database
        .connection()
        .await
        .map_err(RealtimeError::Connect)?;
    let row = client
        .query_one("select pg_catalog.current_setting('wal_level')", &[])
        .await
        .map_err(|source| RealtimeError::Prepare {
            what: "the check of wal_level",
            source,
        })?;
    let found: String = row.get(0);
    if found == "logical" {
        Ok(())
    } else {
        Err(RealtimeError::WalLevel { found })
    }
}

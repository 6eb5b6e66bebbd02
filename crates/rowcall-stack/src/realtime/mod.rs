//! The Realtime server: channels with broadcast, presence and changes of rows, compatible with Supabase's clients.
//!
//! ```text
//! socket ── session ── channel ─┬─ hub: topics, their members, presence ◄─ HTTP API, realtime.messages
//!                               └─ changes: subscriptions ◄─ plan ◄─ reader of the WAL
//! ```
//!
//! What must stay true:
//! - A join is answered when delivery is live, and everything the channel receives follows the answer.
//! - Nothing waits for a slow socket longer than [`Limits::slow_patience`]; a socket that does not keep up is closed as a
//!   whole, never served with gaps.
//! - A role is taken only inside a transaction that is rolled back, and only from the list the database gives us.
//! - Changes are delivered in commit order and only to those whose role, row level security and column rights allow it.

mod api;
mod changes;
mod channel;
mod database;
mod error;
mod http;
mod hub;
mod join;
mod limits;
mod message;
mod outbox;
mod policy;
mod presence;
mod push;
mod rate;
mod replay;
mod roles;
mod session;
mod setup;
mod shared;
mod socket;
mod token;
mod topic;
mod ws;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rowcall_core::{Clock, IdSource};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::auth::Keys;
use changes::{Changes, Status};
use database::Database;
use hub::Hub;
use shared::{Parts, Shared};

pub use changes::Slot;
pub use error::RealtimeError;
pub use limits::{Limits, PRESENCE_WINDOW};

/// How long sockets and the reader may take to end.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);

/// What a server needs to know.
pub struct RealtimeConfig {
    /// Where the database is, as `postgresql://…`. The role needs the attribute REPLICATION and must be able to take the
    /// roles `anon`, `authenticated` and `service_role`.
    pub database_url: String,
    /// Secret and API keys.
    pub keys: Arc<Keys>,
    /// Tells when tokens end.
    pub clock: Arc<dyn Clock>,
    /// Makes presence keys and the ids of probes.
    pub ids: Arc<dyn IdSource>,
    /// Every limit.
    pub limits: Limits,
    /// How changes are read; `None` serves broadcast and presence only.
    pub slot: Option<Slot>,
    /// Refuse public channels.
    pub private_only: bool,
}

impl fmt::Debug for RealtimeConfig {
    /// The URL may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RealtimeConfig")
            .field("limits", &self.limits)
            .field("slot", &self.slot)
            .finish_non_exhaustive()
    }
}

/// How a server is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// Sockets that are open.
    pub connections: usize,
    /// Topics that have members.
    pub topics: usize,
    /// Why changes are not being read; `None` when they are, or when they are not to be.
    pub changes_down: Option<String>,
}

/// A running server.
#[derive(Debug)]
pub struct Realtime {
    shared: Arc<Shared>,
}

impl Realtime {
    /// Makes what is missing in the database (schema `realtime`, the publications, a replication slot), and starts reading
    /// changes. Comes back when they flow.
    ///
    /// # Errors
    /// When the database cannot be reached, is not set up for logical replication, or refuses what is to be made.
    pub async fn start(config: RealtimeConfig) -> Result<Self, RealtimeError> {
        let database = Arc::new(Database::new(&config.database_url, &config.limits)?);
        setup::apply(&database).await?;
        let hub = Arc::new(Hub::default());
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        let changes = match config.slot {
            Some(slot) => {
                let application = format!("rowcall realtime {}", config.ids.uuid().simple());
                let (database, hub) = (Arc::clone(&database), Arc::clone(&hub));
                let limits = config.limits.clone();
                Some(
                    Changes::start(
                        database,
                        hub,
                        limits,
                        slot,
                        application,
                        &tasks,
                        stop.clone(),
                    )
                    .await
                    .inspect_err(|_| stop.cancel())?,
                )
            }
            None => None,
        };
        tasks.spawn(setup::janitor_loop(Arc::clone(&database), stop.clone()));
        let shared = Shared::new(Parts {
            limits: config.limits,
            keys: config.keys,
            clock: config.clock,
            ids: config.ids,
            private_only: config.private_only,
            database,
            hub,
            changes,
            stop,
            tasks,
        });
        Ok(Self { shared })
    }

    /// The routes, to be nested under `/realtime/v1`; nest them under `/socket` too for clients of the bare server.
    pub fn router(&self) -> axum::Router {
        http::router(Arc::clone(&self.shared))
    }

    /// How the server is doing.
    pub fn health(&self) -> Health {
        let changes_down = match self.shared.changes.as_ref().map(|changes| changes.status()) {
            Some(Status::Down(reason)) => Some(reason),
            Some(Status::Connecting) => Some("connecting".to_owned()),
            Some(Status::Streaming) | None => None,
        };
        Health {
            connections: self.shared.connections(),
            topics: self.shared.hub.len(),
            changes_down,
        }
    }

    /// Closes all sockets so that clients reconnect (1012), stops reading, and drops a slot that is not to be kept.
    pub async fn shutdown(self) {
        self.shared.stop.cancel();
        self.shared.tasks.close();
        if tokio::time::timeout(SHUTDOWN_TIMEOUT, self.shared.tasks.wait())
            .await
            .is_err()
        {
            tracing::warn!("some sockets did not end in time");
        }
        self.shared.database.close();
    }
}

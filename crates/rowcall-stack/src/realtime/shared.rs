//! What all sockets of one server share.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use jiff::Timestamp;
use parking_lot::Mutex;
use rowcall_core::{Clock, IdSource};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::changes::Changes;
use super::database::Database;
use super::hub::Hub;
use super::limits::Limits;
use super::rate::SharedRate;
use super::roles::Roles;
use super::token::{Identity, Refusal, Verified, verify};
use crate::auth::Keys;

/// The server's parts, reachable from every socket.
pub(crate) struct Shared {
    pub(crate) limits: Limits,
    pub(crate) keys: Arc<Keys>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ids: Arc<dyn IdSource>,
    pub(crate) private_only: bool,
    pub(crate) database: Arc<Database>,
    pub(crate) hub: Arc<Hub>,
    pub(crate) roles: Roles,
    /// `None` when the server was started without reading changes.
    pub(crate) changes: Option<Arc<Changes>>,
    pub(crate) joins: SharedRate,
    pub(crate) presence_messages: SharedRate,
    pub(crate) api_messages: SharedRate,
    pub(crate) stop: CancellationToken,
    pub(crate) tasks: TaskTracker,
    connections: AtomicUsize,
    identities: Mutex<HashSet<Arc<Identity>>>,
    presence_boot: u64,
    presence_count: AtomicU64,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

/// One of the sockets counted against [`Limits::connections`].
#[derive(Debug)]
pub(crate) struct ConnectionPermit(Arc<Shared>);

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::AcqRel);
    }
}

/// What [`Shared`] is made of.
pub(crate) struct Parts {
    pub(crate) limits: Limits,
    pub(crate) keys: Arc<Keys>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ids: Arc<dyn IdSource>,
    pub(crate) private_only: bool,
    pub(crate) database: Arc<Database>,
    pub(crate) hub: Arc<Hub>,
    pub(crate) changes: Option<Arc<Changes>>,
    pub(crate) stop: CancellationToken,
    pub(crate) tasks: TaskTracker,
}

impl Shared {
    pub(crate) fn new(parts: Parts) -> Arc<Self> {
        let boot = parts.ids.uuid();
        Arc::new(Self {
            joins: SharedRate::per_second(parts.limits.joins_per_second),
            presence_messages: SharedRate::per_second(parts.limits.presence_messages_per_second),
            api_messages: SharedRate::per_second(parts.limits.api_requests_per_second),
            limits: parts.limits,
            keys: parts.keys,
            clock: parts.clock,
            ids: parts.ids,
            private_only: parts.private_only,
            database: parts.database,
            hub: parts.hub,
            roles: Roles::default(),
            changes: parts.changes,
            stop: parts.stop,
            tasks: parts.tasks,
            connections: AtomicUsize::new(0),
            identities: Mutex::default(),
            presence_boot: boot.as_u64_pair().0,
            presence_count: AtomicU64::new(0),
        })
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(crate) fn fresh_id(&self) -> Uuid {
        self.ids.uuid()
    }

    /// A reference no presence of this or an earlier server had.
    pub(crate) fn presence_reference(&self) -> String {
        let count = self.presence_count.fetch_add(1, Ordering::Relaxed);
        format!("{:x}.{count:x}", self.presence_boot)
    }

    /// Counts a socket; `None` when there are as many as there may be.
    pub(crate) fn connect(self: &Arc<Self>) -> Option<ConnectionPermit> {
        let before = self.connections.fetch_add(1, Ordering::AcqRel);
        let permit = ConnectionPermit(Arc::clone(self));
        (before < self.limits.connections).then_some(permit)
    }

    /// How many sockets are open.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Acquire)
    }

    /// Verifies a token. Sockets with the same claims share one identity.
    pub(crate) fn verify(&self, token: &str) -> Result<Verified, Refusal> {
        let verified = verify(&self.keys, self.keys.token_for_api_key(token), self.now())?;
        Ok(Verified {
            identity: self.intern(verified.identity),
            ..verified
        })
    }

    fn intern(&self, identity: Arc<Identity>) -> Arc<Identity> {
        let mut identities = self.identities.lock();
        if let Some(known) = identities.get(&identity) {
            return Arc::clone(known);
        }
        if identities.len() == identities.capacity() {
            identities.retain(|identity| Arc::strong_count(identity) > 1);
        }
        identities.insert(Arc::clone(&identity));
        identity
    }
}

//! Connections to PostgreSQL, each with its prepared statements.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use deadpool::managed::{
    Manager as Managed, Metrics, Object, Pool as Deadpool, RecycleError, RecycleResult,
};
use parking_lot::Mutex;
use rowcall_postgres::{Connector, Server};
use tokio_postgres::{CancelToken, Client, Error, Statement};

use super::limits::{ACQUIRE_TIMEOUT, DEFAULT_STATEMENT_TIMEOUT, MAX_SEEN_SHAPES, MAX_STATEMENTS};

/// A pool of connections.
pub(crate) type Pool = Deadpool<Manager>;

/// Opens connections and prepares them to act as the authenticator.
#[derive(Debug)]
pub(crate) struct Manager {
    server: Server,
    generation: Arc<AtomicU64>,
}

/// A connection and what is prepared on it.
pub(crate) struct Connection {
    /// The connection.
    pub client: Client,
    statements: HashMap<Box<str>, Statement>,
    generation: u64,
    connector: Connector,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("statements", &self.statements.len())
            .finish_non_exhaustive()
    }
}

impl Connection {
    /// The statement prepared for this text, if there is one.
    pub(crate) fn prepared(&self, text: &str) -> Option<&Statement> {
        self.statements.get(text)
    }

    /// Keeps a prepared statement. When there are too many, all go: simpler than aging, and as rare as it is cheap.
    pub(crate) fn keep(&mut self, text: &str, statement: Statement) {
        if self.statements.len() >= MAX_STATEMENTS {
            self.statements.clear();
        }
        self.statements.insert(text.into(), statement);
    }

    /// How to stop what runs on it, over a connection like its own.
    fn cancel(&self) -> (CancelToken, Connector) {
        (self.client.cancel_token(), self.connector.clone())
    }
}

/// Makes the session that of the authenticator, as if it had logged in: its role, its settings.
///
/// Only a superuser needs and may do that; who logs in as the authenticator, or as a plain member of the API roles, stays
/// who it is. So an SQL function that is tricked into `reset role` is the authenticator, not a superuser.
const BECOME_AUTHENTICATOR: &str = include_str!("../../sql/rest/become_authenticator.sql");

impl Managed for Manager {
    type Type = Connection;
    type Error = Error;

    async fn create(&self) -> Result<Connection, Error> {
        let (client, connection) = self.server.connect().await?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a REST connection to PostgreSQL ended");
            }
        });
        let timeout = format!(
            "set statement_timeout = {}; ",
            DEFAULT_STATEMENT_TIMEOUT.as_millis()
        );
        client
            .batch_execute(&(timeout + BECOME_AUTHENTICATOR))
            .await?;
        let generation = self.generation.load(Ordering::Acquire);
        Ok(Connection {
            client,
            statements: HashMap::new(),
            generation,
            connector: self.server.connector(),
        })
    }

    async fn recycle(&self, connection: &mut Connection, _: &Metrics) -> RecycleResult<Error> {
        if connection.client.is_closed() {
            return Err(RecycleError::message("the connection is closed"));
        }
        let generation = self.generation.load(Ordering::Acquire);
        if connection.generation != generation {
            // Types may have changed: what was inferred for parameters no longer holds.
            connection.statements.clear();
            connection.generation = generation;
        }
        Ok(())
    }
}

/// Opens a pool of at most `size` connections. `generation` is raised when prepared statements must be forgotten.
pub(crate) fn open(server: Server, size: usize, generation: Arc<AtomicU64>) -> Pool {
    Deadpool::builder(Manager { server, generation })
        .max_size(size)
        .wait_timeout(Some(ACQUIRE_TIMEOUT))
        .create_timeout(Some(ACQUIRE_TIMEOUT))
        .recycle_timeout(Some(ACQUIRE_TIMEOUT))
        .runtime(deadpool::Runtime::Tokio1)
        .build()
        .expect("a runtime is given, which is all that can be missing")
}

/// A connection in use. Dropped before [`Lease::done`], its statement is cancelled and the connection closed: the
/// request's client went away in the middle.
#[derive(Debug)]
pub(crate) struct Lease {
    object: Option<Object<Manager>>,
}

impl Lease {
    /// Takes charge of a connection.
    pub(crate) fn new(object: Object<Manager>) -> Self {
        Self {
            object: Some(object),
        }
    }

    /// The connection.
    pub(crate) fn connection(&mut self) -> &mut Connection {
        self.object
            .as_mut()
            .expect("it is taken by done and drop only, which end the lease")
    }

    /// The transaction has ended; the connection may go back.
    pub(crate) fn done(mut self) {
        self.object = None;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(object) = self.object.take() else {
            return;
        };
        let connection = Object::take(object);
        let (token, connector) = connection.cancel();
        drop(connection);
        // Without a runtime the whole process ends, and the connection with it.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        runtime.spawn(async move {
            let cancelled = token.cancel_query(connector);
            if tokio::time::timeout(super::limits::CANCEL_TIMEOUT, cancelled)
                .await
                .is_err()
            {
                tracing::debug!("cancelling the statement of a client that left took too long");
            }
        });
    }
}

/// Which statement shapes were seen before. Preparing costs a round trip, so only those that come back are prepared; and
/// a flood of one-off shapes prepares nothing.
#[derive(Debug, Default)]
pub(crate) struct Seen(Mutex<SeenShapes>);

#[derive(Debug, Default)]
struct SeenShapes {
    known: HashSet<u64>,
    order: VecDeque<u64>,
}

impl Seen {
    /// Whether this shape was seen before; it has been from now on.
    pub(crate) fn check(&self, text: &str) -> bool {
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        let shape = hasher.finish();
        let mut seen = self.0.lock();
        if !seen.known.insert(shape) {
            return true;
        }
        seen.order.push_back(shape);
        if seen.order.len() > MAX_SEEN_SHAPES
            && let Some(oldest) = seen.order.pop_front()
        {
            seen.known.remove(&oldest);
        }
        false
    }
}

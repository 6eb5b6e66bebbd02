//! A server of one test.
//!
//! The tests run on several threads: dropping a database waits for connections that are being opened, and those have to get
//! on meanwhile.

use std::sync::Arc;

use jiff::Timestamp;
use rowcall_core::{FixedClock, SequentialIds};
use rowcall_stack::auth::Keys;
use rowcall_stack::bootstrap;
use rowcall_stack::realtime::{Limits, Realtime, RealtimeConfig, Slot};
use rowcall_stack::testing::TestDb;
use serde_json::{Value, json};

use super::client::PATIENCE;

/// The time of all tests, in seconds since 1970.
pub(super) const NOW: i64 = 1_800_000_000;

pub(super) struct Server {
    /// Absent where the database is not of the shared server.
    db: Option<TestDb>,
    pub(super) sql: tokio_postgres::Client,
    pub(super) keys: Arc<Keys>,
    pub(super) clock: FixedClock,
    pub(super) address: std::net::SocketAddr,
    realtime: Option<Realtime>,
    http: tokio::task::JoinHandle<()>,
}

/// What a test changes about its server.
#[derive(Default)]
pub(super) struct Options {
    pub(super) limits: Limits,
    pub(super) without_changes: bool,
    pub(super) private_only: bool,
    /// Keep the slot at the end.
    pub(super) keep_slot: bool,
    /// The keys of an earlier server.
    pub(super) keys: Option<Arc<Keys>>,
    /// Reach the database through this URL instead of its own.
    pub(super) database_url: Option<String>,
}

pub(super) async fn database() -> TestDb {
    TestDb::from_template("realtime", |url| async move {
        let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls)
            .await
            .map_err(|error| error.to_string())?;
        let connection = tokio::spawn(connection);
        bootstrap::apply(&client)
            .await
            .map_err(|error| format!("{error:?}"))?;
        drop(client);
        let _ = connection.await;
        Ok::<_, String>(())
    })
    .await
}

impl Server {
    /// A server with changes.
    pub(super) async fn start() -> Self {
        Self::start_with(Options::default()).await
    }

    /// A server for broadcast and presence.
    pub(super) async fn without_changes() -> Self {
        Self::start_with(Options {
            without_changes: true,
            ..Options::default()
        })
        .await
    }

    pub(super) async fn start_with(options: Options) -> Self {
        let db = database().await;
        Self::on(db, options).await
    }

    pub(super) async fn on(db: TestDb, mut options: Options) -> Self {
        let url = db.url();
        options.database_url.get_or_insert_with(|| url.clone());
        let mut server = Self::at(&url, options).await;
        server.db = Some(db);
        server
    }

    /// A server over a database of any cluster. `url` is for the test itself, and for the server unless the options have
    /// another one.
    pub(super) async fn at(url: &str, options: Options) -> Self {
        let sql = connect(url).await;
        let clock = FixedClock::at(Timestamp::from_second(NOW).unwrap());
        let keys = options
            .keys
            .clone()
            .unwrap_or_else(|| Arc::new(Keys::generate(Timestamp::from_second(NOW).unwrap())));
        let realtime = start_realtime(url, &keys, &clock, options).await;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let app = axum::Router::new().nest("/realtime/v1", realtime.router());
        let http = tokio::spawn(async move {
            axum::serve(listener, app).await.unwrap();
        });
        Self {
            db: None,
            sql,
            keys,
            clock,
            address,
            realtime: Some(realtime),
            http,
        }
    }

    pub(super) fn realtime(&self) -> &Realtime {
        self.realtime.as_ref().unwrap()
    }

    /// Ends the server in the orderly way and keeps its database.
    pub(super) async fn shutdown(mut self) -> (TestDb, Arc<Keys>) {
        self.realtime.take().unwrap().shutdown().await;
        self.http.abort();
        (self.db.unwrap(), self.keys)
    }

    /// A token of `role` that lives for an hour.
    pub(super) fn token(&self, role: &str, claims: &Value) -> String {
        self.token_until(role, NOW + 3_600, claims)
    }

    pub(super) fn token_until(&self, role: &str, expires_at: i64, claims: &Value) -> String {
        let mut all = json!({"role": role, "exp": expires_at});
        for (key, value) in claims.as_object().unwrap() {
            all[key] = value.clone();
        }
        self.keys.sign(&all)
    }

    pub(super) async fn execute(&self, sql: &str) {
        if let Err(error) = self.sql.batch_execute(sql).await {
            panic!("{sql}: {:?}", error.as_db_error());
        }
    }
}

/// A connection whose driver runs by itself.
pub(super) async fn connect(url: &str) -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls)
        .await
        .unwrap();
    tokio::spawn(connection);
    client
}

/// A busy machine is no reason to refuse or to leave anybody here; tests of these limits set their own. Clients of tests send
/// no heartbeats, so what takes long on such a machine must not count as silence. Not `ring_age`: PostgreSQL waits that long
/// for its readers when it stops.
fn patient(limits: &mut Limits) {
    let usual = Limits::default();
    for (limit, usual) in [
        (&mut limits.join_timeout, usual.join_timeout),
        (&mut limits.query_timeout, usual.query_timeout),
        (&mut limits.silence, usual.silence),
    ] {
        if *limit == usual {
            *limit = usual.max(3 * PATIENCE);
        }
    }
}

async fn start_realtime(
    url: &str,
    keys: &Arc<Keys>,
    clock: &FixedClock,
    mut options: Options,
) -> Realtime {
    patient(&mut options.limits);
    Realtime::start(RealtimeConfig {
        database_url: options.database_url.unwrap_or_else(|| url.to_owned()),
        keys: Arc::clone(keys),
        clock: Arc::new(clock.clone()),
        ids: Arc::new(SequentialIds::default()),
        limits: options.limits,
        slot: (!options.without_changes).then_some(Slot::Durable {
            name: None,
            keep: options.keep_slot,
        }),
        private_only: options.private_only,
    })
    .await
    .unwrap()
}

/// A client for the HTTP API.
pub(super) fn http_client() -> reqwest::Client {
    // Another test of this process may have been first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().build().unwrap()
}

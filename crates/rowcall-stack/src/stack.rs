//! The stack: REST, Auth and Realtime on one port, over one database.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use rowcall_core::{Clock, IdSource};
use rowcall_postgres::{Server, UrlError};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::auth::{AuthConfig, AuthOptions, AuthServer, Keys};
use crate::bootstrap::{self, BootstrapError};
use crate::drain::Drained;
use crate::gateway::{Gateway, GatewayConfig};
use crate::listen::{self, Door, Ends};
use crate::realtime::{Limits, Realtime, RealtimeConfig, RealtimeError, Slot};
use crate::rest::{Rest, RestConfig, RestOptions};

/// The port that `supabase start` serves its API on.
pub const DEFAULT_PORT: u16 = 54321;
/// How long the first read of the schema may take before the start is given up.
const READY_WAIT: Duration = Duration::from_secs(30);
/// How long requests under way may take to finish when the stack stops.
const STOP_WAIT: Duration = Duration::from_secs(10);
/// The most connections of clients at once; Realtime's sockets are among them.
const MAX_CONNECTIONS: usize = 20_000;
/// The connections REST keeps at most.
const REST_CONNECTIONS: usize = 16;
/// The connections Auth keeps at most.
const AUTH_CONNECTIONS: usize = 4;

/// What the stack needs.
#[derive(Debug)]
pub struct StackConfig {
    /// The database, as a superuser, or as a role that may do what is missing (see [`bootstrap::apply`]).
    pub database_url: String,
    /// Addresses to serve on; [`loopback`] gives the usual two. Port 0 takes a free one.
    pub bind: Vec<SocketAddr>,
    /// How many further ports are tried where the wanted one is taken.
    pub spare_ports: u16,
    /// The URL clients use, without path: the issuer of tokens is made of it. `None` makes it of the first address.
    pub public_url: Option<String>,
    /// The keys.
    pub keys: Keys,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Behaviour of REST.
    pub rest: RestConfig,
    /// Behaviour of Auth.
    pub auth: AuthConfig,
    /// Rules of the gate.
    pub gateway: GatewayConfig,
    /// Behaviour of Realtime; `None` leaves it out. The database role needs REPLICATION for changes.
    pub realtime: Option<RealtimeSettings>,
    /// Whether to create what the database lacks.
    pub bootstrap: bool,
}

/// Behaviour of Realtime, besides what it shares with the other services.
#[derive(Debug)]
pub struct RealtimeSettings {
    /// Makes presence keys and the ids of probes.
    pub ids: Arc<dyn IdSource>,
    /// Every limit.
    pub limits: Limits,
    /// How changes are read; `None` serves broadcast and presence only.
    pub slot: Option<Slot>,
    /// Refuse public channels.
    pub private_only: bool,
}

impl RealtimeSettings {
    async fn start(
        self,
        database_url: String,
        keys: &Keys,
        clock: &Arc<dyn Clock>,
    ) -> Result<Realtime, RealtimeError> {
        Realtime::start(RealtimeConfig {
            database_url,
            keys: Arc::new(keys.clone()),
            clock: Arc::clone(clock),
            ids: self.ids,
            limits: self.limits,
            slot: self.slot,
            private_only: self.private_only,
        })
        .await
    }
}

impl StackConfig {
    /// The usual stack: loopback, port 54321, the defaults of `supabase start`.
    pub fn new(database_url: impl Into<String>, keys: Keys, clock: Arc<dyn Clock>) -> Self {
        Self {
            database_url: database_url.into(),
            bind: loopback(DEFAULT_PORT),
            spare_ports: 0,
            public_url: None,
            keys,
            clock,
            rest: RestConfig::default(),
            auth: AuthConfig::default(),
            gateway: GatewayConfig::default(),
            realtime: None,
            bootstrap: true,
        }
    }
}

/// 127.0.0.1 and `::1`.
pub fn loopback(port: u16) -> Vec<SocketAddr> {
    vec![
        (IpAddr::from(Ipv4Addr::LOCALHOST), port).into(),
        (IpAddr::from(Ipv6Addr::LOCALHOST), port).into(),
    ]
}

/// Why the stack did not start.
#[derive(Debug, thiserror::Error)]
pub enum StackError {
    /// The URL is not one.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// The database cannot be reached.
    #[error(
        "the database cannot be reached: {}. Check that PostgreSQL runs and that the URL is right", rowcall_postgres::explain(.0)
    )]
    Connect(#[source] tokio_postgres::Error),
    /// The database could not be prepared.
    #[error(transparent)]
    Bootstrap(#[from] BootstrapError),
    /// Realtime did not start.
    #[error(transparent)]
    Realtime(#[from] RealtimeError),
    /// No address could be bound.
    #[error("the API cannot listen on {0}. Another program may use the port; choose another one")]
    Bind(#[source] std::io::Error),
    /// The schema could not be read.
    #[error("the database's schema could not be read in time: {0}")]
    NotReady(String),
}

impl StackError {
    /// Stable name of the kind of failure; its page is `docs/errors/<code>.md`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Url(_) => "db-url",
            Self::Connect(_) => "db-unavailable",
            Self::Bootstrap(error) => error.code(),
            Self::Realtime(error) => error.code(),
            Self::Bind(_) => "stack-port",
            Self::NotReady(_) => "stack-schema",
        }
    }
}

/// A running stack.
#[derive(Debug)]
pub struct Stack {
    addresses: Vec<SocketAddr>,
    public_url: String,
    rest: Rest,
    auth: AuthServer,
    realtime: Option<Realtime>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Stack {
    /// Prepares the database, starts the services and serves them. Returns once requests are answered.
    ///
    /// # Errors
    /// See [`StackError`].
    pub async fn start(config: StackConfig) -> Result<Self, StackError> {
        let database = Server::parse(&config.database_url)?;
        if config.bootstrap {
            let (client, connection) = database.connect().await.map_err(StackError::Connect)?;
            let driver = tokio::spawn(connection);
            let applied = bootstrap::apply(&client).await;
            drop(client);
            driver.abort();
            applied?;
        }
        let listeners = listen::bind(&config.bind, config.spare_ports)
            .await
            .map_err(StackError::Bind)?;
        let addresses: Vec<SocketAddr> = listeners
            .iter()
            .filter_map(|listener| listener.local_addr().ok())
            .collect();
        let public_url = config
            .public_url
            .unwrap_or_else(|| match addresses.first() {
                Some(address) => format!("http://{address}"),
                None => format!("http://127.0.0.1:{DEFAULT_PORT}"),
            });
        let rest = Rest::start(RestOptions {
            database: database.clone(),
            keys: config.keys.clone(),
            clock: Arc::clone(&config.clock),
            config: config.rest,
            connections: REST_CONNECTIONS,
        });
        let auth = AuthServer::new(AuthOptions {
            database,
            keys: config.keys.clone(),
            clock: Arc::clone(&config.clock),
            config: config.auth,
            issuer: format!("{public_url}/auth/v1"),
            connections: AUTH_CONNECTIONS,
        });
        let realtime = match config.realtime {
            None => None,
            Some(settings) => Some(
                settings
                    .start(config.database_url, &config.keys, &config.clock)
                    .await?,
            ),
        };
        if !rest.ready(READY_WAIT).await {
            rest.stop().await;
            if let Some(realtime) = realtime {
                realtime.shutdown().await;
            }
            let trouble = rest.trouble();
            let slow = || "the database is slow to answer".to_owned();
            return Err(StackError::NotReady(trouble.unwrap_or_else(slow)));
        }
        let mut services = Router::new().nest("/auth/v1", auth.router());
        if let Some(realtime) = &realtime {
            services = services.nest("/realtime/v1", realtime.router());
        }
        let app = Arc::new(Gateway::new(
            config.gateway,
            config.keys,
            config.clock,
            rest.clone(),
            services,
        ));
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let door = Door::new(MAX_CONNECTIONS, stop.clone(), tasks.clone());
        for listener in listeners {
            let app = Arc::clone(&app);
            door.open(listener, move |ends| answering(Arc::clone(&app), ends));
        }
        tasks.close();
        tracing::info!(?addresses, "the API is served");
        Ok(Self {
            addresses,
            public_url,
            rest,
            auth,
            realtime,
            stop,
            tasks,
        })
    }

    /// Where the API is served.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The URL for clients, without path.
    pub fn url(&self) -> &str {
        &self.public_url
    }

    /// The Realtime server, if it is served.
    pub fn realtime(&self) -> Option<&Realtime> {
        self.realtime.as_ref()
    }

    /// Stops accepting, closes sockets, lets requests under way finish for a while, and closes the connections to the database.
    pub async fn shutdown(self) {
        self.stop.cancel();
        if let Some(realtime) = self.realtime {
            realtime.shutdown().await;
        }
        if tokio::time::timeout(STOP_WAIT, self.tasks.wait())
            .await
            .is_err()
        {
            tracing::warn!("requests were still under way when the API stopped");
        }
        self.auth.stop();
        self.rest.stop().await;
    }
}

/// What answers the requests of one connection.
fn answering(
    app: Arc<Gateway>,
    ends: Ends,
) -> impl Service<
    Request<Incoming>,
    Response = Response<Body>,
    Error = Infallible,
    Future = impl Future<Output = Result<Response<Body>, Infallible>> + Send,
> + Send {
    service_fn(move |request: Request<Incoming>| {
        let app = Arc::clone(&app);
        async move {
            let mut request = request.map(Drained::body);
            request.extensions_mut().insert(ends);
            Ok(app.answer(request).await)
        }
    })
}

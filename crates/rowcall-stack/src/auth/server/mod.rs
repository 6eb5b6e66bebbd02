//! The auth server: sign-up, sign-in, refresh, users. The wire shapes are those of Supabase Auth.

mod admin;
mod error;
mod limit;
mod password;
mod public;
mod session;
mod signup;
mod store;
mod token;
mod user;
mod user_routes;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Response};
use axum::routing::{get, post};
use jiff::Timestamp;
use rowcall_core::Clock;

use serde::de::DeserializeOwned;

use self::error::{Answered, AuthError};
use self::limit::Limit;
use self::password::Passwords;
use super::Keys;
use super::claims::Claims;
use crate::listen::Ends;

/// The largest request body.
const MAX_BODY_BYTES: usize = 256 * 1024;
/// The window of the rate limits.
const RATE_WINDOW: Duration = Duration::from_mins(5);
/// How long to wait for a connection to the database.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);

/// Behaviour of the auth server. The defaults are those of `supabase start`.
#[derive(Debug, Clone)]
pub struct AuthConfig {
    /// Whether new users may sign up.
    pub signup: bool,
    /// Whether people may sign in without telling who they are.
    pub anonymous: bool,
    /// Whether an address counts as confirmed when it signs up. There are no mails: otherwise an admin confirms it.
    pub autoconfirm: bool,
    /// The least characters of a password.
    pub password_min: usize,
    /// How long an access token lives.
    pub token_lifetime: Duration,
    /// How long a replaced refresh token still gives the one that replaced it.
    pub refresh_reuse: Duration,
    /// How many wrong passwords one address may be tried with in five minutes.
    pub failures_per_account: u32,
    /// How many sign-ups and sign-ins one client address may make in five minutes.
    pub sign_ins_per_client: u32,
}

impl Default for AuthConfig {
    fn default() -> Self {
        Self {
            signup: true,
            anonymous: false,
            autoconfirm: true,
            password_min: 6,
            token_lifetime: Duration::from_hours(1),
            refresh_reuse: Duration::from_secs(10),
            failures_per_account: 10,
            sign_ins_per_client: 300,
        }
    }
}

/// What the auth server needs.
#[derive(Debug)]
pub struct AuthOptions {
    /// The database, as a role that may read and write the tables of schema `auth`.
    pub database: rowcall_postgres::Server,
    /// The keys that tokens are signed with.
    pub keys: Keys,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Behaviour.
    pub config: AuthConfig,
    /// `iss` of tokens: the URL of this server.
    pub issuer: String,
    /// The most connections to open.
    pub connections: usize,
}

/// The auth server. Cheap to clone.
#[derive(Debug, Clone)]
pub struct AuthServer {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    pool: deadpool_postgres::Pool,
    keys: Keys,
    clock: Arc<dyn Clock>,
    config: AuthConfig,
    issuer: String,
    passwords: Passwords,
    failures: Limit,
    sign_ins: Limit,
}

impl AuthServer {
    /// Prepares the server; connections open when they are needed.
    pub fn new(options: AuthOptions) -> Self {
        let manager = deadpool_postgres::Manager::from_config(
            options.database.config().clone(),
            options.database.connector(),
            deadpool_postgres::ManagerConfig {
                recycling_method: deadpool_postgres::RecyclingMethod::Fast,
            },
        );
        let pool = deadpool_postgres::Pool::builder(manager)
            .max_size(options.connections)
            .wait_timeout(Some(ACQUIRE_TIMEOUT))
            .create_timeout(Some(ACQUIRE_TIMEOUT))
            .recycle_timeout(Some(ACQUIRE_TIMEOUT))
            .runtime(deadpool_postgres::Runtime::Tokio1)
            .build()
            .expect("a runtime is given, which is all that can be missing");
        Self {
            inner: Arc::new(Inner {
                pool,
                keys: options.keys,
                clock: options.clock,
                failures: Limit::new(options.config.failures_per_account, RATE_WINDOW),
                sign_ins: Limit::new(options.config.sign_ins_per_client, RATE_WINDOW),
                config: options.config,
                issuer: options.issuer,
                passwords: Passwords::default(),
            }),
        }
    }

    /// Closes the connections.
    pub fn stop(&self) {
        self.inner.pool.close();
    }

    /// The routes, to be nested under `/auth/v1`.
    pub fn router(&self) -> Router {
        Router::new()
            .route("/signup", post(signup::signup))
            .route("/token", post(token::token))
            .route(
                "/user",
                get(user_routes::get_user).put(user_routes::update_user),
            )
            .route("/logout", post(user_routes::logout))
            .route("/settings", get(public::settings))
            .route("/health", get(public::health))
            .route("/.well-known/jwks.json", get(public::jwks))
            .route("/.well-known/openid-configuration", get(public::openid))
            .route("/admin/users", get(admin::list).post(admin::create))
            .route(
                "/admin/users/{id}",
                get(admin::get).put(admin::update).delete(admin::delete),
            )
            .fallback(public::not_here)
            .with_state(Arc::clone(&self.inner))
    }
}

impl Inner {
    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The claims of the request's bearer.
    fn bearer(&self, headers: &HeaderMap) -> Answered<Claims> {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let missing = || {
            AuthError::new(
                axum::http::StatusCode::UNAUTHORIZED,
                "no_authorization",
                "This endpoint requires a valid Bearer token",
            )
        };
        let token = self
            .keys
            .bearer(text("authorization"), text("apikey"))
            .ok_or_else(missing)?;
        if token.is_empty() {
            return Err(missing());
        }
        self.keys.verify(token, self.now()).map_err(|error| {
            AuthError::forbidden(
                "bad_jwt",
                format!("invalid JWT: unable to parse or verify signature, {error}"),
            )
        })
    }

    /// Takes one of the client's sign-ins.
    fn limit_client(&self, call: &Call) -> Answered<()> {
        let key = call.peer.map_or_else(String::new, |peer| peer.to_string());
        if self.sign_ins.take(&key, self.now()) {
            Ok(())
        } else {
            Err(AuthError::too_many())
        }
    }
}

/// A request with its body read.
#[derive(Debug)]
struct Call {
    headers: HeaderMap,
    query: String,
    peer: Option<IpAddr>,
    body: axum::body::Bytes,
}

impl Call {
    async fn read(request: Request) -> Result<Self, (AuthError, HeaderMap)> {
        let (parts, body) = request.into_parts();
        let peer = parts.extensions.get::<Ends>().map(|ends| ends.peer.ip());
        match to_bytes(body, MAX_BODY_BYTES).await {
            Ok(body) => {
                let query = parts.uri.query().unwrap_or_default().to_owned();
                Ok(Self {
                    headers: parts.headers,
                    query,
                    peer,
                    body,
                })
            }
            Err(_) => Err((
                AuthError::bad("validation_failed", "The request body is too large"),
                parts.headers,
            )),
        }
    }

    /// The JSON body; an empty one counts as `{}`.
    fn json<T: DeserializeOwned>(&self) -> Answered<T> {
        let body: &[u8] = if self.body.is_empty() {
            b"{}"
        } else {
            &self.body
        };
        serde_json::from_slice(body).map_err(|error| {
            AuthError::bad(
                "bad_json",
                format!("Could not parse request body as JSON: {error}"),
            )
        })
    }

    /// A parameter of the query string.
    fn parameter(&self, name: &str) -> Option<String> {
        url::form_urlencoded::parse(self.query.as_bytes())
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.into_owned())
    }

    fn user_agent(&self) -> Option<&str> {
        self.headers
            .get(axum::http::header::USER_AGENT)
            .and_then(|value| value.to_str().ok())
    }
}

/// Runs a handler and words its error as the request asks.
async fn answered(
    request: Request,
    handle: impl AsyncFnOnce(&Call) -> Answered<Response<Body>>,
) -> Response<Body> {
    match Call::read(request).await {
        Ok(call) => match handle(&call).await {
            Ok(answer) => answer,
            Err(error) => error.into_answer(&call.headers),
        },
        Err((error, headers)) => error.into_answer(&headers),
    }
}

/// The state that handlers take.
type Server = State<Arc<Inner>>;

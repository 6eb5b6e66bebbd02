//! Requests to a Supabase project: with time-outs, without redirects, with bounded answers.

use std::{sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use reqwest::{
    Client, Method, Response, StatusCode,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, DATE, HeaderValue, RETRY_AFTER},
    redirect,
};
use rowcall_realtime::client::install_tls_provider;
use secrecy::{ExposeSecret, SecretString};
use serde::{Serialize, de::DeserializeOwned};
use tokio::time::{Instant, sleep_until};
use url::Url;

use super::{clock::ServerClock, error::RestError, query::Query, session::Session};

/// Largest answer that is read, in bytes.
pub(crate) const MAX_ANSWER_BYTES: usize = 16 << 20;
/// A wait that the project asks for is sat out when it is this short; a longer one is an error, and the engine's business.
const MAX_PATIENCE: Duration = Duration::from_secs(3);
/// No project makes the daemon wait for longer than this, whatever it says.
const MAX_RETRY_AFTER: Duration = Duration::from_mins(5);
/// For name resolution, TCP and TLS.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// Idle connections kept to one project.
const IDLE_CONNECTIONS: usize = 8;

/// A request, before credentials.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    method: Method,
    path: Vec<String>,
    query: Query,
    schema: Option<String>,
    prefer: Option<&'static str>,
    body: Option<String>,
}

impl Call {
    fn new(method: Method, path: &[&str]) -> Self {
        Self {
            method,
            path: path.iter().map(|&part| part.to_owned()).collect(),
            query: Query::new(),
            schema: None,
            prefer: None,
            body: None,
        }
    }

    pub(crate) fn get(path: &[&str]) -> Self {
        Self::new(Method::GET, path)
    }

    pub(crate) fn post(path: &[&str]) -> Self {
        Self::new(Method::POST, path)
    }

    pub(crate) fn patch(path: &[&str]) -> Self {
        Self::new(Method::PATCH, path)
    }

    pub(crate) fn delete(path: &[&str]) -> Self {
        Self::new(Method::DELETE, path)
    }

    /// A function of schema `public`, with its named arguments.
    pub(crate) fn rpc(function: &str, arguments: &impl Serialize) -> Self {
        Self::post(&["rest", "v1", "rpc", function])
            .schema("public")
            .json(arguments)
    }

    pub(crate) fn query(mut self, name: &str, value: &str) -> Self {
        self.query = self.query.with(name, value);
        self
    }

    pub(crate) fn queried(mut self, query: Query) -> Self {
        self.query = query;
        self
    }

    pub(crate) fn schema(mut self, schema: &str) -> Self {
        self.schema = Some(schema.to_owned());
        self
    }

    pub(crate) fn prefer(mut self, prefer: &'static str) -> Self {
        self.prefer = Some(prefer);
        self
    }

    pub(crate) fn json(mut self, body: &impl Serialize) -> Self {
        let body = serde_json::to_string(body);
        self.body =
            Some(body.expect("values made of texts, numbers and maps with text keys serialise"));
        self
    }
}

/// A success.
#[derive(Debug)]
pub(crate) struct Answer {
    body: Bytes,
}

impl Answer {
    /// The body as JSON.
    pub(crate) fn read<T: DeserializeOwned>(&self) -> Result<T, RestError> {
        serde_json::from_slice(&self.body).map_err(|error| {
            let start: String = String::from_utf8_lossy(&self.body)
                .chars()
                .take(60)
                .collect();
            RestError::Nonsense(format!("{start:?} ({error})"))
        })
    }
}

#[derive(Debug)]
struct Shared {
    http: Client,
    base: Url,
    key: SecretString,
    /// Nothing is sent before this: the project asked for it.
    not_before: Mutex<Option<Instant>>,
    clock: ServerClock,
}

/// A project's HTTP side, without the user; clones share connections.
#[derive(Clone, Debug)]
pub(crate) struct Transport(Arc<Shared>);

impl Transport {
    /// A transport to the project at `base`. `within` bounds each request, its answer included.
    pub(crate) fn new(base: Url, key: SecretString, within: Duration) -> Result<Self, RestError> {
        install_tls_provider();
        let http = Client::builder()
            .redirect(redirect::Policy::none())
            .connect_timeout(CONNECT_WITHIN)
            .timeout(within)
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            .user_agent(concat!("rowcall/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| RestError::Unreachable(chain(&error)))?;
        Ok(Self(Arc::new(Shared {
            http,
            base,
            key,
            not_before: Mutex::new(None),
            clock: ServerClock::default(),
        })))
    }

    pub(crate) fn clock(&self) -> &ServerClock {
        &self.0.clock
    }

    /// Sends a request as a user, or with the key alone.
    pub(crate) async fn send(
        &self,
        call: &Call,
        token: Option<&SecretString>,
    ) -> Result<Answer, RestError> {
        self.wait_out().await?;
        let response = self
            .request(call, token)
            .send()
            .await
            .map_err(|error| RestError::Unreachable(chain(&error)))?;
        if let Some(date) = response.headers().get(DATE) {
            self.0.clock.note(date);
        }
        self.note_limit(&response);
        let status = response.status();
        let body = read_bounded(response).await?;
        if status.is_success() {
            Ok(Answer { body })
        } else {
            Err(RestError::refused(status, &body))
        }
    }

    fn request(&self, call: &Call, token: Option<&SecretString>) -> reqwest::RequestBuilder {
        let mut url = self.0.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(&call.path);
        }
        if !call.query.pairs().is_empty() {
            url.query_pairs_mut().extend_pairs(call.query.pairs());
        }
        let key = self.0.key.expose_secret();
        let mut request = self
            .0
            .http
            .request(call.method.clone(), url)
            .header("apikey", secret(key))
            .header(ACCEPT, "application/json");
        // A key of the newer, opaque kind is no token; the gateway finds it in `apikey`.
        let key_token = key.starts_with("eyJ").then_some(key);
        if let Some(token) = token.map(ExposeSecret::expose_secret).or(key_token) {
            request = request.header(AUTHORIZATION, secret(&format!("Bearer {token}")));
        }
        if let Some(schema) = &call.schema {
            let profile = if call.method == Method::GET {
                "accept-profile"
            } else {
                "content-profile"
            };
            request = request.header(profile, schema);
        }
        if let Some(prefer) = call.prefer {
            request = request.header("prefer", prefer);
        }
        if let Some(body) = &call.body {
            request = request
                .header(CONTENT_TYPE, "application/json")
                .body(body.clone());
        }
        request
    }

    async fn wait_out(&self) -> Result<(), RestError> {
        let Some(until) = *self.0.not_before.lock() else {
            return Ok(());
        };
        let wait = until.saturating_duration_since(Instant::now());
        if wait > MAX_PATIENCE {
            return Err(RestError::Throttled(wait));
        }
        sleep_until(until).await;
        Ok(())
    }

    fn note_limit(&self, response: &Response) {
        let limited = [
            StatusCode::TOO_MANY_REQUESTS,
            StatusCode::SERVICE_UNAVAILABLE,
        ];
        if !limited.contains(&response.status()) {
            return;
        }
        let asked = response.headers().get(RETRY_AFTER);
        let seconds = asked.and_then(|value| value.to_str().ok()?.trim().parse().ok());
        if let Some(seconds) = seconds {
            let wait = Duration::from_secs(seconds).min(MAX_RETRY_AFTER);
            *self.0.not_before.lock() = Some(Instant::now() + wait);
        }
    }
}

/// A header that debug output does not show. What cannot stand in a header is left out: the project then says what is wrong.
fn secret(value: &str) -> HeaderValue {
    let mut header = HeaderValue::from_str(value).unwrap_or_else(|_| HeaderValue::from_static(""));
    header.set_sensitive(true);
    header
}

async fn read_bounded(mut response: Response) -> Result<Bytes, RestError> {
    let too_large = Err(RestError::TooLarge(MAX_ANSWER_BYTES));
    let announced = response.content_length().unwrap_or(0);
    if announced > MAX_ANSWER_BYTES as u64 {
        return too_large;
    }
    let mut body = BytesMut::new();
    loop {
        let chunk = response.chunk().await;
        match chunk.map_err(|error| RestError::Unreachable(chain(&error)))? {
            Some(chunk) if body.len() + chunk.len() > MAX_ANSWER_BYTES => return too_large,
            Some(chunk) => body.extend_from_slice(&chunk),
            None => return Ok(body.freeze()),
        }
    }
}

/// An error with its causes, without the URL: it may hold a key.
fn chain(error: &reqwest::Error) -> String {
    let mut text = match (error.is_timeout(), error.is_connect()) {
        (true, _) => "no answer in time".to_owned(),
        (false, true) => "no connection".to_owned(),
        (false, false) => "the connection failed".to_owned(),
    };
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// A project's HTTP side as the daemon's user sees it; clones share connections and session.
#[derive(Clone)]
pub(crate) struct Rest {
    transport: Transport,
    session: Session,
}

impl Rest {
    pub(crate) fn new(transport: Transport, session: Session) -> Self {
        Self { transport, session }
    }

    pub(crate) fn clock(&self) -> &ServerClock {
        self.transport.clock()
    }

    /// Sends a request. One that fails because the token has expired is sent once more with a new one: it was refused before
    /// anything was done.
    pub(crate) async fn send(&self, call: &Call) -> Result<Answer, RestError> {
        let token = self.session.token().await?;
        let answer = self.transport.send(call, token.as_ref()).await;
        let (Err(error), Some(token)) = (&answer, &token) else {
            return answer;
        };
        if !error.is_token() {
            return answer;
        }
        match self.session.replace(token).await? {
            Some(token) => self.transport.send(call, Some(&token)).await,
            None => answer,
        }
    }

    /// Sends a request and reads its answer.
    pub(crate) async fn fetch<T: DeserializeOwned>(&self, call: &Call) -> Result<T, RestError> {
        self.send(call).await?.read()
    }
}

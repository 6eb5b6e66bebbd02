//! What goes wrong, as clients of PostgREST know it: code, message, details, hint.

mod missing;
mod request;
mod role;

use std::borrow::Cow;
use std::ops::{Deref, DerefMut};

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use hyper::ext::ReasonPhrase;
use serde_json::{Value, json};

/// An answer that says what went wrong. Boxed, as it travels through every result of a request that goes well.
#[derive(Debug, Clone)]
pub(crate) struct RestError(Box<Fault>);

/// What a [`RestError`] says.
#[derive(Debug, Clone)]
pub(crate) struct Fault {
    /// The status.
    pub status: StatusCode,
    /// `PGRST…` or an SQLSTATE.
    pub code: Cow<'static, str>,
    /// What happened.
    pub message: String,
    /// Why, or more about it.
    pub details: Value,
    /// What to do.
    pub hint: Value,
    /// Headers to send along.
    pub headers: HeaderMap,
    /// Another reason phrase than the canonical one, asked for by SQL.
    pub reason: Option<String>,
}

impl Deref for RestError {
    type Target = Fault;

    fn deref(&self) -> &Fault {
        &self.0
    }
}

impl DerefMut for RestError {
    fn deref_mut(&mut self) -> &mut Fault {
        &mut self.0
    }
}

impl From<Fault> for RestError {
    fn from(fault: Fault) -> Self {
        Self(Box::new(fault))
    }
}

impl RestError {
    /// An error without details.
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self::from(Fault {
            status,
            code: Cow::Borrowed(code),
            message: message.into(),
            details: Value::Null,
            hint: Value::Null,
            headers: HeaderMap::new(),
            reason: None,
        })
    }

    fn bad(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    #[must_use]
    fn details(mut self, details: impl Into<Value>) -> Self {
        self.details = details.into();
        self
    }

    #[must_use]
    fn hint(mut self, hint: Option<String>) -> Self {
        self.hint = hint.map_or(Value::Null, Value::String);
        self
    }

    /// The error as an answer.
    pub(crate) fn into_answer(self) -> Response<Body> {
        let fault = *self.0;
        let body = json!({
            "code": fault.code,
            "details": fault.details,
            "hint": fault.hint,
            "message": fault.message,
        });
        let mut answer = Response::new(Body::from(body.to_string()));
        *answer.status_mut() = fault.status;
        let headers = answer.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json; charset=utf-8"),
        );
        if let Ok(value) = HeaderValue::try_from(format!("PostgREST; error={}", fault.code)) {
            headers.insert(HeaderName::from_static("proxy-status"), value);
        }
        if fault.status == StatusCode::UNAUTHORIZED
            && !fault.headers.contains_key(header::WWW_AUTHENTICATE)
        {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        for (name, value) in fault.headers {
            if let Some(name) = name {
                headers.insert(name, value);
            }
        }
        if let Some(reason) = fault
            .reason
            .and_then(|reason| ReasonPhrase::try_from(reason.into_bytes()).ok())
        {
            answer.extensions_mut().insert(reason);
        }
        answer
    }

    // The server's own state.

    /// PGRST001: the database does not answer.
    pub(crate) fn no_connection(details: &str) -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "PGRST001",
            "Database client error. Retrying the connection.",
        )
        .details(details)
    }

    /// PGRST002: the schema cache is not there yet.
    pub(crate) fn no_schema_cache() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "PGRST002",
            "Could not query the database for the schema cache. Retrying.",
        )
    }

    /// PGRST003: all connections are busy.
    pub(crate) fn pool_timeout() -> Self {
        Self::new(
            StatusCode::GATEWAY_TIMEOUT,
            "PGRST003",
            "Timed out acquiring connection from connection pool.",
        )
    }

    /// A bug of ours; details stay in the log.
    pub(crate) fn internal() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "PGRSTX00",
            "Internal server error",
        )
    }
}

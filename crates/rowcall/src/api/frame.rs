//! What stands around all routes: limits, fallbacks, and JSON whatever happens.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    extract::{DefaultBodyLimit, Request, State},
    http::{StatusCode, Uri, header, uri::PathAndQuery},
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
};
use rowcall_stack::drain::Drained;
use tower_http::{catch_panic::CatchPanicLayer, timeout::TimeoutLayer};

use super::{
    error::ApiError,
    guard::{self, Neighbours},
};

/// The largest body of a request, in bytes. Results are stored in a row: larger ones belong into a file or a bucket.
pub const MAX_BODY_BYTES: usize = 4 * 1024 * 1024;

/// No answer begins later; the longest waits (for a person's decision, for a settlement) are shorter.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_mins(1);

/// The longest path that is shown in an error.
const SHOWN_PATH: usize = 200;

/// Answers by class of status: 1xx to 5xx.
#[derive(Debug, Default)]
pub(super) struct Answers([AtomicU64; 5]);

impl Answers {
    fn count(&self, status: StatusCode) {
        let class = usize::from(status.as_u16() / 100).clamp(1, 5);
        self.0[class - 1].fetch_add(1, Ordering::Relaxed);
    }

    /// How many answers of a class (2 for 2xx) there were.
    pub(super) fn of_class(&self, class: usize) -> u64 {
        self.0
            .get(class.wrapping_sub(1))
            .map_or(0, |count| count.load(Ordering::Relaxed))
    }
}

/// Puts everything around the routes.
pub(super) fn around(routes: Router, neighbours: Neighbours, answers: Arc<Answers>) -> Router {
    let inner = routes
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(middleware::from_fn(json_bodies))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(TimeoutLayer::with_status_code(
            StatusCode::GATEWAY_TIMEOUT,
            REQUEST_TIMEOUT,
        ))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(middleware::from_fn_with_state(
            Arc::new(neighbours),
            guard::local_only,
        ))
        .layer(middleware::from_fn_with_state(answers, count));
    // Layers of a router run after it has chosen a route; this one must run before.
    Router::new()
        .fallback_service(inner)
        .layer(middleware::map_request(unread_bodies))
        .layer(middleware::from_fn(collapse_slashes))
}

async fn unread_bodies(request: Request) -> Request {
    request.map(Drained::body)
}

async fn count(State(answers): State<Arc<Answers>>, request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    answers.count(response.status());
    response
}

/// `//sdk/llm/chat` is `/sdk/llm/chat`: that is what SDKs send when their base URL ends in a slash.
async fn collapse_slashes(mut request: Request, next: Next) -> Response {
    if let Some(uri) = collapsed(request.uri()) {
        *request.uri_mut() = uri;
    }
    next.run(request).await
}

fn collapsed(uri: &Uri) -> Option<Uri> {
    if !uri.path().contains("//") {
        return None;
    }
    let mut path = String::with_capacity(uri.path().len());
    for c in uri.path().chars() {
        if c != '/' || !path.ends_with('/') {
            path.push(c);
        }
    }
    if let Some(query) = uri.query() {
        path.push('?');
        path.push_str(query);
    }
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(path).ok()?);
    Uri::from_parts(parts).ok()
}

fn shown(request: &Request) -> String {
    request.uri().path().chars().take(SHOWN_PATH).collect()
}

pub(super) async fn no_route(request: Request) -> ApiError {
    ApiError::new(
        StatusCode::NOT_FOUND,
        "NOT_FOUND",
        format!("Route not found: {} {}", request.method(), shown(&request)),
    )
}

async fn no_method(request: Request) -> ApiError {
    ApiError::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "METHOD_NOT_ALLOWED",
        format!(
            "{} is not possible on {}",
            request.method(),
            shown(&request)
        ),
    )
}

/// Clients parse every answer as JSON before they look at the status: what extractors and layers answer in plain text is
/// put into the envelope.
async fn json_bodies(request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    let status = response.status();
    let is_json = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
    if is_json || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let (code, message) = match status {
        StatusCode::PAYLOAD_TOO_LARGE => (
            "PAYLOAD_TOO_LARGE",
            format!(
                "The body is larger than {MAX_BODY_BYTES} bytes: store large results elsewhere and send a reference"
            ),
        ),
        StatusCode::GATEWAY_TIMEOUT => ("TIMEOUT", "The request took too long".to_owned()),
        StatusCode::UNSUPPORTED_MEDIA_TYPE => (
            "UNSUPPORTED_MEDIA_TYPE",
            "The body must be JSON: send Content-Type: application/json".to_owned(),
        ),
        _ => (
            "BAD_REQUEST",
            status
                .canonical_reason()
                .unwrap_or("The request failed")
                .to_owned(),
        ),
    };
    ApiError::new(status, code, message).into_response()
}

fn panicked(_: Box<dyn std::any::Any + Send + 'static>) -> Response {
    ApiError::internal("a handler panicked").into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slashes_collapse_and_nothing_else_changes() {
        let collapse = |text: &str| {
            let uri: Uri = text.parse().unwrap();
            collapsed(&uri).unwrap_or(uri).to_string()
        };
        for (from, to) in [
            ("//sdk//llm/chat?a=//b", "/sdk/llm/chat?a=//b"),
            ("/a%2F%2Fb", "/a%2F%2Fb"),
            ("/sdk/ping", "/sdk/ping"),
            ("///", "/"),
        ] {
            assert_eq!(collapse(from), to, "{from}");
        }
    }
}

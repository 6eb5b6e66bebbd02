//! The routes of `/realtime/v1`.

use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, Request, Response, StatusCode};
use axum::response::IntoResponse as _;
use axum::routing::{get, post};
use rowcall_realtime::Version;
use serde_json::json;

use super::api;
use super::session::Session;
use super::shared::Shared;
use super::socket;
use super::token::Refusal;
use super::ws::{self, Upgrade};

/// Most of a request to the HTTP API that is not payload.
const ENVELOPE_BYTES: usize = 1_048_576;

/// The routes, to be nested under `/realtime/v1` (and `/socket`, for clients of the bare server). CORS is the gateway's.
pub(crate) fn router(shared: Arc<Shared>) -> Router {
    let body_limit = shared.limits.broadcast_bytes + ENVELOPE_BYTES;
    Router::new()
        .route("/websocket", get(websocket))
        .route("/api/broadcast", post(api::batch))
        .route("/api/broadcast/{topic}/events/{event}", post(api::event))
        .route(
            "/api/ping",
            get(|| async { Json(json!({"message": "Success"})) }),
        )
        .layer(DefaultBodyLimit::max(body_limit))
        .with_state(shared)
}

fn refuse(status: StatusCode, message: &str) -> Response<Body> {
    (status, Json(json!({ "error": message }))).into_response()
}

/// Opens a socket.
async fn websocket(
    State(shared): State<Arc<Shared>>,
    mut request: Request<Body>,
) -> Response<Body> {
    let query = request.uri().query().unwrap_or_default();
    let Some(version) = Version::parse(parameter(query, "vsn").as_deref()) else {
        return refuse(StatusCode::BAD_REQUEST, "vsn must be 1.0.0 or 2.0.0");
    };
    let key = header(request.headers(), "x-api-key")
        .map(str::to_owned)
        .or_else(|| parameter(query, "apikey"))
        .filter(|key| !key.is_empty());
    let Some(key) = key else {
        return refuse(StatusCode::UNAUTHORIZED, "API key is missing");
    };
    let verified = match shared.verify(&key) {
        Ok(verified) => verified,
        Err(refusal) => return refuse(StatusCode::UNAUTHORIZED, &refusal.message()),
    };
    let role = &verified.identity.role;
    match shared.roles.allows(&shared.database, role).await {
        Ok(true) => {}
        Ok(false) => {
            let refusal = Refusal::Role(role.to_string());
            return refuse(StatusCode::UNAUTHORIZED, &refusal.message());
        }
        Err(error) => {
            tracing::warn!(%error, "the roles of the database cannot be read");
            return refuse(
                StatusCode::INTERNAL_SERVER_ERROR,
                "Error connecting to Realtime",
            );
        }
    }
    let Some(permit) = shared.connect() else {
        return refuse(StatusCode::TOO_MANY_REQUESTS, "Too many connected users");
    };
    let Some(upgrade) = Upgrade::take(&mut request) else {
        return refuse(
            StatusCode::UPGRADE_REQUIRED,
            "this address serves WebSockets only",
        );
    };
    let (response, on_upgrade) = ws::accept(upgrade);
    let tasks = shared.tasks.clone();
    tasks.spawn(async move {
        match on_upgrade.await {
            Ok(io) => {
                let session = Session::new(shared, version, verified);
                socket::serve(io, session, permit).await;
            }
            Err(error) => tracing::debug!(%error, "a socket could not be opened"),
        }
    });
    response
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// The first value of a query parameter, decoded.
fn parameter(query: &str, name: &str) -> Option<String> {
    query.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = value.replace('+', " ");
        let decoded = percent_encoding::percent_decode_str(&value).decode_utf8_lossy();
        (key == name).then(|| decoded.into_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn query_parameters_are_decoded() {
        let query = "log_level=info&apikey=a%2Eb&vsn=2.0.0&empty";
        assert_eq!(parameter(query, "apikey").as_deref(), Some("a.b"));
        assert_eq!(parameter(query, "vsn").as_deref(), Some("2.0.0"));
        assert_eq!(parameter(query, "empty").as_deref(), Some(""));
        assert_eq!(parameter(query, "none"), None);
    }
}

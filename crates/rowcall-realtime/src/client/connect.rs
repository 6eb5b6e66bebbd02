//! The handshake, and what its refusals mean.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, client_async_tls_with_config,
    tungstenite::{
        self,
        client::IntoClientRequest,
        http::{Response, StatusCode, header},
        protocol::WebSocketConfig,
    },
};
use url::Url;

use super::dial::{Dial, Io, install_tls_provider};
use crate::{channel::Cause, frame::MAX_FRAME_BYTES};

/// No server makes the client wait for longer than this, whatever its `Retry-After` says.
const MAX_RETRY_AFTER: Duration = Duration::from_mins(5);
/// Longest text kept of a refusal, in characters.
const MAX_REFUSAL_CHARS: usize = 200;

pub(super) type Socket = WebSocketStream<MaybeTlsStream<Box<dyn Io>>>;

/// Why there is no connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) cause: Cause,
    pub(super) reason: String,
    pub(super) retry_after: Option<Duration>,
    /// The server may take another protocol version.
    pub(super) other_version: bool,
}

impl Refusal {
    pub(super) fn new(cause: Cause, reason: impl Into<String>) -> Self {
        Self {
            cause,
            reason: reason.into(),
            retry_after: None,
            other_version: false,
        }
    }
}

pub(super) async fn connect(
    dial: &dyn Dial,
    endpoint: &Url,
    handshake: &SecretString,
) -> Result<Socket, Refusal> {
    install_tls_provider();
    let host = endpoint.host_str().unwrap_or_default();
    let port = endpoint.port_or_known_default().unwrap_or(443);
    let io = dial.dial(host, port).await.map_err(|error| {
        Refusal::new(
            Cause::Connection,
            format!("cannot connect to {host}:{port}: {error}"),
        )
    })?;
    let request = handshake
        .expose_secret()
        .into_client_request()
        .map_err(|_| Refusal::new(Cause::Connection, "the Realtime URL is not valid"))?;
    let config = WebSocketConfig::default()
        .max_frame_size(Some(MAX_FRAME_BYTES))
        .max_message_size(Some(MAX_FRAME_BYTES));
    match client_async_tls_with_config(request, io, Some(config), None).await {
        Ok((socket, _)) => Ok(socket),
        Err(tungstenite::Error::Http(response)) => Err(refused(&response)),
        Err(error) => Err(Refusal::new(Cause::Connection, describe(&error))),
    }
}

/// An error without the URL, which holds the key.
pub(super) fn describe(error: &tungstenite::Error) -> String {
    match error {
        tungstenite::Error::Url(_) => "the Realtime URL is not valid".to_owned(),
        tungstenite::Error::Capacity(error) => format!("the server sent too much: {error}"),
        tungstenite::Error::ConnectionClosed | tungstenite::Error::AlreadyClosed => {
            "the server closed the connection".to_owned()
        }
        error => format!("the connection failed: {error}"),
    }
}

fn refused(response: &Response<Option<Vec<u8>>>) -> Refusal {
    let status = response.status();
    let body = response.body().as_deref().unwrap_or_default();
    let said = serde_json::from_slice::<Value>(body).ok().and_then(|body| {
        ["error", "message", "msg"]
            .iter()
            .find_map(|key| body.get(*key)?.as_str().map(str::to_owned))
    });
    let said = said.map_or_else(String::new, |text| {
        let text: String = text.chars().take(MAX_REFUSAL_CHARS).collect();
        format!(": {text}")
    });
    let cause = match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Cause::Unauthorized,
        StatusCode::TOO_MANY_REQUESTS => Cause::RateLimited,
        _ => Cause::Refused,
    };
    let hint = if status.is_redirection() {
        "; redirects are not followed, check the project URL"
    } else if status == StatusCode::NOT_FOUND {
        "; there is no Realtime at this URL"
    } else {
        ""
    };
    Refusal {
        cause,
        reason: format!("the server refused the connection with status {status}{said}{hint}"),
        retry_after: retry_after(response),
        other_version: matches!(
            status,
            StatusCode::BAD_REQUEST | StatusCode::FORBIDDEN | StatusCode::UPGRADE_REQUIRED
        ),
    }
}

fn retry_after(response: &Response<Option<Vec<u8>>>) -> Option<Duration> {
    let value = response.headers().get(header::RETRY_AFTER)?;
    let seconds: u64 = value.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(MAX_RETRY_AFTER))
}

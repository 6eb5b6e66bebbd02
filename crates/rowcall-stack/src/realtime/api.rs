//! Broadcast over HTTP: a batch of messages, or one.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, Response, StatusCode, header};
use axum::response::IntoResponse as _;
use bytes::Bytes;
use rowcall_realtime::binary::Encoding;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::message::{Body as MessageBody, event_object};
use super::outbox;
use super::policy;
use super::shared::Shared;
use super::token::Identity;

type Answer = Response<Body>;

fn message(status: StatusCode, text: &str) -> Answer {
    (status, Json(json!({ "message": text }))).into_response()
}

fn errors(errors: &Value) -> Answer {
    (
        StatusCode::UNPROCESSABLE_ENTITY,
        Json(json!({ "errors": errors })),
    )
        .into_response()
}

fn too_large() -> Answer {
    errors(&json!({"payload": ["Payload size exceeds tenant limit"]}))
}

/// Who asks: `Authorization: Bearer` unless it carries an opaque key, else the header `apikey`.
async fn identify(shared: &Shared, headers: &HeaderMap) -> Result<Arc<Identity>, Answer> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let bearer = text("authorization")
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim())
        .filter(|token| !token.starts_with("sb_"));
    let unauthorized = || message(StatusCode::UNAUTHORIZED, "Unauthorized");
    let token = bearer.or_else(|| text("apikey")).ok_or_else(unauthorized)?;
    let verified = shared.verify(token).map_err(|_| unauthorized())?;
    match shared
        .roles
        .allows(&shared.database, &verified.identity.role)
        .await
    {
        Ok(true) => {}
        Ok(false) => return Err(unauthorized()),
        Err(error) => return Err(unavailable(&error)),
    }
    if !shared.api_messages.allows() {
        return Err(message(StatusCode::TOO_MANY_REQUESTS, "Too many requests"));
    }
    Ok(verified.identity)
}

fn unavailable(error: &super::database::QueryError) -> Answer {
    tracing::warn!(%error, "the database refused a broadcast");
    message(StatusCode::SERVICE_UNAVAILABLE, &error.reason())
}

#[derive(Deserialize)]
struct Batch<'a> {
    #[serde(borrow, default)]
    messages: Vec<Message<'a>>,
}

/// A message as it was sent: types are checked one by one, to say what is wrong with which.
#[derive(Deserialize)]
struct Message<'a> {
    #[serde(default)]
    topic: Value,
    #[serde(default)]
    event: Value,
    #[serde(borrow, default)]
    payload: Option<&'a RawValue>,
    #[serde(default)]
    private: Value,
}

/// A message that can be sent.
struct Valid<'a> {
    topic: &'a str,
    event: &'a str,
    payload: &'a str,
    private: bool,
}

impl Message<'_> {
    /// What can be sent, or what is wrong with each field.
    fn check(&self) -> Result<Valid<'_>, Value> {
        let mut wrong = serde_json::Map::new();
        let mut text = |name: &str, value: &Value| {
            let problem = match value {
                Value::String(text) if !text.is_empty() => return,
                Value::Null | Value::String(_) => "can't be blank",
                _ => "is invalid",
            };
            wrong.insert(name.to_owned(), json!([problem]));
        };
        text("topic", &self.topic);
        text("event", &self.event);
        let payload = self.payload.map_or("null", RawValue::get);
        if payload == "null" {
            wrong.insert("payload".to_owned(), json!(["can't be blank"]));
        } else if !payload.starts_with('{') {
            wrong.insert("payload".to_owned(), json!(["is invalid"]));
        }
        if !matches!(self.private, Value::Null | Value::Bool(_)) {
            wrong.insert("private".to_owned(), json!(["is invalid"]));
        }
        if !wrong.is_empty() {
            return Err(Value::Object(wrong));
        }
        Ok(Valid {
            topic: self.topic.as_str().unwrap_or_default(),
            event: self.event.as_str().unwrap_or_default(),
            payload,
            private: self.private == Value::Bool(true),
        })
    }
}

/// `POST /api/broadcast`: all messages or none. Private ones the sender may not send are left out in silence.
pub(super) async fn batch(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let identity = match identify(&shared, &headers).await {
        Ok(identity) => identity,
        Err(answer) => return answer,
    };
    let Ok(batch) = serde_json::from_slice::<Batch<'_>>(&body) else {
        return errors(&json!({"messages": ["is invalid"]}));
    };
    if batch.messages.is_empty() {
        return errors(&json!({"messages": ["can't be blank"]}));
    }
    if batch.messages.len() > shared.limits.batch_messages {
        return message(
            StatusCode::TOO_MANY_REQUESTS,
            "Too many messages to broadcast, please reduce the batch size",
        );
    }
    let checked: Vec<_> = batch.messages.iter().map(Message::check).collect();
    if checked.iter().any(Result::is_err) {
        let wrong: Vec<Value> = checked
            .into_iter()
            .map(|checked| checked.err().unwrap_or_else(|| json!({})))
            .collect();
        return errors(&json!({ "messages": wrong }));
    }
    let valid: Vec<Valid<'_>> = checked.into_iter().flatten().collect();
    if valid
        .iter()
        .any(|one| one.payload.len() > shared.limits.broadcast_bytes)
    {
        return too_large();
    }
    let mut allowed: HashMap<&str, bool> = HashMap::new();
    for one in valid.iter().filter(|one| one.private) {
        if !allowed.contains_key(one.topic) {
            let may = policy::may_send(&shared.database, &identity, one.topic).await;
            allowed.insert(one.topic, may.unwrap_or(false));
        }
    }
    let mut pressed = Vec::new();
    for one in &valid {
        if one.private && !allowed.get(one.topic).copied().unwrap_or(false) {
            continue;
        }
        let payload = event_object(one.event, one.payload, "");
        pressed.extend(shared.hub.broadcast(
            one.topic,
            one.private,
            MessageBody::Whole(&payload),
            None,
        ));
    }
    outbox::relieve(&pressed, shared.limits.slow_patience).await;
    StatusCode::ACCEPTED.into_response()
}

/// `POST /api/broadcast/{topic}/events/{event}`: the body is the payload.
pub(super) async fn event(
    State(shared): State<Arc<Shared>>,
    Path((topic, event)): Path<(String, String)>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    payload: Bytes,
) -> Answer {
    let identity = match identify(&shared, &headers).await {
        Ok(identity) => identity,
        Err(answer) => return answer,
    };
    let content_type = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .map(|value| value.trim().to_ascii_lowercase());
    let encoding = match content_type.as_deref() {
        None | Some("application/json") => Encoding::Json,
        Some("application/octet-stream") => Encoding::Binary,
        Some(_) => {
            let error = "Unsupported Media Type. Use application/json or application/octet-stream";
            return (
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                Json(json!({ "error": error })),
            )
                .into_response();
        }
    };
    if encoding == Encoding::Json && serde_json::from_slice::<&RawValue>(&payload).is_err() {
        return errors(&json!({"payload": ["is invalid"]}));
    }
    if payload.len() > shared.limits.broadcast_bytes {
        return too_large();
    }
    let private = query
        .unwrap_or_default()
        .split('&')
        .any(|pair| pair == "private=true");
    if private {
        match policy::may_send(&shared.database, &identity, &topic).await {
            Ok(true) => {}
            Ok(false) => return message(StatusCode::FORBIDDEN, "Unauthorized"),
            Err(super::database::QueryError::Postgres(error)) if error.as_db_error().is_some() => {
                tracing::debug!(%error, topic, "a policy raised");
                return message(StatusCode::UNPROCESSABLE_ENTITY, "RLS policy error");
            }
            Err(error) => return unavailable(&error),
        }
    }
    let body = MessageBody::Event {
        event: &event,
        meta: "",
        encoding,
        payload: &payload,
    };
    let pressed = shared.hub.broadcast(&topic, private, body, None);
    outbox::relieve(&pressed, shared.limits.slow_patience).await;
    StatusCode::ACCEPTED.into_response()
}

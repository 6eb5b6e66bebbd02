//! `POST /webhooks/realtimex`: apps start agents here and say how their tasks go, in two vocabularies.

mod attempt;
mod canonical;
mod signature;
mod status;
mod trigger;
mod vocabulary;

use axum::{
    Extension, Json,
    extract::State,
    http::HeaderMap,
    response::{IntoResponse as _, Response},
};
use serde_json::{Value, json};

pub(in crate::api) use self::trigger::{Start, calendar_uuid, named_review_table};
pub(super) use self::vocabulary::Event;
use super::super::{
    body::Fields,
    error::ApiError,
    identity::nobody,
    rules::{InBody, Routes},
    serve::Ends,
    state::Api,
};

/// The version of the contract.
pub(in crate::api) const VERSION: &str = "local-app-contract/v1";

/// The header with the event's id, the same as in the body.
const EVENT_ID_HEADER: &str = "x-rtx-event-id";

/// The longest ids and names in an event, in bytes.
const MAX_NAME: usize = 256;

pub(super) fn routes() -> Routes {
    Routes::default().post("/webhooks/realtimex", webhook)
}

/// What stands around every event.
#[derive(Clone, Debug)]
struct Envelope {
    event: Event,
    event_id: Option<String>,
    attempt_id: Option<String>,
    app_name: Option<String>,
    payload: Fields,
    /// The payload as it was sent, for signatures.
    raw: axum::body::Bytes,
}

impl Envelope {
    fn read(mut body: Fields, headers: &HeaderMap) -> Result<Self, ApiError> {
        let word = match body.get("event") {
            Some(Value::String(word)) => word.trim().to_ascii_lowercase(),
            _ => return Err(ApiError::invalid("event is required")),
        };
        let event = Event::parse(&word).ok_or_else(|| {
            let word: String = word.chars().take(64).collect();
            ApiError::invalid(format!("Unsupported event: {word}"))
        })?;
        let event_id = match body.text("event_id", MAX_NAME)? {
            Some(id) => Some(id.to_owned()),
            None => headers
                .get(EVENT_ID_HEADER)
                .and_then(|value| value.to_str().ok())
                .filter(|id| !id.is_empty() && id.len() <= MAX_NAME)
                .map(str::to_owned),
        };
        let app_name = body.text("app_name", MAX_NAME)?.map(str::to_owned);
        let payload = Fields::of(body.take("payload"))
            .map_err(|_| ApiError::invalid("payload must be an object"))?;
        let attempt_id = attempt::normalise(body.get("attempt_id"), MAX_NAME)?.map_or_else(
            || attempt::normalise(payload.get("attempt_id"), MAX_NAME),
            |id| Ok(Some(id)),
        )?;
        Ok(Self {
            event,
            event_id,
            attempt_id,
            app_name,
            payload,
            raw: body.raw().clone(),
        })
    }
}

async fn webhook(
    _: InBody,
    State(api): State<Api>,
    ends: Option<Extension<Ends>>,
    headers: HeaderMap,
    body: Fields,
) -> Result<Response, ApiError> {
    let body_app = body.text("app_id", MAX_NAME)?.map(str::to_owned);
    let envelope = Envelope::read(body, &headers)?;
    if envelope.event == Event::Ping {
        return Ok(Json(json!({
            "success": true, "app_name": envelope.app_name, "message": "pong",
        }))
        .into_response());
    }
    let caller = api.directory().caller(&headers, body_app.as_deref())?;
    if envelope.event == Event::Trigger {
        let caller = caller.ok_or_else(nobody)?;
        return trigger::trigger(&api, &caller, envelope).await;
    }
    let ends = ends.map(|Extension(ends)| ends);
    status::report(&api, caller.as_ref(), ends, &headers, envelope).await
}

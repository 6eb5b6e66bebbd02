//! What happens, as it happens: server-sent events that can be taken up again where they were left.

use axum::{
    extract::{Query, State},
    http::HeaderMap,
    response::{Response, sse::Event},
};
use futures_util::{StreamExt as _, stream};
use rowcall_engine::{EngineEvent, Heard, Subscription};
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::IntoParams;

use super::{Problem, queues};
use crate::api::{
    error::ApiError,
    rules::{Operator, Routes},
    state::Api,
    streams,
};

pub(super) fn routes() -> Routes {
    Routes::default().get("/rowcall/v1/events", events)
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct EventFilter {
    /// Begin after this event, as the header `Last-Event-ID` does.
    last_event_id: Option<u64>,
    /// Only events of this task.
    task: Option<String>,
    /// Only events of this app; events that belong to no app are left out.
    app: Option<String>,
    /// Only these kinds, separated by commas: claimed, started, progress, log, settled, failed … `queues` is told only to who
    /// names it: all queues and workers, at first and whenever they change.
    kind: Option<String>,
}

/// The engine's events. Each has an id; after a reconnect with `Last-Event-ID` nothing is missed that the ring still holds,
/// and a gap is told with an event `missed`.
#[utoipa::path(get, path = "/rowcall/v1/events", tag = "events", params(EventFilter), security(("token" = [])),
    responses((status = 200, description = "Events", body = String, content_type = "text/event-stream"), (status = 400, body = Problem),
        (status = 401, body = Problem), (status = 503, body = Problem)))]
pub(super) async fn events(
    _: Operator,
    State(api): State<Api>,
    Query(filter): Query<EventFilter>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let place = api.streams().place()?;
    let last = headers
        .get("last-event-id")
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.trim().parse().ok())
        .or(filter.last_event_id);
    let subscription = match last {
        Some(id) => api.engine().events_after(id),
        None => api.engine().events(),
    };
    let heard = stream::unfold(subscription, |mut subscription: Subscription| async move {
        let heard = subscription.next().await;
        Some((heard, subscription))
    });
    let filter = Wanted::new(filter);
    let with_queues = filter.kinds.iter().any(|kind| kind == queues::KIND);
    let events = heard.filter_map(move |heard| {
        let event = filter.event(heard);
        std::future::ready(event)
    });
    let stop = api.stop().clone();
    if with_queues {
        let both = stream::select(events, queues::changes(api));
        return Ok(streams::answer(both, place, stop));
    }
    Ok(streams::answer(events, place, stop))
}

struct Wanted {
    task: Option<String>,
    app: Option<String>,
    kinds: Vec<String>,
}

impl Wanted {
    fn new(filter: EventFilter) -> Self {
        Self {
            task: filter.task.filter(|task| !task.is_empty()),
            app: filter.app.filter(|app| !app.is_empty()),
            kinds: filter
                .kind
                .unwrap_or_default()
                .split(',')
                .map(|kind| kind.trim().to_owned())
                .filter(|kind| !kind.is_empty())
                .collect(),
        }
    }

    fn event(&self, heard: Heard) -> Option<Event> {
        match heard {
            Heard::Missed(missed) => Some(
                Event::default()
                    .event("missed")
                    .data(json!({ "missed": missed }).to_string()),
            ),
            Heard::Event(event) => self.wanted(&event),
        }
    }

    fn wanted(&self, event: &EngineEvent) -> Option<Event> {
        let value = serde_json::to_value(event).ok()?;
        let kind = value["event"].as_str().unwrap_or("event").to_owned();
        let is = |value: &Value, wanted: &Option<String>| {
            wanted
                .as_deref()
                .is_none_or(|wanted| value.as_str() == Some(wanted))
        };
        let fits = is(&value["task"]["id"], &self.task)
            && is(&value["app"], &self.app)
            && (self.kinds.is_empty() || self.kinds.contains(&kind));
        fits.then(|| {
            Event::default()
                .id(event.id.to_string())
                .event(kind)
                .data(value.to_string())
        })
    }
}

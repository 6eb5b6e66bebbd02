//! The contract as clients discover it. No capabilities are offered; triggers and task events are.

use axum::{
    Json,
    extract::{Path, Query},
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::webhook::{Event, VERSION};
use crate::api::{
    error::ApiError,
    identity::digest,
    rules::{Allowed, Contracts, Routes},
};

pub(super) fn routes() -> Routes {
    Routes::default()
        .get("/contracts/local-app/v1", contract)
        .get("/contracts/local-app/v1/capabilities", capabilities)
        .get("/contracts/local-app/v1/capabilities/search", search)
        .get("/contracts/local-app/v1/capabilities/{id}", capability)
}

/// The hash of the empty catalogue.
fn catalog_hash() -> String {
    hex::encode(digest("[]"))
}

async fn contract(_: Allowed<Contracts>) -> Json<Value> {
    let map = |value: fn(Event) -> Option<&'static str>| -> Map<String, Value> {
        Event::ALL
            .into_iter()
            .filter_map(|event| Some((event.name().to_owned(), Value::from(value(event)?))))
            .collect()
    };
    let aliases: Map<String, Value> = Event::ALIASES
        .iter()
        .map(|(alias, event)| ((*alias).to_owned(), Value::from(event.name())))
        .collect();
    Json(json!({
        "success": true,
        "contract": {
            "id": VERSION,
            "version": VERSION,
            "contract_version": VERSION,
            "strictness": "compatible",
            "events": {},
            "supported_events": Event::ALL.map(Event::name),
            "supported_legacy_events": Event::ALIASES.map(|(alias, _)| alias),
            "aliases": aliases,
            "status_map": map(Event::status),
            "legacy_action_map": map(|event| Some(event.legacy_action())),
            "catalog_hash": catalog_hash(),
            "capability_count": 0,
            "capabilities": [],
            "callback": {
                "event_id_header": "x-rtx-event-id",
                "signature_header": "x-rtx-contract-signature",
                "signature_algorithm": "sha256",
                "signature_message": "event_id.event_type.task_id.attempt_id.timestamp.sha256(payload)",
                "attempt_id_format": "run-<n>",
                "idempotency": "event_id",
            },
        },
    }))
}

async fn capabilities(_: Allowed<Contracts>) -> Json<Value> {
    Json(json!({
        "success": true, "contract_version": VERSION, "strictness": "compatible",
        "catalog_hash": catalog_hash(), "count": 0, "capabilities": [],
    }))
}

#[derive(Deserialize)]
struct Asked {
    q: Option<String>,
}

async fn search(_: Allowed<Contracts>, Query(asked): Query<Asked>) -> Json<Value> {
    Json(json!({
        "success": true, "contract_version": VERSION, "query": asked.q.unwrap_or_default(),
        "count": 0, "capabilities": [],
    }))
}

async fn capability(_: Allowed<Contracts>, Path(_): Path<String>) -> ApiError {
    ApiError::not_found("Capability")
}

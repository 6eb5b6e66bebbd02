//! Language models. This host has no provider yet: lists are empty, and the rest says so with the contract's own code.

use axum::{Json, extract::State};
use serde_json::{Value, json};

use crate::api::{
    body::Fields,
    error::ApiError,
    rules::{Allowed, LlmChat, LlmEmbed, LlmProviders, Routes},
    state::Api,
};

pub(super) fn routes() -> Routes {
    Routes::default()
        .get("/sdk/llm/providers", providers)
        .get("/sdk/llm/providers/chat", kind)
        .get("/sdk/llm/providers/embed", kind)
        .post("/sdk/llm/chat", chat)
        .post("/sdk/llm/chat/stream", chat)
        .post("/sdk/llm/embed", embed)
}

/// The contract's answer where no provider is configured.
pub(super) fn no_provider() -> ApiError {
    ApiError::unavailable(
        "PROVIDER_UNAVAILABLE",
        "No LLM provider is configured on this host",
    )
}

async fn providers(_: Allowed<LlmProviders>) -> Json<Value> {
    Json(json!({ "success": true, "llm": [], "embedding": [] }))
}

async fn kind(_: Allowed<LlmProviders>) -> Json<Value> {
    Json(json!({ "success": true, "providers": [] }))
}

async fn chat(_: Allowed<LlmChat>, _: State<Api>, body: Fields) -> ApiError {
    match body.get("messages") {
        Some(Value::Array(messages)) if !messages.is_empty() => no_provider(),
        _ => ApiError::invalid("messages must be a list with at least one message"),
    }
}

async fn embed(_: Allowed<LlmEmbed>, _: State<Api>, body: Fields) -> ApiError {
    match body.get("input") {
        Some(Value::String(_)) => no_provider(),
        Some(Value::Array(texts)) if texts.iter().all(Value::is_string) => no_provider(),
        _ => ApiError::invalid("input must be a text or a list of texts"),
    }
}

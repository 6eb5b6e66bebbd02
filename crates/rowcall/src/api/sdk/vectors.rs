//! Vectors. This host has no store for them yet: the list of stores is empty, and the rest says so.

use axum::Json;
use serde_json::{Value, json};

use super::llm::no_provider;
use crate::api::{
    body::Fields,
    error::ApiError,
    rules::{Allowed, Known, Routes, VectorsRead, VectorsWrite},
};

pub(super) fn routes() -> Routes {
    Routes::default()
        .post("/sdk/llm/vectors/upsert", upsert)
        .post("/sdk/llm/vectors/query", query)
        .post("/sdk/llm/vectors/delete", delete)
        .post("/sdk/llm/vectors/register", register)
        .get("/sdk/llm/vectors/workspaces", workspaces)
        .get("/sdk/llm/vectors/providers", providers)
        .get("/sdk/llm/vectors/config", config)
}

async fn providers(_: Known) -> Json<Value> {
    Json(json!({ "success": true, "providers": [] }))
}

async fn upsert(_: Allowed<VectorsWrite>, body: Fields) -> ApiError {
    match body.get("vectors") {
        Some(Value::Array(_)) => no_provider(),
        _ => ApiError::invalid("vectors must be a list"),
    }
}

async fn query(_: Allowed<VectorsRead>, body: Fields) -> ApiError {
    match body.get("vector") {
        Some(Value::Array(_)) => no_provider(),
        _ => ApiError::invalid("vector must be a list of numbers"),
    }
}

async fn delete(_: Allowed<VectorsWrite>, body: Fields) -> ApiError {
    if body.get("deleteAll") == Some(&Value::Bool(true)) {
        no_provider()
    } else {
        ApiError::invalid("deleteAll must be true")
    }
}

async fn register(_: Allowed<VectorsWrite>, body: Fields) -> ApiError {
    match body.text("provider", 200) {
        Ok(Some(_)) => no_provider(),
        Ok(None) => ApiError::invalid("provider is required"),
        Err(error) => error,
    }
}

async fn workspaces(_: Allowed<VectorsRead>) -> ApiError {
    no_provider()
}

async fn config(_: Allowed<VectorsRead>) -> ApiError {
    no_provider()
}

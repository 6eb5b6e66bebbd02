//! What the contract names and this host does not offer yet: an identity is checked, no permission is asked for (nobody
//! should be prompted for something that is not there), and the answer says what is missing.

use axum::{Json, http::StatusCode};
use serde_json::{Value, json};

use super::llm::no_provider;
use crate::api::{
    error::ApiError,
    rules::{Known, Routes},
};

pub(super) fn routes() -> Routes {
    Routes::default()
        .get("/sdk/tts/providers", no_voices)
        .post("/sdk/tts", unavailable)
        .post("/sdk/tts/stream", unavailable)
        .get("/sdk/stt/providers", no_providers)
        .post("/sdk/stt/listen", unavailable)
        .get("/sdk/mcp/servers", no_servers)
        .get("/sdk/mcp/servers/{name}/tools", no_server)
        .post("/sdk/mcp/servers/{name}/tools/{tool}/execute", no_server)
        .post("/sdk/agent/session", not_yet)
        .get("/sdk/agent/session/{id}", not_yet)
        .delete("/sdk/agent/session/{id}", not_yet)
        .post("/sdk/agent/session/{id}/chat", not_yet)
        .post("/sdk/agent/session/{id}/chat/stream", not_yet)
        .get("/sdk/acp/agents", acp_disabled)
        .post("/sdk/acp/session", acp_disabled)
        .get("/sdk/acp/sessions", acp_disabled)
        .get("/sdk/acp/session/{key}", acp_disabled)
        .patch("/sdk/acp/session/{key}", acp_disabled)
        .delete("/sdk/acp/session/{key}", acp_disabled)
        .post("/sdk/acp/session/{key}/chat", acp_disabled)
        .post("/sdk/acp/session/{key}/chat/stream", acp_disabled)
        .post("/sdk/acp/session/{key}/cancel", acp_disabled)
        .post("/sdk/acp/session/{key}/permission", acp_disabled)
        .get("/sdk/credentials", not_yet)
        .get("/sdk/credentials/{name}", not_yet)
        .post("/api/calendar-events", not_yet)
}

async fn no_voices(_: Known) -> Json<Value> {
    Json(json!({ "success": true, "providers": [], "default": "" }))
}

async fn no_providers(_: Known) -> Json<Value> {
    Json(json!({ "success": true, "providers": [] }))
}

async fn no_servers(_: Known) -> Json<Value> {
    Json(json!({ "success": true, "servers": [] }))
}

async fn no_server(_: Known) -> ApiError {
    ApiError::not_found("Server")
}

async fn unavailable(_: Known) -> ApiError {
    no_provider()
}

/// The vendor's own way to say that a host does not offer this.
async fn acp_disabled(_: Known) -> ApiError {
    ApiError::unavailable("ACP_DISABLED", "ACP agents are not offered by this host")
}

async fn not_yet(_: Known) -> ApiError {
    ApiError::new(
        StatusCode::NOT_IMPLEMENTED,
        "NOT_IMPLEMENTED",
        "This host does not offer this route yet",
    )
}

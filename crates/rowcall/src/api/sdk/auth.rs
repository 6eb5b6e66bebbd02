//! User tokens: this host signs nobody in, and takes the tokens that apps hand over.

use axum::{Json, extract::State, http::StatusCode};
use serde_json::{Value, json};

use crate::api::{
    body::Fields,
    error::ApiError,
    rules::{Known, Routes},
    state::Api,
    tokens::MAX_TOKEN,
};

pub(super) fn routes() -> Routes {
    Routes::default()
        .get("/sdk/auth/token", token)
        .post("/sdk/auth/sync-supabase-token", sync)
}

/// JavaScript asks before every call of some modules, and takes 404 for "no".
async fn token(_: Known) -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, "NOT_FOUND", "No token available")
}

async fn sync(
    Known(caller): Known,
    State(api): State<Api>,
    body: Fields,
) -> Result<Json<Value>, ApiError> {
    let token = body.required("token", MAX_TOKEN)?;
    let now = api.now();
    api.user_tokens()
        .hold(caller.tag(), token, api.stack_keys(), now)?;
    Ok(Json(json!({
        "success": true,
        "message": "Token synced",
        "hasToken": true,
        "syncedAt": format!("{now:.3}"),
        "source": "sdk",
    })))
}

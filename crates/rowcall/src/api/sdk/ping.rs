//! Is the host there, and where may an app keep its files?

use axum::{Json, extract::State};
use serde_json::{Value, json};

use crate::api::{
    error::ApiError,
    identity::Caller,
    rules::{Known, Open, Routes},
    state::Api,
};

pub(super) fn routes() -> Routes {
    Routes::default()
        .get("/sdk/ping", ping)
        .get("/api/ping", host_ping)
        .get("/sdk/capabilities", capabilities)
        .get("/sdk/local-apps/data-dir", data_dir)
}

async fn ping(Known(caller): Known, State(api): State<Api>) -> Json<Value> {
    let timestamp = format!("{:.3}", api.now());
    Json(match caller {
        Caller::App { uuid, .. } => json!({
            "success": true, "message": "pong", "mode": "production", "appId": uuid, "timestamp": timestamp,
        }),
        Caller::Key { .. } => json!({
            "success": true, "message": "pong", "mode": "development", "timestamp": timestamp,
        }),
    })
}

async fn host_ping(_: Open) -> Json<Value> {
    Json(json!({ "success": true, "message": "pong" }))
}

async fn capabilities(_: Known) -> Json<Value> {
    Json(json!({
        "success": true,
        "apiVersion": env!("CARGO_PKG_VERSION"),
        "capabilities": {
            "activities": true, "api": true, "contract": true, "database": true, "task": true, "webhook": true,
        },
    }))
}

async fn data_dir(Known(caller): Known, State(api): State<Api>) -> Result<Json<Value>, ApiError> {
    let dir = api.data_dir_of(&caller);
    let made = {
        let dir = dir.clone();
        tokio::task::spawn_blocking(move || make_private(&dir)).await
    };
    made.map_err(ApiError::internal)?.map_err(|error| {
        ApiError::unavailable(
            "DATA_DIR_UNAVAILABLE",
            format!("The data directory cannot be made: {error}"),
        )
    })?;
    Ok(Json(json!({ "success": true, "dataDir": dir })))
}

fn make_private(dir: &std::path::Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
}

//! `GET /sdk/database/config`: where an app finds its Supabase project. Never with a service key.

use axum::{Json, extract::State, http::StatusCode};
use rowcall_core::{TableName, manifest::Mode};
use serde_json::{Value, json};

use crate::api::{
    error::ApiError,
    rules::{Allowed, DatabaseConfig, Routes},
    state::Api,
};

pub(super) fn routes() -> Routes {
    Routes::default().get("/sdk/database/config", config)
}

async fn config(
    allowed: Allowed<DatabaseConfig>,
    State(api): State<Api>,
) -> Result<Json<Value>, ApiError> {
    let subscription = match allowed.0.app().cloned() {
        Some(app) => api
            .store(move |store| store.app(&app))
            .await?
            .and_then(|row| row.parse().ok())
            .and_then(|app| app.subscription),
        None => None,
    };
    let own = api.addresses().stack.as_ref();
    let (url, key) = match subscription
        .as_ref()
        .map(|subscription| (&subscription.url, &subscription.anon_key))
    {
        Some((Some(url), key)) => (url.clone(), key.clone().unwrap_or_default()),
        _ => match own {
            Some(stack) if stack.anon_key.is_some() => (
                stack.url.clone(),
                stack.anon_key.clone().unwrap_or_default(),
            ),
            _ => {
                return Err(ApiError::new(
                    StatusCode::NOT_FOUND,
                    "NOT_FOUND",
                    "Database configuration not found",
                ));
            }
        },
    };
    let tables: Vec<String> = subscription
        .as_ref()
        .map(|subscription| {
            subscription
                .tables
                .iter()
                .map(ToString::to_string)
                .collect()
        })
        .filter(|tables: &Vec<String>| !tables.is_empty())
        .unwrap_or_else(|| vec![TableName::activities().to_string()]);
    let mode = match subscription.as_ref().map(|subscription| subscription.mode) {
        Some(Mode::Custom) => "custom",
        Some(Mode::Compatible) | None => "compatible",
    };
    let at_once = subscription.map_or(1, |subscription| subscription.max_concurrent_tasks);
    Ok(Json(json!({
        "success": true,
        "config": {
            "url": url, "anonKey": key, "mode": mode, "tables": tables, "max_concurrent_tasks": at_once,
        },
    })))
}

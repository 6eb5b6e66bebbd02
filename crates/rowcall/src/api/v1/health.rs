//! Is the daemon alive, and can it work? For supervisors of the daemon, so without a credential.

use axum::{Json, extract::State, http::StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::{
    rules::{Open, Routes},
    state::Api,
};

pub(super) fn routes() -> Routes {
    Routes::default()
        .get("/rowcall/v1/health", health)
        .get("/rowcall/v1/ready", ready)
        .get("/rowcall/v1/openapi.json", document)
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Health {
    /// `ok`.
    status: &'static str,
    /// The version of rowcall.
    version: &'static str,
}

/// The daemon answers.
#[utoipa::path(get, path = "/rowcall/v1/health", tag = "health", responses((status = 200, body = Health)))]
pub(super) async fn health(_: Open) -> Json<Health> {
    Json(Health {
        status: "ok",
        version: env!("CARGO_PKG_VERSION"),
    })
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Readiness {
    /// Whether tasks are taken and their source can be reached.
    ready: bool,
    /// What is in the way.
    problems: Vec<String>,
}

/// The daemon takes tasks.
#[utoipa::path(get, path = "/rowcall/v1/ready", tag = "health",
    responses((status = 200, body = Readiness), (status = 503, description = "Not now", body = Readiness)))]
pub(super) async fn ready(_: Open, State(api): State<Api>) -> (StatusCode, Json<Readiness>) {
    let mut problems = Vec::new();
    match api.engine().status().await {
        Ok(status) => {
            if status.stopping {
                problems.push("the daemon is stopping".to_owned());
            }
            for source in status.sources.iter().filter(|source| !source.up) {
                let trouble = source.trouble.as_deref().unwrap_or("not connected");
                problems.push(format!("{}: {trouble}", source.name));
            }
        }
        Err(error) => problems.push(error.to_string()),
    }
    let status = if problems.is_empty() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let ready = problems.is_empty();
    (status, Json(Readiness { ready, problems }))
}

/// This document.
#[utoipa::path(get, path = "/rowcall/v1/openapi.json", tag = "health",
    responses((status = 200, description = "The OpenAPI document", body = Object)))]
pub(super) async fn document(_: Open) -> Json<utoipa::openapi::OpenApi> {
    Json(super::openapi())
}

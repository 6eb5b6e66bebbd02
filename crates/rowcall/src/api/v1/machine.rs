//! This machine and its engine.

use axum::{Json, extract::State};
use jiff::Timestamp;
use rowcall_engine::EngineStatus;
use serde::Serialize;
use utoipa::ToSchema;

use super::Problem;
use crate::api::{
    error::ApiError,
    rules::{Operator, Routes},
    state::Api,
};

pub(super) fn routes() -> Routes {
    Routes::default()
        .get("/rowcall/v1/machines", machines)
        .get("/rowcall/v1/status", status)
}

/// One running daemon.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Machine {
    /// Its id, as it stands in `locked_by`.
    id: String,
    /// The host's name.
    host: String,
    /// Whether it is the machine that answers.
    own: bool,
    /// The version of rowcall.
    version: &'static str,
    /// Since when it runs.
    started_at: Timestamp,
    /// Whether it takes no more tasks.
    stopping: bool,
    /// How many tasks run.
    slots_used: u32,
    /// How many may.
    slots: u32,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Machines {
    machines: Vec<Machine>,
}

/// The machines: this one.
#[utoipa::path(get, path = "/rowcall/v1/machines", tag = "machines", security(("token" = [])),
    responses((status = 200, body = Machines), (status = 401, body = Problem)))]
pub(super) async fn machines(
    _: Operator,
    State(api): State<Api>,
) -> Result<Json<Machines>, ApiError> {
    let status = api.engine().status().await?;
    Ok(Json(Machines {
        machines: vec![Machine {
            id: status.machine.to_string(),
            host: crate::daemon::host_name(),
            own: true,
            version: env!("CARGO_PKG_VERSION"),
            started_at: status.started_at,
            stopping: status.stopping,
            slots_used: status.slots_used,
            slots: status.slots,
        }],
    }))
}

/// What the engine does now: apps, sources, running tasks, counters.
#[utoipa::path(get, path = "/rowcall/v1/status", tag = "machines", security(("token" = [])),
    responses((status = 200, description = "The engine's state", body = Object), (status = 401, body = Problem)))]
pub(super) async fn status(
    _: Operator,
    State(api): State<Api>,
) -> Result<Json<EngineStatus>, ApiError> {
    Ok(Json(api.engine().status().await?))
}

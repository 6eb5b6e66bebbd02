//! This machine and its engine.

use axum::{Json, extract::State};
use jiff::Timestamp;
use rowcall_engine::EngineStatus;
use serde::Serialize;
use utoipa::ToSchema;

use super::{Problem, schema};
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
    /// The host's name, where it says so.
    host: Option<String>,
    /// Whether it is the machine that answers.
    own: bool,
    /// The version of rowcall; of the machine that answers only.
    version: Option<&'static str>,
    /// Since when it runs, by its own clock.
    started_at: Option<Timestamp>,
    /// Whether it takes no more tasks; of the machine that answers only.
    stopping: Option<bool>,
    /// How many tasks run, where it says so.
    slots_used: Option<u32>,
    /// How many may; of the machine that answers only.
    slots: Option<u32>,
    /// Who runs it, where it says so.
    user_email: Option<String>,
    /// The apps it runs, where it says so.
    app_name: Option<String>,
    /// `idle` or `busy`, where it says so.
    status: Option<String>,
}

impl Machine {
    /// A machine as it shows itself to the others.
    fn present(machine: rowcall_backend::supabase::Machine) -> Self {
        Self {
            id: machine.machine_id.to_string(),
            host: machine.hostname,
            own: false,
            version: None,
            started_at: machine.online_at,
            stopping: None,
            slots_used: machine.running,
            slots: None,
            user_email: machine.user_email,
            app_name: machine.app_name,
            status: machine.status,
        }
    }

    /// The machine that answers. `shown` is what the others see of it.
    fn own(status: &EngineStatus, shown: Option<Self>) -> Self {
        let busy = status.slots > 0 && status.slots_used >= status.slots;
        Self {
            id: status.machine.to_string(),
            host: Some(crate::daemon::host_name()),
            own: true,
            version: Some(env!("CARGO_PKG_VERSION")),
            started_at: Some(status.started_at),
            stopping: Some(status.stopping),
            slots_used: Some(status.slots_used),
            slots: Some(status.slots),
            user_email: shown.as_ref().and_then(|shown| shown.user_email.clone()),
            app_name: shown.and_then(|shown| shown.app_name),
            status: Some(if busy { "busy" } else { "idle" }.to_owned()),
        }
    }
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Machines {
    /// This one first, then the others by id.
    machines: Vec<Machine>,
    /// Whether machines show themselves to each other: in a Supabase project, while its Realtime answers.
    presence: bool,
}

/// The machines: this one, and those that show themselves in the same project.
#[utoipa::path(get, path = "/rowcall/v1/machines", tag = "machines", security(("token" = [])),
    responses((status = 200, body = Machines), (status = 401, body = Problem)))]
pub(super) async fn machines(
    _: Operator,
    State(api): State<Api>,
) -> Result<Json<Machines>, ApiError> {
    let status = api.engine().status().await?;
    let present = api.present().unwrap_or_default();
    let (ours, others): (Vec<_>, Vec<_>) = present
        .into_iter()
        .map(Machine::present)
        .partition(|machine| machine.id == status.machine.as_str());
    let presence = !ours.is_empty() || !others.is_empty();
    let own = Machine::own(&status, ours.into_iter().next());
    Ok(Json(Machines {
        machines: std::iter::once(own).chain(others).collect(),
        presence,
    }))
}

/// What the engine does now: apps, sources, running tasks, counters.
#[utoipa::path(get, path = "/rowcall/v1/status", tag = "machines", security(("token" = [])),
    responses((status = 200, description = "The engine's state", body = schema::EngineShape), (status = 401, body = Problem)))]
pub(super) async fn status(
    _: Operator,
    State(api): State<Api>,
) -> Result<Json<EngineStatus>, ApiError> {
    Ok(Json(api.engine().status().await?))
}

//! The programs of apps: started, stopped, watched.

use std::{collections::VecDeque, sync::Arc};

use axum::{
    Json,
    extract::{Path, Query, State},
    response::{IntoResponse as _, Response, sse::Event},
};
use futures_util::stream;
use rowcall_core::AppId;
use rowcall_supervisor::{AppHost, AppLaunch, AppProcess, StartReply, app::AppLine};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{Done, Problem, app_id, schema};
use crate::api::{
    error::ApiError,
    rules::{Operator, Routes},
    state::Api,
    streams,
};

/// The most lines of one page, and of one look of a follower.
const MAX_LINES: usize = 5_000;

pub(super) fn routes() -> Routes {
    Routes::default()
        .post("/rowcall/v1/apps/{name}/start", start)
        .post("/rowcall/v1/apps/{name}/stop", stop)
        .post("/rowcall/v1/apps/{name}/restart", restart)
        .get("/rowcall/v1/apps/{name}/logs", logs)
}

impl Api {
    /// What is started for an app.
    async fn launch(&self, name: &str) -> Result<AppLaunch, ApiError> {
        let row = self.app_row(name).await?;
        if !row.enabled {
            return Err(ApiError::conflict(format!(
                "{name} is switched off: `rowcall app enable {name}`"
            )));
        }
        let app = row
            .parse()
            .map_err(|error| ApiError::conflict(format!("The manifest cannot be read: {error}")))?;
        let uuid = self.directory().uuid_of(&app.name)?;
        crate::daemon::app_launch(self.addresses(), &app, uuid).ok_or_else(|| {
            ApiError::conflict(format!(
                "{name} has no program of its own: set \"command\" or \"args\" in its config"
            ))
        })
    }

    /// Starts the programs of apps that want to be started with the daemon.
    pub async fn autostart(&self) {
        let rows = match self.store(rowcall_engine::store::Store::apps).await {
            Ok(rows) => rows,
            Err(error) => {
                tracing::warn!(
                    error = error.message(),
                    "apps cannot be read: none is started"
                );
                return;
            }
        };
        for row in rows.iter().filter(|row| row.enabled) {
            if row.parse().is_ok_and(|app| app.autostart) {
                match self.launch(&row.name).await {
                    Ok(launch) => {
                        self.apps().start(launch).await;
                        tracing::info!(app.id = row.name, "the app is started with the daemon");
                    }
                    Err(error) => {
                        tracing::warn!(
                            app.id = row.name,
                            error = error.message(),
                            "the app is not started"
                        );
                    }
                }
            }
        }
    }
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Started {
    success: bool,
    /// How the program is now; it may still be starting.
    #[schema(value_type = schema::ProgramShape)]
    process: AppProcess,
}

fn started(api: &Api, id: &AppId, reply: StartReply) -> Result<Json<Started>, ApiError> {
    match reply {
        StartReply::Starting => Ok(Json(Started {
            success: true,
            process: api.apps().status(id),
        })),
        StartReply::AlreadyRunning => Err(ApiError::conflict(format!("{id} runs already"))),
        StartReply::Stopping => Err(ApiError::unavailable(
            "UNAVAILABLE",
            "The daemon is stopping",
        )),
    }
}

/// Starts an app's program.
#[utoipa::path(post, path = "/rowcall/v1/apps/{name}/start", tag = "apps", params(("name" = String, Path, description = "Its name")),
    security(("token" = [])),
    responses((status = 200, body = Started), (status = 401, body = Problem), (status = 404, body = Problem),
        (status = 409, description = "It runs, is switched off, or has no program", body = Problem), (status = 503, body = Problem)))]
pub(super) async fn start(
    _: Operator,
    State(api): State<Api>,
    Path(name): Path<String>,
) -> Result<Json<Started>, ApiError> {
    let launch = api.launch(&name).await?;
    let id = launch.app.clone();
    let reply = api.apps().start(launch).await;
    started(&api, &id, reply)
}

/// Stops an app's program and everything it started, and answers when all of it has ended.
#[utoipa::path(post, path = "/rowcall/v1/apps/{name}/stop", tag = "apps", params(("name" = String, Path, description = "Its name")),
    security(("token" = [])),
    responses((status = 200, body = Done), (status = 401, body = Problem), (status = 404, body = Problem),
        (status = 409, description = "It does not run", body = Problem)))]
pub(super) async fn stop(
    _: Operator,
    State(api): State<Api>,
    Path(name): Path<String>,
) -> Result<Json<Done>, ApiError> {
    let id = app_id(&api.app_row(&name).await?.name)?;
    if api.apps().stop(&id).await {
        Ok(Done::json(format!("{id} is stopped")))
    } else {
        Err(ApiError::conflict(format!("{id} does not run")))
    }
}

/// Stops an app's program if it runs, and starts it with its present manifest.
#[utoipa::path(post, path = "/rowcall/v1/apps/{name}/restart", tag = "apps", params(("name" = String, Path, description = "Its name")),
    security(("token" = [])),
    responses((status = 200, body = Started), (status = 401, body = Problem), (status = 404, body = Problem),
        (status = 409, body = Problem), (status = 503, body = Problem)))]
pub(super) async fn restart(
    _: Operator,
    State(api): State<Api>,
    Path(name): Path<String>,
) -> Result<Json<Started>, ApiError> {
    let launch = api.launch(&name).await?;
    let id = launch.app.clone();
    let reply = api.apps().restart(launch).await;
    started(&api, &id, reply)
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Lines {
    /// Lines after this one; from the beginning of what is kept when absent.
    after: Option<u64>,
    /// At most this many; 1000 when absent.
    #[param(minimum = 1, maximum = 5000)]
    limit: Option<usize>,
    /// Go on with server-sent events instead of ending with a page.
    follow: Option<bool>,
}

/// What an app's program printed lately.
#[utoipa::path(get, path = "/rowcall/v1/apps/{name}/logs", tag = "apps",
    params(("name" = String, Path, description = "Its name"), Lines), security(("token" = [])),
    responses((status = 200, description = "A page of lines, or a stream of them", body = schema::LinesShape), (status = 400, body = Problem),
        (status = 401, body = Problem), (status = 404, body = Problem), (status = 503, body = Problem)))]
pub(super) async fn logs(
    _: Operator,
    State(api): State<Api>,
    Path(name): Path<String>,
    Query(lines): Query<Lines>,
) -> Result<Response, ApiError> {
    let id = app_id(&api.app_row(&name).await?.name)?;
    let after = lines.after.unwrap_or(0);
    if lines.follow != Some(true) {
        let limit = lines.limit.unwrap_or(1_000).clamp(1, MAX_LINES);
        return Ok(Json(api.apps().lines(&id, after, limit)).into_response());
    }
    let place = api.streams().place()?;
    let follower = Follower {
        host: api.apps().clone(),
        app: Arc::new(id),
        after,
        waiting: VecDeque::new(),
    };
    let events = stream::unfold(follower, |mut follower| async move {
        let event = follower.next().await;
        Some((event, follower))
    });
    Ok(streams::answer(events, place, api.stop().clone()))
}

/// Reads an app's output as it comes.
struct Follower {
    host: AppHost,
    app: Arc<AppId>,
    after: u64,
    waiting: VecDeque<AppLine>,
}

impl Follower {
    async fn next(&mut self) -> Event {
        loop {
            if let Some(line) = self.waiting.pop_front() {
                self.after = line.seq;
                let event = Event::default().id(line.seq.to_string()).event("line");
                return event
                    .json_data(&line)
                    .unwrap_or_else(|error| Event::default().comment(error.to_string()));
            }
            let read = self.host.lines(&self.app, self.after, MAX_LINES);
            if read.missed > 0 && self.after > 0 {
                self.after += read.missed;
                return Event::default()
                    .event("missed")
                    .data(read.missed.to_string());
            }
            self.waiting = read.lines.into();
            if self.waiting.is_empty() {
                self.host.more_lines(&self.app, self.after).await;
            }
        }
    }
}

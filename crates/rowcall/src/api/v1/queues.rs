//! Queues and the workers that read them.

use std::time::Duration;

use axum::{Json, extract::State, response::sse::Event};
use futures_util::{Stream, stream};
use rowcall_core::SourceError;
use serde::Serialize;
use utoipa::ToSchema;

use super::Problem;
use crate::{
    api::{
        error::ApiError,
        rules::{Operator, Routes},
        state::Api,
    },
    daemon::{QueueState, Snapshot, WorkerState},
};

/// How old an answer may be: however many ask, the database is asked once in this time.
const FRESH: Duration = Duration::from_secs(1);
/// How often queues are looked at for somebody who watches.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// The kind of the event that tells of them.
pub(super) const KIND: &str = "queues";

pub(super) fn routes() -> Routes {
    Routes::default()
        .get("/rowcall/v1/queues", list)
        .get("/rowcall/v1/queue-workers", workers)
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct QueueList {
    /// By name.
    queues: Vec<QueueState>,
    /// Whether pgmq is there.
    installed: bool,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct WorkerList {
    /// This one first, if it reads queues, then the others by name.
    workers: Vec<WorkerState>,
    /// Whether others are seen on a Realtime channel, with what they do. Without one, only those that listen to the database
    /// are known.
    presence: bool,
}

/// The queues: how deep they are, how old the oldest message is, and who reads them.
#[utoipa::path(get, path = "/rowcall/v1/queues", tag = "queues", security(("token" = [])),
    responses((status = 200, body = QueueList), (status = 401, body = Problem), (status = 503, body = Problem)))]
pub(super) async fn list(_: Operator, State(api): State<Api>) -> Result<Json<QueueList>, ApiError> {
    let Snapshot {
        queues, installed, ..
    } = look(&api).await?;
    Ok(Json(QueueList { queues, installed }))
}

/// The workers that read queues, and what they run.
#[utoipa::path(get, path = "/rowcall/v1/queue-workers", tag = "queues", security(("token" = [])),
    responses((status = 200, body = WorkerList), (status = 401, body = Problem), (status = 503, body = Problem)))]
pub(super) async fn workers(
    _: Operator,
    State(api): State<Api>,
) -> Result<Json<WorkerList>, ApiError> {
    let Snapshot {
        workers, presence, ..
    } = look(&api).await?;
    Ok(Json(WorkerList { workers, presence }))
}

async fn look(api: &Api) -> Result<Snapshot, ApiError> {
    let look = api.queues().look(FRESH).await;
    Ok(look.map_err(SourceError::from)?)
}

/// All queues and workers, now and whenever they change. They have no ids: whoever comes back is told anew.
pub(super) fn changes(api: Api) -> impl Stream<Item = Event> + Send {
    stream::unfold((api, None::<Snapshot>), |(api, mut told)| async move {
        loop {
            if told.is_some() {
                tokio::time::sleep(LOOK_EVERY).await;
            }
            match api.queues().look(FRESH).await {
                Ok(now) if told.as_ref().is_none_or(|told| !told.same(&now)) => {
                    let data = serde_json::to_string(&now).unwrap_or_default();
                    let event = Event::default().event(KIND).data(data);
                    return Some((event, (api, Some(now))));
                }
                Ok(now) => told = Some(now),
                Err(error) => {
                    tracing::debug!(%error, "the queues cannot be looked at now");
                    tokio::time::sleep(LOOK_EVERY).await;
                }
            }
        }
    })
}

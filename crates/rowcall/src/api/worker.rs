//! What `rowcall worker --metrics` serves: numbers, to whoever may connect.
//!
//! It listens only where it was told to, and the frame around it refuses pages of browsers as the local API does.

use axum::{Router, extract::State, response::Response, routing::get};
use rowcall_engine::EngineHandle;

use super::{error::ApiError, frame, guard::Neighbours};
use crate::{
    daemon::QueueBoard,
    prometheus::{self, Page},
};

/// Where the numbers are.
pub const METRICS_PATH: &str = "/metrics";

#[derive(Clone)]
struct Worker {
    engine: EngineHandle,
    queues: QueueBoard,
}

/// The routes: the numbers, under the path that Prometheus asks for by default and under the daemon's. `hosts` may be asked
/// for besides the loopback names.
pub fn worker_router(engine: EngineHandle, queues: QueueBoard, hosts: Vec<String>) -> Router {
    let routes = Router::new()
        .route(METRICS_PATH, get(metrics))
        .route("/rowcall/v1/metrics", get(metrics))
        .with_state(Worker { engine, queues });
    let neighbours = Neighbours {
        hosts,
        origins: Vec::new(),
    };
    frame::around(routes, neighbours, std::sync::Arc::default())
}

async fn metrics(State(worker): State<Worker>) -> Result<Response, ApiError> {
    let status = worker.engine.status().await?;
    let mut page = Page::default();
    prometheus::engine(&mut page, &status);
    prometheus::queues(&mut page, &worker.queues).await;
    Ok(page.answer())
}

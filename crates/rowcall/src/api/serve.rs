//! Serving the routes, until the daemon stops.

use std::time::Duration;

use axum::{Extension, Router};
use hyper_util::service::TowerToHyperService;
use rowcall_stack::listen::Door;
pub(super) use rowcall_stack::listen::Ends;
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// The most connections at once, those that watch events among them.
const MAX_CONNECTIONS: usize = 1_024;

/// How long requests under way may go on after a stop.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(5);

/// Serves the routes until `stop`, then lets requests under way end. Every request has the ends of its connection as an
/// extension.
pub async fn serve(listeners: Vec<TcpListener>, router: Router, stop: CancellationToken) {
    let tasks = TaskTracker::new();
    let door = Door::new(MAX_CONNECTIONS, stop.clone(), tasks.clone());
    for listener in listeners {
        let router = router.clone();
        door.open(listener, move |ends| {
            TowerToHyperService::new(router.clone().layer(Extension(ends)))
        });
    }
    tasks.close();
    stop.cancelled().await;
    if tokio::time::timeout(SHUTDOWN_GRACE, tasks.wait())
        .await
        .is_err()
    {
        tracing::warn!("requests to the local API were cut off by the stop");
    }
}

//! Numbers for Prometheus: one page of what the engine knows and what was recorded on the way.
//!
//! Every family is in the table of `docs/operations.md`; a test holds both together.

mod engine;
mod page;
mod queues;

use std::{sync::OnceLock, time::Duration};

use axum::{
    http::{HeaderValue, header},
    response::{IntoResponse as _, Response},
};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use rowcall_backend::queue::meters;
use tokio_util::sync::CancellationToken;

pub(crate) use self::{engine::engine, page::Page, queues::queues};

/// How often recorded durations are sorted into their buckets; until then each of them takes eight bytes.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);

/// The recorder of this process.
static RECORDER: OnceLock<Option<PrometheusHandle>> = OnceLock::new();

/// Installs the recorder; only the first call of a process does. What was counted before is lost.
pub(crate) fn install() {
    RECORDER.get_or_init(|| {
        let builder = PrometheusBuilder::new()
            .set_buckets_for_metric(
                Matcher::Full(meters::WAIT.name.to_owned()),
                &meters::WAIT_BUCKETS,
            )
            .expect("there are buckets");
        match builder.install_recorder() {
            Ok(handle) => {
                meters::describe();
                Some(handle)
            }
            Err(error) => {
                tracing::warn!(%error, "what queues count is not recorded");
                None
            }
        }
    });
}

/// Keeps the recorder small, until `stop`.
pub(crate) async fn upkeep(stop: CancellationToken) {
    let Some(Some(handle)) = RECORDER.get() else {
        return;
    };
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(UPKEEP_EVERY) => handle.run_upkeep(),
        }
    }
}

impl Page {
    /// Adds what was recorded, and makes an answer of it.
    pub(crate) fn answer(mut self) -> Response {
        if let Some(Some(handle)) = RECORDER.get() {
            let recorded = handle.render();
            // Empty lines between families are allowed, and nothing else here has them.
            for line in recorded.lines().filter(|line| !line.is_empty()) {
                self.0.push_str(line);
                self.0.push('\n');
            }
        }
        let mut response = self.0.into_response();
        response.headers_mut().insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"),
        );
        response
    }
}

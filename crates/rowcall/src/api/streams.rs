//! Answers that go on: server-sent events.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    http::{HeaderValue, header},
    response::{
        IntoResponse as _, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use futures_util::{Stream, StreamExt as _};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::error::ApiError;

/// How many streams there may be at once.
const MAX_STREAMS: usize = 128;

/// How often a silent stream says that it is alive.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Places for streams.
#[derive(Clone, Debug)]
pub(super) struct Streams(Arc<Semaphore>);

impl Default for Streams {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MAX_STREAMS)))
    }
}

impl Streams {
    /// A place for one stream.
    pub(super) fn place(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        Arc::clone(&self.0).try_acquire_owned().map_err(|_| {
            ApiError::unavailable(
                "TOO_MANY_STREAMS",
                format!("{MAX_STREAMS} streams are open already: close one"),
            )
        })
    }

    /// How many are open.
    pub(super) fn open(&self) -> usize {
        MAX_STREAMS - self.0.available_permits()
    }
}

/// Answers with events until the stream or the daemon ends.
pub(super) fn answer(
    events: impl Stream<Item = Event> + Send + 'static,
    place: OwnedSemaphorePermit,
    stop: CancellationToken,
) -> Response {
    let events = events.take_until(stop.cancelled_owned()).map(move |event| {
        // The place is taken as long as the stream lives.
        let _ = &place;
        Ok::<_, Infallible>(event)
    });
    let mut response = Sse::new(events)
        .keep_alive(KeepAlive::new().interval(KEEP_ALIVE))
        .into_response();
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

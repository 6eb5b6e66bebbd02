//! Waiting for what must happen, with a limit.

use std::{fmt::Debug, future::Future, panic::Location, time::Duration};

use tokio::time::Instant;

/// The limit: far above what anything here takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// How often a condition that nobody announces is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Looks until `found` gives a value, and panics with what it saw last when it never does.
#[track_caller]
pub(crate) fn until<T, S: Debug, F: Future<Output = Result<T, S>>>(
    what: &str,
    mut found: impl FnMut() -> F,
) -> impl Future<Output = T> {
    let caller = Location::caller();
    async move {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match found().await {
                Ok(value) => return value,
                Err(seen) if Instant::now() >= deadline => {
                    panic!(
                        "{caller}: {what} did not happen within {PATIENCE:?}; last seen: {seen:?}"
                    )
                }
                Err(_) => tokio::time::sleep(LOOK_EVERY).await,
            }
        }
    }
}

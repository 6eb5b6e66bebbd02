//! What the local API does by itself, beside answering.

use std::time::Duration;

use tokio_util::task::TaskTracker;

use super::state::{Api, WRITE_EVERY};

/// How often it is looked for approved tasks whose time has come.
const LOOK_AT_CALENDAR: Duration = Duration::from_secs(1);

impl Api {
    /// Starts everything; it ends with the daemon's stop.
    pub fn spawn_background(&self, tasks: &TaskTracker) {
        tasks.spawn(self.clone().keep_outside());
        tasks.spawn(self.clone().keep_calendar());
        tasks.spawn(self.clone().keep_uses());
        tasks.spawn(self.clone().keep_declared());
    }

    async fn keep_calendar(self) {
        let mut trouble = false;
        while self.rest(LOOK_AT_CALENDAR).await {
            match self.start_due().await {
                Ok(()) => trouble = false,
                // Said once, not every second.
                Err(error) if !trouble => {
                    trouble = true;
                    tracing::warn!(error = error.message(), "the calendar cannot be read");
                }
                Err(_) => {}
            }
        }
    }

    async fn keep_uses(self) {
        let mut running = true;
        while running {
            running = self.rest(WRITE_EVERY).await;
            let api = self.clone();
            let written = self
                .store(move |store| api.directory().write_uses(store))
                .await;
            if let Err(error) = written {
                tracing::warn!(
                    error = error.message(),
                    "uses of permissions were not written"
                );
            }
        }
    }

    /// Waits; `false` when the daemon stops.
    pub(super) async fn rest(&self, time: Duration) -> bool {
        // Cancel-safe: both arms only wait.
        tokio::select! {
            () = self.stop().cancelled() => false,
            () = tokio::time::sleep(time) => true,
        }
    }
}

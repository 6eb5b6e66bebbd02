//! What apps' manifests ask for: decided in advance or put before a person as soon as the app is there, not at its first call.

use std::time::Duration;

use rowcall_core::App;
use rowcall_engine::store::Store;

use super::{
    body::check_text,
    error::ApiError,
    permissions::{MAX_AT_ONCE, MAX_NAME},
    state::Api,
};

/// How often the store is looked at for apps that a command changed. Reading a counter of SQLite costs microseconds.
const LOOK_EVERY: Duration = Duration::from_secs(1);

impl Api {
    /// Asks for what manifests declare whenever apps change, until the daemon stops.
    pub(super) async fn keep_declared(self) {
        let mut watch = match self.store(Store::watch_apps).await {
            Ok(watch) => watch,
            Err(error) => {
                tracing::warn!(
                    error = error.message(),
                    "permissions in manifests are not looked at: apps are asked about at their first calls"
                );
                return;
            }
        };
        let mut changed = true;
        loop {
            if changed && let Err(error) = self.ask_declared().await {
                tracing::warn!(
                    error = error.message(),
                    "permissions in manifests were not asked for"
                );
            }
            if !self.rest(LOOK_EVERY).await {
                return;
            }
            changed = watch.changed().unwrap_or(true);
        }
    }

    async fn ask_declared(&self) -> Result<(), ApiError> {
        for row in self.store(Store::apps).await? {
            // What is wrong with a manifest is said where apps are loaded.
            if let Ok(app) = row.parse()
                && row.enabled
            {
                self.ask_of(&app).await?;
            }
        }
        Ok(())
    }

    async fn ask_of(&self, app: &App) -> Result<(), ApiError> {
        let called = app.display_name.as_deref().unwrap_or(app.name.as_str());
        for permission in app.permissions.iter().take(MAX_AT_ONCE) {
            if check_text("permission", permission, MAX_NAME).is_err()
                || self.decision(&app.name, permission).await?.is_some()
            {
                continue;
            }
            let (id, permission) = (app.name.clone(), permission.clone());
            let (called, now) = (called.to_owned(), self.now());
            self.store(move |store| store.ask(&id, &permission, &called, now))
                .await?;
        }
        Ok(())
    }
}

//! The apps of the local store, given to the engine and kept up to date.

use std::{sync::Arc, time::Duration};

use rowcall_core::{App, AppId};
use rowcall_engine::{
    EngineHandle,
    store::{AppsWatch, Store, StoreError},
};
use tokio_util::sync::CancellationToken;

use super::Backend;

/// How often the store is looked at for apps that a command changed. Reading a counter of SQLite costs microseconds.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The apps that are switched on and can be read; what is wrong with the others goes to the log.
pub fn load(store: &Store) -> Result<Vec<App>, StoreError> {
    let mut apps = Vec::new();
    for row in store.apps()? {
        if !row.enabled {
            continue;
        }
        match row.parse() {
            Ok(mut app) => {
                let named = store.named_agents(&app.name)?;
                app.named_agents = named
                    .into_iter()
                    .filter(|agent| app.agent(agent).is_some())
                    .collect();
                apps.push(app);
            }
            Err(error) => {
                tracing::warn!(app.id = row.name, %error, "the app's manifest cannot be read: it does nothing");
            }
        }
    }
    Ok(apps)
}

/// Gives the engine new apps whenever `rowcall app` changed them, beside the daemon's `own`, until `stop`.
pub(super) async fn follow(
    store: Arc<Store>,
    own: Option<App>,
    mut watch: AppsWatch,
    engine: EngineHandle,
    backend: Backend,
    stop: CancellationToken,
) {
    let mut interval = tokio::time::interval(LOOK_EVERY);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // Cancel-safe: both arms only wait.
    while tokio::select! { () = stop.cancelled() => false, _ = interval.tick() => true } {
        // SQLite reads a file that is in memory; this takes microseconds, once a second.
        match watch.changed() {
            Ok(false) => {}
            Ok(true) => match load(&store) {
                Ok(mut apps) => {
                    apps.extend(own.clone());
                    let names: Vec<&str> =
                        apps.iter().map(|app| AppId::as_str(&app.name)).collect();
                    tracing::info!(apps = ?names, "apps changed");
                    backend.set_apps(&apps);
                    engine.set_apps(&apps);
                }
                Err(error) => tracing::warn!(%error, "apps changed but cannot be read"),
            },
            Err(error) => tracing::warn!(%error, "cannot see whether apps changed"),
        }
    }
}

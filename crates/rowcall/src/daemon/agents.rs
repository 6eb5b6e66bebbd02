//! The runners, and what agents are given to reach the database and the daemon.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use rowcall_core::{App, AppId, Clock as _, IdSource as _};
use rowcall_engine::store::Store;
use rowcall_supervisor::{
    AppHome, AppLaunch, GuardCommand, Runners, Supervisor, SupervisorOptions, inherit,
};
use uuid::Uuid;

use super::{Addresses, StackAddress, http_agent::HttpAgents};
use crate::{
    api::TaskTokens,
    system::{RandomIds, SystemClock},
};

/// Where the agents of apps live, below the data directory.
const APPS_DIR: &str = "apps";

/// Where task data goes that is too large for a variable, below the data directory.
const SPOOL_DIR: &str = "spool";

/// The folder of an app, below the data directory.
pub fn app_dir(data_dir: &Path, app: &AppId) -> PathBuf {
    // An app's name may hold anything a file name cannot.
    let folder: String = app
        .as_str()
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || matches!(c, '-' | '_') {
                c
            } else {
                '_'
            }
        })
        .collect();
    data_dir.join(APPS_DIR).join(folder)
}

/// How the own program of an app is started; `None` when it has none. Unlike agents it gets no key of the database: what
/// it may do is decided by its permissions.
pub fn app_launch(addresses: &Addresses, app: &App, uuid: Option<Uuid>) -> Option<AppLaunch> {
    let mut variables = own_variables(
        &addresses.api_url,
        app.display_name.as_deref().unwrap_or(app.name.as_str()),
        uuid,
    );
    if let Some((_, port)) = addresses.api_url.rsplit_once(':') {
        variables.insert("SERVER_PORT".to_owned(), port.to_owned());
    }
    AppLaunch::of(app, app_dir(&addresses.data_dir, &app.name), variables)
}

/// What the SDKs read.
fn own_variables(api_url: &str, name: &str, uuid: Option<Uuid>) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::from([
        ("SERVER_URL".to_owned(), api_url.to_owned()),
        ("REALTIMEX_BASE_URL".to_owned(), api_url.to_owned()),
        ("RTX_APP_NAME".to_owned(), name.to_owned()),
    ]);
    if let Some(uuid) = uuid {
        variables.insert("RTX_APP_ID".to_owned(), uuid.to_string());
    }
    variables
}

/// The runners of this machine's agents.
pub(super) fn runners(addresses: &Addresses, store: &Arc<Store>) -> anyhow::Result<Arc<Runners>> {
    let home = Home {
        data_dir: addresses.data_dir.clone(),
        api_url: addresses.api_url.clone(),
        variables: variables(addresses.database_url.as_deref(), addresses.stack.as_ref()),
        store: Arc::clone(store),
    };
    let mut options = SupervisorOptions::new(
        addresses.data_dir.join(SPOOL_DIR),
        Arc::new(move |app| home.of(app)),
    );
    let tokens = TaskTokens::load(store)?;
    options.task_variables = Some(Arc::new(move |lease| tokens.variables(lease)));
    options.inherited = inherit(std::env::vars_os());
    options.guard = Some(GuardCommand::this_program()?);
    Ok(Arc::new(Runners::new(
        Supervisor::new(options, &RandomIds),
        Arc::new(HttpAgents::new()?),
    )))
}

struct Home {
    data_dir: PathBuf,
    api_url: String,
    variables: BTreeMap<String, String>,
    store: Arc<Store>,
}

impl Home {
    fn of(&self, app: &AppId) -> AppHome {
        let uuid = self.store.app_uuid(app, RandomIds.uuid(), SystemClock.now()).unwrap_or_else(|error| {
            tracing::warn!(app.id = %app, %error, "the app's uuid cannot be read: its agents get none");
            None
        });
        let mut variables = self.variables.clone();
        variables.extend(own_variables(&self.api_url, app.as_str(), uuid));
        AppHome {
            directory: app_dir(&self.data_dir, app),
            variables,
        }
    }
}

/// What agents find in their environment. They are the operator's own programs, so they get the key that the daemon uses,
/// as they get the database's URL.
fn variables(database_url: Option<&str>, stack: Option<&StackAddress>) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::new();
    if let Some(url) = database_url {
        variables.insert("DATABASE_URL".to_owned(), url.to_owned());
    }
    if let Some(stack) = stack {
        variables.insert("SUPABASE_URL".to_owned(), stack.url.clone());
        variables.insert("SUPABASE_KEY".to_owned(), stack.own_key.clone());
        if let Some(key) = &stack.anon_key {
            variables.insert("SUPABASE_ANON_KEY".to_owned(), key.clone());
        }
    }
    variables
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn apps_get_folders_of_their_own_below_ours() {
        let directory = |name: &str| app_dir(Path::new("/data"), &AppId::new(name).unwrap());
        assert_eq!(directory("support"), PathBuf::from("/data/apps/support"));
        assert_eq!(
            directory("../../etc"),
            PathBuf::from("/data/apps/______etc")
        );
    }
}

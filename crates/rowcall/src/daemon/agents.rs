//! The runners, and what agents are given to reach the database and the daemon.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use async_trait::async_trait;
use rowcall_core::{
    AgentError, AgentErrorKind, AgentOutput, AppId,
    ports::{AgentRunner, RunContext},
};
use rowcall_supervisor::{AppHome, GuardCommand, Runners, Supervisor, SupervisorOptions, inherit};
use tokio_util::sync::CancellationToken;

use super::{Addresses, StackAddress};
use crate::system::RandomIds;

/// Where the agents of apps live, below the data directory.
const APPS_DIR: &str = "apps";

/// Where task data goes that is too large for a variable, below the data directory.
const SPOOL_DIR: &str = "spool";

/// The runners of this machine's agents.
pub(super) fn runners(addresses: &Addresses) -> std::io::Result<Arc<Runners>> {
    let home = Home {
        apps: addresses.data_dir.join(APPS_DIR),
        variables: variables(&addresses.database_url, &addresses.api_url, addresses.stack.as_ref()),
    };
    let mut options =
        SupervisorOptions::new(addresses.data_dir.join(SPOOL_DIR), Arc::new(move |app| home.of(app)));
    options.inherited = inherit(std::env::vars_os());
    options.guard = Some(GuardCommand::this_program()?);
    Ok(Arc::new(Runners::new(Supervisor::new(options, &RandomIds), Arc::new(NoInProcessAgents))))
}

struct Home {
    apps: PathBuf,
    variables: BTreeMap<String, String>,
}

impl Home {
    fn of(&self, app: &AppId) -> AppHome {
        let mut variables = self.variables.clone();
        variables.insert("RTX_APP_NAME".to_owned(), app.to_string());
        // An app's name may hold anything a file name cannot.
        let folder: String = app
            .as_str()
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_') { c } else { '_' })
            .collect();
        AppHome { directory: self.apps.join(folder), variables }
    }
}

/// What agents find in their environment. They are the operator's own programs, so they get the key that row level
/// security does not hold back, as they get the database's URL.
fn variables(database_url: &str, api_url: &str, stack: Option<&StackAddress>) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::from([
        ("DATABASE_URL".to_owned(), database_url.to_owned()),
        ("SERVER_URL".to_owned(), api_url.to_owned()),
        ("REALTIMEX_BASE_URL".to_owned(), api_url.to_owned()),
    ]);
    if let Some(stack) = stack {
        variables.insert("SUPABASE_URL".to_owned(), stack.url.clone());
        variables.insert("SUPABASE_KEY".to_owned(), stack.service_role_key.clone());
        variables.insert("SUPABASE_ANON_KEY".to_owned(), stack.anon_key.clone());
    }
    variables
}

/// Agents that are functions exist only where rowcall is used as a library.
struct NoInProcessAgents;

#[async_trait]
impl AgentRunner for NoInProcessAgents {
    async fn run(&self, context: RunContext, _: CancellationToken) -> Result<AgentOutput, AgentError> {
        let message = format!("agent {} is a function, and this daemon has none: define a program", context.agent.id);
        Err(AgentError::new(AgentErrorKind::NotStarted, message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn apps_get_folders_of_their_own_below_ours() {
        let home = Home { apps: "/data/apps".into(), variables: BTreeMap::new() };
        let directory = |name: &str| home.of(&AppId::new(name).unwrap()).directory;
        assert_eq!(directory("support"), PathBuf::from("/data/apps/support"));
        assert_eq!(directory("../../etc"), PathBuf::from("/data/apps/______etc"));
    }
}

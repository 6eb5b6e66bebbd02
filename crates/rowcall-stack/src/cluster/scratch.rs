//! The parts of this module that the shared server of the tests is built from.

pub(crate) use super::account::Account;
pub(crate) use super::command::postgres_environment;
pub(crate) use super::initdb::NewCluster;
pub(crate) use super::install::Install;
pub(crate) use super::ready::{Readiness, probe};
pub(crate) use super::settings::{Durability, Settings};

use std::path::{Path, PathBuf};

use super::discover::SearchPaths;
use super::error::ClusterError;
use super::event::Events;
use super::install::ProviderKind;
use super::layout::Directories;
use super::process::look_up;
use super::provision::{Cache, find_clients, of_major};
use super::start::{choose_for, fetch};
use super::{ClusterConfig, GuardCommand};

/// Server programs for tests, from where the daemon would take them.
pub(crate) fn find_install(
    explicit: Option<PathBuf>,
    account: &Account,
) -> Result<Install, ClusterError> {
    let mut search = SearchPaths::new(std::env::var_os("PATH").as_deref());
    search.explicit = explicit;
    let cache_dir = cache_dir();
    let cache = Cache::new(&cache_dir);
    // Scratch servers have a watchdog instead of a guard.
    let no_guard = GuardCommand::new(PathBuf::new(), [""]);
    let mut config = ClusterConfig::new(cache_dir, no_guard, search);
    if config.search.explicit.is_some() {
        // Not a newer one that would be fetched instead.
        config.provider = Some(ProviderKind::Installed);
    }
    let chosen = choose_for(&config, None, &cache, account, &Events::to_log());
    chosen.map(|(install, _)| install)
}

/// Server programs of a major version, fetched as the daemon fetches its own; or why there are none.
pub(crate) fn install_of(major: u16, account: &Account) -> Result<Install, String> {
    let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
    let cache = Cache::new(&cache_dir());
    let pins = of_major(os, arch, major);
    if let Some(install) = pins.iter().find_map(|pin| cache.find(pin)) {
        return Ok(install);
    }
    let path: Vec<PathBuf> =
        std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).collect();
    let attempts: Vec<_> = find_clients(&path)
        .into_iter()
        .flat_map(|client| {
            let served = pins.iter().filter(|pin| client.serves(pin));
            let served: Vec<_> = served.map(|pin| (client.clone(), *pin)).collect();
            served
        })
        .collect();
    if attempts.is_empty() {
        return Err(format!(
            "no build of PostgreSQL {major} can be fetched here ({os} {arch}): install it, and name its directory with \
             ROWCALL_TEST_PG_BIN"
        ));
    }
    match fetch(&attempts, &cache, account, &Events::to_log()) {
        Ok(Ok(install)) => Ok(install),
        Ok(Err(failures)) => Err(failures
            .iter()
            .map(|(client, reason)| format!("{client}: {reason}"))
            .collect::<Vec<_>>()
            .join("; ")),
        Err(error) => Err(error.to_string()),
    }
}

fn cache_dir() -> PathBuf {
    let is_root = nix::unistd::Uid::effective().is_root();
    match Directories::platform(is_root, |name| std::env::var_os(name)) {
        Some(directories) => directories.cache,
        None => std::env::temp_dir().join("rowcall-test-cache"),
    }
}

/// Whether a process is a server of this data directory.
pub(crate) fn serves(pid: i32, data_dir: &Path) -> bool {
    look_up(pid).serves(data_dir)
}

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
use super::layout::Directories;
use super::process::look_up;
use super::provision::Cache;
use super::start::choose_for;
use super::{ClusterConfig, GuardCommand};

/// Server programs for tests, from where the daemon would take them.
pub(crate) fn find_install(
    explicit: Option<PathBuf>,
    account: &Account,
) -> Result<Install, ClusterError> {
    let mut search = SearchPaths::new(std::env::var_os("PATH").as_deref());
    search.explicit = explicit;
    let is_root = nix::unistd::Uid::effective().is_root();
    let cache_dir = match Directories::platform(is_root, |name| std::env::var_os(name)) {
        Some(directories) => directories.cache,
        None => std::env::temp_dir().join("rowcall-test-cache"),
    };
    let cache = Cache::new(&cache_dir);
    // Scratch servers have a watchdog instead of a guard.
    let no_guard = GuardCommand::new(PathBuf::new(), [""]);
    let config = ClusterConfig::new(cache_dir, no_guard, search);
    let chosen = choose_for(&config, None, &cache, account, &Events::to_log());
    chosen.map(|(install, _)| install)
}

/// Whether a process is a server of this data directory.
pub(crate) fn serves(pid: i32, data_dir: &Path) -> bool {
    look_up(pid).serves(data_dir)
}

//! The parts of this module that the shared server of the tests is built from.

pub(crate) use super::account::Account;
pub(crate) use super::command::postgres_environment;
pub(crate) use super::initdb::NewCluster;
pub(crate) use super::install::Install;
pub(crate) use super::process::works_in;
pub(crate) use super::ready::{Readiness, probe};
pub(crate) use super::settings::{Durability, Settings};

use std::path::PathBuf;

use super::discover::{SearchPaths, discover};
use super::error::ClusterError;
use super::resolve::Findings;
use super::version::OLDEST_MAJOR;

/// Server programs for tests.
pub(crate) fn find_install(
    explicit: Option<PathBuf>,
    account: &Account,
) -> Result<Install, ClusterError> {
    let mut search = SearchPaths::new(std::env::var_os("PATH").as_deref());
    search.explicit = explicit;
    discover(&search, account)
        .found
        .into_iter()
        .find(|install| install.version.major >= OLDEST_MAJOR)
        .ok_or_else(|| ClusterError::NoServer(Box::new(Findings::default())))
}

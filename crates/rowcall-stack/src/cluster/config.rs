//! What a caller can choose.

use std::path::PathBuf;
use std::time::Duration;

use super::discover::SearchPaths;
use super::guard::GuardCommand;
use super::install::ProviderKind;
use super::password::PasswordChoice;
use super::port::PortChoice;

/// How to find and run the server. The data directory comes with its lock.
#[derive(Debug, Clone)]
pub struct ClusterConfig {
    /// Where fetched server programs are kept.
    pub cache_dir: PathBuf,
    /// Which port to listen on.
    pub port: PortChoice,
    /// Use this provider for a new data directory; an existing one keeps its own.
    pub provider: Option<ProviderKind>,
    /// Start no package client; a build in the cache is used.
    pub offline: bool,
    /// How to run the guard.
    pub guard: GuardCommand,
    /// The superuser's password.
    pub password: PasswordChoice,
    /// Where to look for installed servers and package clients.
    pub search: SearchPaths,
    /// `XDG_RUNTIME_DIR`, for the socket when the data directory's path is too long.
    pub runtime_dir: Option<PathBuf>,
    /// How long a fast shutdown may take before the server is stopped harder.
    pub stop_grace: Duration,
}

/// A fast shutdown writes a checkpoint, which takes seconds on a slow disk.
const STOP_GRACE: Duration = Duration::from_secs(15);

impl ClusterConfig {
    /// Port 54322 or the next free one, any provider, a generated password, and no search paths
    /// beyond what `search` holds.
    pub fn new(cache_dir: PathBuf, guard: GuardCommand, search: SearchPaths) -> Self {
        Self {
            cache_dir,
            port: PortChoice::default(),
            provider: None,
            offline: false,
            guard,
            password: PasswordChoice::default(),
            search,
            runtime_dir: None,
            stop_grace: STOP_GRACE,
        }
    }
}

//! Makes the cluster of a new data directory.
//!
//! It is made beside its place and renamed when it is complete: a crash or a full disk leaves only
//! a directory that the next start removes, and nothing that exists is overwritten.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::account::Account;
use super::durable::{sync_directory, sync_file_system};
use super::error::ClusterError;
use super::event::{ClusterEvent, Events};
use super::initdb::NewCluster;
use super::install::Install;
use super::layout::Layout;
use super::lock::now;
use super::settings::conf_defaults;
use super::state::{State, unfinished, unfinished_path};

/// How long an `initdb` whose daemon was killed may go on writing into what is removed.
const REMOVE_LIMIT: Duration = Duration::from_secs(10);
/// How often it is tried.
const REMOVE_POLL: Duration = Duration::from_millis(20);

/// Removes what a start that was killed in the middle left behind.
pub(crate) fn remove_unfinished(layout: &Layout) -> Result<(), ClusterError> {
    let started = Instant::now();
    loop {
        let left = unfinished(layout)?;
        let mut failure = None;
        for path in &left {
            tracing::info!(path = %path.display(), "removing a database that was never finished");
            let removed = if path.is_dir() {
                fs::remove_dir_all(path)
            } else {
                fs::remove_file(path)
            };
            failure = removed
                .err()
                .map(ClusterError::io("remove", path))
                .or(failure);
        }
        match failure {
            Some(error) if started.elapsed() > REMOVE_LIMIT => return Err(error),
            Some(_) => sleep(REMOVE_POLL),
            None if left.is_empty() => return Ok(()),
            // Once more: a running initdb may have made it again.
            None => {}
        }
    }
}

/// Makes a cluster with this superuser password; afterwards it is in its place, with its state
/// file.
pub(crate) fn make_cluster(
    layout: &Layout,
    install: &Install,
    account: &Account,
    password: &str,
    events: &Events,
) -> Result<(), ClusterError> {
    let major = install.version.major;
    let directory = layout.data_dir().join(Layout::cluster_name(major));
    events.send(ClusterEvent::Initialising {
        directory: directory.clone(),
    });
    let unfinished = Unfinished(unfinished_path(layout, major));
    let cluster = NewCluster {
        install,
        account,
        directory: &unfinished.0,
        password,
        wal_segment_mib: None,
    };
    let locale = cluster.make()?;
    append_defaults(&unfinished.0, install)?;
    sync_file_system(&unfinished.0)?;
    State::new(install, locale, now()).write(layout)?;
    fs::rename(&unfinished.0, &directory).map_err(ClusterError::io("create", &directory))?;
    sync_directory(&layout.clusters())
}

/// Removed again when something fails; after the rename there is nothing to remove.
struct Unfinished(std::path::PathBuf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        match fs::remove_dir_all(&self.0) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::warn!(path = %self.0.display(), %error, "could not clean up");
            }
            Ok(()) | Err(_) => {}
        }
    }
}

fn append_defaults(directory: &Path, install: &Install) -> Result<(), ClusterError> {
    let path = directory.join("postgresql.conf");
    OpenOptions::new()
        .append(true)
        .open(&path)
        .and_then(|mut file| file.write_all(conf_defaults(install.version).as_bytes()))
        .map_err(ClusterError::io("write", &path))
}

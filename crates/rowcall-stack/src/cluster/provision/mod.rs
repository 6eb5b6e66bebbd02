//! Fetches a pinned build once into the cache, through a package client found on this machine.

mod client;
mod pins;
mod unpack;

pub(crate) use client::{Client, ClientKind, find_clients};
#[cfg(feature = "testing")]
pub(crate) use pins::of_major;
pub(crate) use pins::{Pin, Source, for_platform};

use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::account::Account;
use super::command::run;
use super::discover::version_banner;
use super::durable::{make_path, sync_file_system};
use super::error::ClusterError;
use super::event::{ClusterEvent, Events};
use super::install::{Install, ProviderKind};
use super::layout::check_access;
use super::version::PgVersion;

/// How long a package client may take.
const FETCH_LIMIT: Duration = Duration::from_mins(5);
/// How long to wait for another process that fetches the same build.
const TURN_LIMIT: Duration = Duration::from_mins(10);
/// How often to look whether it has finished.
const TURN_POLL: Duration = Duration::from_millis(100);
/// Marks a build that was verified as a whole.
const VERIFIED: &str = ".ok";

/// The builds that were fetched.
#[derive(Debug, Clone)]
pub(crate) struct Cache {
    /// `<cache>/postgres`.
    root: PathBuf,
    fetch_limit: Duration,
}

impl Cache {
    pub(crate) fn new(cache_dir: &Path) -> Self {
        Self {
            root: cache_dir.join("postgres"),
            fetch_limit: FETCH_LIMIT,
        }
    }

    /// The build when it is there and verified.
    pub(crate) fn find(&self, pin: &Pin) -> Option<Install> {
        let directory = self.root.join(pin.build_id());
        directory
            .join(VERIFIED)
            .exists()
            .then(|| install(pin, &directory))
    }

    /// Fetches the build, unless another process does so meanwhile.
    ///
    /// A failure of the client or a build that does not run is the inner error, in words: another
    /// client may do better. The outer error is one of this machine.
    pub(crate) fn fetch(
        &self,
        pin: &Pin,
        client: &Client,
        account: &Account,
        events: &Events,
    ) -> Result<Result<Install, String>, ClusterError> {
        self.make_root(account)?;
        let _turn = self.take_turn(pin)?;
        if let Some(install) = self.find(pin) {
            return Ok(Ok(install));
        }
        events.send(ClusterEvent::Fetching {
            build: pin.build_id(),
            bytes: pin.bytes,
            client: client.kind.to_string(),
        });
        let started = Instant::now();
        let fetched = self.fetch_and_place(pin, client, account)?;
        match &fetched {
            Ok(_) => events.send(ClusterEvent::Fetched {
                build: pin.build_id(),
                elapsed: started.elapsed(),
            }),
            Err(reason) => events.send(ClusterEvent::FetchFailed {
                client: client.kind.to_string(),
                reason: reason.clone(),
            }),
        }
        Ok(fetched)
    }

    fn make_root(&self, account: &Account) -> Result<(), ClusterError> {
        let mode = if account.switch { 0o755 } else { 0o700 };
        make_path(&self.root, mode)
            .map_err(ClusterError::io("create the cache directory", &self.root))?;
        check_access(account, &self.root)
    }

    /// One process at a time fetches a build.
    fn take_turn(&self, pin: &Pin) -> Result<File, ClusterError> {
        let path = self.root.join(format!("{}.lock", pin.build_id()));
        let failed = || ClusterError::io("lock", &path);
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(failed())?;
        let started = Instant::now();
        loop {
            match lock.try_lock() {
                Ok(()) => return Ok(lock),
                Err(TryLockError::Error(error)) => return Err(failed()(error)),
                Err(TryLockError::WouldBlock) if started.elapsed() > TURN_LIMIT => {
                    let waited = "another process has been fetching this build for too long";
                    return Err(failed()(std::io::Error::other(waited)));
                }
                Err(TryLockError::WouldBlock) => std::thread::sleep(TURN_POLL),
            }
        }
    }

    fn fetch_and_place(
        &self,
        pin: &Pin,
        client: &Client,
        account: &Account,
    ) -> Result<Result<Install, String>, ClusterError> {
        let failed = || ClusterError::io("write to the cache", &self.root);
        // Gone again when anything below fails.
        let place = |prefix: String| {
            tempfile::Builder::new()
                .prefix(&prefix)
                .tempdir_in(&self.root)
        };
        self.remove_stale(pin)?;
        let target = place(format!("{}.tmp-", pin.build_id())).map_err(failed())?;
        let scratch = place(format!("{}.tmp-client-", pin.build_id())).map_err(failed())?;
        let mut command = client
            .fetch(pin, target.path(), scratch.path())
            .map_err(failed())?;
        tracing::debug!(?command, "fetching PostgreSQL");
        let finished = match run(&mut command, self.fetch_limit) {
            Ok(finished) => finished,
            Err(error) => return Ok(Err(error.to_string())),
        };
        tracing::debug!(
            stdout = finished.stdout,
            stderr = finished.stderr,
            "the client ended"
        );
        if !finished.status.success() {
            return Ok(Err(finished.complaint()));
        }
        if pin.source == Source::Npm
            && let Err(reason) = unpack::unpack_npm(target.path(), pin.sha256)
        {
            return Ok(Err(reason));
        }
        unpack::open_to_all(target.path()).map_err(failed())?;
        if let Err(reason) = verify(pin, target.path(), account) {
            return Ok(Err(reason));
        }
        // The mark must not survive a power cut that the files did not.
        sync_file_system(target.path())?;
        fs::write(target.path().join(VERIFIED), pin.sha256).map_err(failed())?;
        let directory = self.root.join(pin.build_id());
        // Not verified, or it would have been found: a remnant.
        remove(&directory)?;
        let unpacked = target.keep();
        fs::rename(&unpacked, &directory).map_err(failed())?;
        Ok(Ok(install(pin, &directory)))
    }

    /// Removes what a process that was killed while fetching left behind. We have the turn.
    fn remove_stale(&self, pin: &Pin) -> Result<(), ClusterError> {
        let prefix = format!("{}.tmp-", pin.build_id());
        let entries =
            fs::read_dir(&self.root).map_err(ClusterError::io("read the cache", &self.root))?;
        for entry in entries.filter_map(Result::ok) {
            if entry.file_name().to_string_lossy().starts_with(&prefix) {
                remove(&entry.path())?;
            }
        }
        Ok(())
    }
}

fn remove(directory: &Path) -> Result<(), ClusterError> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(ClusterError::io("remove", directory)(error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Runs the server's `--version` as the user it will run as.
fn verify(pin: &Pin, directory: &Path, account: &Account) -> Result<(), String> {
    let bin_dir = directory.join(pin.bin_dir());
    for name in ["postgres", "initdb"] {
        if !bin_dir.join(name).is_file() {
            return Err(format!("the package has no {name}"));
        }
    }
    let banner = version_banner(&bin_dir, account)
        .map_err(|reason| format!("the fetched server does not run here: {reason}"))?;
    match PgVersion::from_banner(&banner) {
        Some(version) if version == pin.version => Ok(()),
        Some(_) | None => Err(format!(
            "expected PostgreSQL {}, got {:?}",
            pin.version,
            banner.trim()
        )),
    }
}

fn install(pin: &Pin, directory: &Path) -> Install {
    Install {
        bin_dir: directory.join(pin.bin_dir()),
        version: pin.version,
        build_id: pin.build_id(),
        provider: ProviderKind::Provisioned,
    }
}

#[cfg(all(test, feature = "testing"))]
mod tests;

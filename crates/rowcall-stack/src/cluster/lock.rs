//! One daemon per data directory.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::durable::make_path;
use super::error::ClusterError;
use super::process::{Process, look_up};

/// Name of the lock file in the data directory. It is never removed.
const LOCK_FILE: &str = "rowcall.lock";
/// How long to wait for the lock of a daemon that does not run any more.
const DEAD_HOLDER_LIMIT: Duration = Duration::from_secs(5);
/// How often to try.
const POLL: Duration = Duration::from_millis(10);
/// What the holder writes about itself is short; more than this is not ours.
const HOLDER_LIMIT: u64 = 200;

/// The exclusive right to a data directory, held until the last clone is dropped.
///
/// The operating system takes it back however the process ends. Child processes do not inherit it.
#[derive(Debug, Clone)]
pub struct DataDirLock {
    data_dir: PathBuf,
    /// Only held.
    _file: Arc<File>,
}

impl DataDirLock {
    /// Makes the directory when it is missing (open to all for traversal when we are root, because
    /// the server then runs as another user; private otherwise) and locks it.
    ///
    /// # Errors
    ///
    /// [`ClusterError::Locked`] with the other daemon's pid when it is taken.
    pub fn acquire(data_dir: &Path) -> Result<Self, ClusterError> {
        let mode = if nix::unistd::Uid::effective().is_root() {
            0o755
        } else {
            0o700
        };
        make_path(data_dir, mode)
            .map_err(ClusterError::io("create the data directory", data_dir))?;
        // PostgreSQL knows its directory by the real path.
        let data_dir = fs::canonicalize(data_dir)
            .map_err(ClusterError::io("find the data directory", data_dir))?;
        let path = data_dir.join(LOCK_FILE);
        let failed = || ClusterError::io("lock", &path);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(failed())?;
        let started = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::Error(error)) => return Err(failed()(error)),
                Err(TryLockError::WouldBlock) => {}
            }
            let holder = holder(&mut file);
            if is_running(&holder) || started.elapsed() > DEAD_HOLDER_LIMIT {
                return Err(ClusterError::Locked { data_dir, holder });
            }
            sleep(POLL);
        }
        let text = format!("pid {}, since {}\n", std::process::id(), now());
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| file.write_all(text.as_bytes()))
            .map_err(failed())?;
        Ok(Self {
            data_dir,
            _file: Arc::new(file),
        })
    }

    /// The directory, as a canonical path.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }
}

fn holder(file: &mut File) -> String {
    let mut text = String::new();
    let read = file
        .rewind()
        .and_then(|()| file.take(HOLDER_LIMIT).read_to_string(&mut text));
    match read {
        Ok(_) if !text.trim().is_empty() => text.trim().to_owned(),
        // It has locked the file and not written into it yet.
        Ok(_) | Err(_) => "starting just now".to_owned(),
    }
}

/// A killed daemon's lock is held for another moment by a child that was just being started: it
/// lets go when it becomes another program.
fn is_running(holder: &str) -> bool {
    let pid = holder
        .strip_prefix("pid ")
        .and_then(|rest| rest.split(',').next());
    match pid.and_then(|pid| pid.parse().ok()) {
        Some(pid) => matches!(look_up(pid), Process::Alive { .. }),
        None => true,
    }
}

/// Written for people only; nothing compares it.
#[expect(
    clippy::disallowed_methods,
    reason = "only shown to people; no decision depends on it"
)]
pub(crate) fn now() -> jiff::Timestamp {
    jiff::Timestamp::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_one_is_told_who_holds_it() {
        let parent = tempfile::tempdir().expect("a temporary directory");
        let data_dir = parent.path().join("a/b");
        let lock = DataDirLock::acquire(&data_dir).expect("the first lock");
        let clone = lock.clone();
        drop(lock);

        let error = DataDirLock::acquire(&data_dir).expect_err("it is held");
        let text = error.to_string();
        assert!(matches!(error, ClusterError::Locked { .. }), "{text}");
        assert!(
            text.contains(&format!("pid {}, since", std::process::id())),
            "{text}"
        );

        drop(clone);
        DataDirLock::acquire(&data_dir).expect("free again");
    }
}

//! Where the running daemon can be found: `daemon.json` in its data directory.

use std::{
    fs,
    io::{ErrorKind, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

/// The file's name.
const FILE: &str = "daemon.json";

/// What other commands need to know of a running daemon. It holds the database's password: readable by its owner only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunFile {
    /// The daemon's process.
    pub pid: u32,
    /// The database with the tasks, where they are in one.
    #[serde(default)]
    pub database_url: Option<String>,
    /// The port of the local API.
    pub api_port: u16,
    /// The Supabase-compatible API, when it is served.
    pub stack_url: Option<String>,
}

impl RunFile {
    /// Reads what a daemon left; whether it still runs is another question, which the lock answers.
    pub fn read(data_dir: &Path) -> anyhow::Result<Option<Self>> {
        let path = data_dir.join(FILE);
        match fs::read(&path) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    /// Writes the file whole, or not at all, and removes it when the guard is dropped.
    pub fn write(&self, data_dir: &Path) -> anyhow::Result<RunFileGuard> {
        let path = data_dir.join(FILE);
        let temporary = data_dir.join(format!("{FILE}.{}", self.pid));
        let mut options = fs::OpenOptions::new();
        let mut file = options
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)
            .with_context(|| format!("cannot write {}", temporary.display()))?;
        file.write_all(&serde_json::to_vec_pretty(self)?)
            .and_then(|()| fs::rename(&temporary, &path))
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(RunFileGuard(path))
    }
}

/// Removes the file when the daemon ends.
#[derive(Debug)]
pub struct RunFileGuard(PathBuf);

impl Drop for RunFileGuard {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.0) {
            tracing::debug!(%error, "{} stays behind", self.0.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn it_is_private_and_goes_away() {
        let dir = tempfile::tempdir().unwrap();
        let file = RunFile {
            pid: 1,
            database_url: Some("postgres://x".into()),
            api_port: 3001,
            stack_url: None,
        };
        let guard = file.write(dir.path()).unwrap();
        assert_eq!(RunFile::read(dir.path()).unwrap().as_ref(), Some(&file));
        let mode = fs::metadata(dir.path().join(FILE))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        drop(guard);
        assert_eq!(RunFile::read(dir.path()).unwrap(), None);
    }
}

//! Makes a new cluster with `initdb`.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::account::Account;
use super::command::{Finished, RunError, postgres_environment, run};
use super::error::{ClusterError, says_disk_full};
use super::install::Install;

/// `initdb` takes half a second; a busy machine or a slow disk needs more.
const INITDB_LIMIT: Duration = Duration::from_mins(2);
/// From this major on the server brings its own UTF-8 locale, independent of the host's.
const BUILTIN_LOCALE_SINCE: u16 = 17;
/// The superuser of every cluster we make.
pub(crate) const SUPERUSER: &str = "postgres";

/// A cluster to be made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NewCluster<'a> {
    pub(crate) install: &'a Install,
    pub(crate) account: &'a Account,
    /// Must not exist; its parent must belong to `account`.
    pub(crate) directory: &'a Path,
    pub(crate) password: &'a str,
    /// Size of a WAL segment in MiB when it is not the default of 16.
    pub(crate) wal_segment_mib: Option<u32>,
}

impl NewCluster<'_> {
    /// Runs `initdb`; returns the locale provider and locale that were chosen.
    ///
    /// Nothing is synced to disk. Plain `--locale=C` is only the last resort: it maps the case of
    /// ASCII letters only, so `ilike` would miss `Ärger` for `ärger`.
    pub(crate) fn make(&self) -> Result<&'static str, ClusterError> {
        let password_file = PasswordFile::write(self.directory, self.password, self.account)?;
        if self.install.version.major >= BUILTIN_LOCALE_SINCE {
            let builtin = [
                "--locale-provider=builtin",
                "--locale=C",
                "--builtin-locale=C.UTF-8",
            ];
            return self
                .succeed(&password_file, &builtin)
                .map(|()| "builtin:C.UTF-8");
        }
        let finished = self.run(&password_file, &["--locale=C.UTF-8"])?;
        if finished.status.success() {
            return Ok("libc:C.UTF-8");
        }
        if !finished.stderr.contains("invalid locale name") {
            return Err(self.failure(&finished));
        }
        tracing::warn!(
            "this machine has no C.UTF-8 locale: upper and lower case are mapped for ASCII letters only"
        );
        self.succeed(&password_file, &["--locale=C"])
            .map(|()| "libc:C")
    }

    fn succeed(&self, password_file: &PasswordFile, locale: &[&str]) -> Result<(), ClusterError> {
        let finished = self.run(password_file, locale)?;
        if finished.status.success() {
            Ok(())
        } else {
            Err(self.failure(&finished))
        }
    }

    fn run(&self, password_file: &PasswordFile, locale: &[&str]) -> Result<Finished, ClusterError> {
        let program = self.install.program("initdb");
        let mut command = Command::new(&program);
        command.arg("-D").arg(self.directory);
        command.args(["-U", SUPERUSER, "-A", "scram-sha-256", "-E", "UTF8"]);
        command.arg("--pwfile").arg(&password_file.0);
        command.args(["--data-checksums", "--no-instructions", "--no-sync"]);
        if let Some(size) = self.wal_segment_mib {
            command.arg(format!("--wal-segsize={size}"));
        }
        command.args(locale);
        postgres_environment(&mut command);
        self.account.apply(&mut command);
        run(&mut command, INITDB_LIMIT).map_err(|error| match error {
            RunError::Spawn(_) | RunError::TimedOut(_) => ClusterError::Run {
                program,
                reason: error.to_string(),
            },
        })
    }

    fn failure(&self, finished: &Finished) -> ClusterError {
        let output = finished.stderr.trim().to_owned();
        if let Some(line) = output.lines().find(|line| says_disk_full(line)) {
            return ClusterError::DiskFull {
                path: self.directory.to_owned(),
                detail: line.to_owned(),
            };
        }
        let help = if output.contains("could not look up effective user ID") {
            "initdb needs an entry for this user in /etc/passwd: add one, or run as another user"
        } else {
            "the message above is initdb's own; nothing was left behind"
        };
        ClusterError::InitDb {
            program: self.install.program("initdb"),
            output,
            help,
        }
    }
}

/// A file with the password that only the server's user can read, gone when dropped.
///
/// A pipe does not do: the server's user may not open one that root made.
struct PasswordFile(PathBuf);

impl PasswordFile {
    fn write(beside: &Path, password: &str, account: &Account) -> Result<Self, ClusterError> {
        let path = beside.with_extension("password");
        // Left over when a daemon was killed just here.
        drop(std::fs::remove_file(&path));
        let failed = || ClusterError::io("write", &path);
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(failed())?;
        let written = Self(path.clone());
        file.write_all(password.as_bytes()).map_err(failed())?;
        account.take_over(&path).map_err(failed())?;
        Ok(written)
    }
}

impl Drop for PasswordFile {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "could not remove the password file");
        }
    }
}

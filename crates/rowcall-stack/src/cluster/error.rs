//! What can go wrong with the embedded server. Each message says what happened, why, and what helps.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::install::ProviderKind;
use super::resolve::Findings;

/// Why there is no running server.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClusterError {
    /// Neither installed nor provisioned programs could be used.
    #[error("no PostgreSQL to run\n{0}")]
    NoServer(Box<Findings>),

    /// The directory has a cluster of one provider and another one was asked for.
    #[error(
        "the data directory was made with {created} PostgreSQL {major}, but {asked} was asked for\n  \
         help: leave out --pg, or use another --data-dir (dump and restore moves the data)"
    )]
    ProviderMismatch {
        /// What the state file says.
        created: ProviderKind,
        /// Major version in the state file.
        major: u16,
        /// What the configuration says.
        asked: ProviderKind,
    },

    /// The server the directory was made with is no longer on this machine.
    #[error(
        "the data directory was made with PostgreSQL {major} ({build_id}), which is not there any more\n\
         {findings}"
    )]
    ServerGone {
        /// Major version in the state file.
        major: u16,
        /// Build in the state file.
        build_id: String,
        /// What was looked at, and the command that brings it back.
        findings: Box<Findings>,
    },

    /// Another daemon holds the data directory.
    #[error(
        "the data directory {} is in use by another rowcall daemon ({holder})\n  \
         help: stop that daemon, or give this one another --data-dir",
        .data_dir.display()
    )]
    Locked {
        /// The directory both want.
        data_dir: PathBuf,
        /// What the other daemon wrote into the lock file.
        holder: String,
    },

    /// Somebody else's cluster is in the way.
    #[error(
        "{} is a PostgreSQL data directory that rowcall did not make; it was not touched\n  \
         help: run that server yourself and pass its URL (--database-url), or choose another --data-dir",
        .path.display()
    )]
    Foreign {
        /// The directory that holds `PG_VERSION`.
        path: PathBuf,
    },

    /// The files are of another major version than the state file says.
    #[error(
        "{} holds a cluster of PostgreSQL {found}, but the state file says {expected}; it was not touched\n  \
         help: restore the directory that belongs to cluster.json, or choose another --data-dir",
        .path.display()
    )]
    WrongMajor {
        /// The PostgreSQL data directory.
        path: PathBuf,
        /// What `PG_VERSION` says.
        found: String,
        /// What the state file says.
        expected: u16,
    },

    /// The state file cannot be used.
    #[error(
        "cannot use the state file {}: {reason}\n  \
         help: {help}",
        .path.display()
    )]
    State {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
        /// What to do.
        help: &'static str,
    },

    /// A parent directory keeps the server's user out.
    #[error(
        "the server runs as user {user}, who may not enter {} (needed for {})\n  \
         help: choose another directory, or give that user access: chmod o+x {}",
        .blocked.display(), .path.display(), .blocked.display()
    )]
    NotTraversable {
        /// The server's user.
        user: String,
        /// The directory that blocks.
        blocked: PathBuf,
        /// What lies behind it.
        path: PathBuf,
    },

    /// The port that must be used is not free.
    #[error(
        "port {port} on 127.0.0.1 is in use\n  \
         help: stop the program that uses it, or choose another port"
    )]
    PortTaken {
        /// The port.
        port: u16,
    },

    /// None of the ports tried is free.
    #[error(
        "no free port on 127.0.0.1 from {from} to {to}\n  \
         help: choose another port"
    )]
    NoFreePort {
        /// First port tried.
        from: u16,
        /// Last port tried.
        to: u16,
    },

    /// No socket directory has a path short enough.
    #[error(
        "the path of the unix socket is too long: {} ({length} bytes, at most {limit})\n  \
         help: choose a shorter --data-dir, or set XDG_RUNTIME_DIR",
        .path.display()
    )]
    SocketPath {
        /// The shortest one tried.
        path: PathBuf,
        /// Its length in bytes.
        length: usize,
        /// What the operating system takes.
        limit: usize,
    },

    /// No space left.
    #[error(
        "the disk with {} is full: {detail}\n  \
         help: free some space and start again; nothing was overwritten",
        .path.display()
    )]
    DiskFull {
        /// A path on that disk.
        path: PathBuf,
        /// What failed.
        detail: String,
    },

    /// `initdb` failed.
    #[error("could not make a new cluster: {program} failed: {output}\n  help: {help}")]
    InitDb {
        /// The program.
        program: PathBuf,
        /// The end of its output.
        output: String,
        /// What to do.
        help: &'static str,
    },

    /// The server ended before it was ready.
    #[error("PostgreSQL did not start; the end of its log:\n{log}\n  help: see {}", .log_file.display())]
    StartFailed {
        /// Last lines of its log.
        log: String,
        /// The whole log.
        log_file: PathBuf,
    },

    /// The server does not answer.
    #[error(
        "PostgreSQL was not ready within {} s; the end of its log:\n{log}\n  help: see {}",
        .limit.as_secs(), .log_file.display()
    )]
    NotReady {
        /// How long was waited without any sign of progress.
        limit: Duration,
        /// Last lines of its log.
        log: String,
        /// The whole log.
        log_file: PathBuf,
    },

    /// The server kept crashing.
    #[error(
        "PostgreSQL ended {crashes} times within {} s and is not started again; the end of its log:\n{log}\n  \
         help: see {}",
        .window.as_secs(), .log_file.display()
    )]
    Crashed {
        /// How often.
        crashes: usize,
        /// In which time.
        window: Duration,
        /// Last lines of its log.
        log: String,
        /// The whole log.
        log_file: PathBuf,
    },

    /// A server of a dead daemon does not end.
    #[error(
        "a PostgreSQL server left over from a killed daemon (pid {pid}) does not stop\n  \
         help: end it yourself (kill -QUIT {pid}), then start again"
    )]
    OrphanWontStop {
        /// The server's process id.
        pid: i32,
    },

    /// The pid file blocks the start and must not be removed yet.
    #[error(
        "{} names process {pid} ({program}), and processes {users:?} still work in the data directory\n  \
         help: end them, then start again",
        .path.display()
    )]
    PidFileHeld {
        /// `postmaster.pid`.
        path: PathBuf,
        /// The process it names.
        pid: i32,
        /// What that process is.
        program: String,
        /// Processes with the data directory as their working directory.
        users: Vec<i32>,
    },

    /// The superuser's password is unknown.
    #[error(
        "the password file {} of this cluster is missing or empty\n  \
         help: restore it from a backup, or choose another --data-dir",
        .path.display()
    )]
    PasswordLost {
        /// Where it should be.
        path: PathBuf,
    },

    /// The superuser cannot log in or its password cannot be set.
    #[error("could not {what}: {}", describe_sql(.source))]
    Sql {
        /// What was attempted.
        what: &'static str,
        /// The database's answer.
        #[source]
        source: tokio_postgres::Error,
    },

    /// A file operation failed.
    #[error("could not {what} {}: {source}", .path.display())]
    Io {
        /// What was attempted.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// The operating system's answer.
        #[source]
        source: std::io::Error,
    },

    /// A program of ours could not be run.
    #[error("could not run {}: {reason}", .program.display())]
    Run {
        /// The program.
        program: PathBuf,
        /// Why not.
        reason: String,
    },
}

impl ClusterError {
    /// Stable name of the kind of failure; its page is `docs/errors/<code>.md`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoServer(_) => "cluster-no-server",
            Self::ProviderMismatch { .. } => "cluster-provider-mismatch",
            Self::ServerGone { .. } => "cluster-server-gone",
            Self::Locked { .. } => "cluster-locked",
            Self::Foreign { .. } => "cluster-foreign",
            Self::WrongMajor { .. } => "cluster-wrong-major",
            Self::State { .. } => "cluster-state",
            Self::NotTraversable { .. } => "cluster-not-traversable",
            Self::PortTaken { .. } | Self::NoFreePort { .. } => "cluster-port",
            Self::SocketPath { .. } => "cluster-socket-path",
            Self::DiskFull { .. } => "cluster-disk-full",
            Self::InitDb { .. } => "cluster-initdb",
            Self::StartFailed { .. } => "cluster-start",
            Self::NotReady { .. } => "cluster-not-ready",
            Self::Crashed { .. } => "cluster-crashed",
            Self::OrphanWontStop { .. } => "cluster-orphan",
            Self::PidFileHeld { .. } => "cluster-pid-file",
            Self::PasswordLost { .. } => "cluster-password",
            Self::Sql { .. } => "cluster-sql",
            Self::Io { .. } => "cluster-io",
            Self::Run { .. } => "cluster-run",
        }
    }

    /// For `map_err`: names the operation and the file, and tells a full disk apart.
    pub(crate) fn io(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| match source.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Self::DiskFull {
                detail: format!("could not {what} {}", path.display()),
                path,
            },
            _ => Self::Io { what, path, source },
        }
    }
}

/// The driver's own text is just "db error"; what happened is in its source.
fn describe_sql(error: &tokio_postgres::Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

/// Whether a line of a program's output says that the disk is full.
///
/// The server says so in the operating system's words, or when a write was cut short in its own
/// (`mdextend` of PostgreSQL's `md.c`).
pub(crate) fn says_disk_full(line: &str) -> bool {
    [
        "No space left on device",
        "Disk quota exceeded",
        ": wrote only ",
    ]
    .iter()
    .any(|words| line.contains(words))
}

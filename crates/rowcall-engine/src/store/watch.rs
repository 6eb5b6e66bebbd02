//! Noticing that another process changed the apps.

use rusqlite::Connection;

use super::open::{Store, StoreError, connect};

/// Sees changes of the apps by other connections. Asking is cheap: unless somebody wrote to the file at all, it is one
/// look at shared memory.
pub struct AppsWatch {
    path: std::path::PathBuf,
    connection: Connection,
    data_version: i64,
    revision: i64,
}

impl std::fmt::Debug for AppsWatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AppsWatch")
            .field("revision", &self.revision)
            .finish_non_exhaustive()
    }
}

impl Store {
    /// Watches the apps from now on.
    pub fn watch_apps(&self) -> Result<AppsWatch, StoreError> {
        let connection = connect(&self.path, &self.options)?;
        let mut watch = AppsWatch {
            path: self.path.clone(),
            connection,
            data_version: -1,
            revision: -1,
        };
        watch.changed()?;
        Ok(watch)
    }
}

impl AppsWatch {
    /// Whether the apps changed since the last call.
    pub fn changed(&mut self) -> Result<bool, StoreError> {
        let changed = self.look();
        changed.map_err(|error| StoreError::from_sqlite(&self.path, error))
    }

    fn look(&mut self) -> rusqlite::Result<bool> {
        // Changes with every commit of another connection, those of the history writer included.
        let data_version: i64 =
            self.connection
                .pragma_query_value(None, "data_version", |row| row.get(0))?;
        if data_version == self.data_version {
            return Ok(false);
        }
        let revision: i64 = self.connection.query_row(
            "select value from revisions where name = 'apps'",
            [],
            |row| row.get(0),
        )?;
        self.data_version = data_version;
        Ok(std::mem::replace(&mut self.revision, revision) != revision)
    }
}

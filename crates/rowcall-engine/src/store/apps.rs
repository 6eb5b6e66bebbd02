//! Apps in the store: manifests kept as they were given.

use jiff::Timestamp;
use rowcall_core::{App, AppId, ManifestError};
use rusqlite::{OptionalExtension as _, Row, params};
use serde::Serialize;

use super::open::{Store, StoreError, time};

/// One stored app.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AppRow {
    /// Its name.
    pub name: String,
    /// The manifest as it was given.
    pub manifest: String,
    /// Whether it is switched on.
    pub enabled: bool,
    /// When it was added.
    pub added_at: Timestamp,
    /// When it was changed last.
    pub updated_at: Timestamp,
}

impl AppRow {
    /// Reads the manifest. What an older rowcall accepted may be refused by a newer one, so this can fail.
    pub fn parse(&self) -> Result<App, ManifestError> {
        App::parse(&self.manifest, Some(&self.name))
    }

    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            name: row.get(0)?,
            manifest: row.get(1)?,
            enabled: row.get(2)?,
            added_at: time(row.get(3)?),
            updated_at: time(row.get(4)?),
        })
    }
}

impl Store {
    /// All apps, by name.
    pub fn apps(&self) -> Result<Vec<AppRow>, StoreError> {
        let connection = self.lock();
        let mut statement = connection
            .prepare_cached(include_str!("sql/app_list.sql"))
            .map_err(|error| self.error(error))?;
        statement
            .query_map([None::<&str>], AppRow::read)
            .and_then(Iterator::collect)
            .map_err(|error| self.error(error))
    }

    /// One app.
    pub fn app(&self, name: &AppId) -> Result<Option<AppRow>, StoreError> {
        self.lock()
            .query_row(
                include_str!("sql/app_list.sql"),
                [Some(name.as_str())],
                AppRow::read,
            )
            .optional()
            .map_err(|error| self.error(error))
    }

    /// Adds an app or replaces its manifest, which the caller has read with [`App::parse`].
    pub fn put_app(&self, name: &AppId, manifest: &str, now: Timestamp) -> Result<(), StoreError> {
        self.change(
            include_str!("sql/app_put.sql"),
            params![name.as_str(), manifest, now.as_millisecond()],
        )?;
        Ok(())
    }

    /// Switches an app on or off; whether there is such an app.
    pub fn enable_app(
        &self,
        name: &AppId,
        enabled: bool,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        self.change(
            include_str!("sql/app_enable.sql"),
            params![name.as_str(), enabled, now.as_millisecond()],
        )
    }

    /// Removes an app; whether there was one. Its history stays.
    pub fn remove_app(&self, name: &AppId) -> Result<bool, StoreError> {
        self.change(include_str!("sql/app_remove.sql"), params![name.as_str()])
    }

    pub(super) fn change(
        &self,
        sql: &str,
        params: &[&dyn rusqlite::ToSql],
    ) -> Result<bool, StoreError> {
        self.lock()
            .execute(sql, params)
            .map(|rows| rows > 0)
            .map_err(|error| self.error(error))
    }
}

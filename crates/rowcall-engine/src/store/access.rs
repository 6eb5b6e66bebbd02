//! Who may call the local API: the uuids of apps, developer keys, and what apps may do.

use std::path::PathBuf;

use jiff::Timestamp;
use rowcall_core::AppId;
use rusqlite::{Connection, OptionalExtension as _, params};
use uuid::Uuid;

use super::{
    grants::{Decision, GrantRow, read_grant},
    open::{Store, StoreError, connect},
};

/// Everything that decides who may do what, at one moment.
#[derive(Clone, Debug, Default)]
pub struct AccessTable {
    /// The apps that have a uuid.
    pub apps: Vec<AccessApp>,
    /// The keys that are not revoked.
    pub keys: Vec<AccessKey>,
    /// The decisions of people.
    pub grants: Vec<GrantRow>,
}

/// One app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessApp {
    /// Its name.
    pub app: AppId,
    /// What its `x-app-id` says.
    pub uuid: Uuid,
    /// Whether it is switched on.
    pub enabled: bool,
}

/// One developer key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessKey {
    /// Its name.
    pub name: String,
    /// SHA-256 of it, in hexadecimal digits.
    pub hash: String,
    /// Whether it may also administer this machine.
    pub admin: bool,
}

impl Store {
    /// The uuid of an app; `fresh` becomes it when it has none. `None` when there is no such app.
    pub fn app_uuid(
        &self,
        app: &AppId,
        fresh: Uuid,
        now: Timestamp,
    ) -> Result<Option<Uuid>, StoreError> {
        if self.app(app)?.is_none() {
            return Ok(None);
        }
        self.change(
            include_str!("sql/app_id_add.sql"),
            params![app.as_str(), fresh.to_string(), now.as_millisecond()],
        )?;
        let uuid: Option<String> = self
            .lock()
            .query_row(include_str!("sql/app_id_get.sql"), [app.as_str()], |row| {
                row.get(0)
            })
            .optional()
            .map_err(|error| self.error(error))?;
        uuid.map(|uuid| parse_uuid(&uuid)).transpose()
    }

    /// Everything that decides who may do what. Apps without a uuid get one from `fresh`.
    pub fn access(
        &self,
        mut fresh: impl FnMut() -> Uuid,
        now: Timestamp,
    ) -> Result<AccessTable, StoreError> {
        let connection = self.lock();
        read_access(&connection, &mut fresh, now)
            .map_err(|error| self.error(error))?
            .check()
    }

    /// Watches who may do what, from now on.
    pub fn watch_access(&self) -> Result<AccessWatch, StoreError> {
        Ok(AccessWatch {
            path: self.path.clone(),
            connection: connect(&self.path, &self.options)?,
            data_version: -1,
            revision: -1,
        })
    }

    /// A value that outlives the daemon; `fresh` becomes it when there is none.
    pub fn setting(&self, name: &str, fresh: &str) -> Result<String, StoreError> {
        self.change(include_str!("sql/setting_add.sql"), params![name, fresh])?;
        self.lock()
            .query_row(include_str!("sql/setting_get.sql"), [name], |row| {
                row.get(0)
            })
            .map_err(|error| self.error(error))
    }
}

/// Sees changes of who may do what, by any connection.
pub struct AccessWatch {
    path: PathBuf,
    connection: Connection,
    data_version: i64,
    revision: i64,
}

impl std::fmt::Debug for AccessWatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AccessWatch")
            .field("revision", &self.revision)
            .finish_non_exhaustive()
    }
}

impl AccessWatch {
    /// What is new since the last call; `None` when nothing is. Takes microseconds: unless somebody wrote to the file, it
    /// is one look at shared memory.
    pub fn changed(
        &mut self,
        mut fresh: impl FnMut() -> Uuid,
        now: Timestamp,
    ) -> Result<Option<AccessTable>, StoreError> {
        let looked = self.look();
        let fail = |error| StoreError::from_sqlite(&self.path, error);
        if !looked.map_err(fail)? {
            return Ok(None);
        }
        let table = read_access(&self.connection, &mut fresh, now).map_err(fail)?;
        table.check().map(Some)
    }

    fn look(&mut self) -> rusqlite::Result<bool> {
        let data_version: i64 =
            self.connection
                .pragma_query_value(None, "data_version", |row| row.get(0))?;
        if data_version == self.data_version {
            return Ok(false);
        }
        let revision: i64 = self
            .connection
            .prepare_cached(include_str!("sql/access_revision.sql"))?
            .query_row([], |row| row.get(0))?;
        self.data_version = data_version;
        Ok(std::mem::replace(&mut self.revision, revision) != revision)
    }
}

/// Rows as they are stored, not checked yet.
struct RawAccess {
    apps: Vec<(String, String, bool)>,
    keys: Vec<AccessKey>,
    grants: Vec<(GrantRow, String)>,
}

impl RawAccess {
    fn check(self) -> Result<AccessTable, StoreError> {
        let app = |(app, uuid, enabled): (String, String, bool)| {
            Ok(AccessApp {
                uuid: parse_uuid(&uuid)?,
                app: AppId::new(&app).map_err(|_| StoreError::Unreadable {
                    what: "an app's name",
                    value: app,
                })?,
                enabled,
            })
        };
        Ok(AccessTable {
            apps: self.apps.into_iter().map(app).collect::<Result<_, _>>()?,
            keys: self.keys,
            grants: self
                .grants
                .into_iter()
                .map(|(row, word)| Decision::checked(row, &word))
                .collect::<Result<_, _>>()?,
        })
    }
}

fn read_access(
    connection: &Connection,
    fresh: &mut dyn FnMut() -> Uuid,
    now: Timestamp,
) -> rusqlite::Result<RawAccess> {
    let without: Vec<String> = connection
        .prepare_cached(include_str!("sql/access_without_id.sql"))?
        .query_map([], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    for app in without {
        connection
            .prepare_cached(include_str!("sql/app_id_add.sql"))?
            .execute(params![app, fresh().to_string(), now.as_millisecond()])?;
    }
    Ok(RawAccess {
        apps: connection
            .prepare_cached(include_str!("sql/access_apps.sql"))?
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
            .collect::<rusqlite::Result<_>>()?,
        keys: connection
            .prepare_cached(include_str!("sql/access_keys.sql"))?
            .query_map([], |row| {
                Ok(AccessKey {
                    name: row.get(0)?,
                    hash: row.get(1)?,
                    admin: row.get(2)?,
                })
            })?
            .collect::<rusqlite::Result<_>>()?,
        grants: connection
            .prepare_cached(include_str!("sql/grant_list.sql"))?
            .query_map([None::<&str>], read_grant)?
            .collect::<rusqlite::Result<_>>()?,
    })
}

fn parse_uuid(text: &str) -> Result<Uuid, StoreError> {
    Uuid::try_parse(text).map_err(|_| StoreError::Unreadable {
        what: "an app's uuid",
        value: text.to_owned(),
    })
}

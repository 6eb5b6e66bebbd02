//! Developer keys, kept as hashes.

use jiff::Timestamp;
use rusqlite::params;
use serde::Serialize;

use super::open::{Store, StoreError, time};

/// One key, as people see it: never the key itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeyRow {
    /// Its name.
    pub name: String,
    /// Its first characters, to tell it from others.
    pub hint: String,
    /// Whether it may also administer this machine.
    pub admin: bool,
    /// When it was added.
    pub created_at: Timestamp,
    /// When it was used last.
    pub last_used_at: Option<Timestamp>,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
}

/// A key to add.
#[derive(Clone, Copy, Debug)]
pub struct NewKey<'a> {
    /// Its name.
    pub name: &'a str,
    /// SHA-256 of it, in hexadecimal digits.
    pub hash: &'a str,
    /// Its first characters.
    pub hint: &'a str,
    /// Whether it may also administer this machine.
    pub admin: bool,
}

/// Why a key was not added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyTaken {
    /// There is a key of this name.
    Name,
    /// This key is there already, under another name or revoked: a revoked key stays refused.
    Key,
}

impl Store {
    /// Adds a key.
    pub fn add_key(
        &self,
        key: NewKey<'_>,
        now: Timestamp,
    ) -> Result<Result<(), KeyTaken>, StoreError> {
        let known = self
            .first(include_str!("sql/key_known.sql"), params![key.hash], |_| {
                Ok(())
            })?
            .is_some();
        if known {
            return Ok(Err(KeyTaken::Key));
        }
        let added = self.change(
            include_str!("sql/key_add.sql"),
            params![
                key.name,
                key.hash,
                key.hint,
                key.admin,
                now.as_millisecond()
            ],
        )?;
        Ok(if added { Ok(()) } else { Err(KeyTaken::Name) })
    }

    /// All keys by name, revoked ones included.
    pub fn keys(&self) -> Result<Vec<KeyRow>, StoreError> {
        self.rows(include_str!("sql/key_list.sql"), params![], |row| {
            Ok(KeyRow {
                name: row.get(0)?,
                hint: row.get(1)?,
                admin: row.get(2)?,
                created_at: time(row.get(3)?),
                last_used_at: row.get::<_, Option<i64>>(4)?.map(time),
                revoked_at: row.get::<_, Option<i64>>(5)?.map(time),
            })
        })
    }

    /// Revokes a key; `false` when there is none of this name that is not revoked.
    pub fn revoke_key(&self, name: &str, now: Timestamp) -> Result<bool, StoreError> {
        self.change(
            include_str!("sql/key_revoke.sql"),
            params![name, now.as_millisecond()],
        )
    }

    /// Remembers when a key was used last.
    pub fn key_used(&self, name: &str, at: Timestamp) -> Result<(), StoreError> {
        self.change(
            include_str!("sql/key_used.sql"),
            params![name, at.as_millisecond()],
        )?;
        Ok(())
    }
}

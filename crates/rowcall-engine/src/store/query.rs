//! Small ways of asking the store.

use rusqlite::{Connection, OptionalExtension as _, Row, ToSql, TransactionBehavior};

use super::open::{Store, StoreError};

impl Store {
    /// All rows of a query.
    pub(super) fn rows<T>(
        &self,
        sql: &str,
        params: &[&dyn ToSql],
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, StoreError> {
        let connection = self.lock();
        let mut statement = connection
            .prepare_cached(sql)
            .map_err(|error| self.error(error))?;
        statement
            .query_map(params, read)
            .and_then(Iterator::collect)
            .map_err(|error| self.error(error))
    }

    /// The first row of a query, if there is one.
    pub(super) fn first<T>(
        &self,
        sql: &str,
        params: &[&dyn ToSql],
        read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Option<T>, StoreError> {
        let connection = self.lock();
        let mut statement = connection
            .prepare_cached(sql)
            .map_err(|error| self.error(error))?;
        statement
            .query_row(params, read)
            .optional()
            .map_err(|error| self.error(error))
    }

    /// Several statements that happen together or not at all.
    pub(super) fn together<T>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let mut connection = self.lock();
        let done = connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .and_then(|transaction| {
                let done = work(&transaction)?;
                transaction.commit()?;
                Ok(done)
            });
        done.map_err(|error| self.error(error))
    }
}

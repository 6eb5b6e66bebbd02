//! Which database roles a token may name.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use tokio::time::Instant;

use super::database::{Database, QueryError};

const ROLES: &str = include_str!("../../sql/realtime/roles.sql");
/// How long a list is trusted; a role granted or revoked later counts after this.
const MAX_AGE: Duration = Duration::from_secs(30);
/// The API roles, known before the database was asked.
const ALWAYS: [&str; 3] = ["anon", "authenticated", "service_role"];

/// The roles the database lets us act as. A claim never becomes a role without being on this list.
#[derive(Debug, Default)]
pub(crate) struct Roles {
    known: RwLock<Option<(Instant, HashSet<Arc<str>>)>>,
}

impl Roles {
    /// Whether a token may name `role`.
    pub(crate) async fn allows(&self, database: &Database, role: &str) -> Result<bool, QueryError> {
        if ALWAYS.contains(&role) {
            return Ok(true);
        }
        if let Some((read, roles)) = &*self.known.read()
            && read.elapsed() < MAX_AGE
        {
            return Ok(roles.contains(role));
        }
        let client = database.connection().await?;
        let roles: HashSet<Arc<str>> = client
            .query(ROLES, &[])
            .await?
            .iter()
            .map(|row| row.get::<_, &str>(0).into())
            .collect();
        let allowed = roles.contains(role);
        *self.known.write() = Some((Instant::now(), roles));
        Ok(allowed)
    }
}

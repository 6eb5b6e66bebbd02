//! Makes a PostgreSQL database look like a Supabase project: roles, schemas, `auth` functions and tables, publication.
//!
//! Everything here is create-if-missing. On a Supabase project, and on a database that was set up before, [`apply`]
//! changes nothing; the tests compare dumps to hold that.

use tokio_postgres::Client;

/// The parts in the order they depend on each other. One batch is one transaction: a failure leaves nothing half done.
const PARTS: [&str; 6] = [
    include_str!("../sql/bootstrap/roles.sql"),
    include_str!("../sql/bootstrap/schemas.sql"),
    include_str!("../sql/bootstrap/auth_functions.sql"),
    include_str!("../sql/auth/tables.sql"),
    include_str!("../sql/bootstrap/publication.sql"),
    include_str!("../sql/rest/ddl_watch.sql"),
];

/// The set-up of the database failed; nothing was changed.
#[derive(Debug, thiserror::Error)]
#[error(
    "the database could not be prepared for the API: {source}. Connect as a superuser (or as a role that may create \
     roles and schemas), or prepare the database once as one"
)]
pub struct BootstrapError {
    /// What PostgreSQL answered.
    #[from]
    source: tokio_postgres::Error,
}

impl BootstrapError {
    /// Stable name of the kind of failure; its page is `docs/errors/<code>.md`.
    pub fn code(&self) -> &'static str {
        "stack-bootstrap"
    }
}

/// Creates the roles, schemas, functions, tables, publication and event triggers the API needs, where they are missing.
///
/// Works on PostgreSQL 14 and later, as any role that may create what is missing; where nothing is, any role will do.
///
/// # Errors
/// When PostgreSQL refuses one of the parts, most often for lack of rights. Nothing is changed then.
pub async fn apply(client: &Client) -> Result<(), BootstrapError> {
    client.batch_execute(&PARTS.join("\n")).await?;
    Ok(())
}

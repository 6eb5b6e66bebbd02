//! Custom mode: the app owns its table and its locks, and the daemon asks it over HTTP.
//!
//! Before a task runs, `POST {app}/api/task-lock` asks for its lock; at the end `POST {app}/api/task-webhook` reports how it
//! went. Signals, sweeps, heartbeats and presence go over the project's REST and Realtime as in compatible mode, as far as the
//! table can be read and written there; see [`crate::SupabaseBackend::custom`]. Where it cannot, the app keeps its locks alive and
//! returns stale ones itself ([`recovery_sql`] is what it can schedule).
//!
//! The endpoints carry no credential: they are meant for an app on the same machine.

mod api;

use std::time::Duration;

use rowcall_core::TableName;

pub(crate) use api::{LockAnswer, LockApi, LockError, Reported};

/// Longest wait for one answer of an app, by default.
pub const DEFAULT_APP_TIMEOUT: Duration = Duration::from_secs(10);

/// Where an app is asked for its locks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CustomConfig {
    /// The app, such as `http://127.0.0.1:8080`.
    pub app_url: String,
    /// Where locks are asked for; `{app_url}/api/task-lock` when absent.
    pub lock_url: Option<String>,
    /// Where results are reported; `{app_url}/api/task-webhook` when absent.
    pub webhook_url: Option<String>,
    /// Longest wait for one answer.
    pub timeout: Duration,
}

impl CustomConfig {
    /// The usual endpoints of an app.
    pub fn new(app_url: impl Into<String>) -> Self {
        Self {
            app_url: app_url.into(),
            lock_url: None,
            webhook_url: None,
            timeout: DEFAULT_APP_TIMEOUT,
        }
    }
}

/// The SQL that returns stale locks of a table to pending: for `pg_cron`, or for the app's own timer.
pub fn recovery_sql(table: &TableName) -> String {
    let quote = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    format!(
        "update {}.{}\n   set status = 'pending', locked_by = null, locked_at = null\n where status in ('claimed', 'processing')\n   \
         and locked_at < now() - interval '5 minutes';",
        quote(table.schema()),
        quote(table.name()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted() {
        let sql = recovery_sql(&TableName::new("shop", "Odd \"Orders").unwrap());
        assert!(
            sql.starts_with("update \"shop\".\"Odd \"\"Orders\"\n"),
            "{sql}"
        );
    }
}

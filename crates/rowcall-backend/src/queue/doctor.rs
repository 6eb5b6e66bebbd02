//! E9: what is wrong with queues and their wake-ups, of the kind that fails in silence.

use serde::Serialize;

use super::{database::Database, error::QueueError};

const DOCTOR: &str = include_str!("../../sql/queue/doctor.sql");

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// As it should be.
    Ok,
    /// It works, but late or with limits.
    Warning,
    /// It does not work.
    Error,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at: a stable word.
    pub check: String,
    /// How bad it is.
    pub severity: Severity,
    /// What was found, and what to do.
    pub message: String,
}

/// Looks at pgmq, the helpers, the triggers of every queue, and what broadcasts depend on. Reads only.
pub async fn diagnose(database: &Database) -> Result<Vec<Finding>, QueueError> {
    let client = database.get().await?;
    let rows = client
        .query(DOCTOR, &[])
        .await
        .map_err(QueueError::doing("the examination"))?;
    // What follows takes a connection of its own, and there may be only this one.
    drop(client);
    let findings = rows.iter().map(|row| Finding {
        check: row.get(0),
        severity: match row.get::<_, &str>(1) {
            "ok" => Severity::Ok,
            "warning" => Severity::Warning,
            _ => Severity::Error,
        },
        message: row.get(2),
    });
    let mut findings: Vec<Finding> = findings.collect();
    findings.extend(queues(database).await?);
    Ok(findings)
}

/// The triggers of every queue.
async fn queues(database: &Database) -> Result<Vec<Finding>, QueueError> {
    let store = super::store::QueueStore::new(database.clone());
    let mut findings = Vec::new();
    for status in store.wake_status().await? {
        let queue = &status.queue_name;
        let (severity, message) = if status.foreign_trigger {
            (
                Severity::Warning,
                format!(
                    "{queue}: AIMQ's trigger broadcasts every row; `rowcall queue realtime enable {queue}` replaces it"
                ),
            )
        } else if status.direct {
            (Severity::Ok, format!("{queue}: workers are woken"))
        } else {
            (
                Severity::Warning,
                format!(
                    "{queue}: no wake-up trigger, workers poll; run `rowcall queue realtime enable {queue}`"
                ),
            )
        };
        findings.push(Finding {
            check: "queue_trigger".to_owned(),
            severity,
            message,
        });
    }
    Ok(findings)
}

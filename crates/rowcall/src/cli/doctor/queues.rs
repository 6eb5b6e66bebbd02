//! What can be looked at about queues: what fails in silence there.

use rowcall_backend::queue::{
    Database,
    doctor::{Severity, diagnose},
    install,
};

use super::Finding;
use crate::cli::Context;

const CHECK: &str = "queues";

/// Nothing, in a database without pgmq where no queue is configured.
pub(super) async fn look(url: &str, context: &Context) -> Vec<Finding> {
    let problem = |error: &dyn std::fmt::Display| {
        vec![Finding::problem(
            CHECK,
            error.to_string(),
            "see the server's log",
        )]
    };
    let database = match Database::new(url, 1) {
        Ok(database) => database,
        Err(error) => return problem(&error),
    };
    match install::find(&database).await {
        Err(error) => return problem(&error),
        Ok(None) if context.config.worker.queues.is_empty() => return Vec::new(),
        Ok(None) => {
            return vec![Finding::problem(
                CHECK,
                "queues are configured, and pgmq is not installed",
                "`rowcall queue create NAME` installs it",
            )];
        }
        Ok(Some(_)) => {}
    }
    match diagnose(&database).await {
        Err(error) => problem(&error),
        Ok(found) => found
            .into_iter()
            .map(|one| {
                let check = format!("{CHECK}: {}", one.check);
                match one.severity {
                    Severity::Ok => Finding::good(&check, one.message),
                    Severity::Warning => Finding::notice(&check, one.message, "see docs/queues.md"),
                    Severity::Error => Finding::problem(&check, one.message, "see docs/queues.md"),
                }
            })
            .collect(),
    }
}

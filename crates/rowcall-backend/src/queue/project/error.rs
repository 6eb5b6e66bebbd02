//! What the answers of a project mean for queues.

use rowcall_core::ErrorClass;

use super::SCHEMA;
use crate::{
    queue::{error::QueueError, name::QueueName},
    supabase::error::RestError,
};

/// An error of the project, with what to do about it.
pub(super) fn explain(
    error: RestError,
    doing: &'static str,
    queue: Option<&QueueName>,
) -> QueueError {
    let advice = match (error.code(), queue) {
        (Some("42P01"), Some(queue)) => return QueueError::Missing(queue.clone()),
        (Some("PGRST106"), _) => format!(
            "the project does not expose the schema {SCHEMA}: switch on \"Expose Queues via PostgREST\" (Integrations, Queues) or \
             add it to the exposed schemas of the Data API; for a local project, `rowcall queue schema enable`"
        ),
        (Some("PGRST202" | "42883"), _) => format!(
            "the project lacks functions of {SCHEMA}: run what `rowcall queue migration` writes in its SQL editor, or switch on \
             \"Expose Queues via PostgREST\" (Integrations, Queues)"
        ),
        (Some("42501"), _) => {
            let of = queue.map_or_else(String::new, |queue| format!(" for {queue}"));
            format!(
                "the key has no right to it{of}: use the service key, or grant its role the tables of the queue in pgmq and write \
                 policies"
            )
        }
        _ if error.is_token() => {
            "check SUPABASE_KEY: the project does not take this key".to_owned()
        }
        _ => String::new(),
    };
    let class = error.class();
    let advice = if advice.is_empty() {
        advice
    } else {
        format!("; {advice}")
    };
    QueueError::Project {
        class,
        message: format!("{doing} failed: {error}{advice}"),
    }
}

/// A failure that a function answered as a success.
pub(super) fn said(doing: &'static str, reason: &str) -> QueueError {
    let reason: String = reason.chars().take(300).collect();
    QueueError::Project {
        class: ErrorClass::Permanent,
        message: format!("{doing} failed: the project answered {reason:?}"),
    }
}

#[cfg(test)]
mod tests {
    use reqwest::StatusCode;

    use super::*;

    #[test]
    fn what_is_missing_is_named_with_what_to_do() {
        let queue = QueueName::new("jobs").unwrap();
        let of = |status: u16, body: &str| {
            let status = StatusCode::from_u16(status).unwrap();
            let error = RestError::refused(status, body.as_bytes());
            explain(error, "reading a queue", Some(&queue))
        };
        let missing = of(
            404,
            r#"{"code":"42P01","message":"relation does not exist"}"#,
        );
        assert!(matches!(missing, QueueError::Missing(_)));
        assert!(missing.to_string().contains("42P01"));
        for (status, body, part, class) in [
            (
                406,
                r#"{"code":"PGRST106"}"#,
                "does not expose the schema pgmq_public",
                ErrorClass::Permanent,
            ),
            (
                404,
                r#"{"code":"PGRST202"}"#,
                "rowcall queue migration",
                ErrorClass::Permanent,
            ),
            (
                403,
                r#"{"code":"42501"}"#,
                "for jobs: use the service key",
                ErrorClass::Unauthorized,
            ),
            (
                401,
                r#"{"message":"Invalid API key"}"#,
                "check SUPABASE_KEY",
                ErrorClass::Unauthorized,
            ),
            (503, "", "503", ErrorClass::Retryable),
        ] {
            let error = of(status, body);
            assert!(error.to_string().contains(part), "{error}");
            assert_eq!(
                (error.class(), error.code()),
                (class, "queue-project"),
                "{error}"
            );
        }
    }
}

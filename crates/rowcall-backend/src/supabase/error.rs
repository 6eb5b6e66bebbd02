//! What the answers of a Supabase project mean, and what to do about them.

use std::time::Duration;

use reqwest::StatusCode;
use rowcall_core::{ErrorClass, SourceError};
use serde::Deserialize;

/// Longest text kept of an error body, in characters.
const MAX_ERROR_CHARS: usize = 300;

/// Why a request did not give an answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RestError {
    /// The project answered with an error.
    #[error("{message}")]
    Refused {
        status: StatusCode,
        /// PostgREST's or PostgreSQL's code, such as `PGRST202` or `42501`.
        code: Option<String>,
        message: String,
    },
    /// It asks to be left alone for a while.
    #[error("the project asks to wait {} s before the next request", .0.as_secs())]
    Throttled(Duration),
    /// No answer at all.
    #[error("the project cannot be reached: {0}")]
    Unreachable(String),
    /// An answer that is larger than it may be.
    #[error("the project answered with more than {0} bytes")]
    TooLarge(usize),
    /// Something else than JSON, or JSON of another shape.
    #[error("the project answered {0}, which is not what Supabase answers; check the URL")]
    Nonsense(String),
    /// The user's session is over.
    #[error("{0}")]
    SignedOut(String),
    /// The app of custom mode did not give an answer to act on.
    #[error("{message}")]
    App { class: ErrorClass, message: String },
    /// A row that can be read and does not change.
    #[error("the task can be seen but not changed")]
    Denied,
}

impl RestError {
    /// The error of an answer that is no success.
    pub(crate) fn refused(status: StatusCode, body: &[u8]) -> Self {
        #[derive(Default, Deserialize)]
        struct Body {
            code: Option<serde_json::Value>,
            error_code: Option<String>,
            message: Option<String>,
            msg: Option<String>,
            hint: Option<String>,
        }
        let body: Body = serde_json::from_slice(body).unwrap_or_default();
        let code = body.error_code.or(match body.code {
            Some(serde_json::Value::String(code)) => Some(code),
            _ => None,
        });
        let said = body.message.or(body.msg).unwrap_or_default();
        let mut message = format!("the project answered {status}");
        for part in [code.as_deref(), Some(said.as_str()), body.hint.as_deref()] {
            if let Some(part) = part.filter(|part| !part.is_empty()) {
                message.push_str(": ");
                message.extend(part.chars().take(MAX_ERROR_CHARS));
            }
        }
        if status.is_redirection() {
            message.push_str("; redirects are not followed, check the project URL");
        }
        Self::Refused {
            status,
            code,
            message,
        }
    }

    /// PostgREST's or PostgreSQL's code.
    pub(crate) fn code(&self) -> Option<&str> {
        match self {
            Self::Refused { code, .. } => code.as_deref(),
            _ => None,
        }
    }

    /// Whether a function is missing.
    pub(crate) fn is_missing_function(&self) -> bool {
        matches!(self.code(), Some("PGRST202" | "42883"))
    }

    /// Whether a table is missing, or its schema is not exposed.
    pub(crate) fn is_missing_table(&self) -> bool {
        matches!(self.code(), Some("PGRST205" | "42P01" | "PGRST106"))
    }

    /// Whether a column is missing.
    pub(crate) fn is_missing_column(&self) -> bool {
        matches!(self.code(), Some("42703" | "PGRST204"))
    }

    /// Whether the credential is not enough for a table.
    pub(crate) fn is_denied(&self) -> bool {
        self.code() == Some("42501")
    }

    /// Whether a value cannot be stored or compared: bad input of ours.
    pub(crate) fn is_bad_value(&self) -> bool {
        self.code()
            .is_some_and(|code| code.starts_with("22") || code == "PGRST102")
    }

    /// Whether the project may have done what it was asked, for all one can tell.
    pub(crate) fn leaves_open(&self) -> bool {
        match self {
            Self::Refused { status, .. } => status.is_server_error(),
            Self::Unreachable(_) | Self::TooLarge(_) | Self::Nonsense(_) => true,
            Self::Throttled(_) | Self::SignedOut(_) | Self::App { .. } | Self::Denied => false,
        }
    }

    /// Whether the credential is not enough, or not good any more.
    pub(crate) fn is_token(&self) -> bool {
        matches!(self, Self::Refused { status, code, .. }
            if *status == StatusCode::UNAUTHORIZED && code.as_deref() != Some("42501"))
    }

    pub(crate) fn class(&self) -> ErrorClass {
        match self {
            Self::Refused { status, code, .. } => match *status {
                _ if code.as_deref() == Some("42501") => ErrorClass::Unauthorized,
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => ErrorClass::Unauthorized,
                StatusCode::CONFLICT => ErrorClass::Conflict,
                StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => {
                    ErrorClass::Retryable
                }
                status if status.is_server_error() => ErrorClass::Retryable,
                _ => ErrorClass::Permanent,
            },
            Self::App { class, .. } => *class,
            Self::Throttled(_) | Self::Unreachable(_) | Self::Nonsense(_) => ErrorClass::Retryable,
            Self::TooLarge(_) => ErrorClass::Permanent,
            Self::SignedOut(_) | Self::Denied => ErrorClass::Unauthorized,
        }
    }

    /// What to do about it, where that can be said.
    fn advice(&self) -> &'static str {
        match self {
            _ if self.is_missing_function() || self.is_missing_table() => {
                "; run `rowcall setup`, or paste what `rowcall setup --print` prints into the SQL editor of the project"
            }
            _ if self.code() == Some("42501") || matches!(self, Self::Denied) => {
                "; the row level security of the project does not allow this with the given key: sign in as a user, give the \
                 service key, or add a policy for the role"
            }
            _ if self.is_token() => "; check the key of the project, or sign in again",
            _ => "",
        }
    }

    /// As the engine sees it: what was tried, what happened, what to do.
    pub(crate) fn during(self, what: &str) -> SourceError {
        let message = format!("cannot {what}: {self}{}", self.advice());
        SourceError::because(self.class(), message, self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16, body: &str) -> RestError {
        let status = StatusCode::from_u16(status).unwrap();
        RestError::refused(status, body.as_bytes())
    }

    #[test]
    fn errors_say_what_to_do() {
        let rls = refused(
            401,
            r#"{"code":"42501","message":"permission denied","details":null,"hint":null}"#,
        );
        assert!(!rls.is_token());
        let error = rls.during("claim a task");
        assert_eq!(error.class, ErrorClass::Unauthorized);
        assert_eq!(
            error.message,
            "cannot claim a task: the project answered 401 Unauthorized: 42501: permission denied; the row level security of \
             the project does not allow this with the given key: sign in as a user, give the service key, or add a policy \
             for the role"
        );
        let missing = refused(
            404,
            r#"{"code":"PGRST202","message":"Could not find the function"}"#,
        );
        assert!(missing.is_missing_function());
        assert!(
            missing
                .during("x")
                .message
                .contains("rowcall setup --print")
        );
    }

    #[test]
    fn classes_tell_what_may_be_tried_again() {
        for (status, body, class) in [
            (500, "", ErrorClass::Retryable),
            (503, r#"{"code":"PGRST002"}"#, ErrorClass::Retryable),
            (429, "<html>", ErrorClass::Retryable),
            (409, r#"{"code":"23505"}"#, ErrorClass::Conflict),
            (
                401,
                r#"{"code":"PGRST303","message":"JWT expired"}"#,
                ErrorClass::Unauthorized,
            ),
            (403, "{}", ErrorClass::Unauthorized),
            (302, "", ErrorClass::Permanent),
            (400, r#"{"code":"22P02"}"#, ErrorClass::Permanent),
        ] {
            assert_eq!(refused(status, body).during("x").class, class, "{status}");
        }
        assert!(refused(401, r#"{"code":"PGRST301"}"#).is_token());
        assert!(refused(302, "").to_string().contains("not followed"));
    }
}

//! Tokens and roles.

use axum::http::{HeaderValue, StatusCode, header};
use serde_json::Value;

use super::RestError;
use crate::auth::TokenError;

impl RestError {
    /// PGRST301 and PGRST303
    pub(crate) fn token(error: &TokenError) -> Self {
        let code = if error.is_about_claims() {
            "PGRST303"
        } else {
            "PGRST301"
        };
        let mut answer = Self::new(StatusCode::UNAUTHORIZED, code, error.to_string());
        if *error == TokenError::Signature {
            answer.details =
                Value::String("None of the keys was able to decode the JWT".to_owned());
        }
        let challenge = format!("Bearer error=\"invalid_token\", error_description=\"{error}\"");
        if let Ok(challenge) = HeaderValue::try_from(challenge) {
            answer.headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
        answer
    }

    /// PGRST302
    pub(crate) fn anonymous_disabled() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "PGRST302",
            "Anonymous access is disabled",
        )
    }

    /// A role that is not there.
    pub(crate) fn no_role(role: &str) -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "22023",
            format!("role \"{role}\" does not exist"),
        )
    }

    /// A role that is there, but that nobody may take on through the API.
    pub(crate) fn role_not_granted(role: &str) -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "42501",
            format!("permission denied to set role \"{role}\""),
        )
        .hint(Some(format!(
            "Grant it to the role that answers requests: grant \"{role}\" to authenticator"
        )))
    }
}

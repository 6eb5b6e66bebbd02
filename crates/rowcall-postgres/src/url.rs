//! What a database URL says about TLS, apart from the rest: tokio-postgres does not know all of its values.

use std::path::PathBuf;

use percent_encoding::percent_decode_str;

use crate::Tls;

/// A database URL that cannot be used. Never holds the URL, which may hold a password.
#[derive(Debug, thiserror::Error)]
#[error("the database URL cannot be used: {reason}")]
pub struct UrlError {
    /// What is wrong and what to write instead.
    pub reason: String,
}

impl UrlError {
    /// An error with its reason.
    pub fn new(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
        }
    }

    /// Stable name of the kind of failure; its page is `docs/errors/<code>.md`.
    pub fn code(&self) -> &'static str {
        "db-url"
    }
}

/// `sslmode` and `sslrootcert`, as written.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct TlsWords {
    mode: Option<String>,
    roots: Option<PathBuf>,
}

impl TlsWords {
    /// What they mean for a server that is, or is not, on this machine.
    pub(crate) fn meaning(self, is_local: bool) -> Result<Tls, UrlError> {
        let Self { mode, roots } = self;
        Ok(match (mode.as_deref(), roots) {
            (None, _) if is_local => Tls::Disable,
            (None | Some("prefer" | "allow"), _) => Tls::Prefer,
            (Some("disable"), _) => Tls::Disable,
            (Some("require"), None) => Tls::Require,
            // Whoever names a root wants it asked.
            (Some("require"), roots @ Some(_)) | (Some("verify-ca"), roots) => {
                Tls::VerifyCa { roots }
            }
            (Some("verify-full"), roots) => Tls::VerifyFull { roots },
            (Some(other), _) => {
                return Err(UrlError::new(format!(
                    "unknown sslmode {other:?}; use disable, prefer, require, verify-ca or verify-full"
                )));
            }
        })
    }
}

/// Takes `sslmode` and `sslrootcert` out of a URL, or of libpq's `key=value` form.
pub(crate) fn split(url: &str) -> (String, TlsWords) {
    let mut words = TlsWords::default();
    let is_url = url.starts_with("postgres://") || url.starts_with("postgresql://");
    let read = |value: &str| {
        if is_url {
            percent_decode_str(value).decode_utf8_lossy().into_owned()
        } else {
            value.trim_matches('\'').to_owned()
        }
    };
    let mut keep = |pair: &str| match pair.split_once('=') {
        Some(("sslmode", value)) => {
            words.mode = Some(read(value));
            false
        }
        Some(("sslrootcert", value)) => {
            words.roots = (value != "system").then(|| PathBuf::from(read(value)));
            false
        }
        _ => true,
    };
    let rest = if is_url {
        match url.split_once('?') {
            None => url.to_owned(),
            Some((base, query)) => {
                let kept: Vec<&str> = query.split('&').filter(|pair| keep(pair)).collect();
                match kept.as_slice() {
                    [] => base.to_owned(),
                    kept => format!("{base}?{}", kept.join("&")),
                }
            }
        }
    } else {
        let kept: Vec<&str> = url.split(' ').filter(|pair| keep(pair)).collect();
        kept.join(" ")
    };
    (rest, words)
}

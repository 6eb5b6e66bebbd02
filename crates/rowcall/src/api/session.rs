//! The operator's credential: a token that is new with every start of the daemon, in a file that only its owner can read.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use axum::http::{HeaderMap, header};

use super::identity::{Digest, digest, same};

/// The file's name, below the data directory.
const FILE: &str = "session-token";

/// The dashboard's cookie.
pub(super) const COOKIE: &str = "rowcall_session";

/// What tokens begin with, so that people and secret scanners know what they found.
const PREFIX: &str = "rcs_";

/// The credentials of the operator's programs and pages.
pub struct Session {
    token: Digest,
    cookie: String,
    cookie_digest: Digest,
    feed: String,
    feed_digest: Digest,
    path: Option<PathBuf>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl Session {
    /// Makes a token and writes it into the data directory. `feed` is the calendar's token, which outlives the daemon.
    pub fn create(data_dir: &Path, feed: String) -> anyhow::Result<Self> {
        let token = secret(PREFIX);
        let path = data_dir.join(FILE);
        let temporary = data_dir.join(format!("{FILE}.new"));
        let write = || {
            // Left by a daemon that was killed while it wrote.
            let _ = fs::remove_file(&temporary);
            let mut file = fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&temporary)?;
            writeln!(file, "{token}")?;
            fs::rename(&temporary, &path)
        };
        write().with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self::of(&token, feed, Some(path)))
    }

    fn of(token: &str, feed: String, path: Option<PathBuf>) -> Self {
        let cookie = hex::encode(digest(&format!("cookie {token}")));
        Self {
            token: digest(token),
            cookie_digest: digest(&cookie),
            cookie,
            feed_digest: digest(&feed),
            feed,
            path,
        }
    }

    /// Reads the token of the running daemon.
    pub fn read(data_dir: &Path) -> std::io::Result<String> {
        fs::read_to_string(data_dir.join(FILE)).map(|text| text.trim().to_owned())
    }

    pub(super) fn is_token(&self, token: &str) -> bool {
        same(&digest(token), &self.token)
    }

    pub(super) fn is_feed(&self, token: &str) -> bool {
        same(&digest(token), &self.feed_digest)
    }

    /// The token that calendar programs have in their URL.
    pub(super) fn feed(&self) -> &str {
        &self.feed
    }

    /// What the dashboard's cookie holds.
    pub(super) fn cookie(&self) -> &str {
        &self.cookie
    }

    /// Whether a request comes from our own page with its cookie. Cookies know no ports, so a page of another local server
    /// would send it as well: browsers say in `Sec-Fetch-Site` where a request comes from, and `Origin` was checked before.
    pub(super) fn is_cookie(&self, headers: &HeaderMap) -> bool {
        let own = headers
            .get("sec-fetch-site")
            .is_none_or(|site| matches!(site.as_bytes(), b"same-origin" | b"none"));
        own && headers
            .get_all(header::COOKIE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|text| text.split(';'))
            .filter_map(|pair| pair.trim().split_once('='))
            .any(|(name, value)| name == COOKIE && same(&digest(value), &self.cookie_digest))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(path) = &self.path
            && let Err(error) = fs::remove_file(path)
        {
            tracing::debug!(%error, "{} stays behind", path.display());
        }
    }
}

/// A fresh secret of 256 bits.
pub fn secret(prefix: &str) -> String {
    format!("{prefix}{}", hex::encode(rand::random::<[u8; 32]>()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_token_is_in_a_private_file_while_the_daemon_runs() {
        let dir = tempfile::tempdir().unwrap();
        let session = Session::create(dir.path(), "feed".into()).unwrap();
        let token = Session::read(dir.path()).unwrap();
        assert!(session.is_token(&token) && !session.is_token("rcs_other"));
        let mode = fs::metadata(dir.path().join(FILE))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        drop(session);
        assert!(Session::read(dir.path()).is_err());
    }

    #[test]
    fn the_cookie_counts_only_from_our_own_page() {
        let session = Session::of("t", "f".into(), None);
        let from = |site: Option<&str>| {
            let mut headers = HeaderMap::new();
            let cookie = format!("a=b; {COOKIE}={}", session.cookie());
            headers.insert(header::COOKIE, cookie.parse().unwrap());
            if let Some(site) = site {
                headers.insert("sec-fetch-site", site.parse().unwrap());
            }
            session.is_cookie(&headers)
        };
        assert!(from(None) && from(Some("same-origin")) && from(Some("none")));
        assert!(!from(Some("same-site")) && !from(Some("cross-site")));
        assert!(
            !session.is_token(session.cookie()),
            "the cookie is not the token"
        );
    }
}

//! Where the database is and how it is spoken to.

use std::{fmt, path::PathBuf, time::Duration};

use tokio_postgres::config::Host;

/// A statement that takes longer is canceled by the server. Claims and settlements take milliseconds; what takes this long
/// waits for a lock or for a broken network.
pub const DEFAULT_STATEMENT_TIMEOUT: Duration = Duration::from_secs(15);
/// Opening a connection, TLS and login included.
pub const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections for claims, settlements and everything else but listening.
pub const DEFAULT_CONNECTIONS: usize = 4;
/// How far the gate of a busy daemon is pushed ahead each time.
pub const DEFAULT_QUIET_FOR: Duration = Duration::from_secs(2);

/// How TLS is used. As in libpq, `require` encrypts without checking who answers; only `verify-ca` and `verify-full` do, against the
/// system's roots or `sslrootcert`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tls {
    /// Never; the default over loopback and unix sockets.
    Disable,
    /// When the server offers it, without checking its certificate; the default elsewhere.
    Prefer,
    /// Always, without checking the certificate.
    Require,
    /// Always, and the certificate must be valid for the host. `verify-ca` is treated the same: checking less would need a
    /// reason.
    Verify {
        /// Trusted roots in PEM; the system's when absent.
        roots: Option<PathBuf>,
    },
}

/// A database and the manners towards it.
#[derive(Clone)]
pub struct PostgresConfig {
    pub(crate) server: tokio_postgres::Config,
    /// How TLS is used.
    pub tls: Tls,
    /// How many connections besides the listening one.
    pub connections: usize,
    /// After this the server cancels a statement.
    pub statement_timeout: Duration,
    /// After this a connection attempt is given up.
    pub connect_timeout: Duration,
    /// The name of this daemon among the listeners; its machine id.
    pub listener: String,
    /// The limit that lists use where no rules are given: a task that failed so often needs attention.
    pub max_attempts: u32,
    /// How far a busy daemon pushes its gate ahead each time.
    pub quiet_for: Duration,
}

impl fmt::Debug for PostgresConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresConfig")
            .field("hosts", &self.server.get_hosts())
            .field("database", &self.server.get_dbname())
            .field("user", &self.server.get_user())
            .field("tls", &self.tls)
            .field("listener", &self.listener)
            .finish_non_exhaustive()
    }
}

/// A database URL that cannot be used. Never holds the URL, which may hold a password.
#[derive(Debug, thiserror::Error)]
#[error("the database URL cannot be used: {reason}")]
pub struct ConfigError {
    /// What is wrong and what to write instead.
    pub reason: String,
}

impl ConfigError {
    /// Stable name of the kind of failure; its page is `docs/errors/<code>.md`.
    pub fn code(&self) -> &'static str {
        "db-url"
    }
}

impl PostgresConfig {
    /// Reads `postgres://user:password@host:port/database?sslmode=…` (or libpq's `key=value` form). `listener` names this daemon.
    ///
    /// The URL must lead to PostgreSQL itself or to a pooler in session mode: listening and prepared statements do not
    /// survive a pooler in transaction mode (port 6543 on Supabase).
    pub fn new(url: &str, listener: impl Into<String>) -> Result<Self, ConfigError> {
        let refuse = |reason: String| ConfigError { reason };
        let (url, mode, roots) = split_tls(url);
        let mut server: tokio_postgres::Config =
            url.parse().map_err(|error: tokio_postgres::Error| {
                let cause = std::error::Error::source(&error)
                    .map_or(String::new(), |cause| format!(": {cause}"));
                refuse(format!(
                    "{error}{cause}; write postgres://user:password@host:port/database"
                ))
            })?;
        if server.get_hosts().is_empty() && server.get_hostaddrs().is_empty() {
            server.host("localhost");
        }
        let local = server.get_hosts().iter().all(is_local)
            && server
                .get_hostaddrs()
                .iter()
                .all(std::net::IpAddr::is_loopback);
        let tls = match mode.as_deref() {
            None if local => Tls::Disable,
            None | Some("prefer" | "allow") => Tls::Prefer,
            Some("disable") => Tls::Disable,
            Some("require") => Tls::Require,
            Some("verify-ca" | "verify-full") => Tls::Verify { roots },
            Some(other) => {
                return Err(refuse(format!(
                    "unknown sslmode {other:?}; use disable, prefer, require or verify-full"
                )));
            }
        };
        server.ssl_mode(match tls {
            Tls::Disable => tokio_postgres::config::SslMode::Disable,
            Tls::Prefer => tokio_postgres::config::SslMode::Prefer,
            Tls::Require | Tls::Verify { .. } => tokio_postgres::config::SslMode::Require,
        });
        if server.get_application_name().is_none() {
            server.application_name("rowcall");
        }
        // A listening connection is silent for hours: keepalives notice a peer that is gone within a minute.
        server.keepalives_idle(Duration::from_secs(30));
        server.keepalives_interval(Duration::from_secs(10));
        server.keepalives_retries(3);
        server.tcp_user_timeout(Duration::from_mins(1));
        let mut config = Self {
            server,
            tls,
            connections: DEFAULT_CONNECTIONS,
            statement_timeout: DEFAULT_STATEMENT_TIMEOUT,
            connect_timeout: DEFAULT_CONNECT_TIMEOUT,
            listener: listener.into(),
            max_attempts: rowcall_core::RetryPolicy::default().max_attempts,
            quiet_for: DEFAULT_QUIET_FOR,
        };
        config.server.connect_timeout(config.connect_timeout);
        Ok(config)
    }

    /// The name shown in `pg_stat_activity`.
    #[must_use]
    pub fn application_name(mut self, name: &str) -> Self {
        self.server.application_name(name);
        self
    }

    /// `user@host:port/database`, for people.
    pub fn target(&self) -> String {
        let host = self
            .server
            .get_hosts()
            .first()
            .map_or_else(String::new, |host| match host {
                Host::Tcp(name) => name.clone(),
                #[cfg(unix)]
                Host::Unix(path) => path.display().to_string(),
            });
        let port = self.server.get_ports().first().copied().unwrap_or(5432);
        let user = self.server.get_user().unwrap_or("?");
        let database = self.server.get_dbname().unwrap_or(user);
        format!("{user}@{host}:{port}/{database}")
    }
}

fn is_local(host: &Host) -> bool {
    match host {
        Host::Tcp(name) => {
            name == "localhost"
                || name
                    .parse::<std::net::IpAddr>()
                    .is_ok_and(|address| address.is_loopback())
        }
        #[cfg(unix)]
        Host::Unix(_) => true,
    }
}

/// Takes `sslmode` and `sslrootcert` out of a URL: tokio-postgres does not know all of their values.
fn split_tls(url: &str) -> (String, Option<String>, Option<PathBuf>) {
    let (mut mode, mut roots) = (None, None);
    let mut keep = |pair: &str| match pair.split_once('=') {
        Some(("sslmode", value)) => {
            mode = Some(value.to_owned());
            false
        }
        Some(("sslrootcert", value)) => {
            roots = (value != "system").then(|| PathBuf::from(value));
            false
        }
        _ => true,
    };
    let rest = if url.starts_with("postgres://") || url.starts_with("postgresql://") {
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
        let kept: Vec<&str> = url.split_whitespace().filter(|pair| keep(pair)).collect();
        kept.join(" ")
    };
    (rest, mode, roots)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tls(url: &str) -> Tls {
        PostgresConfig::new(url, "m").unwrap().tls
    }

    #[test]
    fn tls_follows_host_and_mode() {
        assert_eq!(tls("postgres://u:p@127.0.0.1:54322/postgres"), Tls::Disable);
        assert_eq!(tls("postgres://u@%2Frun%2Fpg/db"), Tls::Disable);
        assert_eq!(tls("postgresql://u@db.example.com/db"), Tls::Prefer);
        assert_eq!(
            tls("postgres://u@localhost/db?sslmode=require"),
            Tls::Require
        );
        assert_eq!(
            tls("postgres://u@h/db?connect_timeout=3&sslmode=verify-full&sslrootcert=/etc/ca.pem"),
            Tls::Verify {
                roots: Some("/etc/ca.pem".into())
            }
        );
        assert_eq!(
            tls("host=db.example.com sslmode=verify-ca"),
            Tls::Verify { roots: None }
        );
        assert!(PostgresConfig::new("postgres://u@h/db?sslmode=maybe", "m").is_err());
    }

    #[test]
    fn nothing_shows_the_password() {
        let config =
            PostgresConfig::new("postgres://u:hunter2@db.example.com:6000/shop", "m").unwrap();
        assert!(!format!("{config:?}").contains("hunter2"));
        assert_eq!(config.target(), "u@db.example.com:6000/shop");
        let error = PostgresConfig::new("postgres://u:hunter2@h:notaport/x", "m").unwrap_err();
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}

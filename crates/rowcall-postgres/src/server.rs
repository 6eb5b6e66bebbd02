//! A database and how it is reached.

use std::{fmt, sync::Arc, time::Duration};

use rustls::ClientConfig;
use tokio_postgres::{
    Client, Config, Error, Socket,
    config::{Host, SslMode},
    tls::MakeTlsConnect,
};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::{Tls, UrlError, tls, url};

/// The port of PostgreSQL where a URL names none.
const DEFAULT_PORT: u16 = 5432;
/// A listening connection is silent for hours: these notice a peer that is gone within a minute.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_RETRIES: u32 = 3;
const UNACKNOWLEDGED: Duration = Duration::from_mins(1);

/// Makes the TLS of a connection, for pools. Follows the `sslmode` of the server it comes from, also where that is `disable`.
pub type Connector = MakeRustlsConnect;

/// What drives a connection, whether it is encrypted or not. Somebody has to.
pub type Connection =
    tokio_postgres::Connection<Socket, <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream>;

/// A database and how it is reached. Clones are cheap enough.
#[derive(Clone)]
pub struct Server {
    config: Config,
    tls: Tls,
    pub(crate) client_config: Arc<ClientConfig>,
    connector: Connector,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the password.
        f.debug_struct("Server")
            .field("hosts", &self.config.get_hosts())
            .field("database", &self.config.get_dbname())
            .field("user", &self.config.get_user())
            .field("tls", &self.tls)
            .finish_non_exhaustive()
    }
}

impl Server {
    /// Reads `postgres://user:password@host:port/database?sslmode=…` (or libpq's `key=value` form), and the certificates that
    /// it names. Connects to nothing.
    ///
    /// # Errors
    /// When the URL is not understood, or names certificates that cannot be read.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        let (rest, words) = url::split(text);
        let mut config: Config = rest.parse().map_err(|error: Error| {
            let cause = std::error::Error::source(&error)
                .map_or(String::new(), |cause| format!(": {cause}"));
            UrlError::new(format!(
                "{error}{cause}; write postgres://user:password@host:port/database"
            ))
        })?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            config.host("localhost");
        }
        let is_local = config.get_hosts().iter().all(is_local)
            && config
                .get_hostaddrs()
                .iter()
                .all(std::net::IpAddr::is_loopback);
        let tls = words.meaning(is_local)?;
        config.ssl_mode(match tls {
            Tls::Disable => SslMode::Disable,
            Tls::Prefer => SslMode::Prefer,
            Tls::Require | Tls::VerifyCa { .. } | Tls::VerifyFull { .. } => SslMode::Require,
        });
        if config.get_application_name().is_none() {
            config.application_name("rowcall");
        }
        config.keepalives_idle(KEEPALIVE_IDLE);
        config.keepalives_interval(KEEPALIVE_INTERVAL);
        config.keepalives_retries(KEEPALIVE_RETRIES);
        config.tcp_user_timeout(UNACKNOWLEDGED);
        let client_config = tls::client_config(&tls)?;
        Ok(Self {
            config,
            tls,
            connector: MakeRustlsConnect::new(client_config.clone()),
            client_config: Arc::new(client_config),
        })
    }

    /// Opens a connection.
    ///
    /// # Errors
    /// What the network or the server said; [`crate::explain`] has more words for it.
    pub async fn connect(&self) -> Result<(Client, Connection), Error> {
        self.config.connect(self.connector()).await
    }

    /// What pools and cancel requests need besides [`Server::config`].
    pub fn connector(&self) -> Connector {
        self.connector.clone()
    }

    /// Everything else about the connections.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The same, to change names and time-outs.
    pub fn config_mut(&mut self) -> &mut Config {
        &mut self.config
    }

    /// How TLS is used.
    pub fn tls(&self) -> &Tls {
        &self.tls
    }

    /// The first port the URL names.
    pub fn port(&self) -> u16 {
        self.config
            .get_ports()
            .first()
            .copied()
            .unwrap_or(DEFAULT_PORT)
    }

    /// `user@host:port/database`, for people.
    pub fn target(&self) -> String {
        let host = match self.config.get_hosts().first() {
            None => String::new(),
            Some(Host::Tcp(name)) => name.clone(),
            #[cfg(unix)]
            Some(Host::Unix(path)) => path.display().to_string(),
        };
        let user = self.config.get_user().unwrap_or("?");
        let database = self.config.get_dbname().unwrap_or(user);
        format!("{user}@{host}:{}/{database}", self.port())
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

#[cfg(test)]
mod tests {
    use super::*;

    fn tls(url: &str) -> Tls {
        Server::parse(url).unwrap().tls
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
            url::split("postgres://u@h/db?connect_timeout=3&sslmode=verify-full&sslrootcert=%2Fetc%2Fca%20.pem").1.meaning(false).unwrap(),
            Tls::VerifyFull {
                roots: Some("/etc/ca .pem".into())
            }
        );
        assert_eq!(
            url::split("host=db.example.com sslrootcert=/etc/ca.pem sslmode=require")
                .1
                .meaning(false)
                .unwrap(),
            Tls::VerifyCa {
                roots: Some("/etc/ca.pem".into())
            }
        );
        assert_eq!(
            url::split("host=db.example.com password='a  b' sslmode=verify-ca"),
            (
                "host=db.example.com password='a  b'".to_owned(),
                url::split("sslmode=verify-ca").1
            )
        );
        let error = Server::parse("postgres://u@h/db?sslmode=maybe").unwrap_err();
        assert!(error.reason.contains("verify-full"), "{error}");
        let error = Server::parse("postgres://u@h/db?sslmode=verify-ca&sslrootcert=/absent.pem")
            .unwrap_err();
        assert!(error.reason.contains("/absent.pem"), "{error}");
    }

    #[test]
    fn nothing_shows_the_password() {
        let server = Server::parse("postgres://u:hunter2@db.example.com:6000/shop").unwrap();
        assert!(!format!("{server:?}").contains("hunter2"));
        assert_eq!(server.target(), "u@db.example.com:6000/shop");
        let error = Server::parse("postgres://u:hunter2@h:notaport/x").unwrap_err();
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}

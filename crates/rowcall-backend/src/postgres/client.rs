//! A connection of one's own, for set-up and for commands.

use rowcall_core::{ErrorClass, SourceError};
use tokio_postgres::{Client, NoTls};

use super::{
    config::{PostgresConfig, Tls},
    error, tls,
};

/// Opens one connection to the database of `url`, with TLS as the URL asks. It is closed when the client is dropped.
///
/// # Errors
/// `Permanent` for a URL that cannot be used, otherwise what the network or the server said.
pub async fn connect(url: &str) -> Result<Client, SourceError> {
    let refuse = |error: super::ConfigError| {
        SourceError::because(ErrorClass::Permanent, error.to_string(), error)
    };
    let config = PostgresConfig::new(url, "").map_err(refuse)?;
    let what = "connecting to the database";
    let opened = async {
        Ok(match &config.tls {
            Tls::Disable => {
                let (client, connection) = config
                    .server
                    .connect(NoTls)
                    .await
                    .map_err(|error| error::from_postgres(what, error))?;
                tokio::spawn(connection);
                client
            }
            mode => {
                let connector = tls::connector(mode).map_err(refuse)?;
                let (client, connection) = config
                    .server
                    .connect(connector)
                    .await
                    .map_err(|error| error::from_postgres(what, error))?;
                tokio::spawn(connection);
                client
            }
        })
    };
    tokio::time::timeout(config.connect_timeout, opened)
        .await
        .unwrap_or_else(|_| Err(error::timed_out(what)))
}

//! A connection of one's own, for set-up and for commands.

use rowcall_core::{ErrorClass, SourceError};
use tokio_postgres::Client;

use super::{config::PostgresConfig, error};

/// Opens one connection to the database of `url`, with TLS as the URL asks. It is closed when the client is dropped.
///
/// # Errors
/// `Permanent` for a URL that cannot be used, otherwise what the network or the server said.
pub async fn connect(url: &str) -> Result<Client, SourceError> {
    let refuse = |error: super::UrlError| {
        SourceError::because(ErrorClass::Permanent, error.to_string(), error)
    };
    let config = PostgresConfig::new(url, "").map_err(refuse)?;
    let what = "connecting to the database";
    let opened = async {
        let (client, connection) = config
            .server
            .connect()
            .await
            .map_err(|error| error::from_postgres(what, error))?;
        tokio::spawn(connection);
        Ok(client)
    };
    tokio::time::timeout(config.connect_timeout, opened)
        .await
        .unwrap_or_else(|_| Err(error::timed_out(what)))
}

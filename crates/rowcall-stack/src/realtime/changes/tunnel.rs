//! TLS for the replication session, by the same rules as all other connections.
//!
//! The client of the session speaks plain text to a socket in a directory that only this user may enter, for one connection;
//! from there it goes encrypted to the server.

use std::io;
use std::time::Duration;

use rowcall_postgres::{Server, Stream};
use tempfile::TempDir;
use tokio::io::{AsyncWriteExt as _, copy, split};
use tokio::net::{UnixListener, UnixStream};

/// How long the client may take to come after the tunnel is dug, and the server to take the last bytes.
const PATIENCE: Duration = Duration::from_secs(10);
/// The port in the name of the socket.
const PORT: u16 = 5432;

/// Where the client finds the server.
#[derive(Debug)]
pub(super) struct Entrance {
    /// The directory of the socket, as `host` of the client.
    pub(super) host: String,
    /// What the client believes to be the port.
    pub(super) port: u16,
}

/// Connects to the server as its URL asks, and waits for one client at the entrance. The tunnel ends with either side.
pub(super) async fn dig(server: &Server) -> io::Result<Entrance> {
    let outer = server.dial().await?;
    let directory = tempfile::Builder::new().prefix("rowcall-").tempdir()?;
    let host = directory.path().to_string_lossy().into_owned();
    let listener = UnixListener::bind(directory.path().join(format!(".s.PGSQL.{PORT}")))?;
    tokio::spawn(async move {
        if let Ok(Ok((inner, _))) = tokio::time::timeout(PATIENCE, listener.accept()).await {
            close(listener, directory);
            join(inner, outer).await;
        }
    });
    Ok(Entrance { host, port: PORT })
}

/// Nobody else comes in.
fn close(listener: UnixListener, directory: TempDir) {
    drop(listener);
    if let Err(error) = directory.close() {
        tracing::debug!(%error, "the directory of a replication session stays");
    }
}

async fn join(inner: UnixStream, outer: Box<dyn Stream>) {
    let (mut inner_read, mut inner_write) = split(inner);
    let (mut outer_read, mut outer_write) = split(outer);
    // Whoever goes first ends it: the session does not outlive its client, nor its server.
    let ended = tokio::select! {
        ended = copy(&mut inner_read, &mut outer_write) => ended,
        ended = copy(&mut outer_read, &mut inner_write) => ended,
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "the encrypted way of a replication session broke");
    }
    // Best effort: the server sees a closed connection either way.
    let _ = tokio::time::timeout(PATIENCE, outer_write.shutdown()).await;
}

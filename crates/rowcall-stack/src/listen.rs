//! Serving HTTP on several addresses: bounded connections, a deadline for request heads, an end without haste.
//!
//! The stack serves through it, and so does rowcall's local API.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::BoxError;
use axum::body::HttpBody;
use axum::http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long a client may take to send the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// The largest head of a request, in bytes.
const MAX_HEAD_BYTES: usize = 64 * 1024;
/// How long to wait after the system refused a connection, usually for lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A port that the system gives for one address may be taken on another one: this many more are asked for.
const ANY_PORT_ATTEMPTS: u16 = 20;

/// The two ends of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    /// The client.
    pub peer: SocketAddr,
    /// Ours.
    pub local: SocketAddr,
}

/// Lets connections in. Clones share the room, the stop and the tasks.
#[derive(Clone, Debug)]
pub struct Door {
    /// Room for connections, shared by all listeners.
    slots: Arc<Semaphore>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Door {
    /// A door for at most `connections` at once. After `stop` nobody comes in, and requests under way finish; `tasks` has all
    /// that still goes on.
    pub fn new(connections: usize, stop: CancellationToken, tasks: TaskTracker) -> Self {
        Self {
            slots: Arc::new(Semaphore::new(connections)),
            stop,
            tasks,
        }
    }

    /// Accepts on `listener`; `service` makes what answers the requests of one connection.
    pub fn open<S, B>(&self, listener: TcpListener, service: impl Fn(Ends) -> S + Send + 'static)
    where
        S: Service<Request<Incoming>, Response = Response<B>> + Send + 'static,
        S::Future: Send,
        S::Error: Into<BoxError>,
        B: HttpBody + Send + 'static,
        B::Data: Send,
        B::Error: Into<BoxError>,
    {
        let door = self.clone();
        self.tasks.spawn(async move {
            while let Some((stream, peer, slot)) = door.next(&listener).await {
                let Ok(local) = stream.local_addr() else {
                    continue;
                };
                let service = service(Ends { peer, local });
                let stop = door.stop.clone();
                door.tasks.spawn(connection(stream, service, slot, stop));
            }
        });
    }

    /// The next connection, once there is room for it; `None` when the server stops.
    async fn next(
        &self,
        listener: &TcpListener,
    ) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
        let slot = tokio::select! {
            () = self.stop.cancelled() => return None,
            slot = Arc::clone(&self.slots).acquire_owned() => slot.ok()?,
        };
        loop {
            // Cancel-safe: a connection that was accepted is returned at once.
            tokio::select! {
                () = self.stop.cancelled() => return None,
                accepted = listener.accept() => match accepted {
                    Ok((stream, peer)) => return Some((stream, peer, slot)),
                    Err(error) => {
                        let at = listener.local_addr().ok();
                        tracing::warn!(%error, ?at, "a connection could not be accepted");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
    }
}

async fn connection<S, B>(
    stream: TcpStream,
    service: S,
    slot: OwnedSemaphorePermit,
    stop: CancellationToken,
) where
    S: Service<Request<Incoming>, Response = Response<B>> + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
    B: HttpBody + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    // Answers are small and wait for nothing.
    let _ = stream.set_nodelay(true);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended with an error");
    }
    drop(slot);
}

/// Binds all addresses; with port 0 the others take the port that the first was given. When a port is taken, the next ones are
/// tried, as many as `spare_ports` says. A machine without IPv6 serves IPv4.
///
/// # Errors
/// What the system says of the last port that was tried, with the address.
pub async fn bind(
    addresses: &[SocketAddr],
    spare_ports: u16,
) -> Result<Vec<TcpListener>, std::io::Error> {
    let is_any = addresses.first().is_some_and(|first| first.port() == 0);
    let more = if is_any {
        ANY_PORT_ATTEMPTS
    } else {
        spare_ports
    };
    let mut tried = 0;
    loop {
        let error = match bind_all(addresses, tried).await {
            Ok(listeners) => return Ok(listeners),
            Err(error) => error,
        };
        if tried == more || error.kind() != std::io::ErrorKind::AddrInUse {
            return Err(error);
        }
        tried += 1;
    }
}

async fn bind_all(
    addresses: &[SocketAddr],
    further: u16,
) -> Result<Vec<TcpListener>, std::io::Error> {
    let mut listeners: Vec<TcpListener> = Vec::new();
    for address in addresses {
        let mut address = *address;
        match (address.port(), listeners.first()) {
            (0, Some(first)) => address.set_port(first.local_addr()?.port()),
            (0, None) => {}
            (port, _) => address.set_port(port.saturating_add(further)),
        }
        match TcpListener::bind(address).await {
            Ok(listener) => listeners.push(listener),
            Err(error)
                if address.is_ipv6()
                    && !listeners.is_empty()
                    && error.kind() != std::io::ErrorKind::AddrInUse =>
            {
                tracing::info!(%error, "no IPv6 here: IPv4 is served alone");
            }
            Err(error) => {
                let text = format!("{address}: {error}");
                return Err(std::io::Error::new(error.kind(), text));
            }
        }
    }
    Ok(listeners)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_taken_port_is_passed_over_where_there_are_spare_ones() {
        let first = bind(&["127.0.0.1:0".parse().unwrap()], 0).await.unwrap();
        let taken = first[0].local_addr().unwrap();
        let error = bind(&[taken], 0).await.unwrap_err();
        assert!(error.to_string().contains(&taken.to_string()), "{error}");
        let next = bind(&[taken], 100).await.unwrap();
        assert!(next[0].local_addr().unwrap().port() > taken.port());
    }
}

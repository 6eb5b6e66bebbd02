//! The local API's sockets: loopback on both address families, one port.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::net::TcpListener;

/// Why the local API cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Something else has the port.
    #[error(
        "port {port} on 127.0.0.1 is in use, probably by RealTimeX Desktop or another rowcall. Stop it, or choose another \
         port with --api-port; agents that hard-code port 3001 then need SERVER_URL"
    )]
    InUse {
        /// The port.
        port: u16,
    },
    /// The system refused for another reason.
    #[error("cannot listen on 127.0.0.1:{port}: {source}")]
    Refused {
        /// The port.
        port: u16,
        /// Why.
        source: std::io::Error,
    },
}

impl ListenError {
    /// Stable name of the kind of failure; its page is `docs/errors/<code>.md`.
    pub fn code(&self) -> &'static str {
        "api-port"
    }
}

/// Binds 127.0.0.1 and, where the machine has IPv6, `::1` on the same port. `localhost` is two addresses: Node may try `::1`
/// first, Python 127.0.0.1. Port 0 takes any free one.
pub async fn bind(port: u16) -> Result<(u16, Vec<TcpListener>), ListenError> {
    let refused = |source: std::io::Error| match source.kind() {
        std::io::ErrorKind::AddrInUse => ListenError::InUse { port },
        _ => ListenError::Refused { port, source },
    };
    let v4 = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
        .await
        .map_err(refused)?;
    let port = v4.local_addr().map_err(refused)?.port();
    let mut listeners = vec![v4];
    match TcpListener::bind(SocketAddr::from((Ipv6Addr::LOCALHOST, port))).await {
        Ok(v6) => listeners.push(v6),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            return Err(ListenError::InUse { port });
        }
        Err(error) => {
            tracing::info!(%error, "no IPv6 loopback: the local API serves 127.0.0.1 alone");
        }
    }
    Ok((port, listeners))
}

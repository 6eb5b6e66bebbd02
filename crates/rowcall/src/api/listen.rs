//! The local API's sockets: loopback on both address families, one port.

use rowcall_stack::{listen, stack::loopback};
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
    let listeners = listen::bind(&loopback(port), 0).await.map_err(refused)?;
    let port = listeners[0].local_addr().map_err(refused)?.port();
    Ok((port, listeners))
}

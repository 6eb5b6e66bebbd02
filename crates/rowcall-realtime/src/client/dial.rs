//! How bytes get to the server.

use std::{fmt, io, sync::Once};

use async_trait::async_trait;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

/// A connection to the server, before TLS.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

impl fmt::Debug for dyn Io {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Io")
    }
}

/// Makes connections. The usual one is [`Tcp`]; tests and proxies bring their own.
#[async_trait]
pub trait Dial: Send + Sync {
    /// Connects to a host, a name or an address.
    async fn dial(&self, host: &str, port: u16) -> io::Result<Box<dyn Io>>;
}

/// Plain TCP: every address of the name, one after the other.
#[derive(Debug, Clone, Copy)]
pub struct Tcp;

#[async_trait]
impl Dial for Tcp {
    async fn dial(&self, host: &str, port: u16) -> io::Result<Box<dyn Io>> {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let stream = TcpStream::connect((host, port)).await?;
        // Frames are small and wanted at once.
        stream.set_nodelay(true)?;
        Ok(Box::new(stream))
    }
}

/// Makes *ring* the cryptography of all TLS connections of the process, once. This client and the HTTP clients of rowcall call
/// it before they connect; a provider that the program has chosen before stays.
pub fn install_tls_provider() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // An error means that there is one already.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}

//! A bare, encrypted way to the server, for those who speak the protocol themselves.

use std::io;

use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_postgres::config::Host;
use tokio_rustls::TlsConnector;

use crate::{Server, Tls};

/// "May we speak TLS?": length and code of `SSLRequest`.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
/// The server's yes.
const YES: u8 = b'S';

/// Bytes to and from a server, before the protocol's first message.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Server {
    /// Opens a TCP connection to the first host of the URL and does with TLS what the URL asks.
    ///
    /// # Errors
    /// What the network said, or that TLS is not possible as asked.
    pub async fn dial(&self) -> io::Result<Box<dyn Stream>> {
        let name = match self.config().get_hosts().first() {
            Some(Host::Tcp(name)) => Some(name.as_str()),
            _ => None,
        };
        let tcp = match (self.config().get_hostaddrs().first(), name) {
            (Some(address), _) => TcpStream::connect((*address, self.port())).await?,
            (None, Some(name)) => TcpStream::connect((name, self.port())).await?,
            (None, None) => return Err(io::Error::other("the URL names no host on the network")),
        };
        tcp.set_nodelay(true)?;
        self.secure(tcp, name).await
    }

    async fn secure(&self, mut tcp: TcpStream, name: Option<&str>) -> io::Result<Box<dyn Stream>> {
        if *self.tls() == Tls::Disable {
            return Ok(Box::new(tcp));
        }
        tcp.write_all(&SSL_REQUEST).await?;
        if tcp.read_u8().await? != YES {
            return match self.tls() {
                Tls::Prefer => Ok(Box::new(tcp)),
                _ => Err(io::Error::other("the server does not support TLS")),
            };
        }
        let name = name.ok_or_else(|| io::Error::other("TLS needs the name of the host"))?;
        let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
        let connector = TlsConnector::from(std::sync::Arc::clone(&self.client_config));
        Ok(Box::new(connector.connect(name, tcp).await?))
    }
}

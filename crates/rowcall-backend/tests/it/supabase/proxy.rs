//! A wire between daemon and project that can be cut, and worse.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

/// What the wire does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire {
    /// Passes everything on.
    Open,
    /// Ends every connection and takes no new ones.
    Cut,
    /// Takes connections and says nothing.
    HalfOpen,
    /// Passes requests on and loses the answers.
    Swallowing,
    /// Answers what is no HTTP.
    Garbage,
    /// Answers an error of a gateway.
    Failing,
    /// Asks to wait.
    Limiting,
}

/// Passes connections on as the wire allows.
pub(crate) struct Proxy {
    address: SocketAddr,
    wire: Arc<watch::Sender<Wire>>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    pub(crate) async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let wire = Arc::new(watch::Sender::new(Wire::Open));
        let watched = Arc::clone(&wire);
        let accepting = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let mut wire = watched.subscribe();
                tokio::spawn(async move {
                    let now = *wire.borrow_and_update();
                    tokio::select! {
                        () = carry(near, target, now) => {}
                        // Every change of the wire ends what was on it.
                        _ = wire.changed() => {}
                    }
                });
            }
        });
        Self {
            address,
            wire,
            accepting,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn set(&self, wire: Wire) {
        self.wire.send_replace(wire);
    }
}

async fn carry(mut near: TcpStream, target: SocketAddr, wire: Wire) {
    let answer: &[u8] = match wire {
        Wire::Open => {
            if let Ok(mut far) = TcpStream::connect(target).await {
                let _ = copy_bidirectional(&mut near, &mut far).await;
            }
            return;
        }
        Wire::Cut => return,
        Wire::HalfOpen => {
            tokio::time::sleep(Duration::from_mins(10)).await;
            return;
        }
        Wire::Swallowing => {
            let mut request = vec![0; 65_536];
            if let (Ok(read), Ok(mut far)) =
                (near.read(&mut request).await, TcpStream::connect(target).await)
            {
                let _ = far.write_all(&request[..read]).await;
                // The project has answered when this returns; nobody hears it.
                let _ = far.read(&mut request).await;
            }
            return;
        }
        Wire::Garbage => b"\x16\x03\x01 what is this?\r\n\r\n",
        Wire::Failing => b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 6\r\nconnection: close\r\n\r\n<html>",
        Wire::Limiting => {
            b"HTTP/1.1 429 Too Many Requests\r\nretry-after: 1\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        }
    };
    let mut request = vec![0; 65_536];
    let _ = near.read(&mut request).await;
    let _ = near.write_all(answer).await;
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

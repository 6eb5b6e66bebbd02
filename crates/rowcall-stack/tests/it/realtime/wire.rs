//! A wire to the database that can be cut.

use std::net::SocketAddr;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Passes connections on while it is whole.
pub(super) struct Wire {
    address: SocketAddr,
    is_whole: watch::Sender<bool>,
    accepting: tokio::task::JoinHandle<()>,
}

impl Wire {
    /// A wire to a port of this machine.
    pub(super) async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let is_whole = watch::Sender::new(true);
        let watched = is_whole.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let mut wire = watched.subscribe();
                tokio::spawn(async move {
                    if *wire.borrow_and_update() {
                        tokio::select! {
                            () = carry(near, port) => {}
                            // Everything that is on it ends with it.
                            _ = wire.changed() => {}
                        }
                    }
                });
            }
        });
        Self {
            address,
            is_whole,
            accepting,
        }
    }

    pub(super) fn port(&self) -> u16 {
        self.address.port()
    }

    /// Ends every connection; new ones end at once.
    pub(super) fn cut(&self) {
        self.is_whole.send_replace(false);
    }

    pub(super) fn mend(&self) {
        self.is_whole.send_replace(true);
    }
}

async fn carry(mut near: TcpStream, port: u16) {
    if let Ok(mut far) = TcpStream::connect(("127.0.0.1", port)).await {
        let _ = copy_bidirectional(&mut near, &mut far).await;
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

//! A wire between a daemon or a worker and its project or database that can be cut, and worse.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

/// What the wire does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weather {
    /// Passes everything on.
    Fine,
    /// The same, but every piece takes a while.
    Slow,
    /// Ends every connection and takes no new ones.
    Cut,
    /// Takes connections and says nothing.
    HalfOpen,
    /// Passes requests on and loses the answers.
    Swallowing,
    /// Answers what is no HTTP.
    Garbage,
    /// Passes on, and writes nonsense into what comes back.
    Corrupt,
    /// Answers an error of the server.
    Failing,
    /// Asks to wait.
    Limiting,
}

const ALL: [Weather; 12] = [
    Weather::Fine,
    Weather::Cut,
    Weather::Swallowing,
    Weather::Fine,
    Weather::HalfOpen,
    Weather::Slow,
    Weather::Garbage,
    Weather::Fine,
    Weather::Corrupt,
    Weather::Failing,
    Weather::Limiting,
    Weather::Fine,
];

impl Weather {
    /// The same weather in every run.
    pub(crate) fn next(seed: &mut u32) -> Self {
        *seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        ALL[(*seed >> 16) as usize % ALL.len()]
    }
}

/// Passes connections on as the weather allows.
pub(crate) struct Proxy {
    address: SocketAddr,
    weather: Arc<watch::Sender<Weather>>,
    sockets: Arc<AtomicUsize>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    pub(crate) async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let weather = Arc::new(watch::Sender::new(Weather::Fine));
        let sockets = Arc::new(AtomicUsize::new(0));
        let (watched, counted) = (Arc::clone(&weather), Arc::clone(&sockets));
        let accepting = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let mut weather = watched.subscribe();
                let counted = Arc::clone(&counted);
                tokio::spawn(async move {
                    let now = *weather.borrow_and_update();
                    tokio::select! {
                        () = carry(near, target, now, &counted) => {}
                        // Every change of the weather ends what was on the wire.
                        _ = weather.changed() => {}
                    }
                });
            }
        });
        Self {
            address,
            weather,
            sockets,
            accepting,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where it begins.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn set(&self, weather: Weather) {
        self.weather.send_replace(weather);
    }

    /// How often a WebSocket was asked for.
    pub(crate) fn sockets(&self) -> usize {
        self.sockets.load(Ordering::Relaxed)
    }
}

async fn carry(mut near: TcpStream, target: SocketAddr, weather: Weather, sockets: &AtomicUsize) {
    if weather == Weather::Cut {
        return;
    }
    let mut request = vec![0; 65_536];
    let Ok(read) = near.read(&mut request).await else {
        return;
    };
    request.truncate(read);
    if request.starts_with(b"GET /realtime/v1/websocket") {
        sockets.fetch_add(1, Ordering::Relaxed);
    }
    let answer: &[u8] = match weather {
        Weather::Fine | Weather::Slow | Weather::Corrupt | Weather::Swallowing => {
            let Ok(mut far) = TcpStream::connect(target).await else {
                return;
            };
            if far.write_all(&request).await.is_err() {
                return;
            }
            match weather {
                Weather::Fine => {
                    let _ = copy_bidirectional(&mut near, &mut far).await;
                }
                // The project has answered when this returns; nobody hears it.
                Weather::Swallowing => {
                    let _ = far.read(&mut request).await;
                }
                _ => both_ways(near, far, weather).await,
            }
            return;
        }
        Weather::HalfOpen => {
            tokio::time::sleep(Duration::from_mins(10)).await;
            return;
        }
        Weather::Garbage => b"\x16\x03\x01 what is this?\r\n\r\n",
        Weather::Failing => b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 6\r\nconnection: close\r\n\r\n<html>",
        Weather::Limiting => {
            b"HTTP/1.1 429 Too Many Requests\r\nretry-after: 1\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        }
        Weather::Cut => return,
    };
    let _ = near.write_all(answer).await;
}

/// Copies piece by piece, late or with nonsense in between.
async fn both_ways(near: TcpStream, far: TcpStream, weather: Weather) {
    let (mut near_in, mut near_out) = near.into_split();
    let (mut far_in, mut far_out) = far.into_split();
    let up = tokio::io::copy(&mut near_in, &mut far_out);
    let down = async {
        let mut piece = vec![0; 16_384];
        let mut pieces = 0_u32;
        while let Ok(read @ 1..) = far_in.read(&mut piece).await {
            pieces += 1;
            if weather == Weather::Slow {
                tokio::time::sleep(Duration::from_millis(150)).await;
            }
            if near_out.write_all(&piece[..read]).await.is_err() {
                return;
            }
            // Let the handshake through, then write what no frame and no answer begins with.
            if weather == Weather::Corrupt
                && pieces >= 3
                && near_out.write_all(&[0xff; 64]).await.is_err()
            {
                return;
            }
        }
    };
    tokio::select! {
        _ = up => {}
        () = down => {}
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

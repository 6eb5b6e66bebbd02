//! Is a program ready? Its port accepts connections, and its health path, if it has one, answers well.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

/// How long one try may take.
const TRY_LIMIT: Duration = Duration::from_secs(2);

/// How much of an answer is read: hanging up in the middle of one is an error in the program's log.
const ANSWER_BYTES: usize = 64 * 1024;

/// Whether the port accepts connections and the path, if there is one, answers with 2xx or 3xx.
pub(super) async fn answers(port: u16, path: Option<&str>) -> bool {
    for ip in [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()] {
        let tried = timeout(TRY_LIMIT, attempt(SocketAddr::new(ip, port), path));
        if matches!(tried.await, Ok(Some(true))) {
            return true;
        }
    }
    false
}

async fn attempt(address: SocketAddr, path: Option<&str>) -> Option<bool> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    let Some(path) = path else { return Some(true) };
    let path = path.trim_start_matches('/');
    let port = address.port();
    let request = format!(
        "GET /{path} HTTP/1.1\r\nHost: localhost:{port}\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = Vec::new();
    let mut limited = stream.take(ANSWER_BYTES as u64);
    limited.read_to_end(&mut answer).await.ok()?;
    // "HTTP/1.1 200"
    let status = answer.get(9..12)?;
    Some(answer.starts_with(b"HTTP/1.") && matches!(status.first(), Some(b'2' | b'3')))
}

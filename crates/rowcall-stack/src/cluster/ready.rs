//! Asks a server over its unix socket whether it takes connections yet.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// How long one question may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// What the server said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Readiness {
    /// It asks for a password: it is up.
    Ready,
    /// It answers, but is starting, recovering or shutting down (SQLSTATE 57P03).
    Starting,
    /// Nobody listens, or what listens is not a PostgreSQL server.
    Silent,
}

/// Sends a start-up packet (protocol 3.0, <https://www.postgresql.org/docs/current/protocol-message-formats.html>).
///
/// `R` is an authentication request. The connection is closed without logging in, which the server
/// does not log.
pub(crate) fn probe(socket: &Path) -> Readiness {
    ask(socket).unwrap_or(Readiness::Silent)
}

fn ask(socket: &Path) -> std::io::Result<Readiness> {
    const PROTOCOL_3_0: i32 = 196_608;
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(ANSWER_LIMIT))?;
    stream.set_write_timeout(Some(ANSWER_LIMIT))?;
    let body = b"user\0postgres\0database\0postgres\0\0";
    let length = i32::try_from(body.len() + 8).expect("a start-up packet is short");
    let mut packet = Vec::with_capacity(body.len() + 8);
    packet.extend_from_slice(&length.to_be_bytes());
    packet.extend_from_slice(&PROTOCOL_3_0.to_be_bytes());
    packet.extend_from_slice(body);
    stream.write_all(&packet)?;
    let mut first = [0];
    stream.read_exact(&mut first)?;
    Ok(match first[0] {
        b'R' => Readiness::Ready,
        b'E' => Readiness::Starting,
        _ => Readiness::Silent,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::os::unix::net::UnixListener;

    fn answered_with(answer: &'static [u8]) -> Readiness {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("s");
        let listener = UnixListener::bind(&path).expect("bind");
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a connection");
            let mut length = [0; 4];
            stream.read_exact(&mut length).expect("a length");
            let rest = usize::try_from(i32::from_be_bytes(length)).expect("positive") - 4;
            let mut body = vec![0; rest];
            stream.read_exact(&mut body).expect("the whole packet");
            stream.write_all(answer).expect("answer");
        });
        let readiness = probe(&path);
        server.join().expect("the server thread");
        readiness
    }

    #[test]
    fn answers() {
        assert_eq!(answered_with(b"R\0\0\0"), Readiness::Ready);
        assert_eq!(answered_with(b"E\0\0\0"), Readiness::Starting);
        assert_eq!(answered_with(b"HTTP"), Readiness::Silent);
        assert_eq!(answered_with(b""), Readiness::Silent);
        assert_eq!(probe(Path::new("/nonexistent/s")), Readiness::Silent);
    }
}

//! One socket: what is read from it and written to it.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use futures_util::{Sink, Stream};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::{self, Utf8Bytes};

use super::connect::{Socket, describe};
use crate::channel::{Link, Message};

/// The clock of the runtime, which tests can stop.
pub(super) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// What came over a socket.
pub(super) enum Heard {
    Received(tungstenite::Message),
    Lost(String),
}

/// A socket and what is being written to it.
pub(super) struct Line {
    socket: Box<Socket>,
    /// Something was written and not flushed yet, since then.
    unflushed: Option<Instant>,
}

impl Line {
    pub(super) fn new(socket: Box<Socket>) -> Self {
        Self {
            socket,
            unflushed: None,
        }
    }

    /// When the server must have read what is being written.
    pub(super) fn deadline(&self, within: Duration) -> Option<Instant> {
        self.unflushed.map(|since| since + within)
    }

    /// Whether the server has been sent everything.
    pub(super) fn is_flushed(&self) -> bool {
        self.unflushed.is_none()
    }

    /// Closes the socket. A server that does not read is left as it is.
    pub(super) async fn goodbye(mut self, within: Duration) {
        let _ = timeout(within, self.socket.close(None)).await;
    }

    /// Writes what waits and reads the next frame. In this order: what we say must not wait for a server that talks all the
    /// time.
    pub(super) fn poll(&mut self, link: &mut Link, cx: &mut Context<'_>) -> Poll<Heard> {
        if let Err(error) = self.write(link, cx) {
            return Poll::Ready(Heard::Lost(describe(&error)));
        }
        match Pin::new(&mut *self.socket).poll_next(cx) {
            Poll::Ready(Some(Ok(message))) => Poll::Ready(Heard::Received(message)),
            Poll::Ready(Some(Err(error))) => Poll::Ready(Heard::Lost(describe(&error))),
            Poll::Ready(None) => {
                Poll::Ready(Heard::Lost("the server closed the connection".to_owned()))
            }
            Poll::Pending => Poll::Pending,
        }
    }

    fn write(&mut self, link: &mut Link, cx: &mut Context<'_>) -> Result<(), tungstenite::Error> {
        let mut socket = Pin::new(&mut *self.socket);
        while link.has_waiting() {
            match socket.as_mut().poll_ready(cx)? {
                Poll::Pending => break,
                Poll::Ready(()) => {}
            }
            let Some(message) = link.pop() else { break };
            socket.as_mut().start_send(match message {
                Message::Text(text) => tungstenite::Message::Text(Utf8Bytes::from(text)),
                Message::Binary(bytes) => tungstenite::Message::Binary(bytes),
            })?;
            self.unflushed.get_or_insert_with(now);
        }
        if self.unflushed.is_some() && socket.as_mut().poll_flush(cx)?.is_ready() {
            self.unflushed = None;
        }
        Ok(())
    }
}

//! One WebSocket: a single task that reads, writes and keeps time for it.
//!
//! Reading and writing make progress independently, so a client that sends without reading blocks nobody but itself. An idle
//! socket costs this future, the maps of its channels and no buffers.

use std::collections::VecDeque;
use std::future::Future;
use std::io::IoSlice;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead as _, AsyncWrite as _, AsyncWriteExt as _, ReadBuf};
use tokio::time::{Duration, Instant, Sleep};

use super::outbox::{Outbox, Take};
use super::session::{Completion, Session};
use super::shared::ConnectionPermit;
use super::ws::{self, CloseCode, Decoder, Incoming};

/// Bytes read at once; the buffer lives on the stack while reading.
const READ_BYTES: usize = 16 * 1024;
/// Slices written at once.
const WRITE_SLICES: usize = 64;
/// How long a close frame may take to be written.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Something a socket's task has to act on.
enum Event {
    Message(Incoming),
    Completed(Box<Completion>),
    Tick,
    Close(CloseCode, &'static str),
    /// The peer is gone.
    Gone,
}

struct Socket {
    io: TokioIo<Upgraded>,
    decoder: Decoder,
    outbox: Arc<Outbox>,
    writing: VecDeque<Bytes>,
    /// Since when a write makes no progress.
    blocked: Option<Instant>,
    session: Session,
    /// While it runs, nothing is read: receivers of what this socket sent are catching up.
    holding: Option<BoxFuture<'static, ()>>,
    write_timeout: Duration,
}

/// Serves one socket until it ends.
pub(crate) async fn serve(io: Upgraded, session: Session, permit: ConnectionPermit) {
    let limits = session.limits();
    let mut socket = Socket {
        io: TokioIo::new(io),
        decoder: Decoder::new(limits.frame_bytes),
        outbox: session.outbox(),
        writing: VecDeque::new(),
        blocked: None,
        holding: None,
        write_timeout: limits.write_timeout,
        session,
    };
    let stop = socket.session.stop();
    let run = socket.run();
    if stop.run_until_cancelled(run).await.is_none() {
        socket
            .close(CloseCode::Restart, "server is going away")
            .await;
    }
    socket.session.end();
    drop(permit);
}

impl Socket {
    async fn run(&mut self) {
        let mut timer = std::pin::pin!(tokio::time::sleep_until(self.session.deadline()));
        loop {
            let event = std::future::poll_fn(|cx| self.poll_event(cx, timer.as_mut())).await;
            match event {
                Event::Message(message) => self.receive(message),
                Event::Completed(completion) => self.session.complete(*completion),
                Event::Tick => self.tick(),
                Event::Close(code, reason) => return self.close(code, reason).await,
                Event::Gone => return,
            }
            let deadline = self.deadline();
            if deadline < timer.deadline() || timer.is_elapsed() {
                timer.as_mut().reset(deadline);
            }
        }
    }

    fn deadline(&self) -> Instant {
        let session = self.session.deadline();
        match self.blocked {
            Some(since) => session.min(since + self.write_timeout),
            None => session,
        }
    }

    fn tick(&mut self) {
        if self
            .blocked
            .is_some_and(|since| since.elapsed() >= self.write_timeout)
        {
            self.outbox.give_up();
        }
        self.session.tick();
    }

    fn receive(&mut self, message: Incoming) {
        self.session.arrived();
        let pressed = match message {
            Incoming::Text(text) => self.session.text(&text),
            Incoming::Binary(bytes) => self.session.binary(&bytes),
            Incoming::Ping(payload) => {
                self.outbox.push(ws::pong(&payload));
                Vec::new()
            }
            Incoming::Pong => Vec::new(),
            Incoming::Close => {
                self.outbox.close(CloseCode::Normal, "");
                Vec::new()
            }
        };
        if !pressed.is_empty() {
            let patience = self.session.limits().slow_patience;
            self.holding = Some(Box::pin(async move {
                super::outbox::relieve(&pressed, patience).await;
            }));
        }
    }

    fn poll_event(&mut self, cx: &mut Context<'_>, timer: Pin<&mut Sleep>) -> Poll<Event> {
        if let Poll::Ready(event) = self.poll_write_out(cx) {
            return Poll::Ready(event);
        }
        if let Poll::Ready(Some(completion)) = self.session.work().poll_next_unpin(cx) {
            return Poll::Ready(Event::Completed(Box::new(completion)));
        }
        if let Some(holding) = &mut self.holding
            && holding.as_mut().poll(cx).is_ready()
        {
            self.holding = None;
        }
        if self.holding.is_none()
            && let Poll::Ready(event) = self.poll_read_in(cx)
        {
            return Poll::Ready(event);
        }
        timer.poll(cx).map(|()| Event::Tick)
    }

    /// Writes what waits. Ready only when the socket has to end.
    fn poll_write_out(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        loop {
            if self.writing.is_empty() {
                match ready!(self.outbox.poll_take(cx, &mut self.writing)) {
                    Take::Frames => {}
                    Take::Close(code, reason) => return Poll::Ready(Event::Close(code, reason)),
                }
            } else if self.blocked.is_some() && self.outbox.is_given_up() {
                // The peer does not take what is half written; there is no room for a close frame either.
                return Poll::Ready(Event::Gone);
            }
            let mut slices = [IoSlice::new(&[]); WRITE_SLICES];
            let count = self.writing.len().min(WRITE_SLICES);
            for (slice, frame) in slices.iter_mut().zip(&self.writing) {
                *slice = IoSlice::new(frame);
            }
            let written = Pin::new(&mut self.io).poll_write_vectored(cx, &slices[..count]);
            match written {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Event::Gone),
                Poll::Ready(Ok(written)) => {
                    self.blocked = None;
                    self.advance(written);
                }
                Poll::Pending => {
                    self.blocked.get_or_insert_with(Instant::now);
                    // Registers for a close that comes while the peer does not read.
                    self.outbox.register(cx);
                    return Poll::Pending;
                }
            }
        }
    }

    fn advance(&mut self, mut written: usize) {
        while let Some(front) = self.writing.front_mut() {
            if written < front.len() {
                front.advance(written);
                return;
            }
            written -= front.len();
            self.writing.pop_front();
        }
        self.writing = VecDeque::new();
    }

    fn poll_read_in(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        loop {
            match self.decoder.next() {
                Ok(Some(message)) => return Poll::Ready(Event::Message(message)),
                Ok(None) => {}
                Err(error) => {
                    tracing::debug!(%error, "a client's frame was not understood");
                    return Poll::Ready(Event::Close(error.close_code(), "malformed frame"));
                }
            }
            let mut bytes = [std::mem::MaybeUninit::uninit(); READ_BYTES];
            let mut buffer = ReadBuf::uninit(&mut bytes);
            match ready!(Pin::new(&mut self.io).poll_read(cx, &mut buffer)) {
                Ok(()) if buffer.filled().is_empty() => return Poll::Ready(Event::Gone),
                Ok(()) => self.decoder.feed(buffer.filled()),
                Err(_) => return Poll::Ready(Event::Gone),
            }
        }
    }

    /// Writes a close frame if the peer takes it soon, after what is half written.
    async fn close(&mut self, code: CloseCode, reason: &'static str) {
        let mut last = std::mem::take(&mut self.writing);
        last.push_back(ws::close(code, reason));
        let write = async {
            for frame in last {
                self.io.write_all(&frame).await?;
            }
            self.io.shutdown().await
        };
        if let Ok(Err(error)) = tokio::time::timeout(CLOSE_TIMEOUT, write).await {
            tracing::trace!(%error, "a socket ended before it was closed");
        }
    }
}

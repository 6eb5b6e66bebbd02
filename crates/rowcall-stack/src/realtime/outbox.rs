//! What waits to be written to one socket: bounded, shared by everybody who sends to it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::limits::Limits;
use super::ws::CloseCode;

/// Frames handed to the socket's writer at once, so that one slow socket holds few frames outside its bound.
const TAKE_FRAMES: usize = 64;
/// Bytes handed to the writer at once, as [`TAKE_FRAMES`].
const TAKE_BYTES: usize = 256 * 1024;
/// Part of the bound above which senders should wait: a quarter.
const HIGH_WATER_DIVISOR: usize = 4;

/// How full an outbox is after a frame went in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pressure {
    /// Room enough.
    Low,
    /// More waits than a reading client leaves waiting; senders that can, wait.
    High,
    /// The socket is closed or was just given up; the frame is dropped.
    Closed,
}

/// The bounded queue of one socket.
#[derive(Debug)]
pub(crate) struct Outbox {
    queue: Mutex<Queue>,
    max_bytes: usize,
    max_frames: usize,
    writer: AtomicWaker,
    is_high: AtomicBool,
    drained: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    frames: VecDeque<Bytes>,
    bytes: usize,
    closing: Option<(CloseCode, &'static str)>,
    is_given_up: bool,
}

/// What the writer is to do.
#[derive(Debug)]
pub(crate) enum Take {
    /// Frames were appended to the buffer.
    Frames,
    /// Close the socket; nothing waits any more.
    Close(CloseCode, &'static str),
}

impl Outbox {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            queue: Mutex::default(),
            max_bytes: limits.queued_bytes,
            max_frames: limits.queued_frames,
            writer: AtomicWaker::new(),
            is_high: AtomicBool::new(false),
            drained: Notify::new(),
        }
    }

    /// Queues one encoded frame.
    ///
    /// A socket whose queue is full is given up as a whole: single frames are never left out.
    pub(crate) fn push(&self, frame: Bytes) -> Pressure {
        let mut queue = self.queue.lock();
        if queue.closing.is_some() {
            return Pressure::Closed;
        }
        let is_full = queue.frames.len() >= self.max_frames
            || (queue.bytes + frame.len() > self.max_bytes && !queue.frames.is_empty());
        if is_full {
            self.give_up_locked(&mut queue);
            return Pressure::Closed;
        }
        queue.bytes += frame.len();
        queue.frames.push_back(frame);
        let is_high = queue.bytes > self.max_bytes / HIGH_WATER_DIVISOR
            || queue.frames.len() > self.max_frames / HIGH_WATER_DIVISOR;
        drop(queue);
        self.writer.wake();
        if is_high {
            self.is_high.store(true, Ordering::Release);
            return Pressure::High;
        }
        Pressure::Low
    }

    /// Closes the socket after what already waits. Later reasons do not replace the first.
    pub(crate) fn close(&self, code: CloseCode, reason: &'static str) {
        let mut queue = self.queue.lock();
        if queue.closing.is_none() {
            queue.closing = Some((code, reason));
            drop(queue);
            self.writer.wake();
        }
    }

    /// Gives the socket up: what waits is dropped.
    pub(crate) fn give_up(&self) {
        self.give_up_locked(&mut self.queue.lock());
    }

    fn give_up_locked(&self, queue: &mut Queue) {
        *queue = Queue {
            closing: Some((CloseCode::TryLater, "client does not read")),
            is_given_up: true,
            ..Queue::default()
        };
        self.is_high.store(false, Ordering::Release);
        self.drained.notify_waiters();
        self.writer.wake();
    }

    /// Moves waiting frames into `writing`, or tells that the socket is to be closed. Called by the socket's task only.
    pub(crate) fn poll_take(&self, cx: &Context<'_>, writing: &mut VecDeque<Bytes>) -> Poll<Take> {
        self.writer.register(cx.waker());
        let mut queue = self.queue.lock();
        if let Some((code, reason)) = queue.closing
            && queue.frames.is_empty()
        {
            return Poll::Ready(Take::Close(code, reason));
        }
        let mut taken = 0;
        while writing.len() < TAKE_FRAMES && taken < TAKE_BYTES {
            let Some(frame) = queue.frames.pop_front() else {
                break;
            };
            taken += frame.len();
            queue.bytes -= frame.len();
            writing.push_back(frame);
        }
        if queue.frames.is_empty() {
            // An idle socket holds no queue.
            queue.frames = VecDeque::new();
        }
        let is_low = queue.bytes <= self.max_bytes / HIGH_WATER_DIVISOR / 2
            && queue.frames.len() <= self.max_frames / HIGH_WATER_DIVISOR / 2;
        drop(queue);
        if is_low && self.is_high.swap(false, Ordering::AcqRel) {
            self.drained.notify_waiters();
        }
        if writing.is_empty() {
            Poll::Pending
        } else {
            Poll::Ready(Take::Frames)
        }
    }

    /// Has the writer woken by the next frame or by a close.
    pub(crate) fn register(&self, cx: &Context<'_>) {
        self.writer.register(cx.waker());
    }

    /// Waits until the queue is short again or the socket is closed.
    async fn drained(&self) {
        loop {
            let drained = self.drained.notified();
            if !self.is_high.load(Ordering::Acquire) {
                return;
            }
            drained.await;
        }
    }

    /// Whether the client was found not to read.
    pub(crate) fn is_given_up(&self) -> bool {
        self.queue.lock().is_given_up
    }
}

/// Waits for sockets with long queues; those that have not caught up after `patience` are closed.
pub(crate) async fn relieve(pressed: &[std::sync::Arc<Outbox>], patience: std::time::Duration) {
    let all = async {
        for outbox in pressed {
            outbox.drained().await;
        }
    };
    if tokio::time::timeout(patience, all).await.is_err() {
        for outbox in pressed {
            if outbox.is_high.load(Ordering::Acquire) {
                outbox.give_up();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::task::noop_waker_ref;
    use std::sync::Arc;
    use std::time::Duration;

    fn small() -> Outbox {
        Outbox::new(&Limits {
            queued_bytes: 800,
            queued_frames: 100,
            ..Limits::default()
        })
    }

    fn take(outbox: &Outbox) -> (Poll<Take>, VecDeque<Bytes>) {
        let mut writing = VecDeque::new();
        let polled = outbox.poll_take(&Context::from_waker(noop_waker_ref()), &mut writing);
        (polled, writing)
    }

    #[test]
    fn frames_come_out_in_order_and_an_idle_outbox_holds_nothing() {
        let outbox = small();
        for number in 0..3_u8 {
            assert_eq!(outbox.push(Bytes::from(vec![number; 4])), Pressure::Low);
        }
        let (polled, writing) = take(&outbox);
        assert!(matches!(polled, Poll::Ready(Take::Frames)));
        assert_eq!(
            writing.iter().map(|frame| frame[0]).collect::<Vec<_>>(),
            [0, 1, 2]
        );
        assert_eq!(outbox.queue.lock().frames.capacity(), 0);
        assert!(take(&outbox).0.is_pending());
    }

    #[test]
    fn a_full_outbox_gives_the_socket_up() {
        let outbox = small();
        assert_eq!(outbox.push(Bytes::from(vec![0; 700])), Pressure::High);
        assert_eq!(outbox.push(Bytes::from(vec![0; 200])), Pressure::Closed);
        assert!(matches!(
            take(&outbox).0,
            Poll::Ready(Take::Close(CloseCode::TryLater, _))
        ));
        assert_eq!(outbox.push(Bytes::new()), Pressure::Closed);
    }

    #[test]
    fn a_frame_larger_than_the_bound_passes_alone() {
        let outbox = small();
        assert_eq!(outbox.push(Bytes::from(vec![0; 5_000])), Pressure::High);
        assert!(!outbox.is_given_up());
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_catch_up_is_closed_and_others_are_not() {
        let slow = Arc::new(small());
        let quick = Arc::new(small());
        slow.push(Bytes::from(vec![0; 700]));
        quick.push(Bytes::from(vec![0; 700]));
        let (_, writing) = take(&quick);
        assert_eq!(writing.len(), 1);
        relieve(&[quick.clone(), slow.clone()], Duration::from_secs(2)).await;
        assert!(slow.is_given_up());
        assert!(!quick.is_given_up());
    }
}

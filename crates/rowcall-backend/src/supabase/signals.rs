//! From Realtime events to signals: what is up, what is down, and who is told when.

use std::collections::BTreeMap;

use futures_util::{StreamExt, stream, stream::BoxStream};
use parking_lot::Mutex;
use rowcall_core::Signal;
use tokio::sync::broadcast;
use tokio_stream::wrappers::{BroadcastStream, errors::BroadcastStreamRecvError};

/// Signals that may wait for a slow listener; who falls behind is told to look for itself.
const MAX_WAITING: usize = 4_096;

/// The signals of all channels as one stream, for any number of listeners.
pub(super) struct Switchboard {
    sender: broadcast::Sender<Signal>,
    /// The channels that are down, each with its last word. Nothing is up before the first channel was.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    down: BTreeMap<String, Signal>,
    any_up: bool,
}

impl Switchboard {
    pub(super) fn new() -> Self {
        Self {
            sender: broadcast::Sender::new(MAX_WAITING),
            state: Mutex::default(),
        }
    }

    /// Other channels are joined from now on: what was said of the old ones does not count any more.
    pub(super) fn begin_anew(&self) {
        self.state.lock().down.clear();
    }

    /// The signals from now on, beginning with how things are.
    pub(super) fn stream(&self) -> BoxStream<'static, Signal> {
        let state = self.state.lock();
        let receiver = BroadcastStream::new(self.sender.subscribe());
        let mut first = Vec::new();
        if state.any_up {
            first.push(Signal::Up);
        }
        first.extend(state.down.values().next().cloned());
        drop(state);
        let later = receiver.map(|signal| match signal {
            Ok(signal) => signal,
            Err(BroadcastStreamRecvError::Lagged(_)) => Signal::Up,
        });
        stream::iter(first).chain(later).boxed()
    }

    pub(super) fn send(&self, signal: Signal) {
        // Nobody listening is no error.
        let _ = self.sender.send(signal);
    }

    /// A channel is live: look for what was missed there. If another one is still down, polling stays close.
    pub(super) fn up(&self, channel: &str) {
        let mut state = self.state.lock();
        state.down.remove(channel);
        state.any_up = true;
        let rest = state.down.values().next().cloned();
        drop(state);
        self.send(Signal::Up);
        if let Some(down) = rest {
            self.send(down);
        }
    }

    /// A channel is not live.
    pub(super) fn down(&self, channel: &str, reason: String, retry_in: std::time::Duration) {
        let signal = Signal::Down { reason, retry_in };
        self.state
            .lock()
            .down
            .insert(channel.to_owned(), signal.clone());
        self.send(signal);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    async fn take(stream: &mut BoxStream<'static, Signal>, count: usize) -> Vec<Signal> {
        stream.take(count).collect().await
    }

    fn down(reason: &str) -> Signal {
        Signal::Down {
            reason: reason.to_owned(),
            retry_in: Duration::from_secs(1),
        }
    }

    #[tokio::test]
    async fn one_channel_that_is_down_keeps_polling_close() {
        let board = Switchboard::new();
        let mut stream = board.stream();
        board.down("a", "lost".to_owned(), Duration::from_secs(1));
        board.down("b", "refused".to_owned(), Duration::from_secs(1));
        board.up("a");
        let seen = take(&mut stream, 4).await;
        assert_eq!(
            seen,
            [down("lost"), down("refused"), Signal::Up, down("refused")]
        );
        board.up("b");
        assert_eq!(take(&mut stream, 1).await, [Signal::Up]);
    }

    #[tokio::test]
    async fn a_new_listener_hears_how_things_are() {
        let board = Switchboard::new();
        board.up("a");
        board.down("b", "refused".to_owned(), Duration::from_secs(1));
        let seen = take(&mut board.stream(), 2).await;
        assert_eq!(seen, [Signal::Up, down("refused")]);
    }

    #[tokio::test]
    async fn who_falls_behind_is_told_to_look() {
        let board = Switchboard::new();
        let mut stream = board.stream();
        for _ in 0..2 * MAX_WAITING {
            board.down("a", "x".to_owned(), Duration::from_secs(1));
        }
        assert_eq!(take(&mut stream, 1).await, [Signal::Up]);
    }
}

//! What a channel tells its user.

use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    join::ChangeEvent,
    presence::{Diff, Presences},
};

/// What every event and every presence costs besides its texts, in bytes.
const BASE: usize = 128;

/// What happened on a channel.
#[derive(Debug)]
pub enum Event {
    /// Joined and live: signals flow from now on. Run a catch-up query, and again after every further `Up`.
    Up,
    /// Not live any more, or the next attempt to become live failed. The channel recovers by itself.
    Down {
        /// What kind of trouble it is.
        cause: Cause,
        /// What happened, for people.
        reason: String,
        /// When the next attempt is made.
        retry_in: Duration,
    },
    /// So many events were thrown away because nobody took them: treat it like [`Event::Up`] and look for yourself.
    Lagged {
        /// How many.
        dropped: u64,
    },
    /// A row changed.
    Change(Change),
    /// Somebody sent a message.
    Broadcast(Broadcast),
    /// Somebody came or left.
    Presence(Diff),
}

impl Event {
    /// About how much memory the event holds on to, in bytes; queues are bounded by it.
    pub fn weight(&self) -> usize {
        let raw = |value: &Option<Box<RawValue>>| value.as_ref().map_or(0, |raw| raw.get().len());
        let more = match self {
            Self::Up | Self::Lagged { .. } => 0,
            Self::Down { reason, .. } => reason.len(),
            Self::Change(change) => {
                raw(&change.record)
                    + raw(&change.old_record)
                    + change.errors.iter().map(String::len).sum::<usize>()
            }
            Self::Broadcast(broadcast) => {
                broadcast.event.len() + raw(&broadcast.meta) + broadcast.payload.len()
            }
            Self::Presence(diff) => weight(&diff.joins) + weight(&diff.leaves),
        };
        BASE + more
    }
}

/// About how much memory presences hold on to, in bytes.
pub(super) fn weight(presences: &Presences) -> usize {
    let texts = |value: &serde_json::Value| value.to_string().len();
    let entries = presences.iter().flat_map(|(key, metas)| {
        metas.iter().map(move |meta| {
            let members = meta.payload.iter();
            BASE + key.len()
                + members
                    .map(|(name, value)| name.len() + texts(value))
                    .sum::<usize>()
        })
    });
    entries.sum()
}

/// What kind of trouble ended a channel, where callers may want to tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The connection was lost, could not be made, or did not answer.
    Connection,
    /// The server ended the channel or refused the join.
    Refused,
    /// The credential is missing, expired, or not enough.
    Unauthorized,
    /// A limit of the server.
    RateLimited,
    /// The server accepts the channel but delivers no changes: a table that is not published, a filter that does not fit.
    Subscription,
}

/// A row changed.
#[derive(Debug)]
pub struct Change {
    /// Which of the channel's filters it belongs to, by their order.
    pub filters: Vec<usize>,
    /// The schema of the table.
    pub schema: String,
    /// The table.
    pub table: String,
    /// Insert, update or delete.
    pub kind: ChangeEvent,
    /// When the change was committed, as the server writes it.
    pub commit_timestamp: Option<String>,
    /// The row as it is now; nothing for a delete.
    pub record: Option<Box<RawValue>>,
    /// The row as it was: whole with `replica identity full`, else the primary key.
    pub old_record: Option<Box<RawValue>>,
    /// Why the record is incomplete: too large, no primary key, not allowed.
    pub errors: Vec<String>,
}

/// A message somebody sent.
#[derive(Debug)]
pub struct Broadcast {
    /// Its event name.
    pub event: String,
    /// What was said.
    pub payload: Said,
    /// `{"id": …}` when it came from the database, and `"replayed": true` when it is from the past.
    pub meta: Option<Box<RawValue>>,
}

/// The payload of a broadcast.
#[derive(Debug)]
pub enum Said {
    /// JSON text.
    Json(Box<RawValue>),
    /// Raw bytes.
    Bytes(Bytes),
}

impl Said {
    /// Its size in bytes.
    pub fn len(&self) -> usize {
        match self {
            Self::Json(raw) => raw.get().len(),
            Self::Bytes(bytes) => bytes.len(),
        }
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reads a JSON payload.
    ///
    /// # Errors
    /// When the payload is another one, or raw bytes that are not JSON.
    pub fn read<'de, T: Deserialize<'de>>(&'de self) -> Result<T, serde_json::Error> {
        match self {
            Self::Json(raw) => serde_json::from_str(raw.get()),
            Self::Bytes(bytes) => serde_json::from_slice(bytes),
        }
    }
}

/// Why something that was to be sent did not arrive, as far as one can tell.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PushError {
    /// The channel is not live. Nothing is kept for later: what matters is found by a query.
    #[error("the channel is not joined at the moment; nothing was sent")]
    NotJoined,
    /// The server says no.
    #[error("the server refused the message: {0}")]
    Refused(String),
    /// No answer came in time; the message may have arrived.
    #[error("the server did not answer in time")]
    TimedOut,
    /// The connection was lost before the answer; the message may have arrived.
    #[error("the connection was lost before the server answered")]
    Lost,
    /// Larger than a frame may be.
    #[error("the message has {0} bytes, more than a frame may have")]
    TooLarge(usize),
    /// Raw bytes on a connection of protocol 1.0.0, or texts that do not fit a binary frame.
    #[error("the message cannot be sent as raw bytes: {0}")]
    NotBinary(String),
    /// Too much waits to be sent, or for answers.
    #[error("too many messages are waiting to be sent")]
    Busy,
    /// The client has been shut down.
    #[error("the client has been shut down")]
    Closed,
}

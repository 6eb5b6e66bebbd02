//! The client's side of one channel, without I/O.
//!
//! A [`Channel`] is told what happened (a socket came or went, a frame arrived, time passed) and answers with frames to send,
//! kept in a [`Link`], and with [`Event`]s for its user. It owns no socket, no task and no clock: time comes in as an argument,
//! so that every path can be tested without waiting.
//!
//! # The life of a channel
//!
//! ```text
//!            socket                 reply ok, no changes asked for
//! Offline ───────────► Joining ───────────────────────────────────► Live
//!    ▲                 │  ▲   │ reply ok                             ▲ │
//!    │ socket lost     │  │   └────────► Subscribing ────────────────┘ │ close, error, system error
//!    │                 ▼  │ due            │ "Subscribed to PostgreSQL"│
//!    └─────────────── Waiting ◄────────────┴───────────────────────────┘
//! ```
//!
//! - `Live` is said only when signals flow: a channel that asked for changes waits for `Subscribed to PostgreSQL`, because
//!   hosted servers answer the join seconds before. Whoever sees [`Event::Up`] runs a catch-up query: nothing that happened
//!   while the channel was away is delivered later.
//! - Nothing is final. `phx_close`, `phx_error`, a refused join and an error in a `system` message lead to `Waiting`, and from
//!   there to the next join, with a delay that grows and that shrinks back only after the channel was live for a while.
//! - Frames of an earlier join (their `join_ref` is set and not the current one) are dropped.
//! - What is tracked in presence is state, not a message: the last value wins, is sent at most once in
//!   [`Timing::presence_every`], and is sent again after every join.

mod backoff;
mod event;
mod incoming;
mod link;
mod machine;
mod push;
mod spec;
mod track;

pub use backoff::Backoff;
pub use event::{Broadcast, Cause, Change, Event, PushError, Said};
pub use link::{Jitter, Link, Message, PushId, Timing};
pub use machine::Channel;
pub use spec::{ChangeFilter, ChannelSpec};

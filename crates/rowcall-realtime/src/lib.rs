//! The Phoenix and Supabase Realtime protocol: the codec, without I/O, shared by the Realtime server of `rowcall-stack` and by
//! the client, and the client itself.
//!
//! - [`frame`]: text frames of protocol 1.0.0 (JSON object) and 2.0.0 (JSON array)
//! - [`binary`]: the two binary frames of protocol 2.0.0, user broadcast push (kind 3) and user broadcast (kind 4)
//! - [`topic`]: channel topics, `realtime:<name>` on the wire
//! - [`join`]: what a client asks for in `phx_join`, and the bindings echoed in the reply
//! - [`event`]: event names and the payloads this crate's users build again and again
//! - [`presence`]: who is there, as a receiver of `presence_state` and `presence_diff` sees it
//! - [`channel`]: the client's side of a channel as a state machine, without I/O
//! - [`client`]: the client that keeps one socket and its channels alive
//!
//! Every decoder takes hostile input: it returns an error, it never panics, and it allocates no more than a small multiple
//! of what it was given. How much that may be is for the transport to say; see [`frame::MAX_FRAME_BYTES`].

pub mod binary;
pub mod channel;
pub mod client;
pub mod event;
pub mod frame;
pub mod join;
pub mod presence;
pub mod topic;

pub use frame::{Frame, Outgoing, Version};

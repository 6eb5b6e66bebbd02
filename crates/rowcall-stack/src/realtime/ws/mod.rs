//! WebSocket framing of the server side (RFC 6455), without I/O.
//!
//! Our own, because a fan-out to hundreds of sockets writes the same bytes to each: a frame is encoded once, header included,
//! and shared, where the libraries copy it into a buffer per socket that never shrinks again. An idle socket holds no buffer.

mod decode;
mod encode;
mod handshake;

pub(crate) use decode::{Decoder, Incoming};
pub(crate) use encode::{CloseCode, binary, close, pong, text};
pub(crate) use handshake::{Upgrade, accept};

/// Frame types, the low four bits of the first byte.
mod opcode {
    pub(super) const CONTINUATION: u8 = 0x0;
    pub(super) const TEXT: u8 = 0x1;
    pub(super) const BINARY: u8 = 0x2;
    pub(super) const CLOSE: u8 = 0x8;
    pub(super) const PING: u8 = 0x9;
    pub(super) const PONG: u8 = 0xa;
}

/// Longest payload of a control frame, in bytes.
const MAX_CONTROL_BYTES: usize = 125;

//! Frames a server sends: never masked, never in fragments.

use bytes::{BufMut as _, Bytes, BytesMut};

use super::{MAX_CONTROL_BYTES, opcode};

/// Why a socket is closed by us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CloseCode {
    /// The client closed, or has had no channel for long.
    Normal,
    /// The peer does not speak the protocol.
    Protocol,
    /// A text frame is not UTF-8.
    InvalidText,
    /// A limit was exceeded.
    Policy,
    /// A frame is larger than allowed.
    TooLarge,
    /// The server goes away; clients reconnect.
    Restart,
    /// The client does not read what it asked for; it may come back.
    TryLater,
}

impl CloseCode {
    pub(crate) fn number(self) -> u16 {
        match self {
            Self::Normal => 1000,
            Self::Protocol => 1002,
            Self::InvalidText => 1007,
            Self::Policy => 1008,
            Self::TooLarge => 1009,
            Self::Restart => 1012,
            Self::TryLater => 1013,
        }
    }
}

pub(crate) fn text(payload: &str) -> Bytes {
    frame(opcode::TEXT, payload.as_bytes())
}

pub(crate) fn binary(payload: &[u8]) -> Bytes {
    frame(opcode::BINARY, payload)
}

pub(crate) fn pong(payload: &[u8]) -> Bytes {
    frame(opcode::PONG, payload)
}

pub(crate) fn close(code: CloseCode, reason: &str) -> Bytes {
    let room = MAX_CONTROL_BYTES - 2;
    let mut cut = reason.len().min(room);
    while !reason.is_char_boundary(cut) {
        cut -= 1;
    }
    let mut payload = BytesMut::with_capacity(2 + cut);
    payload.put_u16(code.number());
    payload.put_slice(&reason.as_bytes()[..cut]);
    frame(opcode::CLOSE, &payload)
}

fn frame(opcode: u8, payload: &[u8]) -> Bytes {
    const FINAL: u8 = 0x80;
    let mut frame = BytesMut::with_capacity(payload.len() + 10);
    frame.put_u8(FINAL | opcode);
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(short @ 0..=125), _) => frame.put_u8(short),
        (_, Ok(medium)) => {
            frame.put_u8(126);
            frame.put_u16(medium);
        }
        _ => {
            frame.put_u8(127);
            frame.put_u64(payload.len() as u64);
        }
    }
    frame.put_slice(payload);
    frame.freeze()
}

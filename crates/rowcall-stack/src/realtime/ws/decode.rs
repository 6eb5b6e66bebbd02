//! Frames a client sends: masked, possibly in fragments.

use bytes::{Buf as _, BytesMut};

use super::encode::CloseCode;
use super::{MAX_CONTROL_BYTES, opcode};

/// A whole message of a client.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Incoming {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong,
    Close,
}

/// Why a client's bytes end the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DecodeError {
    #[error("{0}")]
    Protocol(&'static str),
    #[error("a text frame is not UTF-8")]
    InvalidText,
    #[error("a frame is larger than {0} bytes")]
    TooLarge(usize),
}

impl DecodeError {
    pub(crate) fn close_code(self) -> CloseCode {
        match self {
            Self::Protocol(_) => CloseCode::Protocol,
            Self::InvalidText => CloseCode::InvalidText,
            Self::TooLarge(_) => CloseCode::TooLarge,
        }
    }
}

/// Collects bytes and takes messages out of them. Memory follows the bytes received, never what a header announces.
#[derive(Debug)]
pub(crate) struct Decoder {
    buffer: BytesMut,
    /// The message whose fragments are coming in.
    partial: Option<Partial>,
    max_message_bytes: usize,
}

#[derive(Debug)]
struct Partial {
    opcode: u8,
    payload: Vec<u8>,
}

struct Header {
    is_final: bool,
    opcode: u8,
    length: usize,
    mask: [u8; 4],
    /// Bytes the header itself takes.
    bytes: usize,
}

impl Decoder {
    pub(crate) fn new(max_message_bytes: usize) -> Self {
        Self {
            buffer: BytesMut::new(),
            partial: None,
            max_message_bytes,
        }
    }

    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole message, or `None` when more bytes are needed.
    pub(crate) fn next(&mut self) -> Result<Option<Incoming>, DecodeError> {
        loop {
            let Some(header) = self.header()? else {
                return Ok(None);
            };
            if self.buffer.len() < header.bytes + header.length {
                return Ok(None);
            }
            self.buffer.advance(header.bytes);
            let mut payload = self.buffer.split_to(header.length).to_vec();
            if self.buffer.is_empty() {
                // Idle sockets hold no buffer.
                self.buffer = BytesMut::new();
            }
            unmask(&mut payload, header.mask);
            if let Some(message) = self.take(&header, payload)? {
                return Ok(Some(message));
            }
        }
    }

    fn header(&self) -> Result<Option<Header>, DecodeError> {
        let [first, second, rest @ ..] = &self.buffer[..] else {
            return Ok(None);
        };
        if first & 0x70 != 0 {
            return Err(DecodeError::Protocol("reserved bits are set"));
        }
        if second & 0x80 == 0 {
            return Err(DecodeError::Protocol("a frame is not masked"));
        }
        let (length, extended) = match second & 0x7f {
            126 => match rest.first_chunk::<2>() {
                Some(length) => (u64::from(u16::from_be_bytes(*length)), 2),
                None => return Ok(None),
            },
            127 => match rest.first_chunk::<8>() {
                Some(length) => (u64::from_be_bytes(*length), 8),
                None => return Ok(None),
            },
            short => (u64::from(short), 0),
        };
        let opcode = first & 0x0f;
        let is_final = first & 0x80 != 0;
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if opcode >= opcode::CLOSE {
            if !is_final || length > MAX_CONTROL_BYTES {
                return Err(DecodeError::Protocol(
                    "a control frame is too long or in fragments",
                ));
            }
        } else {
            let collected = self
                .partial
                .as_ref()
                .map_or(0, |partial| partial.payload.len());
            if length.saturating_add(collected) > self.max_message_bytes {
                return Err(DecodeError::TooLarge(self.max_message_bytes));
            }
        }
        let Some(mask) = rest[extended..].first_chunk::<4>() else {
            return Ok(None);
        };
        Ok(Some(Header {
            is_final,
            opcode,
            length,
            mask: *mask,
            bytes: 2 + extended + 4,
        }))
    }

    fn take(&mut self, header: &Header, payload: Vec<u8>) -> Result<Option<Incoming>, DecodeError> {
        match header.opcode {
            opcode::PING => return Ok(Some(Incoming::Ping(payload))),
            opcode::PONG => return Ok(Some(Incoming::Pong)),
            opcode::CLOSE => return Ok(Some(Incoming::Close)),
            opcode::TEXT | opcode::BINARY if self.partial.is_none() => {
                self.partial = Some(Partial {
                    opcode: header.opcode,
                    payload,
                });
            }
            opcode::CONTINUATION => match &mut self.partial {
                Some(partial) => partial.payload.extend_from_slice(&payload),
                None => return Err(DecodeError::Protocol("a fragment continues nothing")),
            },
            opcode::TEXT | opcode::BINARY => {
                return Err(DecodeError::Protocol("a message begins within another"));
            }
            _ => return Err(DecodeError::Protocol("unknown frame type")),
        }
        if !header.is_final {
            return Ok(None);
        }
        let Some(Partial { opcode, payload }) = self.partial.take() else {
            return Ok(None);
        };
        if opcode == opcode::BINARY {
            return Ok(Some(Incoming::Binary(payload)));
        }
        let text = String::from_utf8(payload).map_err(|_| DecodeError::InvalidText)?;
        Ok(Some(Incoming::Text(text)))
    }
}

fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    for chunk in payload.chunks_mut(4) {
        for (byte, key) in chunk.iter_mut().zip(mask) {
            *byte ^= key;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tokio_tungstenite::tungstenite::protocol::frame::Frame;
    use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

    /// A client's frame as tungstenite writes it.
    fn masked(payload: &[u8], opcode: OpCode, is_final: bool, mask: [u8; 4]) -> Vec<u8> {
        let mut frame = Frame::message(payload.to_vec(), opcode, is_final);
        frame.header_mut().mask = Some(mask);
        let mut bytes = Vec::new();
        frame.format(&mut bytes).unwrap();
        bytes
    }

    proptest! {
        #[test]
        fn messages_come_through_however_they_are_cut(
            messages in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..3_000), any::<[u8; 4]>()), 1..4),
            cut in 1_usize..500,
            fragment in 1_usize..2_000,
        ) {
            let mut wire = Vec::new();
            for (payload, mask) in &messages {
                let pieces: Vec<&[u8]> = payload.chunks(fragment).collect();
                let last = pieces.len().saturating_sub(1);
                if pieces.is_empty() {
                    wire.extend(masked(&[], OpCode::Data(Data::Binary), true, *mask));
                }
                for (index, piece) in pieces.iter().enumerate() {
                    let opcode = if index == 0 { Data::Binary } else { Data::Continue };
                    wire.extend(masked(piece, OpCode::Data(opcode), index == last, *mask));
                }
            }
            let mut decoder = Decoder::new(1_000_000);
            let mut received = Vec::new();
            for piece in wire.chunks(cut) {
                decoder.feed(piece);
                while let Some(message) = decoder.next()? {
                    received.push(message);
                }
            }
            let sent: Vec<_> = messages.into_iter().map(|(payload, _)| Incoming::Binary(payload)).collect();
            prop_assert_eq!(received, sent);
            prop_assert_eq!(decoder.buffer.capacity(), 0);
        }

        #[test]
        fn hostile_bytes_end_in_an_error_or_wait_for_more(bytes in any::<Vec<u8>>()) {
            let mut decoder = Decoder::new(1_000);
            decoder.feed(&bytes);
            while let Ok(Some(_)) = decoder.next() {}
        }

        #[test]
        fn our_frames_are_read_by_a_client(length in 0_usize..70_000) {
            let payload = vec![7; length];
            let frame = super::super::binary(&payload);
            let mut cursor = std::io::Cursor::new(&frame[..]);
            let (header, length) =
                tokio_tungstenite::tungstenite::protocol::frame::FrameHeader::parse(&mut cursor)?.unwrap();
            prop_assert!(header.is_final);
            prop_assert_eq!(usize::try_from(length)?, payload.len());
            let start = usize::try_from(cursor.position())?;
            prop_assert_eq!(&frame[start..], &payload[..]);
        }
    }

    #[test]
    fn every_form_of_a_length_is_read() {
        for length in [0, 125, 126, 65_535, 65_536, 100_000] {
            let payload = vec![7; length];
            let mut decoder = Decoder::new(1_000_000);
            decoder.feed(&masked(&payload, OpCode::Data(Data::Binary), true, [9; 4]));
            assert_eq!(
                decoder.next(),
                Ok(Some(Incoming::Binary(payload))),
                "{length}"
            );
        }
    }

    #[test]
    fn an_announced_size_is_refused_before_it_is_received() {
        let mut decoder = Decoder::new(1_000);
        decoder.feed(&[0x82, 0xfe, 0xff, 0xff, 0, 0, 0, 0]);
        assert_eq!(decoder.next(), Err(DecodeError::TooLarge(1_000)));
    }

    #[test]
    fn fragments_count_together() {
        let mut decoder = Decoder::new(10);
        decoder.feed(&masked(&[0; 6], OpCode::Data(Data::Binary), false, [1; 4]));
        decoder.feed(&masked(&[0; 6], OpCode::Data(Data::Continue), true, [1; 4]));
        assert_eq!(decoder.next(), Err(DecodeError::TooLarge(10)));
    }

    #[test]
    fn unmasked_and_malformed_frames_are_refused() {
        for bytes in [
            &[0x81, 0x01, b'x'][..],
            &[0xc1, 0x80, 0, 0, 0, 0],
            &[0x83, 0x80, 0, 0, 0, 0],
            &[0x80, 0x80, 0, 0, 0, 0],
            &[0x09, 0x80, 0, 0, 0, 0],
            &[0x89, 0xfe, 0, 126, 0, 0, 0, 0],
        ] {
            let mut decoder = Decoder::new(1_000);
            decoder.feed(bytes);
            assert!(
                matches!(decoder.next(), Err(DecodeError::Protocol(_))),
                "{bytes:x?}"
            );
        }
    }

    #[test]
    fn text_has_to_be_utf8() {
        let mut decoder = Decoder::new(1_000);
        decoder.feed(&masked(&[0xff], OpCode::Data(Data::Text), true, [7; 4]));
        assert_eq!(decoder.next(), Err(DecodeError::InvalidText));
    }

    #[test]
    fn a_close_reason_is_cut_at_a_character() {
        let frame = super::super::close(CloseCode::Policy, &"ž".repeat(100));
        assert_eq!(frame.len(), 2 + 2 + 122);
        assert!(std::str::from_utf8(&frame[4..]).is_ok());
    }
}

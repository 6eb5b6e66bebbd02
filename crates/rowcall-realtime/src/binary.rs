//! Binary frames of protocol 2.0.0.
//!
//! | kind | direction | layout, all lengths one byte and in bytes |
//! |---|---|---|
//! | 3 | client to server | `03, len(join_ref), len(ref), len(topic), len(event), len(meta), encoding`, then the five texts and the payload |
//! | 4 | server to client | `04, len(topic), len(event), len(meta), encoding`, then the three texts and the payload |
//!
//! Kinds 0 to 2 of Phoenix exist upstream but no official client decodes them, so they are neither read nor written here.

use bytes::{BufMut, Bytes, BytesMut};

/// First byte of a [`UserPush`].
pub const KIND_USER_PUSH: u8 = 3;
/// First byte of a [`UserBroadcast`].
pub const KIND_USER_BROADCAST: u8 = 4;
/// Longest text a header can announce, in bytes.
pub const MAX_FIELD_BYTES: usize = 255;

/// How the payload of a binary frame is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// Raw bytes.
    Binary,
    /// JSON text.
    Json,
}

impl Encoding {
    fn from_byte(byte: u8) -> Result<Self, BinaryError> {
        match byte {
            0 => Ok(Self::Binary),
            1 => Ok(Self::Json),
            other => Err(BinaryError::Encoding(other)),
        }
    }

    fn to_byte(self) -> u8 {
        match self {
            Self::Binary => 0,
            Self::Json => 1,
        }
    }
}

/// Why a binary frame could not be read or written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BinaryError {
    /// The first byte is not a kind this side reads.
    #[error("binary frame of kind {0} is not understood here")]
    Kind(u8),
    /// The frame ends before what its header announces.
    #[error("binary frame is shorter than its header announces")]
    Truncated,
    /// The encoding byte is neither 0 nor 1.
    #[error("binary frame has unknown payload encoding {0}")]
    Encoding(u8),
    /// A text is not UTF-8.
    #[error("`{0}` of a binary frame is not UTF-8")]
    Utf8(&'static str),
    /// A text has more than [`MAX_FIELD_BYTES`] bytes.
    #[error("`{field}` has {bytes} bytes, a binary frame holds at most {MAX_FIELD_BYTES}")]
    FieldTooLong {
        /// Name of the text.
        field: &'static str,
        /// Its length in bytes.
        bytes: usize,
    },
}

/// A broadcast a client sends (kind 3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserPush<'a> {
    /// Reference of the join.
    pub join_ref: &'a str,
    /// Reference for the reply, empty when there is none.
    pub reference: &'a str,
    /// The topic as written on the wire.
    pub topic: &'a str,
    /// The user's event name.
    pub event: &'a str,
    /// JSON text or empty.
    pub meta: &'a str,
    /// How to read the payload.
    pub encoding: Encoding,
    /// The payload.
    pub payload: &'a [u8],
}

impl<'a> UserPush<'a> {
    /// Decodes a frame a client sent.
    ///
    /// # Errors
    /// When the kind is another, a length runs past the end, or a text is not UTF-8. The payload is not looked at.
    pub fn decode(frame: &'a [u8]) -> Result<Self, BinaryError> {
        let mut rest = Rest(frame);
        let kind = rest.byte()?;
        if kind != KIND_USER_PUSH {
            return Err(BinaryError::Kind(kind));
        }
        let [join_ref, reference, topic, event, meta, encoding] = rest.header()?;
        Ok(Self {
            join_ref: rest.text(join_ref, "join_ref")?,
            reference: rest.text(reference, "ref")?,
            topic: rest.text(topic, "topic")?,
            event: rest.text(event, "event")?,
            meta: rest.text(meta, "meta")?,
            encoding: Encoding::from_byte(encoding)?,
            payload: rest.0,
        })
    }

    /// Encodes the frame.
    ///
    /// # Errors
    /// When a text does not fit its length byte.
    pub fn encode(&self) -> Result<Bytes, BinaryError> {
        let texts = [
            ("join_ref", self.join_ref),
            ("ref", self.reference),
            ("topic", self.topic),
            ("event", self.event),
            ("meta", self.meta),
        ];
        encode(KIND_USER_PUSH, &texts, self.encoding, self.payload)
    }
}

/// A broadcast a server delivers (kind 4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserBroadcast<'a> {
    /// The topic as written on the wire.
    pub topic: &'a str,
    /// The user's event name.
    pub event: &'a str,
    /// JSON text or empty.
    pub meta: &'a str,
    /// How to read the payload.
    pub encoding: Encoding,
    /// The payload.
    pub payload: &'a [u8],
}

impl<'a> UserBroadcast<'a> {
    /// Decodes a frame a server sent.
    ///
    /// # Errors
    /// As [`UserPush::decode`].
    pub fn decode(frame: &'a [u8]) -> Result<Self, BinaryError> {
        let mut rest = Rest(frame);
        let kind = rest.byte()?;
        if kind != KIND_USER_BROADCAST {
            return Err(BinaryError::Kind(kind));
        }
        let [topic, event, meta, encoding] = rest.header()?;
        Ok(Self {
            topic: rest.text(topic, "topic")?,
            event: rest.text(event, "event")?,
            meta: rest.text(meta, "meta")?,
            encoding: Encoding::from_byte(encoding)?,
            payload: rest.0,
        })
    }

    /// Encodes the frame.
    ///
    /// # Errors
    /// When a text does not fit its length byte; a JSON payload can then still go out as a text frame.
    pub fn encode(&self) -> Result<Bytes, BinaryError> {
        let texts = [
            ("topic", self.topic),
            ("event", self.event),
            ("meta", self.meta),
        ];
        encode(KIND_USER_BROADCAST, &texts, self.encoding, self.payload)
    }
}

fn encode(
    kind: u8,
    texts: &[(&'static str, &str)],
    encoding: Encoding,
    payload: &[u8],
) -> Result<Bytes, BinaryError> {
    let total: usize = texts.iter().map(|(_, text)| text.len()).sum();
    let mut frame = BytesMut::with_capacity(2 + texts.len() + total + payload.len());
    frame.put_u8(kind);
    for &(field, text) in texts {
        let bytes = text.len();
        let length = u8::try_from(bytes).map_err(|_| BinaryError::FieldTooLong { field, bytes })?;
        frame.put_u8(length);
    }
    frame.put_u8(encoding.to_byte());
    for (_, text) in texts {
        frame.put_slice(text.as_bytes());
    }
    frame.put_slice(payload);
    Ok(frame.freeze())
}

/// What is left of a frame.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn byte(&mut self) -> Result<u8, BinaryError> {
        let (&first, rest) = self.0.split_first().ok_or(BinaryError::Truncated)?;
        self.0 = rest;
        Ok(first)
    }

    fn header<const N: usize>(&mut self) -> Result<[u8; N], BinaryError> {
        let (header, rest) = self
            .0
            .split_first_chunk::<N>()
            .ok_or(BinaryError::Truncated)?;
        self.0 = rest;
        Ok(*header)
    }

    fn text(&mut self, length: u8, field: &'static str) -> Result<&'a str, BinaryError> {
        let (text, rest) = self
            .0
            .split_at_checked(usize::from(length))
            .ok_or(BinaryError::Truncated)?;
        self.0 = rest;
        std::str::from_utf8(text).map_err(|_| BinaryError::Utf8(field))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_push_of_the_reference_page_is_read() {
        let mut frame = vec![3, 1, 1, 13, 12, 0, 1];
        frame.extend_from_slice(b"69realtime:jobsjob_enqueued{\"queue\":\"q\",\"job_id\":1}");
        let push = UserPush::decode(&frame).unwrap();
        assert_eq!(push.join_ref, "6");
        assert_eq!(push.reference, "9");
        assert_eq!(push.topic, "realtime:jobs");
        assert_eq!(push.event, "job_enqueued");
        assert_eq!(push.meta, "");
        assert_eq!(push.encoding, Encoding::Json);
        assert_eq!(push.payload, br#"{"queue":"q","job_id":1}"#);
        assert_eq!(push.encode().unwrap(), frame);
    }

    #[test]
    fn lengths_count_bytes_not_characters() {
        let broadcast = UserBroadcast {
            topic: "realtime:žluť",
            event: "é",
            meta: "",
            encoding: Encoding::Binary,
            payload: &[1, 2, 255],
        };
        let frame = broadcast.encode().unwrap();
        assert_eq!(frame[1], 15);
        assert_eq!(frame[2], 2);
        assert_eq!(UserBroadcast::decode(&frame).unwrap(), broadcast);
    }

    #[test]
    fn a_text_of_256_bytes_does_not_fit() {
        let long = "x".repeat(256);
        let broadcast = UserBroadcast {
            topic: &long,
            event: "e",
            meta: "",
            encoding: Encoding::Json,
            payload: b"{}",
        };
        let error = broadcast.encode().unwrap_err();
        assert_eq!(
            error,
            BinaryError::FieldTooLong {
                field: "topic",
                bytes: 256
            }
        );
        let fits = UserBroadcast {
            topic: &long[..255],
            ..broadcast
        };
        let frame = fits.encode().unwrap();
        assert_eq!(UserBroadcast::decode(&frame).unwrap(), fits);
    }

    #[test]
    fn broken_frames_are_errors() {
        assert_eq!(UserPush::decode(&[]), Err(BinaryError::Truncated));
        assert_eq!(UserPush::decode(&[0, 1]), Err(BinaryError::Kind(0)));
        assert_eq!(UserPush::decode(&[3, 1, 1]), Err(BinaryError::Truncated));
        let long_topic = [3, 0, 0, 200, 0, 0, 1, b'x'];
        assert_eq!(UserPush::decode(&long_topic), Err(BinaryError::Truncated));
        let encoding = [3, 0, 0, 0, 0, 0, 9];
        assert_eq!(UserPush::decode(&encoding), Err(BinaryError::Encoding(9)));
        let not_utf8 = [3, 0, 0, 1, 0, 0, 1, 0xff];
        assert_eq!(UserPush::decode(&not_utf8), Err(BinaryError::Utf8("topic")));
    }
}

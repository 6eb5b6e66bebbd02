//! Text frames.
//!
//! Version 1.0.0 is a JSON object `{"topic","event","payload","ref","join_ref"}`; a server's frame has exactly the four keys
//! `event`, `payload`, `ref`, `topic`, and `"ref":null` is written out because the Python client's models have no default
//! for it. Version 2.0.0 is a JSON array `[join_ref, ref, topic, event, payload]`.
//!
//! Payloads stay raw JSON text on both ways, so that what one client sends reaches the others byte for byte.

use std::borrow::Cow;

use serde::de::{Deserializer, Error as _, Unexpected, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// Largest frame, text or binary, a peer may send, in bytes.
pub const MAX_FRAME_BYTES: usize = 5_000_000;

/// The protocol version two peers speak, fixed by the `vsn` parameter of the handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Version {
    /// `vsn=1.0.0`: JSON objects, no binary frames.
    V1,
    /// `vsn=2.0.0`: JSON arrays, and binary frames of kinds 3 and 4.
    V2,
}

impl Version {
    /// Reads a `vsn` parameter: 1.0.x or 2.0.x; a missing one means 1.0.0. `None` for any other value, which refuses the
    /// handshake.
    pub fn parse(vsn: Option<&str>) -> Option<Self> {
        let Some(vsn) = vsn else {
            return Some(Self::V1);
        };
        let (version, patch) = match vsn.strip_prefix("1.0.") {
            Some(patch) => (Self::V1, patch),
            None => (Self::V2, vsn.strip_prefix("2.0.")?),
        };
        let is_number = !patch.is_empty() && patch.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then_some(version)
    }

    /// The value of the `vsn` parameter that asks for this version.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V1 => "1.0.0",
            Self::V2 => "2.0.0",
        }
    }
}

/// Why a text frame was not understood.
#[derive(Debug, thiserror::Error)]
#[error("not a frame of protocol {version}: {source}", version = version.as_str())]
pub struct FrameError {
    version: Version,
    source: serde_json::Error,
}

/// A text frame that came in. The payload borrows from the frame's text.
#[derive(Debug)]
pub struct Frame<'a> {
    /// Reference of the join this frame belongs to; missing and null are the same.
    pub join_ref: Option<String>,
    /// Reference the sender wants to see in the reply.
    pub reference: Option<String>,
    /// The topic as written on the wire, `realtime:…` or `phoenix`.
    pub topic: Cow<'a, str>,
    /// The event name.
    pub event: Cow<'a, str>,
    /// The payload, as it was written.
    pub payload: &'a RawValue,
}

impl<'a> Frame<'a> {
    /// Decodes one text frame.
    ///
    /// # Errors
    /// When the text is not JSON of the version's shape. Unknown keys of a version 1 frame are ignored.
    pub fn decode(version: Version, text: &'a str) -> Result<Self, FrameError> {
        let decoded = match version {
            Version::V1 => serde_json::from_str::<Object<'a>>(text).map(|object| Self {
                join_ref: object.join_ref.0,
                reference: object.reference.0,
                topic: object.topic,
                event: object.event,
                payload: object.payload,
            }),
            Version::V2 => serde_json::from_str::<Array<'a>>(text).map(
                |Array(join_ref, reference, topic, event, payload)| Self {
                    join_ref: join_ref.0,
                    reference: reference.0,
                    topic,
                    event,
                    payload,
                },
            ),
        };
        decoded.map_err(|source| FrameError { version, source })
    }
}

#[derive(Deserialize)]
struct Object<'a> {
    #[serde(default)]
    join_ref: Reference,
    #[serde(rename = "ref")]
    reference: Reference,
    #[serde(borrow)]
    topic: Cow<'a, str>,
    #[serde(borrow)]
    event: Cow<'a, str>,
    #[serde(borrow)]
    payload: &'a RawValue,
}

#[derive(Deserialize)]
struct Array<'a>(
    Reference,
    Reference,
    #[serde(borrow)] Cow<'a, str>,
    #[serde(borrow)] Cow<'a, str>,
    #[serde(borrow)] &'a RawValue,
);

/// A reference: text or null. Numbers, which no known client sends, are taken as their decimal text.
#[derive(Default)]
struct Reference(Option<String>);

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ReferenceVisitor;

        impl Visitor<'_> for ReferenceVisitor {
            type Value = Reference;

            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("a string or null")
            }

            fn visit_unit<E>(self) -> Result<Reference, E> {
                Ok(Reference(None))
            }

            fn visit_str<E>(self, text: &str) -> Result<Reference, E> {
                Ok(Reference(Some(text.to_owned())))
            }

            fn visit_u64<E>(self, number: u64) -> Result<Reference, E> {
                Ok(Reference(Some(number.to_string())))
            }

            fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<Reference, E> {
                Err(E::invalid_type(Unexpected::Float(number), &self))
            }
        }

        deserializer
            .deserialize_any(ReferenceVisitor)
            .map_err(D::Error::custom)
    }
}

/// A frame to be written. `payload` is JSON text and is copied as it is.
#[derive(Debug, Clone, Copy)]
pub struct Outgoing<'a> {
    /// Reference of the join; fan-out pushes carry none.
    pub join_ref: Option<&'a str>,
    /// Reference of the request a reply answers.
    pub reference: Option<&'a str>,
    /// The topic as written on the wire.
    pub topic: &'a str,
    /// The event name.
    pub event: &'a str,
    /// JSON text. The caller vouches for it.
    pub payload: &'a str,
}

impl Outgoing<'_> {
    /// Writes the frame as a server does: version 1 leaves `join_ref` out.
    pub fn encode(&self, version: Version) -> String {
        match version {
            Version::V1 => self.encode_object(false),
            Version::V2 => self.encode_array(),
        }
    }

    /// Writes the frame as a client does: version 1 has the `join_ref` key too.
    pub fn encode_from_client(&self, version: Version) -> String {
        match version {
            Version::V1 => self.encode_object(true),
            Version::V2 => self.encode_array(),
        }
    }

    fn encode_object(&self, with_join_ref: bool) -> String {
        let mut text = String::with_capacity(self.payload.len() + self.topic.len() + 96);
        text.push_str(r#"{"event":"#);
        push_json_string(&mut text, self.event);
        text.push_str(r#","payload":"#);
        text.push_str(self.payload);
        text.push_str(r#","ref":"#);
        push_reference(&mut text, self.reference);
        if with_join_ref {
            text.push_str(r#","join_ref":"#);
            push_reference(&mut text, self.join_ref);
        }
        text.push_str(r#","topic":"#);
        push_json_string(&mut text, self.topic);
        text.push('}');
        text
    }

    fn encode_array(&self) -> String {
        let mut text = String::with_capacity(self.payload.len() + self.topic.len() + 64);
        text.push('[');
        push_reference(&mut text, self.join_ref);
        text.push(',');
        push_reference(&mut text, self.reference);
        text.push(',');
        push_json_string(&mut text, self.topic);
        text.push(',');
        push_json_string(&mut text, self.event);
        text.push(',');
        text.push_str(self.payload);
        text.push(']');
        text
    }
}

fn push_reference(text: &mut String, reference: Option<&str>) {
    match reference {
        Some(reference) => push_json_string(text, reference),
        None => text.push_str("null"),
    }
}

/// Appends `value` to `text` as a JSON string, quotes included.
pub fn push_json_string(text: &mut String, value: &str) {
    let needs_escape = |byte: u8| byte < 0x20 || byte == b'"' || byte == b'\\';
    if value.bytes().any(needs_escape) {
        text.push_str(&json_string(value));
    } else {
        text.push('"');
        text.push_str(value);
        text.push('"');
    }
}

/// `value` as a JSON string, quotes included.
pub fn json_string(value: &str) -> String {
    to_json(&value)
}

/// JSON text of a value whose serialization cannot fail: no maps with keys that are not strings, no fallible `Serialize`.
pub(crate) fn to_json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("strings, numbers and maps with string keys serialize")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_version_is_the_first() {
        assert_eq!(Version::parse(None), Some(Version::V1));
        assert_eq!(Version::parse(Some("1.0.0")), Some(Version::V1));
        assert_eq!(Version::parse(Some("2.0.7")), Some(Version::V2));
        for refused in ["", "1", "2.0", "2.0.", "2.1.0", "3.0.0", "2.0.x", "1.0.0 "] {
            assert_eq!(Version::parse(Some(refused)), None, "{refused:?}");
        }
    }

    #[test]
    fn version_one_takes_a_null_and_a_missing_reference() {
        let text = r#"{"event":"heartbeat","payload":{},"topic":"phoenix","ref":null}"#;
        let frame = Frame::decode(Version::V1, text).unwrap();
        assert_eq!(frame.reference, None);
        assert_eq!(frame.join_ref, None);
        assert_eq!(frame.topic, "phoenix");
        let no_ref = r#"{"event":"heartbeat","payload":{},"topic":"phoenix"}"#;
        assert!(Frame::decode(Version::V1, no_ref).is_err());
    }

    #[test]
    fn payloads_stay_as_they_were_written() {
        let text = r#"["1","2","realtime:t","broadcast",{ "n" : 1.00 }]"#;
        let frame = Frame::decode(Version::V2, text).unwrap();
        assert_eq!(frame.payload.get(), r#"{ "n" : 1.00 }"#);
    }

    #[test]
    fn frames_of_another_shape_are_refused() {
        for text in [
            "",
            "null",
            "[]",
            r#"["1","2","t","e"]"#,
            r#"["1","2","t","e",{},1]"#,
            r#"[true,"2","t","e",{}]"#,
            r#"["1","2",3,"e",{}]"#,
            r#"{"topic":"t"}"#,
        ] {
            assert!(Frame::decode(Version::V2, text).is_err(), "{text}");
        }
    }

    #[test]
    fn servers_write_null_references_out() {
        let push = Outgoing {
            join_ref: None,
            reference: None,
            topic: "realtime:t",
            event: "broadcast",
            payload: "{}",
        };
        assert_eq!(
            push.encode(Version::V1),
            r#"{"event":"broadcast","payload":{},"ref":null,"topic":"realtime:t"}"#
        );
        assert_eq!(
            push.encode(Version::V2),
            r#"[null,null,"realtime:t","broadcast",{}]"#
        );
    }
}

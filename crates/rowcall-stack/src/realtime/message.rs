//! Messages on their way out: encoded once per protocol version, WebSocket header included, and shared by all sockets.

use std::cell::OnceCell;

use bytes::Bytes;
use rowcall_realtime::binary::{Encoding, UserBroadcast};
use rowcall_realtime::frame::push_json_string;
use rowcall_realtime::{Outgoing, Version, event};

use super::ws;

/// Encodes a text frame.
pub(crate) fn encode(version: Version, outgoing: &Outgoing<'_>) -> Bytes {
    ws::text(&outgoing.encode(version))
}

/// A broadcast before it is encoded.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Broadcast<'a> {
    /// Topic as written on the wire.
    pub(crate) topic: &'a str,
    pub(crate) body: Body<'a>,
}

/// Where a broadcast comes from decides in which form receivers of version 2 get it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Body<'a> {
    /// The payload of a text push, passed on as it is.
    Whole(&'a str),
    /// An event with a payload: from a binary push, the per-event API or the database.
    Event {
        event: &'a str,
        /// JSON text, or empty.
        meta: &'a str,
        encoding: Encoding,
        /// Valid JSON text where the encoding says so: the caller has checked.
        payload: &'a [u8],
    },
}

impl Broadcast<'_> {
    /// The frame for one version; `None` where the version has no form for it (raw bytes in version 1, and raw bytes whose
    /// topic, event or meta is too long for the binary header).
    fn encode(&self, version: Version) -> Option<Bytes> {
        let (event, meta, encoding, payload) = match self.body {
            Body::Whole(payload) => return Some(self.text(version, payload)),
            Body::Event {
                event,
                meta,
                encoding,
                payload,
            } => (event, meta, encoding, payload),
        };
        if version == Version::V2 {
            let broadcast = UserBroadcast {
                topic: self.topic,
                event,
                meta,
                encoding,
                payload,
            };
            if let Ok(frame) = broadcast.encode() {
                return Some(ws::binary(&frame));
            }
        }
        if encoding == Encoding::Binary {
            return None;
        }
        let payload = std::str::from_utf8(payload).ok()?;
        Some(self.text(version, &event_object(event, payload, meta)))
    }

    fn text(&self, version: Version, payload: &str) -> Bytes {
        encode(
            version,
            &Outgoing {
                join_ref: None,
                reference: None,
                topic: self.topic,
                event: event::BROADCAST,
                payload,
            },
        )
    }
}

/// The payload of a text `broadcast`: `{"event","payload","type","meta"}`; `meta` only where there is one.
pub(crate) fn event_object(event: &str, payload: &str, meta: &str) -> String {
    let mut object = String::with_capacity(event.len() + payload.len() + meta.len() + 64);
    object.push_str(r#"{"event":"#);
    push_json_string(&mut object, event);
    object.push_str(r#","payload":"#);
    object.push_str(payload);
    object.push_str(r#","type":"broadcast""#);
    if !meta.is_empty() {
        object.push_str(r#","meta":"#);
        object.push_str(meta);
    }
    object.push('}');
    object
}

/// A broadcast and its encodings, made when the first receiver of a version is met.
pub(crate) struct Shared<'a> {
    broadcast: &'a Broadcast<'a>,
    v1: OnceCell<Option<Bytes>>,
    v2: OnceCell<Option<Bytes>>,
}

impl<'a> Shared<'a> {
    pub(crate) fn new(broadcast: &'a Broadcast<'a>) -> Self {
        Self {
            broadcast,
            v1: OnceCell::new(),
            v2: OnceCell::new(),
        }
    }

    pub(crate) fn frame(&self, version: Version) -> Option<Bytes> {
        let slot = match version {
            Version::V1 => &self.v1,
            Version::V2 => &self.v2,
        };
        slot.get_or_init(|| self.broadcast.encode(version)).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The payload behind a header of two bytes, or of four where it has more than 125.
    fn unframed(frame: &Bytes) -> &[u8] {
        if frame[1] == 126 {
            &frame[4..]
        } else {
            &frame[2..]
        }
    }

    fn event(topic: &str, encoding: Encoding) -> [Option<Vec<u8>>; 2] {
        let broadcast = Broadcast {
            topic,
            body: Body::Event {
                event: "e",
                meta: r#"{"id":"7"}"#,
                encoding,
                payload: b"[1]",
            },
        };
        let shared = Shared::new(&broadcast);
        [Version::V1, Version::V2]
            .map(|version| shared.frame(version).map(|frame| unframed(&frame).to_vec()))
    }

    #[test]
    fn an_event_is_binary_for_version_two_and_text_for_version_one() {
        let [v1, v2] = event("realtime:t", Encoding::Json);
        assert_eq!(
            String::from_utf8_lossy(&v1.unwrap()),
            r#"{"event":"broadcast","payload":{"event":"e","payload":[1],"type":"broadcast","meta":{"id":"7"}},"ref":null,"topic":"realtime:t"}"#
        );
        assert_eq!(
            v2.unwrap(),
            b"\x04\x0a\x01\x0a\x01realtime:te{\"id\":\"7\"}[1]"
        );
    }

    #[test]
    fn version_one_has_no_raw_bytes() {
        let [v1, v2] = event("realtime:t", Encoding::Binary);
        assert_eq!(v1, None);
        assert!(v2.is_some());
    }

    #[test]
    fn a_topic_too_long_for_the_binary_header_goes_out_as_text() {
        let topic = format!("realtime:{}", "t".repeat(250));
        let [_, v2] = event(&topic, Encoding::Json);
        assert!(String::from_utf8_lossy(&v2.unwrap()).contains(r#""broadcast",{"event":"e""#));
        let [_, raw] = event(&topic, Encoding::Binary);
        assert_eq!(raw, None);
    }
}

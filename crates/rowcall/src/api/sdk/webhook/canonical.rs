//! The two texts that an event's data may have been signed as.
//!
//! JavaScript signs what it sends: the keys in their order, nothing between tokens, text as it is. Python sorts keys and
//! escapes everything that is not ASCII. Both are made from the body as it was sent, so that numbers keep their digits.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// The members of the payload that are not data.
const ENVELOPE: [&str; 4] = ["task_uuid", "machine_id", "timestamp", "attempt_id"];

/// How deep data may be nested; as deep as the JSON reader goes.
const MAX_DEPTH: usize = 128;

/// The members of an object, in order, unread.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;

        impl<'de> Visitor<'de> for Reader {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members: Vec<(String, &RawValue)> = Vec::new();
                while let Some((key, value)) = map.next_entry::<String, &RawValue>()? {
                    // As both languages do: the last one of a key counts, in the place of the first.
                    match members.iter_mut().find(|(known, _)| *known == key) {
                        Some(known) => known.1 = value,
                        None => members.push((key, value)),
                    }
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(Reader)
    }
}

/// The payload of an event, and the texts its data may have been signed as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Signed {
    /// `task_uuid`, as sent; empty when absent.
    pub(super) task: String,
    /// `timestamp`, as sent; empty when absent.
    pub(super) timestamp: String,
    /// The data in JavaScript's form, then in Python's.
    pub(super) texts: [String; 2],
}

/// Reads the payload out of a body. `None` when it is not one, or nested too deep.
pub(super) fn read(body: &[u8]) -> Option<Signed> {
    let Members(body) = serde_json::from_slice(body).ok()?;
    let (_, payload) = body.into_iter().find(|(key, _)| key == "payload")?;
    let Members(members) = serde_json::from_str(payload.get()).ok()?;
    let text = |name: &str| {
        let (_, value) = members.iter().find(|(key, _)| key == name)?;
        serde_json::from_str::<Option<String>>(value.get()).ok()?
    };
    let (task, timestamp) = (
        text("task_uuid").unwrap_or_default(),
        text("timestamp").unwrap_or_default(),
    );
    let data: Vec<&(String, &RawValue)> = members
        .iter()
        .filter(|(key, _)| !ENVELOPE.contains(&key.as_str()))
        .collect();
    let mut script = String::from("{");
    for (index, (key, value)) in data.iter().enumerate() {
        if index > 0 {
            script.push(',');
        }
        script.push_str(&serde_json::to_string(key).ok()?);
        script.push(':');
        script.push_str(value.get());
    }
    script.push('}');
    let mut python = String::new();
    write_sorted(
        data.into_iter()
            .map(|(key, value)| (key.clone(), *value))
            .collect(),
        0,
        &mut python,
    )?;
    Some(Signed {
        task,
        timestamp,
        texts: [script, python],
    })
}

fn write_sorted(
    mut members: Vec<(String, &RawValue)>,
    depth: usize,
    out: &mut String,
) -> Option<()> {
    members.sort_by(|one, other| one.0.cmp(&other.0));
    out.push('{');
    for (index, (key, value)) in members.into_iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        write_text(&key, out);
        out.push(':');
        write_value(value.get(), depth + 1, out)?;
    }
    out.push('}');
    Some(())
}

fn write_value(text: &str, depth: usize, out: &mut String) -> Option<()> {
    if depth > MAX_DEPTH {
        return None;
    }
    match text.as_bytes().first()? {
        b'{' => write_sorted(serde_json::from_str::<Members>(text).ok()?.0, depth, out),
        b'[' => {
            let items: Vec<&RawValue> = serde_json::from_str(text).ok()?;
            out.push('[');
            for (index, item) in items.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_value(item.get(), depth + 1, out)?;
            }
            out.push(']');
            Some(())
        }
        b'"' => {
            write_text(&serde_json::from_str::<String>(text).ok()?, out);
            Some(())
        }
        _ => {
            out.push_str(text);
            Some(())
        }
    }
}

/// A string as Python's `json.dumps` writes it.
fn write_text(text: &str, out: &mut String) {
    use std::fmt::Write as _;
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            ' '..='~' => out.push(c),
            other => {
                for unit in other.encode_utf16(&mut [0; 2]) {
                    write!(out, "\\u{unit:04x}").expect("writing to a text does not fail");
                }
            }
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_made() {
        let body = r#"{"event":"x","payload":{"task_uuid":"t","machine_id":null,"timestamp":"n","b":{"z":1.50,"a":"é😀"},"a":[1e3, "\u000b"]}}"#;
        let signed = read(body.as_bytes()).unwrap();
        assert_eq!(
            (signed.task.as_str(), signed.timestamp.as_str()),
            ("t", "n")
        );
        assert_eq!(
            signed.texts[0],
            "{\"b\":{\"z\":1.50,\"a\":\"é😀\"},\"a\":[1e3, \"\\u000b\"]}"
        );
        assert_eq!(
            signed.texts[1],
            r#"{"a":[1e3,"\u000b"],"b":{"a":"\u00e9\ud83d\ude00","z":1.50}}"#
        );
    }

    #[test]
    fn nothing_left_is_an_empty_object() {
        let signed = read(br#"{"payload":{"task_uuid":"t","attempt_id":1}}"#).unwrap();
        assert_eq!(signed.texts, ["{}", "{}"]);
        assert_eq!(read(b"[]"), None);
        let deep = format!(
            r#"{{"payload":{{"a":{}{}}}}}"#,
            "[".repeat(500),
            "]".repeat(500)
        );
        assert_eq!(read(deep.as_bytes()), None);
    }
}

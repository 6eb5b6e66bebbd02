//! Texts of agents as PostgreSQL can store them: it has no NUL character, and its JSON no half characters.

use std::borrow::Cow;

use rowcall_core::Payload;

/// What stands for a character that cannot be stored.
const REPLACEMENT: &str = "\\ufffd";

/// Text without NUL characters.
pub(crate) fn storable_text(text: &str) -> Cow<'_, str> {
    if text.contains('\0') {
        text.replace('\0', "\u{fffd}").into()
    } else {
        text.into()
    }
}

/// JSON text without escapes of NUL or of single surrogates. JSON allows them, `jsonb` refuses them, and one such result would
/// keep a whole batch from being settled.
pub(crate) fn storable_json(json: &str) -> Cow<'_, str> {
    let mut out: Option<String> = None;
    let mut copied = 0;
    let mut at = 0;
    while let Some(offset) = json[at..].find('\\') {
        at += offset;
        let length = match Escape::read(&json[at..]) {
            Escape::Storable(length) => {
                at += length;
                continue;
            }
            Escape::Not(length) => length,
        };
        let out = out.get_or_insert_with(|| String::with_capacity(json.len()));
        out.push_str(&json[copied..at]);
        out.push_str(REPLACEMENT);
        at += length;
        copied = at;
    }
    match out {
        None => json.into(),
        Some(mut out) => {
            out.push_str(&json[copied..]);
            out.into()
        }
    }
}

/// The same for a payload, which is shared when nothing needs to be replaced.
pub(crate) fn storable_payload(payload: &Payload) -> Payload {
    match storable_json(payload.get()) {
        Cow::Borrowed(_) => payload.clone(),
        Cow::Owned(text) => {
            Payload::from_text(text).expect("one escape in place of another leaves JSON")
        }
    }
}

/// An escape of valid JSON, and how many bytes it takes.
enum Escape {
    Storable(usize),
    Not(usize),
}

impl Escape {
    fn read(text: &str) -> Self {
        match Self::unit(text) {
            // The backslash and whatever it escapes.
            None => Self::Storable(1 + text[1..].chars().next().map_or(0, char::len_utf8)),
            Some(0) => Self::Not(6),
            Some(0xd800..=0xdbff) => match text.get(6..).and_then(Self::unit) {
                Some(0xdc00..=0xdfff) => Self::Storable(12),
                _ => Self::Not(6),
            },
            Some(0xdc00..=0xdfff) => Self::Not(6),
            Some(_) => Self::Storable(6),
        }
    }

    /// The UTF-16 unit of a `\uXXXX` at the start of the text.
    fn unit(text: &str) -> Option<u16> {
        let digits = text.strip_prefix("\\u")?.get(..4)?;
        u16::from_str_radix(digits, 16).ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_what_cannot_be_stored_is_replaced() {
        for (json, expected) in [
            (r#"{"a": "x"}"#, r#"{"a": "x"}"#),
            (r#""\u0000""#, r#""\ufffd""#),
            (r#""\\u0000""#, r#""\\u0000""#),
            (r#""\\\u0000x""#, r#""\\\ufffdx""#),
            (r#""\ud83d\ude00""#, r#""\ud83d\ude00""#),
            (r#""\ud83d""#, r#""\ufffd""#),
            (r#""\ude00\ud83d\n""#, r#""\ufffd\ufffd\n""#),
            (
                r#""\ud83d\ud83d\ude00é\u00e9""#,
                r#""\ufffd\ud83d\ude00é\u00e9""#,
            ),
        ] {
            assert_eq!(storable_json(json), expected);
        }
        assert_eq!(storable_text("a\0b"), "a\u{fffd}b");
    }

    proptest! {
        #[test]
        fn other_json_stays_as_it_is(text in "[ -~é]{0,20}") {
            let json = serde_json::to_string(&text).unwrap();
            prop_assert_eq!(storable_json(&json), &*json);
        }

        #[test]
        fn nothing_panics(text in ".{0,30}|(\\\\u?[0-9a-f]{0,4}é?){0,5}") {
            let _ = storable_json(&text);
        }
    }
}

//! Values as PostgreSQL's `to_jsonb` would give them, made from the text `pgoutput` sends.
//!
//! The text was printed with `TimeZone` UTC and the other settings of [`OUTPUT_SETTINGS`](super::super::database).
//! What is not of the expected form becomes a JSON string, never broken JSON.

use std::sync::Arc;

use rowcall_realtime::frame::push_json_string;

/// How the text of a type becomes JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Shape {
    /// A number; `NaN` and the infinities become null.
    Number,
    Bool,
    /// JSON text as it is.
    Json,
    /// Hexadecimal without the leading `\x`.
    Bytes,
    Timestamp,
    TimestampTz,
    /// A string.
    Text,
    Array {
        /// Separates elements; `;` for `box`, `,` for all else.
        delimiter: u8,
        element: Arc<Shape>,
    },
    /// An object.
    Composite(Vec<(String, Arc<Shape>)>),
}

/// Appends the JSON of `text`, a value of this shape.
pub(crate) fn push_value(json: &mut String, shape: &Shape, text: &str) {
    match shape {
        Shape::Number => push_number(json, text),
        Shape::Bool => json.push_str(match text {
            "t" => "true",
            "f" => "false",
            _ => "null",
        }),
        Shape::Json => json.push_str(text),
        Shape::Bytes => push_json_string(json, text.strip_prefix(r"\x").unwrap_or(text)),
        Shape::Timestamp => {
            push_json_string(json, &text.replacen(' ', "T", usize::from(is_date(text))));
        }
        Shape::TimestampTz => push_timestamptz(json, text),
        Shape::Text => push_json_string(json, text),
        Shape::Array { delimiter, element } => {
            let start = json.len();
            if push_array(json, text, *delimiter, element).is_none() {
                json.truncate(start);
                push_json_string(json, text);
            }
        }
        Shape::Composite(fields) => {
            let start = json.len();
            if push_composite(json, text, fields).is_none() {
                json.truncate(start);
                push_json_string(json, text);
            }
        }
    }
}

/// Whether a timestamp's text begins with a date, rather than being `infinity`.
fn is_date(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_digit())
}

/// `2026-01-02 01:04:05.678+00` becomes `2026-01-02T01:04:05.678+00:00`; an era stays at the end.
fn push_timestamptz(json: &mut String, text: &str) {
    if !is_date(text) {
        return push_json_string(json, text);
    }
    let (time, era) = match text.strip_suffix(" BC") {
        Some(time) => (time, " BC"),
        None => (text, ""),
    };
    let minutes = if time.ends_with("+00") { ":00" } else { "" };
    let time = time.replacen(' ', "T", 1);
    push_json_string(json, &format!("{time}{minutes}{era}"));
}

fn push_number(json: &mut String, text: &str) {
    let is_finite = text.bytes().any(|byte| byte.is_ascii_digit());
    if !is_finite {
        return json.push_str("null");
    }
    match text.split_once(['e', 'E']) {
        // The database's JSON numbers know no negative zero.
        None if text == "-0" => json.push('0'),
        None => json.push_str(text),
        Some((mantissa, exponent)) => push_expanded(json, mantissa, exponent),
    }
}

/// A float's exponent written out, as `numeric` prints it: JSON numbers of the database have no exponents.
fn push_expanded(json: &mut String, mantissa: &str, exponent: &str) {
    /// Beyond any float PostgreSQL prints; keeps hostile text from growing.
    const MAX_EXPONENT: i64 = 400;
    let exponent = exponent.parse::<i64>().unwrap_or_default();
    let exponent = exponent.clamp(-MAX_EXPONENT, MAX_EXPONENT);
    let (sign, mantissa) = match mantissa.strip_prefix('-') {
        Some(mantissa) => ("-", mantissa),
        None => ("", mantissa),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let point = i64::try_from(whole.len()).unwrap_or(0) + exponent;
    json.push_str(sign);
    let length = i64::try_from(digits.len()).unwrap_or(0);
    if point <= 0 {
        json.push_str("0.");
        json.extend(std::iter::repeat_n(
            '0',
            usize::try_from(-point).unwrap_or(0),
        ));
        json.push_str(&digits);
    } else if point >= length {
        json.push_str(&digits);
        json.extend(std::iter::repeat_n(
            '0',
            usize::try_from(point - length).unwrap_or(0),
        ));
    } else {
        let (before, after) = digits.split_at(usize::try_from(point).unwrap_or(0));
        json.push_str(before);
        json.push('.');
        json.push_str(after);
    }
}

/// `{1,NULL,"a b"}`, nested for more dimensions, with bounds in front (`[0:1]={…}`) where they do not begin at 1.
fn push_array(json: &mut String, text: &str, delimiter: u8, element: &Shape) -> Option<()> {
    let text = if text.starts_with('[') {
        text.split_once('=')?.1
    } else {
        text
    };
    let end = push_dimension(json, text, 0, delimiter, element, 0)?;
    (end == text.len()).then_some(())
}

/// One pair of braces and what is in it; returns where it ends.
fn push_dimension(
    json: &mut String,
    text: &str,
    start: usize,
    delimiter: u8,
    element: &Shape,
    depth: u8,
) -> Option<usize> {
    /// PostgreSQL's own limit.
    const MAX_DIMENSIONS: u8 = 6;
    let bytes = text.as_bytes();
    if depth == MAX_DIMENSIONS || bytes.get(start) != Some(&b'{') {
        return None;
    }
    json.push('[');
    let mut at = start + 1;
    if bytes.get(at) == Some(&b'}') {
        json.push(']');
        return Some(at + 1);
    }
    loop {
        at = match bytes.get(at)? {
            b'{' => push_dimension(json, text, at, delimiter, element, depth + 1)?,
            b'"' => {
                let (value, after) = quoted(text, at)?;
                push_value(json, element, &value);
                after
            }
            _ => {
                let length = bytes[at..]
                    .iter()
                    .position(|&byte| byte == delimiter || byte == b'}')?;
                match &text[at..at + length] {
                    "NULL" => json.push_str("null"),
                    value => push_value(json, element, value),
                }
                at + length
            }
        };
        match *bytes.get(at)? {
            b'}' => {
                json.push(']');
                return Some(at + 1);
            }
            byte if byte == delimiter => json.push(','),
            _ => return None,
        }
        at += 1;
    }
}

/// The text in quotes that begins at `start`, and where it ends. A backslash takes the next character as it is, and so does
/// a doubled quote in a composite.
fn quoted(text: &str, start: usize) -> Option<(String, usize)> {
    let mut value = String::new();
    let mut characters = text[start + 1..].char_indices().peekable();
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => value.push(characters.next()?.1),
            '"' => match characters.peek() {
                Some((_, '"')) => {
                    characters.next();
                    value.push('"');
                }
                _ => return Some((value, start + 1 + at + 1)),
            },
            other => value.push(other),
        }
    }
    None
}

/// `(1,"a b",)`: nothing between commas is null.
fn push_composite(json: &mut String, text: &str, fields: &[(String, Arc<Shape>)]) -> Option<()> {
    let inner = text.strip_prefix('(')?.strip_suffix(')')?;
    json.push('{');
    let mut at = 0;
    for (index, (name, shape)) in fields.iter().enumerate() {
        if index > 0 {
            if inner.as_bytes().get(at) != Some(&b',') {
                return None;
            }
            at += 1;
            json.push(',');
        }
        push_json_string(json, name);
        json.push(':');
        let (value, after) = field(inner, at)?;
        match value {
            Some(value) => push_value(json, shape, &value),
            None => json.push_str("null"),
        }
        at = after;
    }
    json.push('}');
    (at == inner.len()).then_some(())
}

/// One field of a composite: quoted and plain parts may alternate.
fn field(text: &str, start: usize) -> Option<(Option<String>, usize)> {
    let mut value = None;
    let mut at = start;
    while let Some(character) = text[at..].chars().next() {
        match character {
            ',' => break,
            '"' => {
                let (part, after) = quoted(text, at)?;
                value.get_or_insert_with(String::new).push_str(&part);
                at = after;
            }
            other => {
                value.get_or_insert_with(String::new).push(other);
                at += other.len_utf8();
            }
        }
    }
    Some((value, at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn json(shape: &Shape, text: &str) -> String {
        let mut json = String::new();
        push_value(&mut json, shape, text);
        json
    }

    fn array(element: Shape) -> Shape {
        Shape::Array {
            delimiter: b',',
            element: Arc::new(element),
        }
    }

    #[test]
    fn numbers_keep_their_scale_and_lose_their_exponent() {
        for (text, expected) in [
            ("12.50000", "12.50000"),
            ("9007199254740993", "9007199254740993"),
            ("-1e-07", "-0.0000001"),
            ("1.5e+20", "150000000000000000000"),
            ("1.25e+01", "12.5"),
            ("NaN", "null"),
            ("-Infinity", "null"),
        ] {
            assert_eq!(json(&Shape::Number, text), expected);
        }
    }

    #[test]
    fn times_are_written_as_in_iso_8601() {
        for (shape, text, expected) in [
            (
                Shape::Timestamp,
                "2026-01-02 03:04:05.678",
                r#""2026-01-02T03:04:05.678""#,
            ),
            (Shape::Timestamp, "infinity", r#""infinity""#),
            (
                Shape::TimestampTz,
                "2026-01-02 01:04:05.678+00",
                r#""2026-01-02T01:04:05.678+00:00""#,
            ),
            (
                Shape::TimestampTz,
                "0044-03-15 00:00:00+00 BC",
                r#""0044-03-15T00:00:00+00:00 BC""#,
            ),
            (Shape::TimestampTz, "-infinity", r#""-infinity""#),
        ] {
            assert_eq!(json(&shape, text), expected);
        }
    }

    #[test]
    fn arrays_nest_and_know_null_and_the_text_null() {
        assert_eq!(json(&array(Shape::Number), "{1,NULL,3}"), "[1,null,3]");
        assert_eq!(json(&array(Shape::Number), "[0:1]={1,2}"), "[1,2]");
        assert_eq!(
            json(&array(Shape::Number), "{{1,2},{3,4}}"),
            "[[1,2],[3,4]]"
        );
        assert_eq!(
            json(&array(Shape::Text), r#"{"a,\"b\\",NULL,"NULL",""}"#),
            r#"["a,\"b\\",null,"NULL",""]"#
        );
        assert_eq!(
            json(&array(Shape::Json), r#"{"{\"a\": 1}"}"#),
            r#"[{"a": 1}]"#
        );
        assert_eq!(json(&array(Shape::Number), "{}"), "[]");
        assert_eq!(json(&array(Shape::Number), "nonsense"), r#""nonsense""#);
    }

    #[test]
    fn composites_are_objects() {
        let shape = Shape::Composite(vec![
            ("n".to_owned(), Arc::new(Shape::Number)),
            ("t".to_owned(), Arc::new(Shape::Text)),
            ("e".to_owned(), Arc::new(array(Shape::Text))),
        ]);
        assert_eq!(
            json(&shape, r#"(1,"a ""b"" \\c","{x,""y z""}")"#),
            r#"{"n":1,"t":"a \"b\" \\c","e":["x","y z"]}"#
        );
        assert_eq!(json(&shape, "(,,)"), r#"{"n":null,"t":null,"e":null}"#);
        assert_eq!(json(&shape, "(1)"), r#""(1)""#);
    }

    proptest! {
        #[test]
        fn any_text_of_a_nested_shape_is_json(text in r#"[(\[{]?[a1,"\\(){}NUL =\n]{0,30}[)}]?"#) {
            let point = Shape::Composite(vec![
                ("a\"".to_owned(), Arc::new(Shape::Text)),
                ("b".to_owned(), Arc::new(array(Shape::Text))),
            ]);
            for shape in [array(Shape::Text), array(point.clone()), point] {
                let json = json(&shape, &text);
                let parsed: Result<serde_json::Value, _> = serde_json::from_str(&json);
                prop_assert!(parsed.is_ok(), "{} became {}", text, json);
            }
        }

        #[test]
        fn numbers_are_json(mantissa in "-?[0-9]{1,5}(\\.[0-9]{1,5})?", exponent in -330_i32..310) {
            let text = format!("{mantissa}e{exponent:+03}");
            let written = json(&Shape::Number, &text);
            prop_assert_eq!(written.parse::<f64>()?.to_bits(), text.parse::<f64>()?.to_bits());
        }
    }
}

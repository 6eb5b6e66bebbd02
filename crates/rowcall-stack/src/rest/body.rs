//! Request bodies: what they are, and which keys their objects have.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::error::RestError;
use super::limits::MAX_BODY_KEYS;

/// What a body is, by its content type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodyKind {
    /// `application/json`, and what says nothing.
    Json,
    /// `text/csv`
    Csv,
    /// `application/x-www-form-urlencoded`
    Form,
    /// `text/plain`
    Text,
    /// `text/xml`
    Xml,
    /// `application/octet-stream`
    Binary,
}

impl BodyKind {
    /// By the value of the `Content-Type` header.
    ///
    /// # Errors
    /// PGRST102 for types that are not taken.
    pub(crate) fn of(content_type: Option<&str>) -> Result<Self, RestError> {
        let Some(content_type) = content_type else {
            return Ok(Self::Json);
        };
        let essence = content_type
            .split(';')
            .next()
            .unwrap_or_default()
            .trim()
            .to_ascii_lowercase();
        match essence.as_str() {
            "application/json" | "*/*" | "" => Ok(Self::Json),
            "text/csv" => Ok(Self::Csv),
            "application/x-www-form-urlencoded" => Ok(Self::Form),
            "text/plain" => Ok(Self::Text),
            "text/xml" | "application/xml" => Ok(Self::Xml),
            "application/octet-stream" => Ok(Self::Binary),
            _ => Err(RestError::body(format!(
                "Content-Type not acceptable: {essence}"
            ))),
        }
    }
}

/// A body of one object or an array of objects, as JSON text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Payload {
    /// The text, sent to PostgreSQL as it is.
    pub json: String,
    /// An array rather than an object.
    pub is_array: bool,
    /// The keys of the objects, in the order of the first.
    pub keys: Vec<String>,
}

impl Payload {
    /// Checks that `json` is an object or an array of objects; of an array, all objects must have the same keys unless
    /// `any_keys`.
    ///
    /// # Errors
    /// PGRST102
    pub(crate) fn from_json(json: String, any_keys: bool) -> Result<Self, RestError> {
        let mut deserializer = serde_json::Deserializer::from_str(&json);
        let shape = deserializer
            .deserialize_any(ShapeVisitor { any_keys })
            .and_then(|shape| deserializer.end().map(|()| shape))
            .map_err(|_| RestError::body("Empty or invalid json"))?;
        match shape {
            BodyShape::Object(keys) => Ok(Self {
                json,
                is_array: false,
                keys,
            }),
            BodyShape::Array(keys) => Ok(Self {
                json,
                is_array: true,
                keys,
            }),
            BodyShape::Uneven => Err(RestError::body("All object keys must match")),
            BodyShape::TooWide => Err(RestError::body(format!(
                "An object has more than {MAX_BODY_KEYS} keys"
            ))),
        }
    }

    /// A table of comma separated values; the first record names the columns, `NULL` is null.
    ///
    /// # Errors
    /// PGRST102
    pub(crate) fn from_csv(text: &str) -> Result<Self, RestError> {
        let mut reader = csv::ReaderBuilder::new()
            .has_headers(true)
            .from_reader(text.as_bytes());
        let keys: Vec<String> = reader
            .headers()
            .map_err(|error| RestError::body(error.to_string()))?
            .iter()
            .map(str::to_owned)
            .collect();
        if keys.len() > MAX_BODY_KEYS {
            return Err(RestError::body(format!(
                "A record has more than {MAX_BODY_KEYS} fields"
            )));
        }
        let mut rows = Vec::new();
        for record in reader.records() {
            let record =
                record.map_err(|_| RestError::body("All lines must have same number of fields"))?;
            let object: Map<String, Value> = keys
                .iter()
                .cloned()
                .zip(record.iter().map(|field| match field {
                    "NULL" => Value::Null,
                    field => Value::String(field.to_owned()),
                }))
                .collect();
            rows.push(Value::Object(object));
        }
        Ok(Self {
            json: Value::Array(rows).to_string(),
            is_array: true,
            keys,
        })
    }

    /// One object from the pairs of a form.
    pub(crate) fn from_form(pairs: &[(String, String)]) -> Self {
        let object: Map<String, Value> = pairs
            .iter()
            .map(|(key, value)| (key.clone(), Value::String(value.clone())))
            .collect();
        Self {
            keys: object.keys().cloned().collect(),
            json: Value::Object(object).to_string(),
            is_array: false,
        }
    }

    /// No arguments.
    pub(crate) fn empty() -> Self {
        Self {
            json: "{}".to_owned(),
            is_array: false,
            keys: Vec::new(),
        }
    }
}

/// The pairs of a form.
pub(crate) fn form_pairs(text: &str) -> Vec<(String, String)> {
    url::form_urlencoded::parse(text.as_bytes())
        .into_owned()
        .collect()
}

enum BodyShape {
    Object(Vec<String>),
    Array(Vec<String>),
    Uneven,
    TooWide,
}

/// Reads the shape of a body without building its values.
struct ShapeVisitor {
    any_keys: bool,
}

impl<'de> Visitor<'de> for ShapeVisitor {
    type Value = BodyShape;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object or an array of objects")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<BodyShape, A::Error> {
        let keys = keys_of(map)?;
        Ok(if keys.len() > MAX_BODY_KEYS {
            BodyShape::TooWide
        } else {
            BodyShape::Object(keys)
        })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<BodyShape, A::Error> {
        let mut shape: Option<BodyShape> = None;
        let mut first: Option<(Vec<String>, Vec<String>)> = None;
        while let Some(keys) = seq.next_element_seed(KeysSeed)? {
            if shape.is_some() {
                continue;
            }
            if keys.len() > MAX_BODY_KEYS {
                shape = Some(BodyShape::TooWide);
                continue;
            }
            let mut sorted = keys.clone();
            sorted.sort_unstable();
            match &first {
                None => first = Some((keys, sorted)),
                Some((_, known)) if *known != sorted && !self.any_keys => {
                    shape = Some(BodyShape::Uneven);
                }
                Some(_) => {}
            }
        }
        Ok(shape
            .unwrap_or_else(|| BodyShape::Array(first.map(|(keys, _)| keys).unwrap_or_default())))
    }
}

struct KeysSeed;

impl<'de> DeserializeSeed<'de> for KeysSeed {
    type Value = Vec<String>;

    fn deserialize<D: serde::Deserializer<'de>>(
        self,
        deserializer: D,
    ) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for KeysSeed {
    type Value = Vec<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        keys_of(map)
    }
}

fn keys_of<'de, A: MapAccess<'de>>(mut map: A) -> Result<Vec<String>, A::Error> {
    let mut keys: Vec<String> = Vec::new();
    let mut seen = std::collections::HashSet::new();
    while let Some((key, _)) = map.next_entry::<String, IgnoredAny>()? {
        if keys.len() <= MAX_BODY_KEYS && seen.insert(key.clone()) {
            keys.push(key);
        }
    }
    Ok(keys)
}

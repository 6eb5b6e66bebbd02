//! Bodies: JSON objects whose members are asked for one by one.
//!
//! In this contract an absent member, `null` and `""` are the same (JavaScript drops undefined keys, Python sends `null`,
//! developer mode sends `"app_id": ""`), and unknown members are ignored.

use axum::{
    body::Bytes,
    extract::{FromRequest, Request},
    http::{HeaderMap, StatusCode, header},
    response::Response,
};
use serde_json::{Map, Value};

use super::error::ApiError;

/// A body that is a JSON object; an empty one counts as `{}`.
#[derive(Clone, Debug, Default)]
pub(super) struct Fields {
    members: Map<String, Value>,
    raw: Bytes,
}

impl<S: Send + Sync> FromRequest<S> for Fields {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        check_type(request.headers()).map_err(axum::response::IntoResponse::into_response)?;
        let raw = Bytes::from_request(request, state)
            .await
            .map_err(axum::response::IntoResponse::into_response)?;
        Self::read(raw).map_err(axum::response::IntoResponse::into_response)
    }
}

/// Another type than JSON is what a web page can send without asking; programs send JSON or nothing.
fn check_type(headers: &HeaderMap) -> Result<(), ApiError> {
    let Some(kind) = headers.get(header::CONTENT_TYPE) else {
        return Ok(());
    };
    let kind = kind.to_str().unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if kind.is_empty() || kind.eq_ignore_ascii_case("application/json") || kind.ends_with("+json") {
        return Ok(());
    }
    Err(ApiError::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "UNSUPPORTED_MEDIA_TYPE",
        "The body must be JSON: send Content-Type: application/json",
    ))
}

impl Fields {
    pub(super) fn read(raw: Bytes) -> Result<Self, ApiError> {
        if raw.trim_ascii().is_empty() {
            return Ok(Self {
                members: Map::new(),
                raw,
            });
        }
        match serde_json::from_slice(&raw) {
            Ok(Value::Object(members)) => Ok(Self { members, raw }),
            Ok(_) => Err(ApiError::invalid("The body must be a JSON object")),
            Err(error) => Err(ApiError::invalid(format!(
                "The body is not valid JSON: {error}"
            ))),
        }
    }

    /// The members of an object.
    pub(super) fn of(value: Option<Value>) -> Result<Self, ApiError> {
        match value {
            None | Some(Value::Null) => Ok(Self::default()),
            Some(Value::Object(members)) => Ok(Self {
                members,
                raw: Bytes::new(),
            }),
            Some(_) => Err(ApiError::invalid("A member that must be an object is not")),
        }
    }

    /// The body as it was sent.
    pub(super) fn raw(&self) -> &Bytes {
        &self.raw
    }

    /// All members.
    pub(super) fn members(&self) -> &Map<String, Value> {
        &self.members
    }

    /// A member; `null` counts as absent.
    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.members.get(name).filter(|value| !value.is_null())
    }

    /// Takes a member out.
    pub(super) fn take(&mut self, name: &str) -> Option<Value> {
        self.members
            .shift_remove(name)
            .filter(|value| !value.is_null())
    }

    /// A text of at most `limit` bytes; `""` counts as absent. Control characters are refused: these texts are names.
    pub(super) fn text(&self, name: &str, limit: usize) -> Result<Option<&str>, ApiError> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) if text.is_empty() => Ok(None),
            Some(Value::String(text)) => check_text(name, text, limit).map(Some),
            Some(_) => Err(ApiError::invalid(format!("{name} must be a text"))),
        }
    }

    /// A text for people: as [`Self::text`], with lines.
    pub(super) fn prose(&self, name: &str, limit: usize) -> Result<Option<&str>, ApiError> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) if text.is_empty() => Ok(None),
            Some(Value::String(text)) if text.len() > limit => Err(ApiError::invalid(format!(
                "{name} is longer than {limit} bytes"
            ))),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(ApiError::invalid(format!("{name} must be a text"))),
        }
    }

    /// A text that must be there.
    pub(super) fn required(&self, name: &str, limit: usize) -> Result<&str, ApiError> {
        self.text(name, limit)?
            .ok_or_else(|| ApiError::invalid(format!("{name} is required")))
    }

    /// A flag; absent means no.
    pub(super) fn flag(&self, name: &str) -> Result<bool, ApiError> {
        match self.get(name) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(_) => Err(ApiError::invalid(format!("{name} must be true or false"))),
        }
    }
}

/// A name from outside: bounded and without control characters.
pub(super) fn check_text<'a>(name: &str, text: &'a str, limit: usize) -> Result<&'a str, ApiError> {
    if text.len() > limit {
        return Err(ApiError::invalid(format!(
            "{name} is longer than {limit} bytes"
        )));
    }
    if text.chars().any(char::is_control) {
        return Err(ApiError::invalid(format!(
            "{name} holds control characters"
        )));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_null_and_empty_are_the_same() {
        let read = |text: &'static str| Fields::read(Bytes::from_static(text.as_bytes()));
        for text in ["", "  ", "{}", r#"{"a":null}"#, r#"{"a":""}"#] {
            assert_eq!(read(text).unwrap().text("a", 9), Ok(None), "{text}");
        }
        assert_eq!(read(r#"{"a":"b"}"#).unwrap().text("a", 9), Ok(Some("b")));
        for text in [r#"{"a":1}"#, r#"{"a":"0123456789"}"#, "{\"a\":\"\\u0000\"}"] {
            assert!(read(text).unwrap().text("a", 9).is_err(), "{text}");
        }
        for text in ["[]", "1", "{", "nul"] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn only_json_is_taken() {
        for (kind, taken) in [
            ("application/json", true),
            ("application/json; charset=utf-8", true),
            ("application/problem+json", true),
            ("text/plain", false),
            ("application/x-www-form-urlencoded", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, kind.parse().unwrap());
            assert_eq!(check_type(&headers).is_ok(), taken, "{kind}");
        }
        assert!(check_type(&HeaderMap::new()).is_ok());
    }
}

//! An HTTP request as the REST server understands it.

use std::collections::BTreeMap;

use axum::http::{HeaderMap, Method, header, request::Parts};
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};

use super::error::RestError;
use super::limits::MAX_URL_BYTES;
use super::prefer::Preferences;

/// What the path names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Resource {
    /// `/`
    Root,
    /// `/{relation}`
    Relation(String),
    /// `/rpc/{function}`
    Function(String),
}

/// The head of a request, with what is needed more than once already read.
#[derive(Debug)]
pub(crate) struct RestRequest {
    /// The method.
    pub method: Method,
    /// The path below `/rest/v1`, as received.
    pub path: String,
    /// The query string, as received.
    pub query: String,
    /// What the path names.
    pub resource: Resource,
    /// The headers.
    pub headers: HeaderMap,
    /// The `Prefer` headers.
    pub preferences: Preferences,
}

impl RestRequest {
    /// Reads the head of a request whose path begins with `prefix` bytes that do not belong to it.
    ///
    /// # Errors
    /// PGRST125 for paths that name nothing, and targets that are too long.
    pub(crate) fn read(parts: Parts, prefix: usize) -> Result<Self, RestError> {
        let path = parts.uri.path().get(prefix..).unwrap_or_default();
        let query = parts.uri.query().unwrap_or_default();
        if path.len() + query.len() > MAX_URL_BYTES {
            return Err(RestError::url_too_long(MAX_URL_BYTES));
        }
        let prefer = parts
            .headers
            .get_all("prefer")
            .iter()
            .filter_map(|value| value.to_str().ok());
        Ok(Self {
            method: parts.method,
            path: if path.is_empty() {
                "/".to_owned()
            } else {
                path.to_owned()
            },
            query: query.to_owned(),
            resource: resource(path)?,
            preferences: Preferences::parse(prefer),
            headers: parts.headers,
        })
    }

    /// A header as text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Whether the request only reads, so that `Accept-Profile` chooses its schema.
    pub(crate) fn reads_profile(&self) -> bool {
        matches!(self.method, Method::GET | Method::HEAD | Method::OPTIONS)
    }

    /// The schema asked for, if one is.
    pub(crate) fn profile(&self) -> Option<&str> {
        self.header(if self.reads_profile() {
            "accept-profile"
        } else {
            "content-profile"
        })
    }

    /// All `Accept` headers as one list.
    pub(crate) fn accept(&self) -> String {
        let all: Vec<&str> = self
            .headers
            .get_all(header::ACCEPT)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .collect();
        all.join(",")
    }

    /// The value of `request.headers`: a JSON object with names in lower case, cookies left out.
    pub(crate) fn headers_json(&self) -> String {
        let mut joined: BTreeMap<&str, String> = BTreeMap::new();
        for (name, value) in &self.headers {
            if name == header::COOKIE {
                continue;
            }
            let value = String::from_utf8_lossy(value.as_bytes());
            joined
                .entry(name.as_str())
                .and_modify(|known| {
                    known.push_str(", ");
                    known.push_str(&value);
                })
                .or_insert_with(|| value.into_owned());
        }
        serde_json::to_string(&joined).unwrap_or_else(|_| "{}".to_owned())
    }

    /// The value of `request.cookies`: a JSON object.
    pub(crate) fn cookies_json(&self) -> String {
        let mut cookies = Map::new();
        for header in self
            .headers
            .get_all(header::COOKIE)
            .iter()
            .filter_map(|value| value.to_str().ok())
        {
            for (name, value) in header.split(';').filter_map(|pair| pair.split_once('=')) {
                cookies.insert(
                    name.trim().to_owned(),
                    Value::String(value.trim().to_owned()),
                );
            }
        }
        Value::Object(cookies).to_string()
    }

    /// `Range: first-last` of a GET: offset and limit.
    pub(crate) fn range_header(&self) -> Option<(i64, Option<i64>)> {
        if self.method != Method::GET {
            return None;
        }
        let range = self.header("range")?;
        let range = range.strip_prefix("items=").unwrap_or(range);
        let (first, last) = range.split_once('-')?;
        let first: i64 = first.trim().parse().ok()?;
        if last.trim().is_empty() {
            return Some((first, None));
        }
        let last: i64 = last.trim().parse().ok()?;
        Some((first, Some(last.saturating_sub(first).saturating_add(1))))
    }
}

fn resource(path: &str) -> Result<Resource, RestError> {
    let trimmed = path.strip_prefix('/').unwrap_or(path);
    let decode = |segment: &str| {
        let decoded = percent_decode_str(segment)
            .decode_utf8()
            .map_err(|_| RestError::path())?;
        if decoded.is_empty() || decoded.contains('\0') {
            Err(RestError::path())
        } else {
            Ok(decoded.into_owned())
        }
    };
    let segments: Vec<&str> = trimmed
        .strip_suffix('/')
        .unwrap_or(trimmed)
        .split('/')
        .collect();
    match segments.as_slice() {
        [""] => Ok(Resource::Root),
        ["rpc", function] => decode(function).map(Resource::Function),
        [relation] => decode(relation).map(Resource::Relation),
        _ => Err(RestError::path()),
    }
}

//! From the statement's result to the HTTP answer.

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value};
use tokio_postgres::Row;

use super::error::RestError;
use super::job::{Facts, Kind};
use super::plan::WriteKind;
use super::run::End;

/// What the one statement of a request says.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// All rows that match, if they were counted.
    pub total: Option<i64>,
    /// The rows of this page, or those written.
    pub page: i64,
    /// The body.
    pub body: String,
    /// `response.headers`
    pub headers: Option<String>,
    /// `response.status`
    pub status: Option<String>,
    /// How many rows of an upsert are new.
    pub inserted: Option<i64>,
    /// The primary key of an inserted row, as a JSON array of texts.
    pub location: Option<String>,
}

impl Outcome {
    /// Reads the statement's only row.
    ///
    /// # Errors
    /// When there is none, which would be a bug.
    pub(crate) fn read(rows: &[Row]) -> Result<Self, RestError> {
        let row = rows.first().ok_or_else(RestError::internal)?;
        Ok(Self {
            total: row.get(0),
            page: row.get(1),
            body: row.get::<_, Option<String>>(2).unwrap_or_default(),
            headers: row.get(3),
            status: row.get(4),
            inserted: row.get(5),
            location: row.get(6),
        })
    }

    /// Checks what must hold before a transaction is committed.
    ///
    /// # Errors
    /// Not exactly one row where an object was asked for, more rows affected than allowed, a PUT whose body names another
    /// row than its URL.
    pub(crate) fn check(&self, facts: &Facts) -> Result<End, RestError> {
        if facts.kind == Kind::Write(WriteKind::Put) && self.page != 1 {
            return Err(RestError::put_mismatch());
        }
        if facts.max_affected.is_some_and(|max| self.page > max) {
            return Err(RestError::max_affected(self.page));
        }
        if facts.must_be_single() && self.page != 1 {
            return Err(RestError::not_single(self.page));
        }
        Ok(facts.end)
    }
}

/// Builds the answer.
///
/// # Errors
/// An offset behind the last row, and what SQL set wrongly in `response.headers` or `response.status`.
pub(crate) fn answer(outcome: Outcome, facts: &Facts) -> Result<Response<Body>, RestError> {
    let status = status(&outcome, facts)?;
    let mut headers = HeaderMap::new();
    set(
        &mut headers,
        header::CONTENT_RANGE,
        &content_range(&outcome, facts),
    );
    if let Some(location) = &facts.content_location {
        set(&mut headers, header::CONTENT_LOCATION, location);
    }
    if let Some(profile) = &facts.profile {
        set(
            &mut headers,
            HeaderName::from_static("content-profile"),
            profile,
        );
    }
    if !facts.applied.is_empty() {
        set(
            &mut headers,
            HeaderName::from_static("preference-applied"),
            &facts.applied.join(", "),
        );
    }
    if let Some(location) = location(&outcome, facts) {
        set(&mut headers, header::LOCATION, &location);
    }
    let has_body = !facts.without_body;
    if has_body || facts.head {
        set(
            &mut headers,
            header::CONTENT_TYPE,
            &facts.media.content_type,
        );
    }
    if let Some(extra) = &outcome.headers {
        add_guc_headers(&mut headers, extra)?;
    }
    let status = match &outcome.status {
        None => status,
        Some(text) => text
            .parse::<u16>()
            .ok()
            .and_then(|number| StatusCode::from_u16(number).ok())
            .ok_or_else(RestError::bad_guc_status)?,
    };
    let mut response = Response::new(if has_body {
        Body::from(outcome.body)
    } else {
        Body::empty()
    });
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    Ok(response)
}

fn status(outcome: &Outcome, facts: &Facts) -> Result<StatusCode, RestError> {
    Ok(match facts.kind {
        Kind::Read | Kind::Call { void: false, .. } => page_status(outcome, facts)?,
        Kind::Call { void: true, .. } => StatusCode::NO_CONTENT,
        Kind::Write(WriteKind::Insert) if facts.merges && outcome.inserted == Some(0) => {
            StatusCode::OK
        }
        Kind::Write(WriteKind::Insert) => StatusCode::CREATED,
        Kind::Write(_) if facts.without_body => StatusCode::NO_CONTENT,
        Kind::Write(WriteKind::Put) if outcome.inserted.is_none_or(|inserted| inserted > 0) => {
            StatusCode::CREATED
        }
        Kind::Write(WriteKind::Put | WriteKind::Update | WriteKind::Delete) => StatusCode::OK,
    })
}

/// 206 for a part of a known whole, 416 for a part behind its end.
fn page_status(outcome: &Outcome, facts: &Facts) -> Result<StatusCode, RestError> {
    match outcome.total {
        Some(total) if facts.offset > total => Err(RestError::beyond(facts.offset, total)),
        Some(total) if outcome.page < total => Ok(StatusCode::PARTIAL_CONTENT),
        Some(_) | None => Ok(StatusCode::OK),
    }
}

fn content_range(outcome: &Outcome, facts: &Facts) -> String {
    let written = match facts.kind {
        Kind::Read | Kind::Call { .. } => None,
        Kind::Write(kind) => Some(kind),
    };
    let total = match written {
        None => outcome.total,
        Some(_) => facts.count.map(|_| outcome.page),
    };
    let total_text = total.map_or_else(|| "*".to_owned(), |total| total.to_string());
    let shows_page = outcome.page > 0
        && total != Some(0)
        && match written {
            None | Some(WriteKind::Update) => true,
            Some(WriteKind::Insert | WriteKind::Put | WriteKind::Delete) => false,
        };
    if shows_page {
        let first = if written.is_some() { 0 } else { facts.offset };
        format!("{first}-{}/{total_text}", first + outcome.page - 1)
    } else {
        format!("*/{total_text}")
    }
}

/// `/t?id=eq.1`, when exactly one row was inserted.
fn location(outcome: &Outcome, facts: &Facts) -> Option<String> {
    let (relation, key) = facts.location.as_ref()?;
    let values: Vec<Option<String>> = serde_json::from_str(outcome.location.as_ref()?).ok()?;
    if outcome.page != 1 || values.len() != key.len() {
        return None;
    }
    let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let pairs: Vec<String> = key
        .iter()
        .zip(values)
        .map(|(column, value)| match value {
            Some(value) => format!("{column}=eq.{}", encode(&value)),
            None => format!("{column}=is.null"),
        })
        .collect();
    Some(format!("/{relation}?{}", pairs.join("&")))
}

/// `response.headers`: an array of objects with one key each. Cookies add up, other headers are replaced.
fn add_guc_headers(headers: &mut HeaderMap, text: &str) -> Result<(), RestError> {
    let list: Vec<Map<String, Value>> =
        serde_json::from_str(text).map_err(|_| RestError::bad_guc_headers())?;
    for object in list {
        let mut entries = object.into_iter();
        let (Some((name, Value::String(value))), None) = (entries.next(), entries.next()) else {
            return Err(RestError::bad_guc_headers());
        };
        let name = HeaderName::try_from(name).map_err(|_| RestError::bad_guc_headers())?;
        let value = HeaderValue::try_from(value).map_err(|_| RestError::bad_guc_headers())?;
        if name == header::SET_COOKIE {
            headers.append(name, value);
        } else {
            headers.insert(name, value);
        }
    }
    Ok(())
}

/// Sets a header; what cannot be one (names of tables may be anything) is encoded first.
fn set(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    let value = HeaderValue::try_from(value).or_else(|_| {
        HeaderValue::try_from(utf8_percent_encode(value, NON_ALPHANUMERIC).to_string())
    });
    if let Ok(value) = value {
        headers.insert(name, value);
    }
}

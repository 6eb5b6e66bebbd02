//! PostgreSQL's errors as answers: SQLSTATE to status, and the two ways SQL may word the answer itself.

use std::borrow::Cow;

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio_postgres::Error;
use tokio_postgres::error::DbError;

use super::error::{Fault, RestError};

/// What PostgreSQL answered, as our answer. `anonymous` tells "log in" from "you may not".
pub(crate) fn from_database(error: &Error, anonymous: bool) -> RestError {
    match error.as_db_error() {
        Some(error) => from_db_error(error, anonymous),
        None => RestError::no_connection(&error.to_string()),
    }
}

fn from_db_error(error: &DbError, anonymous: bool) -> RestError {
    let code = error.code().code();
    if code == "PGRST" {
        return raised(error);
    }
    let text = |text: Option<&str>| text.map_or(Value::Null, |text| Value::String(text.to_owned()));
    let mut answer = RestError::new(
        status(code, error.message(), anonymous),
        "",
        error.message(),
    );
    answer.code = Cow::Owned(code.to_owned());
    answer.details = text(error.detail());
    answer.hint = text(error.hint());
    if code.starts_with("PT") && code.len() == 5 {
        answer.reason = Some(error.message().to_owned());
    }
    answer
}

/// The status of an SQLSTATE.
fn status(code: &str, message: &str, anonymous: bool) -> StatusCode {
    let status = match code {
        "23503" | "23505" => 409,
        "25006" => 405,
        "21000" if message.contains("requires a WHERE clause") => 400,
        "21000" | "42P17" | "53400" => 500,
        "22023" if message.starts_with("role") && message.ends_with("does not exist") => 401,
        "42883" | "42P01" => 404,
        "42501" if anonymous => 401,
        "42501" => 403,
        "57P01" => 503,
        "P0001" => 400,
        _ => match (&code.get(..2), code.strip_prefix("PT")) {
            (_, Some(number)) => number.parse().unwrap_or(500),
            (Some("08" | "53"), _) => 503,
            (Some("0L" | "0P" | "28"), _) => 403,
            (
                Some(
                    "09" | "25" | "2D" | "38" | "39" | "3B" | "40" | "54" | "55" | "57" | "58"
                    | "F0" | "HV" | "P0" | "XX",
                ),
                _,
            ) => 500,
            _ => 400,
        },
    };
    StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// `raise sqlstate 'PGRST'`: MESSAGE is the body, DETAIL the status and headers, both JSON.
fn raised(error: &DbError) -> RestError {
    #[derive(Deserialize)]
    struct Said {
        code: String,
        message: String,
        #[serde(default)]
        details: Value,
        #[serde(default)]
        hint: Value,
    }
    #[derive(Deserialize)]
    struct Detail {
        status: u16,
        #[serde(default)]
        headers: Map<String, Value>,
        #[serde(rename = "status_text")]
        reason: Option<String>,
    }
    let message: Option<Said> = serde_json::from_str(error.message()).ok();
    let detail: Option<Detail> = error
        .detail()
        .and_then(|detail| serde_json::from_str(detail).ok());
    let (Some(message), Some(detail)) = (message, detail) else {
        let mut answer = RestError::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "PGRST121",
            "Could not parse JSON in the \"RAISE SQLSTATE 'PGRST'\" error",
        );
        answer.details = json!("Invalid JSON value for MESSAGE or DETAIL");
        answer.hint = json!(
            "MESSAGE must be a JSON object with obligatory keys: 'code', 'message' and optional keys: 'details', 'hint'. \
             DETAIL must be a JSON object with obligatory keys: 'status', 'headers' and optional key: 'status_text'."
        );
        return answer;
    };
    RestError::from(Fault {
        status: StatusCode::from_u16(detail.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
        code: Cow::Owned(message.code),
        message: message.message,
        details: message.details,
        hint: message.hint,
        headers: headers(detail.headers),
        reason: detail.reason,
    })
}

fn headers(map: Map<String, Value>) -> HeaderMap {
    map.into_iter()
        .filter_map(|(name, value)| {
            let name = HeaderName::try_from(name).ok()?;
            let value = HeaderValue::try_from(value.as_str()?).ok()?;
            Some((name, value))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_follow_the_table() {
        for (code, anonymous, expected) in [
            ("23505", false, 409),
            ("23503", false, 409),
            ("23502", false, 400),
            ("42501", true, 401),
            ("42501", false, 403),
            ("42P01", false, 404),
            ("42883", false, 404),
            ("42703", false, 400),
            ("25006", false, 405),
            ("25P02", false, 500),
            ("P0001", false, 400),
            ("P0002", false, 500),
            ("22P02", false, 400),
            ("08006", false, 503),
            ("53300", false, 503),
            ("53400", false, 500),
            ("57014", false, 500),
            ("57P01", false, 503),
            ("28P01", false, 403),
            ("PT418", false, 418),
            ("PTxxx", false, 500),
            ("XX000", false, 500),
        ] {
            assert_eq!(status(code, "", anonymous).as_u16(), expected, "{code}");
        }
        assert_eq!(
            status("22023", "role \"x\" does not exist", false).as_u16(),
            401
        );
        assert_eq!(status("22023", "something else", false).as_u16(), 400);
        assert_eq!(
            status("21000", "UPDATE requires a WHERE clause", false).as_u16(),
            400
        );
    }
}

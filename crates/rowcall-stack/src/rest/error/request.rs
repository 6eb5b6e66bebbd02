//! What is wrong with a request.

use axum::http::StatusCode;

use super::RestError;
use crate::rest::parse::ParseError;

impl RestError {
    /// PGRST100
    pub(crate) fn parse(error: &ParseError) -> Self {
        Self::bad("PGRST100", error.message()).details(error.expected.as_str())
    }

    /// PGRST101
    pub(crate) fn method_on_rpc(method: &str) -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "PGRST101",
            format!("Cannot use the {method} method on RPC"),
        )
    }

    /// PGRST102
    pub(crate) fn body(message: impl Into<String>) -> Self {
        Self::bad("PGRST102", message)
    }

    /// A body larger than the limit.
    pub(crate) fn body_too_large(limit: usize) -> Self {
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "PGRST102",
            format!("The request body is larger than {limit} bytes"),
        )
        .hint(Some("Send it in several requests.".to_owned()))
    }

    /// A request target longer than the limit.
    pub(crate) fn url_too_long(limit: usize) -> Self {
        Self::new(
            StatusCode::URI_TOO_LONG,
            "PGRST100",
            format!("The URL is longer than {limit} bytes"),
        )
        .hint(Some(
            "Call a function by POST, or filter in several requests.".to_owned(),
        ))
    }

    /// PGRST103
    pub(crate) fn range(details: impl Into<String>) -> Self {
        Self::new(
            StatusCode::RANGE_NOT_SATISFIABLE,
            "PGRST103",
            "Requested range not satisfiable",
        )
        .details(details.into())
    }

    /// PGRST103: the offset is behind the last row.
    pub(crate) fn beyond(offset: i64, total: i64) -> Self {
        Self::range(format!(
            "An offset of {offset} was requested, but there are only {total} rows."
        ))
    }

    /// PGRST105
    pub(crate) fn put_filters() -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "PGRST105",
            "Filters must include all and only primary key columns with 'eq' operators",
        )
    }

    /// PGRST106
    pub(crate) fn schema(schema: &str, exposed: &[String]) -> Self {
        Self::new(
            StatusCode::NOT_ACCEPTABLE,
            "PGRST106",
            format!("Invalid schema: {schema}"),
        )
        .hint(Some(format!(
            "Only the following schemas are exposed: {}",
            exposed.join(", ")
        )))
    }

    /// PGRST107
    pub(crate) fn media_type(accepted: &[String]) -> Self {
        Self::new(
            StatusCode::NOT_ACCEPTABLE,
            "PGRST107",
            format!(
                "None of these media types are available: {}",
                accepted.join(", ")
            ),
        )
    }

    /// PGRST108
    pub(crate) fn not_embedded(name: &str) -> Self {
        Self::bad(
            "PGRST108",
            format!("'{name}' is not an embedded resource in this request"),
        )
        .hint(Some(format!(
            "Verify that '{name}' is included in the 'select' query parameter."
        )))
    }

    /// PGRST111
    pub(crate) fn bad_guc_headers() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "PGRST111",
            "response.headers guc must be a JSON array composed of objects with a single key and a string value",
        )
    }

    /// PGRST112
    pub(crate) fn bad_guc_status() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "PGRST112",
            "response.status guc must be a valid status code",
        )
    }

    /// PGRST114
    pub(crate) fn put_range() -> Self {
        Self::bad(
            "PGRST114",
            "limit/offset querystring parameters are not allowed for PUT",
        )
    }

    /// PGRST115
    pub(crate) fn put_mismatch() -> Self {
        Self::bad(
            "PGRST115",
            "Payload values do not match URL in primary key column(s)",
        )
    }

    /// PGRST116
    pub(crate) fn not_single(rows: i64) -> Self {
        Self::new(
            StatusCode::NOT_ACCEPTABLE,
            "PGRST116",
            "Cannot coerce the result to a single JSON object",
        )
        .details(format!("The result contains {rows} rows"))
    }

    /// PGRST117
    pub(crate) fn method(method: &str) -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "PGRST117",
            format!("Unsupported HTTP method: {method}"),
        )
    }

    /// PGRST118
    pub(crate) fn related_order_not_to_one(name: &str) -> Self {
        Self::bad("PGRST118", format!("A related order on '{name}' is not possible"))
            .details("The relationship is one-to-many or many-to-many; only a to-one relationship can be ordered by")
    }

    /// PGRST120
    pub(crate) fn bad_embed_operator(name: &str) -> Self {
        Self::bad(
            "PGRST120",
            format!("Bad operator on the '{name}' embedded resource"),
        )
        .details("Only is null or not is null filters are allowed on embedded resources")
    }

    /// PGRST122
    pub(crate) fn invalid_preferences(invalid: &[String]) -> Self {
        Self::bad("PGRST122", "Invalid preferences given with handling=strict")
            .details(format!("Invalid preferences: {}", invalid.join(", ")))
    }

    /// PGRST123
    pub(crate) fn aggregates_not_allowed() -> Self {
        Self::bad("PGRST123", "Use of aggregate functions is not allowed")
    }

    /// PGRST124
    pub(crate) fn max_affected(rows: i64) -> Self {
        Self::bad(
            "PGRST124",
            "Query result exceeds max-affected preference constraint",
        )
        .details(format!("The query affects {rows} rows"))
    }

    /// PGRST125
    pub(crate) fn path() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "PGRST125",
            "Invalid path specified in request URL",
        )
    }

    /// PGRST127: our answer to everything we do not do.
    pub(crate) fn not_implemented(details: &str) -> Self {
        Self::bad("PGRST127", "Feature not implemented").details(details)
    }

    /// PGRST128
    pub(crate) fn max_affected_without_set() -> Self {
        Self::bad(
            "PGRST128",
            "Function must return SETOF or TABLE when max-affected preference is used with handling=strict",
        )
    }
}

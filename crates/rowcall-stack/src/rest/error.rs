//! What goes wrong, as clients of PostgREST know it: code, message, details, hint.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::ops::{Deref, DerefMut};

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use hyper::ext::ReasonPhrase;
use serde_json::{Value, json};

use super::body::BodyKind;
use super::hints;
use super::parse::ParseError;
use super::schema::{Cardinality, Keyed, Name, Relationship, Routine, SchemaCache};
use crate::auth::TokenError;

/// An answer that says what went wrong. Boxed, as it travels through every result of a request that goes well.
#[derive(Debug, Clone)]
pub(crate) struct RestError(Box<Fault>);

/// What a [`RestError`] says.
#[derive(Debug, Clone)]
pub(crate) struct Fault {
    /// The status.
    pub status: StatusCode,
    /// `PGRST…` or an SQLSTATE.
    pub code: Cow<'static, str>,
    /// What happened.
    pub message: String,
    /// Why, or more about it.
    pub details: Value,
    /// What to do.
    pub hint: Value,
    /// Headers to send along.
    pub headers: HeaderMap,
    /// Another reason phrase than the canonical one, asked for by SQL.
    pub reason: Option<String>,
}

impl Deref for RestError {
    type Target = Fault;

    fn deref(&self) -> &Fault {
        &self.0
    }
}

impl DerefMut for RestError {
    fn deref_mut(&mut self) -> &mut Fault {
        &mut self.0
    }
}

impl From<Fault> for RestError {
    fn from(fault: Fault) -> Self {
        Self(Box::new(fault))
    }
}

impl RestError {
    /// An error without details.
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self::from(Fault {
            status,
            code: Cow::Borrowed(code),
            message: message.into(),
            details: Value::Null,
            hint: Value::Null,
            headers: HeaderMap::new(),
            reason: None,
        })
    }

    fn bad(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    #[must_use]
    fn details(mut self, details: impl Into<Value>) -> Self {
        self.details = details.into();
        self
    }

    #[must_use]
    fn hint(mut self, hint: Option<String>) -> Self {
        self.hint = hint.map_or(Value::Null, Value::String);
        self
    }

    /// The error as an answer.
    pub(crate) fn into_answer(self) -> Response<Body> {
        let fault = *self.0;
        let body = json!({
            "code": fault.code,
            "details": fault.details,
            "hint": fault.hint,
            "message": fault.message,
        });
        let mut answer = Response::new(Body::from(body.to_string()));
        *answer.status_mut() = fault.status;
        let headers = answer.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json; charset=utf-8"),
        );
        if let Ok(value) = HeaderValue::try_from(format!("PostgREST; error={}", fault.code)) {
            headers.insert(HeaderName::from_static("proxy-status"), value);
        }
        if fault.status == StatusCode::UNAUTHORIZED
            && !fault.headers.contains_key(header::WWW_AUTHENTICATE)
        {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        for (name, value) in fault.headers {
            if let Some(name) = name {
                headers.insert(name, value);
            }
        }
        if let Some(reason) = fault
            .reason
            .and_then(|reason| ReasonPhrase::try_from(reason.into_bytes()).ok())
        {
            answer.extensions_mut().insert(reason);
        }
        answer
    }

    // The server's own state.

    /// PGRST001: the database does not answer.
    pub(crate) fn no_connection(details: &str) -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "PGRST001",
            "Database client error. Retrying the connection.",
        )
        .details(details)
    }

    /// PGRST002: the schema cache is not there yet.
    pub(crate) fn no_schema_cache() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "PGRST002",
            "Could not query the database for the schema cache. Retrying.",
        )
    }

    /// PGRST003: all connections are busy.
    pub(crate) fn pool_timeout() -> Self {
        Self::new(
            StatusCode::GATEWAY_TIMEOUT,
            "PGRST003",
            "Timed out acquiring connection from connection pool.",
        )
    }

    /// A bug of ours; details stay in the log.
    pub(crate) fn internal() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "PGRSTX00",
            "Internal server error",
        )
    }

    // The request.

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

    // The schema cache.

    /// PGRST200
    pub(crate) fn no_relationship(
        cache: &SchemaCache,
        schema: &str,
        origin: &Name,
        target: &str,
        hint: Option<&str>,
    ) -> Self {
        let with_hint = hint
            .map(|hint| format!(" using the hint '{hint}'"))
            .unwrap_or_default();
        let suggestion = if hint.is_some() {
            None
        } else {
            hints::relationship(cache, schema, origin, target)
        };
        Self::bad(
            "PGRST200",
            format!("Could not find a relationship between '{}' and '{target}' in the schema cache", origin.name),
        )
        .details(format!(
            "Searched for a foreign key relationship between '{}' and '{target}'{with_hint} in the schema '{schema}', but no \
             matches were found.",
            origin.name
        ))
        .hint(suggestion)
    }

    /// PGRST201
    pub(crate) fn ambiguous_relationship(
        origin: &Name,
        target: &str,
        found: &[&Relationship],
    ) -> Self {
        let candidates: Vec<(Value, String)> = found
            .iter()
            .map(|relationship| candidate(relationship))
            .collect();
        let choices: Vec<String> = candidates
            .iter()
            .map(|(_, choice)| format!("'{choice}'"))
            .collect();
        let mut error = Self::new(
            StatusCode::MULTIPLE_CHOICES,
            "PGRST201",
            format!(
                "Could not embed because more than one relationship was found for '{}' and '{target}'",
                origin.name
            ),
        );
        error.hint = Value::String(format!(
            "Try changing '{target}' to one of the following: {}. Find the desired relationship in the 'details' key.",
            choices.join(", ")
        ));
        error.details = Value::Array(candidates.into_iter().map(|(details, _)| details).collect());
        error
    }

    /// PGRST202
    pub(crate) fn no_function(
        cache: &SchemaCache,
        name: &Name,
        given: &BTreeSet<&str>,
        body: Option<BodyKind>,
    ) -> Self {
        let function = format!("{}.{}", name.schema, name.name);
        let list = given.iter().copied().collect::<Vec<_>>().join(", ");
        let whole = match body {
            Some(BodyKind::Json) => Some("json/jsonb"),
            Some(BodyKind::Text) => Some("text"),
            Some(BodyKind::Xml) => Some("xml"),
            Some(BodyKind::Binary) => Some("bytea"),
            Some(BodyKind::Form | BodyKind::Csv) | None => None,
        };
        let only_whole = matches!(
            body,
            Some(BodyKind::Text | BodyKind::Xml | BodyKind::Binary)
        );
        let arguments = match given.len() {
            0 => "without parameters".to_owned(),
            1 => format!("with parameter {list}"),
            _ => format!("with parameters {list}"),
        };
        let searched = match whole {
            Some(whole) if only_whole => format!("with a single unnamed {whole} parameter"),
            Some(whole) => format!("{arguments} or with a single unnamed {whole} parameter"),
            None => arguments,
        };
        let called = if only_whole {
            function.clone()
        } else if given.is_empty() {
            format!("{function} without parameters")
        } else {
            format!("{function}({list})")
        };
        Self::new(
            StatusCode::NOT_FOUND,
            "PGRST202",
            format!("Could not find the function {called} in the schema cache"),
        )
        .details(format!(
            "Searched for the function {function} {searched}, but no matches were found in the schema cache."
        ))
        .hint(hints::function(cache, name, given))
    }

    /// PGRST203
    pub(crate) fn ambiguous_function(candidates: &[&Routine]) -> Self {
        let shown: Vec<String> = candidates
            .iter()
            .map(|routine| {
                let parameters: Vec<String> = routine
                    .parameters
                    .iter()
                    .map(|parameter| format!("{} => {}", parameter.name, parameter.type_name))
                    .collect();
                format!(
                    "{}.{}({})",
                    routine.name.schema,
                    routine.name.name,
                    parameters.join(", ")
                )
            })
            .collect();
        Self::new(
            StatusCode::MULTIPLE_CHOICES,
            "PGRST203",
            format!("Could not choose the best candidate function between: {}", shown.join(", ")),
        )
        .hint(Some(
            "Try renaming the parameters or the function itself in the database so function overloading can be resolved"
                .to_owned(),
        ))
    }

    /// PGRST204
    pub(crate) fn no_column(column: &str, relation: &str) -> Self {
        Self::bad(
            "PGRST204",
            format!("Could not find the '{column}' column of '{relation}' in the schema cache"),
        )
    }

    /// PGRST205
    pub(crate) fn no_relation(cache: &SchemaCache, name: &Name) -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "PGRST205",
            format!(
                "Could not find the table '{}.{}' in the schema cache",
                name.schema, name.name
            ),
        )
        .hint(hints::relation(cache, name))
    }

    // Tokens and roles.

    /// PGRST301 and PGRST303
    pub(crate) fn token(error: &TokenError) -> Self {
        let code = if error.is_about_claims() {
            "PGRST303"
        } else {
            "PGRST301"
        };
        let mut answer = Self::new(StatusCode::UNAUTHORIZED, code, error.to_string());
        if *error == TokenError::Signature {
            answer.details =
                Value::String("None of the keys was able to decode the JWT".to_owned());
        }
        let challenge = format!("Bearer error=\"invalid_token\", error_description=\"{error}\"");
        if let Ok(challenge) = HeaderValue::try_from(challenge) {
            answer.headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
        answer
    }

    /// PGRST302
    pub(crate) fn anonymous_disabled() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "PGRST302",
            "Anonymous access is disabled",
        )
    }

    /// A role that is not there.
    pub(crate) fn no_role(role: &str) -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "22023",
            format!("role \"{role}\" does not exist"),
        )
    }

    /// A role that is there, but that nobody may take on through the API.
    pub(crate) fn role_not_granted(role: &str) -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "42501",
            format!("permission denied to set role \"{role}\""),
        )
        .hint(Some(format!(
            "Grant it to the role that answers requests: grant \"{role}\" to authenticator"
        )))
    }
}

/// A relationship as a candidate of PGRST201, and the name that picks it.
fn candidate(relationship: &Relationship) -> (Value, String) {
    match relationship {
        Relationship::Keyed(keyed) => {
            let (cardinality, told, pick) = match &keyed.cardinality {
                Cardinality::ManyToOne => ("many-to-one", constraint(keyed), &keyed.constraint),
                Cardinality::OneToMany => ("one-to-many", constraint(keyed), &keyed.constraint),
                Cardinality::OneToOne { .. } => {
                    ("one-to-one", constraint(keyed), &keyed.constraint)
                }
                Cardinality::ManyToMany(junction) => {
                    let columns = |pairs: &[(String, String)]| {
                        pairs
                            .iter()
                            .map(|(_, own)| own.as_str())
                            .collect::<Vec<_>>()
                            .join(", ")
                    };
                    let told = format!(
                        "{} using {}({}) and {}({})",
                        junction.table.name,
                        junction.constraints.0,
                        columns(&junction.origin),
                        junction.constraints.1,
                        columns(&junction.target),
                    );
                    ("many-to-many", told, &junction.table.name)
                }
            };
            let details = json!({
                "cardinality": cardinality,
                "embedding": format!("{} with {}", keyed.origin.name, keyed.target.name),
                "relationship": told,
            });
            (details, format!("{}!{pick}", keyed.target.name))
        }
        Relationship::Computed {
            function,
            origin,
            target,
            single,
        } => {
            let details = json!({
                "cardinality": if *single { "many-to-one" } else { "one-to-many" },
                "embedding": format!("{} with {}", origin.name, target.name),
                "relationship": format!("function {}", function.name),
            });
            (details, function.name.clone())
        }
    }
}

fn constraint(keyed: &Keyed) -> String {
    let own: Vec<&str> = keyed.columns.iter().map(|(own, _)| own.as_str()).collect();
    let theirs: Vec<&str> = keyed
        .columns
        .iter()
        .map(|(_, theirs)| theirs.as_str())
        .collect();
    format!(
        "{} using {}({}) and {}({})",
        keyed.constraint,
        keyed.origin.name,
        own.join(", "),
        keyed.target.name,
        theirs.join(", ")
    )
}

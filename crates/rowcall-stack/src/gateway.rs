//! The gate in front of the services: which hosts may be named, who needs a key, CORS, and what is not served.
//!
//! The rules follow Supabase's gateways. One is ours: a page in a browser (a request with `Origin`) must show a key, so
//! that no page a person happens to visit can use the API of their machine as anon.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use rowcall_core::Clock;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::auth::Keys;
use crate::rest::Rest;

/// Where REST is served.
const REST: &str = "/rest/v1";
/// What browsers may read of every answer; Auth's are among them.
const EXPOSED: &str = "Content-Encoding, Content-Location, Content-Range, Content-Type, Date, Location, Server, \
                       Transfer-Encoding, Range-Unit, x-supabase-api-version, x-total-count, link";
/// The methods of a preflight's answer.
const METHODS: &str = "GET, POST, PATCH, PUT, DELETE, OPTIONS, HEAD";
/// How long a browser may remember a preflight, in seconds.
const MAX_AGE: &str = "86400";
/// Services of the official stack that are not here.
const ABSENT: [&str; 6] = [
    "graphql/v1",
    "storage/v1",
    "functions/v1",
    "pg",
    "rest-admin/v1",
    "mcp",
];
/// Routes of Auth that people open from mails and other sites, without a key.
const OPEN: [&str; 4] = [
    "/auth/v1/verify",
    "/auth/v1/callback",
    "/auth/v1/authorize",
    "/auth/v1/health",
];

/// Rules of the gate.
#[derive(Debug, Clone)]
pub struct GatewayConfig {
    /// Names that `Host` may carry besides `localhost` and addresses, in lower case and without port.
    pub allowed_hosts: Vec<String>,
    /// Whether every request needs a key, not only those of browsers.
    pub require_key: bool,
}

impl Default for GatewayConfig {
    fn default() -> Self {
        Self {
            allowed_hosts: vec!["host.docker.internal".to_owned()],
            require_key: false,
        }
    }
}

/// The gate and the services behind it.
#[derive(Debug)]
pub(crate) struct Gateway {
    gate: Gate,
    rest: Rest,
    others: Router,
}

#[derive(Debug)]
struct Gate {
    config: GatewayConfig,
    keys: Keys,
    clock: Arc<dyn Clock>,
}

impl Gateway {
    /// Puts the gate in front of REST and of `others`, which carry their own prefixes.
    pub(crate) fn new(
        config: GatewayConfig,
        keys: Keys,
        clock: Arc<dyn Clock>,
        rest: Rest,
        others: Router,
    ) -> Self {
        Self {
            gate: Gate {
                config,
                keys,
                clock,
            },
            rest,
            others: others.fallback(absent),
        }
    }

    /// Answers a request, or refuses it.
    pub(crate) async fn answer(&self, request: Request) -> Response<Body> {
        if !self.gate.knows_host(&request) {
            return refusal(
                StatusCode::FORBIDDEN,
                "The Host of this request is not served here",
                "Call it localhost or by its address, or add the name to the allowed hosts.",
            );
        }
        if let Some(answer) = preflight(&request) {
            return answer;
        }
        if let Some(answer) = self.gate.refuse_key(&request) {
            return with_cors(answer);
        }
        // REST is what is called most, and needs no routes.
        let is_rest = request
            .uri()
            .path()
            .strip_prefix(REST)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        with_cors(if is_rest {
            self.rest.answer(request, REST.len()).await
        } else {
            match self.others.clone().oneshot(request).await {
                Ok(answer) => answer,
                Err(never) => match never {},
            }
        })
    }
}

impl Gate {
    /// Loopback names, addresses and what was allowed. A name somebody else controls may resolve to this machine
    /// (DNS rebinding); an address cannot be rebound.
    fn knows_host(&self, request: &Request) -> bool {
        let named = request.headers().get(header::HOST).map(HeaderValue::to_str);
        let Some(host) = named.map_or_else(|| request.uri().host(), Result::ok) else {
            return false;
        };
        let name = without_port(host).to_ascii_lowercase();
        let bare = name.trim_start_matches('[').trim_end_matches(']');
        bare == "localhost"
            || bare.ends_with(".localhost")
            || bare.parse::<IpAddr>().is_ok()
            || self.config.allowed_hosts.contains(&name)
    }

    fn refuse_key(&self, request: &Request) -> Option<Response<Body>> {
        let path = request.uri().path();
        if OPEN.contains(&path) || path.starts_with("/auth/v1/.well-known/") {
            return None;
        }
        let headers = request.headers();
        let now = self.clock.now();
        match api_key(request) {
            Some(key) if self.keys.accepts_api_key(&key, now) => None,
            Some(_) => Some(refusal(
                StatusCode::UNAUTHORIZED,
                "Invalid API key",
                "Double check your Supabase `anon` or `service_role` API key.",
            )),
            None if !self.config.require_key && !headers.contains_key(header::ORIGIN) => None,
            None if self.has_token(headers) => None,
            None => Some(refusal(
                StatusCode::UNAUTHORIZED,
                "No API key found in request",
                "No `apikey` request header or url param was found.",
            )),
        }
    }

    /// Whether the request shows a token of ours, which is as good as a key.
    fn has_token(&self, headers: &HeaderMap) -> bool {
        let authorization = headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok());
        self.keys
            .bearer(authorization, None)
            .is_some_and(|token| self.keys.verify(token, self.clock.now()).is_ok())
    }
}

/// The `apikey` header, or for Realtime's socket the parameter of that name.
fn api_key(request: &Request) -> Option<String> {
    if let Some(key) = request.headers().get("apikey") {
        return Some(key.to_str().unwrap_or_default().to_owned());
    }
    if !request.uri().path().starts_with("/realtime/v1") {
        return None;
    }
    let query = request.uri().query().unwrap_or_default();
    url::form_urlencoded::parse(query.as_bytes())
        .find(|(name, _)| name == "apikey")
        .map(|(_, value)| value.into_owned())
}

/// `localhost:54321` → `localhost`, `[::1]:54321` → `[::1]`
fn without_port(host: &str) -> &str {
    match host.rfind(':') {
        Some(colon)
            if !host.ends_with(']')
                && host[..colon].find(':').is_none() | host.starts_with('[') =>
        {
            &host[..colon]
        }
        _ => host,
    }
}

/// The answer to a browser that asks before it sends.
fn preflight(request: &Request) -> Option<Response<Body>> {
    let asks = request.method() == Method::OPTIONS
        && request.headers().contains_key(header::ORIGIN)
        && request
            .headers()
            .contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    if !asks {
        return None;
    }
    let mut answer = with_cors(Response::new(Body::empty()));
    let headers = answer.headers_mut();
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_METHODS,
        HeaderValue::from_static(METHODS),
    );
    headers.insert(
        header::ACCESS_CONTROL_MAX_AGE,
        HeaderValue::from_static(MAX_AGE),
    );
    if let Some(requested) = request
        .headers()
        .get(header::ACCESS_CONTROL_REQUEST_HEADERS)
    {
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, requested.clone());
    }
    Some(answer)
}

fn with_cors(mut answer: Response<Body>) -> Response<Body> {
    let headers = answer.headers_mut();
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_ORIGIN,
        HeaderValue::from_static("*"),
    );
    headers.insert(
        header::ACCESS_CONTROL_EXPOSE_HEADERS,
        HeaderValue::from_static(EXPOSED),
    );
    answer
}

/// What no service answers.
async fn absent(request: Request) -> Response<Body> {
    let path = request.uri().path().trim_start_matches('/');
    let is = |service: &&str| path == *service || path.starts_with(&format!("{service}/"));
    match ABSENT.iter().find(|service| is(service)) {
        Some(service) => refusal(
            StatusCode::NOT_FOUND,
            &format!("/{service} is not part of this stack"),
            "REST is at /rest/v1, Auth at /auth/v1, Realtime at /realtime/v1.",
        ),
        None => refusal(
            StatusCode::NOT_FOUND,
            "no Route matched with those values",
            "REST is at /rest/v1, Auth at /auth/v1, Realtime at /realtime/v1.",
        ),
    }
}

fn refusal(status: StatusCode, message: &str, hint: &str) -> Response<Body> {
    let body: Value = json!({"message": message, "hint": hint});
    let mut answer = Response::new(Body::from(body.to_string()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json; charset=utf-8"),
    );
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_cut_off_hosts() {
        for (host, expected) in [
            ("localhost", "localhost"),
            ("localhost:54321", "localhost"),
            ("127.0.0.1:1", "127.0.0.1"),
            ("[::1]:54321", "[::1]"),
            ("[::1]", "[::1]"),
            ("::1", "::1"),
        ] {
            assert_eq!(without_port(host), expected, "{host}");
        }
    }
}

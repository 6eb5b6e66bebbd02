//! Who may speak to the local API at all: programs on this machine, not pages in a browser.
//!
//! A web page can make a browser send requests to localhost, directly or by DNS rebinding. The `Host` of such a request
//! is the page's own name, or its `Origin` is; both are refused before any route sees them.

use axum::{
    extract::Request,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};

use super::error::ApiError;

/// Refuses requests whose `Host` is not a loopback name or that carry a foreign `Origin`.
pub async fn local_only(request: Request, next: Next) -> Response {
    match check(request.headers()) {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    }
}

fn check(headers: &HeaderMap) -> Result<(), ApiError> {
    let forbidden = |code, message: &str| Err(ApiError::new(StatusCode::FORBIDDEN, code, message));
    // HTTP/1.1 requires Host; a client without one is none we know.
    if !headers.get(header::HOST).is_some_and(|host| is_local_authority(host)) {
        return forbidden(
            "FOREIGN_HOST",
            "This API answers only to localhost, 127.0.0.1 and [::1]. Use one of these as the host.",
        );
    }
    if headers.get_all(header::ORIGIN).iter().any(|origin| !is_local_origin(origin)) {
        return forbidden(
            "FOREIGN_ORIGIN",
            "Requests from web pages of other origins are refused. Call the API from a program on this machine.",
        );
    }
    Ok(())
}

fn is_local_authority(value: &HeaderValue) -> bool {
    value.to_str().is_ok_and(is_local_name)
}

/// `localhost`, `127.0.0.1` or `[::1]`, with or without a port.
fn is_local_name(authority: &str) -> bool {
    ["localhost", "127.0.0.1", "[::1]"].into_iter().any(|name| {
        authority
            .get(..name.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(name))
            && match authority[name.len()..].strip_prefix(':') {
                Some(port) => !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()),
                None => authority.len() == name.len(),
            }
    })
}

/// An origin of a page that this machine serves itself. `null` is a sandboxed page: foreign.
fn is_local_origin(value: &HeaderValue) -> bool {
    value.to_str().is_ok_and(|origin| {
        origin
            .strip_prefix("http://")
            .or_else(|| origin.strip_prefix("https://"))
            .is_some_and(is_local_name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_names_are_hosts() {
        for good in ["localhost", "LOCALHOST:3001", "127.0.0.1:3001", "[::1]:3001", "[::1]"] {
            assert!(is_local_name(good), "{good}");
        }
        for bad in [
            "example.com", "localhost.example.com", "localhost:3001.evil", "127.0.0.1.nip.io", "0.0.0.0:3001",
            "localhost:", "", "192.168.1.2:3001", "évil",
        ] {
            assert!(!is_local_name(bad), "{bad}");
        }
    }

    #[test]
    fn foreign_pages_are_refused() {
        let headers = |origin: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, HeaderValue::from_static("localhost:3001"));
            if let Some(origin) = origin {
                headers.insert(header::ORIGIN, HeaderValue::from_static(origin));
            }
            headers
        };
        assert!(check(&headers(None)).is_ok());
        assert!(check(&headers(Some("http://localhost:3001"))).is_ok());
        for origin in ["https://example.com", "null", "http://localhost.example.com", "file://"] {
            assert!(check(&headers(Some(origin))).is_err(), "{origin}");
        }
        assert!(check(&HeaderMap::new()).is_err(), "no Host");
    }
}

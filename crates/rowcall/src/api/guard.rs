//! Who may speak to the local API at all: programs on this machine, not pages in a browser.
//!
//! A web page can make a browser send requests to localhost, directly or by DNS rebinding. The `Host` of such a request
//! is the page's own name, or its `Origin` is; both are refused before any route sees them. Pages of other local servers
//! (`http://localhost:5173`) are other origins too. Pictures, scripts and frames are fetched without an `Origin`: there the
//! browser says in `Sec-Fetch-Site` whose page wants them.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};

use super::error::ApiError;

/// The names under which this machine calls itself.
const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

/// The hosts and origins that are served beside the loopback names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Neighbours {
    /// Host names without a port, for a proxy of the operator's.
    pub hosts: Vec<String>,
    /// Whole origins, as browsers send them: `http://localhost:5173`.
    pub origins: Vec<String>,
}

/// Refuses requests whose `Host` is not ours or that carry a foreign `Origin`.
pub(super) async fn local_only(
    State(neighbours): State<Arc<Neighbours>>,
    request: Request,
    next: Next,
) -> Response {
    let mut response = match check(&neighbours, request.headers()) {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    };
    for (name, value) in ON_EVERY_ANSWER {
        let headers = response.headers_mut();
        headers
            .entry(name)
            .or_insert(HeaderValue::from_static(value));
    }
    response
}

/// What browsers are told about every answer: it is nothing but what it says it is, no other page may embed it, and it is
/// kept nowhere.
const ON_EVERY_ANSWER: [(HeaderName, &str); 4] = [
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    ),
    (header::CACHE_CONTROL, "no-store"),
];

fn check(neighbours: &Neighbours, headers: &HeaderMap) -> Result<(), ApiError> {
    let forbidden = |code, message: &str| Err(ApiError::new(StatusCode::FORBIDDEN, code, message));
    // HTTP/1.1 requires Host; a client without one is none we know, and two of them are an attack on somebody.
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = match (hosts.next().and_then(text), hosts.next()) {
        (Some(host), None) if neighbours.serve(host) => host,
        _ => {
            return forbidden(
                "FOREIGN_HOST",
                "This API answers only to localhost, 127.0.0.1 and [::1]. Use one of these as the host.",
            );
        }
    };
    let ours = |origin: &HeaderValue| {
        text(origin).is_some_and(|origin| neighbours.is_own_origin(origin, host))
    };
    if !headers.get_all(header::ORIGIN).iter().all(ours) || is_embedded_elsewhere(headers) {
        return forbidden(
            "FOREIGN_ORIGIN",
            "Requests from web pages of other origins are refused. Call the API from a program on this machine.",
        );
    }
    Ok(())
}

/// Whether a page of another origin fetches this for itself without saying its origin. Following a link to us is not that.
fn is_embedded_elsewhere(headers: &HeaderMap) -> bool {
    let word = |name: &str| headers.get(name).and_then(text).unwrap_or_default();
    let elsewhere = matches!(word("sec-fetch-site"), "cross-site" | "same-site");
    let is_link = word("sec-fetch-mode") == "navigate" && word("sec-fetch-dest") == "document";
    // With an origin it was compared with ours and the operator's already.
    elsewhere && !is_link && !headers.contains_key(header::ORIGIN)
}

fn text(value: &HeaderValue) -> Option<&str> {
    value.to_str().ok()
}

/// `name` or `name:port`, the port in digits; an IPv6 address stands in brackets.
fn split(authority: &str) -> Option<(&str, Option<&str>)> {
    let colon = match authority.rfind(']') {
        Some(end) => authority[end..].find(':').map(|at| end + at),
        None => authority.find(':'),
    };
    match colon {
        None => Some((authority, None)),
        Some(at) => {
            let port = &authority[at + 1..];
            let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
            digits.then_some((&authority[..at], Some(port)))
        }
    }
}

impl Neighbours {
    fn is_name(&self, name: &str) -> bool {
        LOOPBACK
            .into_iter()
            .chain(self.hosts.iter().map(String::as_str))
            .any(|known| known.eq_ignore_ascii_case(name))
    }

    fn serve(&self, authority: &str) -> bool {
        split(authority).is_some_and(|(name, _)| self.is_name(name))
    }

    /// An origin of our own pages: a name of ours and the port that was asked. `null` is a sandboxed page: foreign.
    fn is_own_origin(&self, origin: &str, host: &str) -> bool {
        if self.origins.iter().any(|known| known == origin) {
            return true;
        }
        let secure = origin.strip_prefix("https://");
        let (Some(authority), default) = (
            secure.or_else(|| origin.strip_prefix("http://")),
            if secure.is_some() { "443" } else { "80" },
        ) else {
            return false;
        };
        let (Some((name, port)), Some((_, asked))) = (split(authority), split(host)) else {
            return false;
        };
        self.is_name(name) && port.unwrap_or(default) == asked.unwrap_or(default)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(host: &str, origin: Option<&str>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_str(host).unwrap());
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, HeaderValue::from_str(origin).unwrap());
        }
        headers
    }

    fn checked(host: &str, origin: Option<&str>) -> Result<(), &'static str> {
        check(&Neighbours::default(), &headers(host, origin)).map_err(|error| error.code())
    }

    #[test]
    fn only_loopback_names_are_hosts() {
        for good in [
            "localhost",
            "LOCALHOST:3001",
            "127.0.0.1:3001",
            "[::1]:3001",
            "[::1]",
        ] {
            assert_eq!(checked(good, None), Ok(()), "{good}");
        }
        for bad in [
            "example.com",
            "localhost.example.com",
            "localhost:3001.evil",
            "127.0.0.1.nip.io",
            "0.0.0.0:3001",
            "localhost:",
            "",
            "192.168.1.2:3001",
            "[::1",
            "::1",
        ] {
            assert_eq!(checked(bad, None), Err("FOREIGN_HOST"), "{bad}");
        }
        let two = {
            let mut headers = headers("localhost:3001", None);
            headers.append(header::HOST, HeaderValue::from_static("example.com"));
            headers
        };
        assert!(check(&Neighbours::default(), &two).is_err());
        assert!(check(&Neighbours::default(), &HeaderMap::new()).is_err());
    }

    #[test]
    fn foreign_pages_are_refused() {
        for own in [
            None,
            Some("http://localhost:3001"),
            Some("http://127.0.0.1:3001"),
        ] {
            assert_eq!(checked("localhost:3001", own), Ok(()), "{own:?}");
        }
        for origin in [
            "https://example.com",
            "null",
            "http://localhost.example.com",
            "file://",
            "http://localhost:5173",
            "http://localhost",
            "https://localhost:30010",
            "http://localhost:3001@evil",
        ] {
            assert_eq!(
                checked("localhost:3001", Some(origin)),
                Err("FOREIGN_ORIGIN"),
                "{origin}"
            );
        }
    }

    #[test]
    fn pages_of_others_cannot_embed_but_may_link() {
        let fetched = |site: &str, mode: &str, dest: &str, origin: Option<&str>| {
            let mut headers = headers("localhost:3001", origin);
            for (name, value) in [("site", site), ("mode", mode), ("dest", dest)] {
                let name: HeaderName = format!("sec-fetch-{name}").parse().unwrap();
                headers.insert(name, value.parse().unwrap());
            }
            check(&Neighbours::default(), &headers).is_ok()
        };
        for (site, mode, dest) in [
            ("same-origin", "no-cors", "image"),
            ("none", "navigate", "document"),
            ("cross-site", "navigate", "document"),
            ("same-site", "navigate", "document"),
        ] {
            assert!(fetched(site, mode, dest, None), "{site} {mode} {dest}");
        }
        for (site, mode, dest) in [
            ("cross-site", "no-cors", "image"),
            ("same-site", "no-cors", "script"),
            ("same-site", "navigate", "iframe"),
            ("cross-site", "cors", "empty"),
        ] {
            assert!(!fetched(site, mode, dest, None), "{site} {mode} {dest}");
        }
        let own = Some("http://localhost:3001");
        assert!(fetched("same-site", "cors", "empty", own));
    }

    #[test]
    fn the_operator_may_name_neighbours() {
        let neighbours = Neighbours {
            hosts: vec!["rowcall.internal".into()],
            origins: vec!["http://localhost:5173".into()],
        };
        let check = |host, origin| check(&neighbours, &headers(host, origin)).is_ok();
        assert!(
            check("rowcall.internal", None) && check("localhost", Some("http://localhost:5173"))
        );
        assert!(
            !check("other.internal", None) && !check("localhost", Some("http://localhost:5174"))
        );
    }
}

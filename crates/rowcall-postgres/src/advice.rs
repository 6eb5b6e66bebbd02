//! What to do when TLS stands between us and the server.

use std::error::Error;

use rustls::CertificateError as Certificate;

/// What the text of tokio-postgres says where the server has no TLS.
const NO_TLS: &str = "does not support TLS";

/// The whole story of a connection that failed: the error, its causes, and what to do where TLS is in the way.
pub fn explain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut link = error.source();
    while let Some(cause) = link {
        let words = cause.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        link = cause.source();
    }
    match advice(error) {
        Some(advice) => format!("{text}. {advice}"),
        None if text.contains(NO_TLS) => format!(
            "{text}. The URL asks for it with sslmode; turn TLS on in the server, or use sslmode=disable where nobody listens in"
        ),
        None => text,
    }
}

fn advice(error: &(dyn Error + 'static)) -> Option<&'static str> {
    let rustls::Error::InvalidCertificate(why) = tls_error(error)? else {
        return None;
    };
    Some(match why {
        // The second: an authority of the same name, with another key.
        Certificate::UnknownIssuer | Certificate::BadSignature => {
            "The server's certificate comes from an authority that is not trusted: name that authority's certificate (PEM) with sslrootcert=FILE"
        }
        Certificate::NotValidForName | Certificate::NotValidForNameContext { .. } => {
            "The server's certificate was issued for another name: connect by a name it was issued for, or say sslmode=verify-ca if only its authority counts"
        }
        Certificate::Expired | Certificate::ExpiredContext { .. } => {
            "The server's certificate has expired: the server needs a new one"
        }
        _ => {
            "The server's certificate cannot be checked: it needs one that an authority has signed (version 3, not an authority itself)"
        }
    })
}

/// The TLS error among the causes, which IO errors wrap.
fn tls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let mut link = Some(error);
    while let Some(error) = link {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        let inner = error
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::get_ref);
        link = match inner {
            Some(inner) => Some(inner as &(dyn Error + 'static)),
            None => error.source(),
        };
    }
    None
}

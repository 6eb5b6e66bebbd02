//! Who a socket or a channel acts for.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::auth::{Keys, TokenError};

/// Why a token does not open a socket or a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// `exp` has passed by so many seconds.
    Expired(i64),
    /// `role` or `exp` is missing.
    MissingClaims,
    /// Not a token.
    Malformed,
    /// Signed with another key or in another way.
    Signature,
    /// The role may not be taken here.
    Role(String),
}

impl Refusal {
    /// The message of a refused handshake and of `system` messages.
    pub(crate) fn message(&self) -> String {
        match self {
            Self::Expired(seconds) => format!("Token has expired {seconds} seconds ago"),
            Self::MissingClaims => "Fields `role` and `exp` are required in JWT".to_owned(),
            Self::Malformed => "The token provided is not a valid JWT".to_owned(),
            Self::Signature => "Failed to validate JWT signature".to_owned(),
            Self::Role(role) => format!(
                "The role `{role}` of the JWT is not one this server may act as. Grant it to `authenticator`"
            ),
        }
    }

    /// The reason of a refused join.
    pub(crate) fn reason(&self) -> String {
        let code = match self {
            Self::Expired(_) | Self::MissingClaims | Self::Role(_) => "InvalidJWTToken",
            Self::Malformed => "MalformedJWT",
            Self::Signature => "JwtSignatureError",
        };
        format!("{code}: {}", self.message())
    }
}

/// The role and claims of a verified token: what row level security sees.
#[derive(PartialEq, Eq, Hash)]
pub(crate) struct Identity {
    /// Database role.
    pub(crate) role: Arc<str>,
    /// All claims as JSON text, for `request.jwt.claims`.
    pub(crate) claims: Arc<str>,
    /// Claim `sub`, for `request.jwt.claim.sub`.
    pub(crate) subject: Option<Arc<str>>,
}

impl fmt::Debug for Identity {
    /// Claims may hold what belongs in no log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("role", &self.role)
            .finish_non_exhaustive()
    }
}

/// A token that was verified.
#[derive(Debug, Clone)]
pub(crate) struct Verified {
    pub(crate) identity: Arc<Identity>,
    /// Seconds since 1970 at which the token ends.
    pub(crate) expires_at: i64,
}

/// Verifies a token at `now`. White space and URL encoding around it are taken off first, as upstream does.
pub(crate) fn verify(keys: &Keys, token: &str, now: Timestamp) -> Result<Verified, Refusal> {
    let token: String = percent_encoding::percent_decode_str(token)
        .decode_utf8_lossy()
        .chars()
        .filter(|character| !character.is_whitespace())
        .collect();
    let claims = keys
        .verify(&token, now)
        .map_err(|error| refusal(&error, &token, now))?;
    let (Some(role), Some(expires_at)) = (claims.role(), claims.expires_at()) else {
        return Err(Refusal::MissingClaims);
    };
    if expires_at <= now.as_second() {
        // The verifier grants a skew of its own; a channel that has ended must not be opened again within it.
        return Err(Refusal::Expired(now.as_second() - expires_at));
    }
    let identity = Identity {
        role: role.into(),
        claims: claims.to_json(role).into(),
        subject: claims.subject().map(Into::into),
    };
    Ok(Verified {
        identity: Arc::new(identity),
        expires_at,
    })
}

fn refusal(error: &TokenError, token: &str, now: Timestamp) -> Refusal {
    match error {
        // The signature was good, so what the claims say of the end can be told.
        TokenError::Expired => Refusal::Expired(now.as_second() - expiry_unverified(token)),
        TokenError::Algorithm | TokenError::Signature => Refusal::Signature,
        TokenError::ClaimType(_) => Refusal::MissingClaims,
        TokenError::Empty
        | TokenError::Parts(_)
        | TokenError::Malformed
        | TokenError::NotYetValid
        | TokenError::IssuedAtFuture => Refusal::Malformed,
    }
}

fn expiry_unverified(token: &str) -> i64 {
    token
        .split('.')
        .nth(1)
        .and_then(|claims| URL_SAFE_NO_PAD.decode(claims).ok())
        .and_then(|claims| serde_json::from_slice::<Map<String, Value>>(&claims).ok())
        .and_then(|claims| claims.get("exp").and_then(Value::as_i64))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn now() -> Timestamp {
        Timestamp::from_second(1_700_000_000).unwrap()
    }

    #[test]
    fn a_good_token_gives_role_claims_and_end() {
        let keys = Keys::generate(now());
        let token = keys.sign(&json!({"role": "authenticated", "sub": "u1", "exp": 1_700_000_100}));
        let verified = verify(&keys, &format!(" {token}\n"), now()).unwrap();
        assert_eq!(&*verified.identity.role, "authenticated");
        assert_eq!(verified.identity.subject.as_deref(), Some("u1"));
        assert_eq!(verified.expires_at, 1_700_000_100);
        let claims: Value = serde_json::from_str(&verified.identity.claims).unwrap();
        assert_eq!(claims["sub"], "u1");
    }

    #[test]
    fn refusals_say_what_upstream_says() {
        let keys = Keys::generate(now());
        let refused = |claims: Value| verify(&keys, &keys.sign(&claims), now()).unwrap_err();
        assert_eq!(
            refused(json!({"role": "anon", "exp": 1_699_999_900})).reason(),
            "InvalidJWTToken: Token has expired 100 seconds ago"
        );
        assert_eq!(
            refused(json!({"role": "anon", "exp": 1_699_999_999})).reason(),
            "InvalidJWTToken: Token has expired 1 seconds ago"
        );
        assert_eq!(
            refused(json!({"exp": 1_800_000_000})),
            Refusal::MissingClaims
        );
        assert_eq!(refused(json!({"role": "anon"})), Refusal::MissingClaims);
        assert_eq!(
            verify(&keys, "nonsense", now()).unwrap_err(),
            Refusal::Malformed
        );
        let foreign = Keys::generate(now()).sign(&json!({"role": "anon", "exp": 1_800_000_000}));
        assert_eq!(
            verify(&keys, &foreign, now()).unwrap_err(),
            Refusal::Signature
        );
    }
}

//! What a token says, and why one is refused.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Map, Value};

/// Clocks may differ by this much before `exp`, `nbf` or `iat` count against a token, in seconds.
pub const CLOCK_SKEW_SECONDS: i64 = 30;

/// Why a token was refused. Wording and grouping follow PostgREST, whose clients show the text to people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The header says `Bearer` and nothing follows.
    #[error("Empty JWT is sent in Authorization header")]
    Empty,
    /// Not `header.payload.signature`; the number of parts found.
    #[error("Expected 3 parts in JWT; got {0}")]
    Parts(usize),
    /// Another algorithm than HS256, `none` included.
    #[error("Wrong or unsupported encoding algorithm")]
    Algorithm,
    /// Signed with another secret, or altered.
    #[error("No suitable key or wrong key type")]
    Signature,
    /// Signed by us or not, but not readable as a token.
    #[error("JWT cryptographic operation failed")]
    Malformed,
    /// `exp` has passed.
    #[error("JWT expired")]
    Expired,
    /// `nbf` is still to come.
    #[error("JWT not yet valid")]
    NotYetValid,
    /// `iat` is still to come.
    #[error("JWT issued at future")]
    IssuedAtFuture,
    /// A claim has a type it may not have; the sentence says which.
    #[error("{0}")]
    ClaimType(&'static str),
}

impl TokenError {
    /// Whether the token was readable and signed by us, and one of its claims refuses it (PGRST303 rather than PGRST301).
    pub fn is_about_claims(&self) -> bool {
        match self {
            Self::Expired | Self::NotYetValid | Self::IssuedAtFuture | Self::ClaimType(_) => true,
            Self::Empty | Self::Parts(_) | Self::Algorithm | Self::Signature | Self::Malformed => {
                false
            }
        }
    }
}

/// The claims of a token whose signature and times were checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Claims {
    claims: Arc<Map<String, Value>>,
}

impl Claims {
    /// The claims of a request without a token: only a role.
    pub fn of_role(role: &str) -> Self {
        let mut claims = Map::new();
        claims.insert("role".to_owned(), Value::String(role.to_owned()));
        Self {
            claims: Arc::new(claims),
        }
    }

    /// Checks the times of `claims` at `now`; the signature has been checked by then.
    pub(super) fn checked(
        claims: Arc<Map<String, Value>>,
        now: Timestamp,
    ) -> Result<Self, TokenError> {
        let now = now.as_second();
        if let Some(exp) = seconds(&claims, "exp", "The JWT 'exp' claim must be a number")?
            && exp.saturating_add(CLOCK_SKEW_SECONDS) < now
        {
            return Err(TokenError::Expired);
        }
        if let Some(nbf) = seconds(&claims, "nbf", "The JWT 'nbf' claim must be a number")?
            && nbf.saturating_sub(CLOCK_SKEW_SECONDS) > now
        {
            return Err(TokenError::NotYetValid);
        }
        if let Some(iat) = seconds(&claims, "iat", "The JWT 'iat' claim must be a number")?
            && iat.saturating_sub(CLOCK_SKEW_SECONDS) > now
        {
            return Err(TokenError::IssuedAtFuture);
        }
        match claims.get("aud") {
            None | Some(Value::Null | Value::String(_)) => {}
            Some(Value::Array(all)) if all.iter().all(Value::is_string) => {}
            Some(_) => {
                return Err(TokenError::ClaimType(
                    "The JWT 'aud' claim must be a string or an array of strings",
                ));
            }
        }
        Ok(Self { claims })
    }

    /// One claim as text.
    fn text(&self, name: &str) -> Option<&str> {
        self.claims.get(name).and_then(Value::as_str)
    }

    /// The database role asked for; a token without one is anonymous. Never SET ROLE to it unchecked.
    pub fn role(&self) -> Option<&str> {
        self.text("role").filter(|role| !role.is_empty())
    }

    /// The user's id.
    pub fn subject(&self) -> Option<&str> {
        self.text("sub")
    }

    /// The session the token belongs to.
    pub fn session_id(&self) -> Option<&str> {
        self.text("session_id")
    }

    /// When the token ends, in seconds since 1970; without it the token never does.
    pub fn expires_at(&self) -> Option<i64> {
        self.claims.get("exp").and_then(whole_seconds)
    }

    /// Any claim, as it stands.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.claims.get(name)
    }

    /// The value of `request.jwt.claims`: every claim, with `role` always there.
    pub fn to_json(&self, role: &str) -> String {
        if self.role() == Some(role) {
            return serde_json::to_string(&*self.claims).unwrap_or_default();
        }
        let mut claims = Map::clone(&self.claims);
        claims.insert("role".to_owned(), Value::String(role.to_owned()));
        Value::Object(claims).to_string()
    }
}

/// The claim `name` in whole seconds, `None` when it is absent or null.
fn seconds(
    claims: &Map<String, Value>,
    name: &str,
    wrong: &'static str,
) -> Result<Option<i64>, TokenError> {
    match claims.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => whole_seconds(value)
            .map(Some)
            .ok_or(TokenError::ClaimType(wrong)),
    }
}

/// A number of seconds; fractions are cut, as RFC 7519 allows them.
fn whole_seconds(value: &Value) -> Option<i64> {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "saturates, and an absurd time stays absurd"
    )]
    value
        .as_i64()
        .or_else(|| value.as_f64().map(|seconds| seconds.floor() as i64))
}

//! The tokens of users that apps hand over with `POST /sdk/auth/sync-supabase-token`, in memory.

use std::collections::HashMap;

use axum::http::StatusCode;
use base64::Engine as _;
use jiff::Timestamp;
use parking_lot::Mutex;
use rowcall_stack::auth::Keys;
use serde_json::{Map, Value};

use super::error::ApiError;
use crate::config::Secret;

/// The longest token taken, in bytes.
pub(super) const MAX_TOKEN: usize = 16 * 1024;

/// How many callers' tokens are held.
const MAX_HELD: usize = 1_000;

/// The roles a user's token may ask for; never those that row level security does not hold back.
const ROLES: [&str; 2] = ["authenticated", "anon"];

/// How statements become those of a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct UserClaims {
    /// The role.
    pub role: String,
    /// `request.jwt.claims`.
    pub claims: String,
    /// The token itself, for requests over HTTP in the user's name.
    pub token: Secret,
}

#[derive(Clone, Debug)]
struct Held {
    user: UserClaims,
    expires: Option<i64>,
}

/// Tokens by caller.
#[derive(Debug, Default)]
pub(super) struct UserTokens(Mutex<HashMap<String, Held>>);

impl UserTokens {
    /// Takes a token. With the stack's keys its signature is checked; without them the database is somebody else's, and the
    /// token can only take rights away from what the caller has anyway.
    pub(super) fn hold(
        &self,
        caller: String,
        token: &str,
        keys: Option<&Keys>,
        now: Timestamp,
    ) -> Result<(), ApiError> {
        let refused = |why: String| ApiError::invalid(format!("The token cannot be used: {why}"));
        let claims = match keys {
            Some(keys) => {
                let claims = keys
                    .verify(token, now)
                    .map_err(|error| refused(error.to_string()))?;
                let role = claims.role().unwrap_or("authenticated").to_owned();
                let text = claims.to_json(&role);
                serde_json::from_str(&text).map_err(ApiError::internal)?
            }
            None => payload(token).ok_or_else(|| refused("it is no JSON Web Token".to_owned()))?,
        };
        let role = claims
            .get("role")
            .and_then(Value::as_str)
            .unwrap_or("authenticated");
        if !ROLES.contains(&role) {
            return Err(refused(format!("role {role:?} is not a user's")));
        }
        let user = UserClaims {
            role: role.to_owned(),
            claims: Value::Object(claims.clone()).to_string(),
            token: token.to_owned().into(),
        };
        let expires = claims.get("exp").and_then(Value::as_i64);
        let mut held = self.0.lock();
        if held.len() >= MAX_HELD && !held.contains_key(&caller) {
            return Err(ApiError::unavailable(
                "UNAVAILABLE",
                "Too many callers have handed over tokens",
            ));
        }
        held.insert(caller, Held { user, expires });
        Ok(())
    }

    /// The user whose rights count for a caller; `None` for callers that never handed over a token.
    pub(super) fn user(
        &self,
        caller: &str,
        now: Timestamp,
    ) -> Result<Option<UserClaims>, ApiError> {
        match self.0.lock().get(caller) {
            None => Ok(None),
            Some(held) if held.expires.is_some_and(|at| at <= now.as_second()) => {
                Err(ApiError::new(
                    StatusCode::FORBIDDEN,
                    "TOKEN_EXPIRED",
                    "The user's token has expired: hand over a new one with auth.syncSupabaseToken",
                ))
            }
            Some(held) => Ok(Some(held.user.clone())),
        }
    }
}

/// The claims of a token whose signature cannot be checked here.
fn payload(token: &str) -> Option<Map<String, Value>> {
    let mut parts = token.split('.');
    let (_, payload, _) = (parts.next()?, parts.next()?, parts.next()?);
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD
        .decode(payload.trim_end_matches('='))
        .ok()?;
    serde_json::from_slice(&bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(claims: &str) -> String {
        let encode = |text: &str| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text);
        format!("{}.{}.x", encode(r#"{"alg":"HS256"}"#), encode(claims))
    }

    #[test]
    fn only_users_are_taken_and_only_until_they_expire() {
        let tokens = UserTokens::default();
        let now = Timestamp::from_second(100).unwrap();
        let hold = |claims: &str| tokens.hold("app:a".into(), &token(claims), None, now);
        assert!(hold(r#"{"role":"service_role"}"#).is_err());
        assert!(tokens.hold("app:a".into(), "nonsense", None, now).is_err());
        assert_eq!(tokens.user("app:a", now), Ok(None));
        hold(r#"{"role":"authenticated","sub":"u","exp":200}"#).unwrap();
        let user = tokens.user("app:a", now).unwrap().unwrap();
        assert_eq!(user.role, "authenticated");
        assert!(user.claims.contains("\"sub\":\"u\""));
        let later = Timestamp::from_second(200).unwrap();
        assert_eq!(
            tokens.user("app:a", later).unwrap_err().code(),
            "TOKEN_EXPIRED"
        );
    }
}

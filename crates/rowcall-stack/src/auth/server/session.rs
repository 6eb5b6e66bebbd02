//! Sessions: opened with a pair of tokens, carried on by refreshing.

use axum::body::Body;
use axum::http::{Response, StatusCode};
use deadpool_postgres::GenericClient;
use jiff::Timestamp;
use rand::RngExt as _;
use serde_json::{Value, json};
use uuid::Uuid;

use super::error::{Answered, AuthError, json_answer};
use super::store::{self, SignIn};
use super::user::User;
use super::{Call, Inner};

/// How long a refresh token is; the official server's tokens are as long.
const REFRESH_TOKEN_CHARS: usize = 12;
/// What refresh tokens are made of.
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// A new refresh token: 60 random bits.
pub(super) fn new_refresh_token() -> String {
    let bytes: [u8; REFRESH_TOKEN_CHARS] = rand::rng().random();
    bytes
        .iter()
        .map(|byte| char::from(ALPHABET[usize::from(byte % 32)]))
        .collect()
}

impl Inner {
    /// Opens a session of `user` and answers with it.
    pub(super) async fn sign_in(
        &self,
        client: &impl GenericClient,
        user: Uuid,
        method: &str,
        call: &Call,
    ) -> Answered<Response<Body>> {
        let now = self.now();
        let refresh_token = new_refresh_token();
        let sign_in = SignIn {
            user,
            method,
            refresh_token: &refresh_token,
            user_agent: call.user_agent(),
            address: call.peer.map(|peer| peer.to_string()),
        };
        let session = store::open_session(client, &sign_in, now)
            .await?
            .ok_or_else(AuthError::user_not_found)?;
        let user = store::user_by_id(client, user)
            .await?
            .ok_or_else(AuthError::user_not_found)?;
        self.session_answer(client, &user, session, &refresh_token, now)
            .await
    }

    /// The tokens of a session, and its user.
    pub(super) async fn session_answer(
        &self,
        client: &impl GenericClient,
        user: &User,
        session: Uuid,
        refresh_token: &str,
        now: Timestamp,
    ) -> Answered<Response<Body>> {
        let lifetime = i64::try_from(self.config.token_lifetime.as_secs()).unwrap_or(i64::MAX / 2);
        let expires_at = now.as_second().saturating_add(lifetime);
        let methods: Vec<Value> = store::session_methods(client, session)
            .await?
            .into_iter()
            .map(|(method, at)| json!({"method": method, "timestamp": at.as_second()}))
            .collect();
        let access_token = self.keys.sign(&json!({
            "iss": self.issuer,
            "sub": user.id,
            "aud": "authenticated",
            "exp": expires_at,
            "iat": now.as_second(),
            "email": user.email.as_deref().unwrap_or_default(),
            "phone": user.phone(),
            "app_metadata": user.app_metadata,
            "user_metadata": user.own_metadata,
            "role": user.token_role(),
            "aal": "aal1",
            "amr": methods,
            "session_id": session,
            "is_anonymous": user.is_anonymous,
        }));
        let identities = store::identities(client, user.id).await?;
        let body = json!({
            "access_token": access_token,
            "token_type": "bearer",
            "expires_in": lifetime,
            "expires_at": expires_at,
            "refresh_token": refresh_token,
            "user": user.to_json(&identities),
            "weak_password": null,
        });
        Ok(json_answer(StatusCode::OK, &body))
    }

    /// A user as an answer.
    pub(super) async fn user_answer(
        &self,
        client: &impl GenericClient,
        id: Uuid,
    ) -> Answered<Response<Body>> {
        let user = store::user_by_id(client, id)
            .await?
            .ok_or_else(AuthError::user_not_found)?;
        let identities = store::identities(client, id).await?;
        Ok(json_answer(StatusCode::OK, &user.to_json(&identities)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refresh_tokens_are_twelve_alphanumeric_characters() {
        let (one, other) = (new_refresh_token(), new_refresh_token());
        assert_eq!(one.len(), 12);
        assert!(one.chars().all(|c| c.is_ascii_alphanumeric()));
        assert_ne!(one, other);
    }
}

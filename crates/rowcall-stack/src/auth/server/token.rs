//! POST /token: a session for a password or a refresh token.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::Response;
use serde::Deserialize;

use super::error::{Answered, AuthError};
use super::session::new_refresh_token;
use super::signup::normal_email;
use super::store;
use super::{Call, Inner, Server, answered};

#[derive(Debug, Deserialize)]
struct PasswordGrant {
    #[serde(default)]
    email: String,
    #[serde(default)]
    password: String,
}

#[derive(Debug, Deserialize)]
struct RefreshGrant {
    #[serde(default)]
    refresh_token: String,
}

pub(super) async fn token(State(server): Server, request: Request) -> Response<Body> {
    answered(request, async |call| {
        match call.parameter("grant_type").as_deref() {
            Some("password") => server.password_grant(call).await,
            Some("refresh_token") => server.refresh_grant(call).await,
            _ => Err(AuthError::bad(
                "invalid_credentials",
                "unsupported_grant_type",
            )),
        }
    })
    .await
}

impl Inner {
    async fn password_grant(&self, call: &Call) -> Answered<Response<Body>> {
        let given: PasswordGrant = call.json()?;
        let Ok(email) = normal_email(&given.email) else {
            return Err(AuthError::invalid_credentials());
        };
        self.limit_client(call)?;
        if !self.failures.allows(&email, self.now()) {
            return Err(AuthError::too_many());
        }
        let user = {
            let client = self.pool.get().await?;
            store::user_by_email(&client, &email).await?
        };
        // No connection is held while the hash is computed.
        let hash = user.as_ref().and_then(|user| user.password_hash.as_deref());
        let matches = self.passwords.matches(hash, &given.password).await?;
        let Some(user) = user.filter(|_| matches) else {
            self.failures.take(&email, self.now());
            return Err(AuthError::invalid_credentials());
        };
        if user.is_banned(self.now()) {
            return Err(AuthError::bad("user_banned", "User is banned"));
        }
        if user.email_confirmed_at.is_none() {
            return Err(AuthError::bad("email_not_confirmed", "Email not confirmed"));
        }
        self.failures.reset(&email);
        let client = self.pool.get().await?;
        self.sign_in(&client, user.id, "password", call).await
    }

    async fn refresh_grant(&self, call: &Call) -> Answered<Response<Body>> {
        let given: RefreshGrant = call.json()?;
        let not_found = || {
            AuthError::bad(
                "refresh_token_not_found",
                "Invalid Refresh Token: Refresh Token Not Found",
            )
        };
        let no_session = || {
            AuthError::bad(
                "session_not_found",
                "Invalid Refresh Token: No Valid Session Found",
            )
        };
        if given.refresh_token.is_empty() {
            return Err(not_found());
        }
        let now = self.now();
        let mut client = self.pool.get().await?;
        let transaction = client.transaction().await?;
        let found = store::refresh_token(&transaction, &given.refresh_token)
            .await?
            .ok_or_else(not_found)?;
        let (session, user) = found.session.ok_or_else(no_session)?;
        // Of two refreshes at once the second waits here and then sees what the first did.
        if !store::lock_session(&transaction, session).await? {
            return Err(no_session());
        }
        let found = store::refresh_token(&transaction, &given.refresh_token)
            .await?
            .ok_or_else(not_found)?;
        if found.not_after.is_some_and(|end| end <= now) {
            return Err(AuthError::bad(
                "session_expired",
                "Invalid Refresh Token: Session Expired",
            ));
        }
        let user = store::user_by_id(&transaction, user)
            .await?
            .ok_or_else(no_session)?;
        if user.is_banned(now) {
            return Err(AuthError::bad(
                "user_banned",
                "Invalid Refresh Token: User Banned",
            ));
        }
        let new = if found.revoked {
            let active = store::active_refresh_token(&transaction, session).await?;
            let reusable =
                active.filter(|(_, parent)| self.may_be_reused(&found, parent.as_deref()));
            let Some((token, _)) = reusable else {
                // Somebody else has this token too: nobody keeps the session.
                store::revoke_session_tokens(&transaction, session, now).await?;
                transaction.commit().await?;
                return Err(AuthError::bad(
                    "refresh_token_already_used",
                    "Invalid Refresh Token: Already Used",
                ));
            };
            token
        } else {
            let new = new_refresh_token();
            if !store::rotate_refresh_token(&transaction, &found.token, session, user.id, &new, now)
                .await?
            {
                return Err(AuthError::unexpected());
            }
            new
        };
        let answer = self
            .session_answer(&transaction, &user, session, &new, now)
            .await?;
        transaction.commit().await?;
        Ok(answer)
    }

    /// Whether a replaced token still gives the active one: its answer may have been lost on the way.
    fn may_be_reused(&self, found: &store::RefreshToken, parent: Option<&str>) -> bool {
        let recent = found.updated_at.is_some_and(|replaced| {
            self.now().duration_since(replaced).unsigned_abs() <= self.config.refresh_reuse
        });
        recent || parent == Some(found.token.as_str())
    }
}

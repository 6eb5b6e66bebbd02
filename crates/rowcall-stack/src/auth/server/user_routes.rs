//! GET and PUT /user, POST /logout: what somebody who is signed in does with themselves.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Response, StatusCode};
use serde::Deserialize;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::error::{Answered, AuthError};
use super::password::check_new;
use super::signup::{email_app_metadata, email_identity, normal_email};
use super::store::{self, UserChange};
use super::user::User;
use super::{Call, Inner, Server, answered};

#[derive(Debug, Deserialize)]
struct Update {
    email: Option<String>,
    phone: Option<String>,
    password: Option<String>,
    data: Option<Map<String, Value>>,
}

pub(super) async fn get_user(State(server): Server, request: Request) -> Response<Body> {
    answered(request, async |call| {
        let (user, _) = server.signed_in(call).await?;
        let client = server.pool.get().await?;
        server.user_answer(&client, user.id).await
    })
    .await
}

pub(super) async fn update_user(State(server): Server, request: Request) -> Response<Body> {
    answered(request, async |call| server.update_self(call).await).await
}

pub(super) async fn logout(State(server): Server, request: Request) -> Response<Body> {
    answered(request, async |call| server.log_out(call).await).await
}

impl Inner {
    /// The user of the request's token, and the session it belongs to. Both must still be there.
    async fn signed_in(&self, call: &Call) -> Answered<(User, Option<Uuid>)> {
        let claims = self.bearer(&call.headers)?;
        let subject = claims
            .subject()
            .and_then(|subject| subject.parse().ok())
            .ok_or_else(|| AuthError::forbidden("bad_jwt", "invalid claim: missing sub claim"))?;
        let client = self.pool.get().await?;
        let user = store::user_by_id(&client, subject).await?.ok_or_else(|| {
            AuthError::forbidden(
                "user_not_found",
                "User from sub claim in JWT does not exist",
            )
        })?;
        let session: Option<Uuid> = claims.session_id().and_then(|session| session.parse().ok());
        if let Some(session) = session
            && !store::session_exists(&client, session).await?
        {
            return Err(AuthError::forbidden(
                "session_not_found",
                "Session from session_id claim in JWT does not exist",
            ));
        }
        Ok((user, session))
    }

    async fn update_self(&self, call: &Call) -> Answered<Response<Body>> {
        let (user, _) = self.signed_in(call).await?;
        let wanted: Update = call.json()?;
        if wanted
            .phone
            .as_deref()
            .is_some_and(|phone| !phone.is_empty())
        {
            return Err(AuthError::bad(
                "phone_provider_disabled",
                "Phone signups are disabled",
            ));
        }
        let now = self.now();
        let mut change = UserChange {
            user_metadata: wanted.data.map(Value::Object),
            ..UserChange::default()
        };
        if let Some(password) = &wanted.password {
            check_new(password, self.config.password_min)?;
            if self
                .passwords
                .matches(user.password_hash.as_deref(), password)
                .await?
            {
                return Err(AuthError::unprocessable(
                    "same_password",
                    "New password should be different from the old password.",
                ));
            }
            change.password_hash = Some(self.passwords.hash(password).await?);
        }
        let mut client = self.pool.get().await?;
        let transaction = client.transaction().await?;
        let email = wanted.email.as_deref().map(normal_email).transpose()?;
        if let Some(email) = email.filter(|email| user.email.as_ref() != Some(email)) {
            if store::user_by_email(&transaction, &email).await?.is_some() {
                return Err(AuthError::email_exists());
            }
            if !self.config.autoconfirm {
                return Err(AuthError::unprocessable(
                    "email_provider_disabled",
                    "There are no mails to confirm a new address with; an admin can change it",
                ));
            }
            let identity = email_identity(user.id, &email, true);
            store::put_email_identity(&transaction, user.id, &identity, now).await?;
            let mut metadata = change
                .user_metadata
                .take()
                .unwrap_or_else(|| Value::Object(Map::new()));
            merge(&mut metadata, &identity);
            change.user_metadata = Some(metadata);
            change.app_metadata = Some(email_app_metadata());
            change.email_confirmed_at = Some(now);
            change.email = Some(email);
        }
        store::update_user(&transaction, user.id, &change, now).await?;
        let answer = self.user_answer(&transaction, user.id).await?;
        transaction.commit().await?;
        Ok(answer)
    }

    async fn log_out(&self, call: &Call) -> Answered<Response<Body>> {
        let scope = call
            .parameter("scope")
            .unwrap_or_else(|| "global".to_owned());
        if !matches!(scope.as_str(), "global" | "local" | "others") {
            return Err(AuthError::bad(
                "validation_failed",
                format!("Unsupported logout scope \"{scope}\""),
            ));
        }
        let (user, session) = self.signed_in(call).await?;
        let client = self.pool.get().await?;
        store::close_sessions(&client, user.id, session, &scope).await?;
        let mut answer = Response::new(Body::empty());
        *answer.status_mut() = StatusCode::NO_CONTENT;
        Ok(answer)
    }
}

/// Puts the members of `more` into the object `into`.
pub(super) fn merge(into: &mut Value, more: &Value) {
    if let (Value::Object(into), Value::Object(more)) = (into, more) {
        into.extend(more.iter().map(|(key, value)| (key.clone(), value.clone())));
    }
}

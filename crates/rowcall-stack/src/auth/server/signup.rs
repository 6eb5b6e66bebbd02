//! POST /signup: new users, by e-mail and password, or anonymous.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::Response;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::error::{Answered, AuthError};
use super::password::check_new;
use super::store::{self, NewUser};
use super::{Call, Inner, Server, answered};

#[derive(Debug, Deserialize)]
struct SignUp {
    #[serde(default)]
    email: String,
    #[serde(default)]
    phone: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    data: Option<Map<String, Value>>,
}

pub(super) async fn signup(State(server): Server, request: Request) -> Response<Body> {
    answered(request, async |call| server.sign_up(call).await).await
}

impl Inner {
    async fn sign_up(&self, call: &Call) -> Answered<Response<Body>> {
        let wanted: SignUp = call.json()?;
        if !self.config.signup {
            return Err(AuthError::unprocessable(
                "signup_disabled",
                "Signups not allowed for this instance",
            ));
        }
        let data = wanted.data.unwrap_or_default();
        if wanted.email.is_empty() && wanted.phone.is_empty() {
            return self.sign_up_anonymous(call, data).await;
        }
        if wanted.email.is_empty() {
            return Err(AuthError::bad(
                "phone_provider_disabled",
                "Phone signups are disabled",
            ));
        }
        if wanted.password.is_empty() {
            return Err(AuthError::bad(
                "validation_failed",
                "Signup requires a valid password",
            ));
        }
        check_new(&wanted.password, self.config.password_min)?;
        let email = normal_email(&wanted.email)?;
        self.limit_client(call)?;
        let now = self.now();
        let hash = self.passwords.hash(&wanted.password).await?;
        let mut client = self.pool.get().await?;
        let transaction = client.transaction().await?;
        let new = NewUser {
            email: Some(email.clone()),
            password_hash: Some(hash),
            email_confirmed_at: self.config.autoconfirm.then_some(now),
            app_metadata: email_app_metadata(),
            user_metadata: Value::Object(data),
            role: "authenticated".to_owned(),
            ..NewUser::default()
        };
        let user = store::insert_user(&transaction, &new, now)
            .await?
            .ok_or_else(|| {
                AuthError::unprocessable("user_already_exists", "User already registered")
            })?;
        let details = email_identity(user, &email, self.config.autoconfirm);
        let change = store::UserChange {
            user_metadata: Some(details.clone()),
            ..store::UserChange::default()
        };
        store::update_user(&transaction, user, &change, now).await?;
        store::put_email_identity(&transaction, user, &details, now).await?;
        let answer = if self.config.autoconfirm {
            self.sign_in(&transaction, user, "password", call).await?
        } else {
            self.user_answer(&transaction, user).await?
        };
        transaction.commit().await?;
        Ok(answer)
    }

    async fn sign_up_anonymous(
        &self,
        call: &Call,
        data: Map<String, Value>,
    ) -> Answered<Response<Body>> {
        if !self.config.anonymous {
            return Err(AuthError::unprocessable(
                "anonymous_provider_disabled",
                "Anonymous sign-ins are disabled",
            ));
        }
        self.limit_client(call)?;
        let mut client = self.pool.get().await?;
        let transaction = client.transaction().await?;
        let new = NewUser {
            app_metadata: json!({}),
            user_metadata: Value::Object(data),
            is_anonymous: true,
            role: "authenticated".to_owned(),
            ..NewUser::default()
        };
        let user = store::insert_user(&transaction, &new, self.now())
            .await?
            .ok_or_else(AuthError::unexpected)?;
        let answer = self.sign_in(&transaction, user, "anonymous", call).await?;
        transaction.commit().await?;
        Ok(answer)
    }
}

/// What app metadata says of users with an address.
pub(super) fn email_app_metadata() -> Value {
    json!({"provider": "email", "providers": ["email"]})
}

/// What the e-mail identity says; the user's metadata says it too.
pub(super) fn email_identity(user: Uuid, email: &str, verified: bool) -> Value {
    json!({"sub": user, "email": email, "email_verified": verified, "phone_verified": false})
}

/// An address in the form it is stored in.
pub(super) fn normal_email(email: &str) -> Answered<String> {
    let email = email.trim().to_lowercase();
    let valid = email.len() <= 255
        && !email.chars().any(|c| c.is_whitespace() || c.is_control())
        && email.split_once('@').is_some_and(|(name, host)| {
            !name.is_empty() && !host.is_empty() && !host.contains('@') && !host.starts_with('.')
        });
    if valid {
        Ok(email)
    } else {
        Err(AuthError::bad(
            "validation_failed",
            "Unable to validate email address: invalid format",
        ))
    }
}

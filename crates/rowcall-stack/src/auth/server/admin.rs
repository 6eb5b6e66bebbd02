//! /admin/users: what the holder of the service key does with users.

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderName, HeaderValue, Response, StatusCode};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::error::{Answered, AuthError, json_answer};
use super::password::check_new;
use super::signup::{email_app_metadata, email_identity, normal_email};
use super::store::{self, NewUser, UserChange};
use super::user_routes::merge;
use super::{Call, Inner, Server, answered};

/// Users on a page when nothing else is asked for.
const PER_PAGE: i64 = 50;
/// The most users on a page.
const MAX_PER_PAGE: i64 = 1_000;

#[derive(Debug, Deserialize)]
struct Wanted {
    id: Option<String>,
    email: Option<String>,
    password: Option<String>,
    password_hash: Option<String>,
    #[serde(default)]
    email_confirm: bool,
    user_metadata: Option<Map<String, Value>>,
    app_metadata: Option<Map<String, Value>>,
    role: Option<String>,
    ban_duration: Option<String>,
}

pub(super) async fn list(State(server): Server, request: Request) -> Response<Body> {
    answered(request, async |call| {
        server.admin(call)?;
        server.list(call).await
    })
    .await
}

pub(super) async fn create(State(server): Server, request: Request) -> Response<Body> {
    answered(request, async |call| {
        server.admin(call)?;
        server.create(call).await
    })
    .await
}

pub(super) async fn get(
    State(server): Server,
    Path(id): Path<String>,
    request: Request,
) -> Response<Body> {
    answered(request, async |call| {
        server.admin(call)?;
        let client = server.pool.get().await?;
        server.user_answer(&client, parse_id(&id)?).await
    })
    .await
}

pub(super) async fn update(
    State(server): Server,
    Path(id): Path<String>,
    request: Request,
) -> Response<Body> {
    answered(request, async |call| {
        server.admin(call)?;
        server.update(call, parse_id(&id)?).await
    })
    .await
}

pub(super) async fn delete(
    State(server): Server,
    Path(id): Path<String>,
    request: Request,
) -> Response<Body> {
    answered(request, async |call| {
        server.admin(call)?;
        let client = server.pool.get().await?;
        if store::delete_user(&client, parse_id(&id)?).await? {
            Ok(json_answer(StatusCode::OK, &json!({})))
        } else {
            Err(AuthError::user_not_found())
        }
    })
    .await
}

fn parse_id(id: &str) -> Answered<Uuid> {
    id.parse().map_err(|_| {
        AuthError::new(
            StatusCode::NOT_FOUND,
            "validation_failed",
            "user_id must be an UUID",
        )
    })
}

impl Inner {
    /// Only the service key may.
    fn admin(&self, call: &Call) -> Answered<()> {
        let claims = self.bearer(&call.headers)?;
        match claims.role() {
            Some("service_role" | "supabase_admin") => Ok(()),
            _ => Err(AuthError::forbidden("not_admin", "User not allowed")),
        }
    }

    async fn list(&self, call: &Call) -> Answered<Response<Body>> {
        let number = |name: &str, default: i64| {
            let given = call.parameter(name).and_then(|value| value.parse().ok());
            given.filter(|number| *number > 0).unwrap_or(default)
        };
        let page = number("page", 1);
        let per_page = number("per_page", PER_PAGE).min(MAX_PER_PAGE);
        let client = self.pool.get().await?;
        let (users, total) =
            store::list_users(&client, per_page, (page - 1).saturating_mul(per_page)).await?;
        let mut shown = Vec::with_capacity(users.len());
        for user in &users {
            let identities = store::identities(&client, user.id).await?;
            shown.push(user.to_json(&identities));
        }
        let mut answer = json_answer(
            StatusCode::OK,
            &json!({"users": shown, "aud": "authenticated"}),
        );
        let headers = answer.headers_mut();
        headers.insert(
            HeaderName::from_static("x-total-count"),
            HeaderValue::from(total),
        );
        let last = (total + per_page - 1).max(per_page) / per_page;
        let mut links = Vec::new();
        if page < last {
            links.push(format!(
                "</admin/users?page={}&per_page={per_page}>; rel=\"next\"",
                page + 1
            ));
        }
        links.push(format!(
            "</admin/users?page={last}&per_page={per_page}>; rel=\"last\""
        ));
        if let Ok(link) = HeaderValue::try_from(links.join(", ")) {
            headers.insert(axum::http::header::LINK, link);
        }
        Ok(answer)
    }

    async fn create(&self, call: &Call) -> Answered<Response<Body>> {
        let wanted: Wanted = call.json()?;
        let email = wanted
            .email
            .as_deref()
            .map(normal_email)
            .transpose()?
            .ok_or_else(|| {
                AuthError::bad(
                    "validation_failed",
                    "Cannot create a user without either an email or phone",
                )
            })?;
        let now = self.now();
        let hash = self.new_hash(&wanted).await?;
        let mut app_metadata = email_app_metadata();
        merge(
            &mut app_metadata,
            &Value::Object(wanted.app_metadata.unwrap_or_default()),
        );
        let new = NewUser {
            id: wanted.id.as_deref().map(parse_id).transpose()?,
            email: Some(email.clone()),
            password_hash: hash,
            email_confirmed_at: wanted.email_confirm.then_some(now),
            app_metadata,
            user_metadata: Value::Object(wanted.user_metadata.unwrap_or_default()),
            is_anonymous: false,
            role: wanted.role.unwrap_or_else(|| "authenticated".to_owned()),
        };
        let mut client = self.pool.get().await?;
        let transaction = client.transaction().await?;
        let user = store::insert_user(&transaction, &new, now)
            .await?
            .ok_or_else(AuthError::email_exists)?;
        let identity = email_identity(user, &email, wanted.email_confirm);
        store::put_email_identity(&transaction, user, &identity, now).await?;
        if let Some(duration) = &wanted.ban_duration {
            let change = UserChange {
                banned_until: Some(ban_end(duration, now)?),
                ..UserChange::default()
            };
            store::update_user(&transaction, user, &change, now).await?;
        }
        let answer = self.user_answer(&transaction, user).await?;
        transaction.commit().await?;
        Ok(answer)
    }

    async fn update(&self, call: &Call, id: Uuid) -> Answered<Response<Body>> {
        let wanted: Wanted = call.json()?;
        let now = self.now();
        let email = wanted.email.as_deref().map(normal_email).transpose()?;
        let mut change = UserChange {
            password_hash: self.new_hash(&wanted).await?,
            email_confirmed_at: wanted.email_confirm.then_some(now),
            app_metadata: wanted.app_metadata.map(Value::Object),
            user_metadata: wanted.user_metadata.map(Value::Object),
            role: wanted.role,
            banned_until: wanted
                .ban_duration
                .as_deref()
                .map(|duration| ban_end(duration, now))
                .transpose()?,
            ..UserChange::default()
        };
        let mut client = self.pool.get().await?;
        let transaction = client.transaction().await?;
        let user = store::user_by_id(&transaction, id)
            .await?
            .ok_or_else(AuthError::user_not_found)?;
        if let Some(email) = email.filter(|email| user.email.as_ref() != Some(email)) {
            if store::user_by_email(&transaction, &email).await?.is_some() {
                return Err(AuthError::email_exists());
            }
            let confirmed = wanted.email_confirm || user.email_confirmed_at.is_some();
            store::put_email_identity(
                &transaction,
                id,
                &email_identity(id, &email, confirmed),
                now,
            )
            .await?;
            change.email = Some(email);
        }
        store::update_user(&transaction, id, &change, now).await?;
        let answer = self.user_answer(&transaction, id).await?;
        transaction.commit().await?;
        Ok(answer)
    }

    /// The hash of the password wanted, or the hash that was given.
    async fn new_hash(&self, wanted: &Wanted) -> Answered<Option<String>> {
        match (&wanted.password, &wanted.password_hash) {
            (Some(password), _) => {
                check_new(password, self.config.password_min)?;
                self.passwords.hash(password).await.map(Some)
            }
            (None, Some(hash)) if hash.starts_with("$2") || hash.starts_with("$argon2") => {
                Ok(Some(hash.clone()))
            }
            (None, Some(_)) => Err(AuthError::bad(
                "validation_failed",
                "The password hash is neither bcrypt nor argon2",
            )),
            (None, None) => Ok(None),
        }
    }
}

/// The end of a ban: `none` lifts it, otherwise Go's notation of hours, minutes and seconds (`24h`, `1h30m`).
fn ban_end(duration: &str, now: Timestamp) -> Answered<Timestamp> {
    if duration == "none" {
        return Ok(Timestamp::UNIX_EPOCH);
    }
    let wrong = || {
        AuthError::bad(
            "validation_failed",
            format!("invalid format for ban duration: {duration}"),
        )
    };
    let length: SignedDuration = duration.parse().map_err(|_| wrong())?;
    now.checked_add(length).map_err(|_| wrong())
}

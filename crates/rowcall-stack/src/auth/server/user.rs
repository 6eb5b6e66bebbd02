//! A user as stored, and as shown.

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use tokio_postgres::Row;
use uuid::Uuid;

/// A row of `auth.users`.
#[derive(Debug, Clone)]
pub(super) struct User {
    pub(super) id: Uuid,
    aud: Option<String>,
    pub(super) role: Option<String>,
    pub(super) email: Option<String>,
    pub(super) password_hash: Option<String>,
    pub(super) email_confirmed_at: Option<Timestamp>,
    phone: Option<String>,
    confirmed_at: Option<Timestamp>,
    last_sign_in_at: Option<Timestamp>,
    pub(super) app_metadata: Value,
    pub(super) own_metadata: Value,
    created_at: Option<Timestamp>,
    updated_at: Option<Timestamp>,
    pub(super) is_anonymous: bool,
    banned_until: Option<Timestamp>,
}

impl User {
    pub(super) fn read(row: &Row) -> Self {
        let object = |column: &str| {
            row.get::<_, Option<Value>>(column)
                .unwrap_or_else(|| json!({}))
        };
        Self {
            id: row.get("id"),
            aud: row.get("aud"),
            role: row.get("role"),
            email: row.get("email"),
            password_hash: row.get("encrypted_password"),
            email_confirmed_at: row.get("email_confirmed_at"),
            phone: row.get("phone"),
            confirmed_at: row.get("confirmed_at"),
            last_sign_in_at: row.get("last_sign_in_at"),
            app_metadata: object("raw_app_meta_data"),
            own_metadata: object("raw_user_meta_data"),
            created_at: row.get("created_at"),
            updated_at: row.get("updated_at"),
            is_anonymous: row.get("is_anonymous"),
            banned_until: row.get("banned_until"),
        }
    }

    /// The database role of the user's tokens.
    pub(super) fn token_role(&self) -> &str {
        self.role
            .as_deref()
            .filter(|role| !role.is_empty())
            .unwrap_or("authenticated")
    }

    /// Whether the user may not sign in at `now`.
    pub(super) fn is_banned(&self, now: Timestamp) -> bool {
        self.banned_until.is_some_and(|until| until > now)
    }

    pub(super) fn phone(&self) -> &str {
        self.phone.as_deref().unwrap_or_default()
    }

    /// What clients see. Times that never were are left out, as clients expect.
    pub(super) fn to_json(&self, identities: &[Value]) -> Value {
        let mut user = Map::new();
        let mut put = |key: &str, value: Value| {
            user.insert(key.to_owned(), value);
        };
        put("id", json!(self.id));
        put("aud", json!(self.aud.as_deref().unwrap_or("authenticated")));
        put("role", json!(self.token_role()));
        put("email", json!(self.email.as_deref().unwrap_or_default()));
        put_time(&mut put, "email_confirmed_at", self.email_confirmed_at);
        put("phone", json!(self.phone()));
        put_time(&mut put, "confirmed_at", self.confirmed_at);
        put_time(&mut put, "last_sign_in_at", self.last_sign_in_at);
        put("app_metadata", self.app_metadata.clone());
        put("user_metadata", self.own_metadata.clone());
        put("identities", json!(identities));
        put_time(&mut put, "created_at", self.created_at);
        put_time(&mut put, "updated_at", self.updated_at);
        put_time(&mut put, "banned_until", self.banned_until);
        put("is_anonymous", json!(self.is_anonymous));
        Value::Object(user)
    }
}

fn put_time(put: &mut impl FnMut(&str, Value), key: &str, time: Option<Timestamp>) {
    if let Some(time) = time {
        put(key, json!(time.to_string()));
    }
}

/// A row of `auth.identities` as clients see it.
pub(super) fn identity_json(row: &Row) -> Value {
    let time = |column: &str| {
        row.get::<_, Option<Timestamp>>(column)
            .map(|time| time.to_string())
    };
    json!({
        "identity_id": row.get::<_, Uuid>("id"),
        "id": row.get::<_, Uuid>("user_id"),
        "user_id": row.get::<_, Uuid>("user_id"),
        "identity_data": row.get::<_, Value>("identity_data"),
        "provider": row.get::<_, String>("provider"),
        "last_sign_in_at": time("last_sign_in_at"),
        "created_at": time("created_at"),
        "updated_at": time("updated_at"),
        "email": row.get::<_, Option<String>>("email"),
    })
}

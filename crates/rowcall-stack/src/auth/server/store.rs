//! The tables of the auth server, one function per statement.

use deadpool_postgres::GenericClient;
use jiff::Timestamp;
use serde_json::Value;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::error::Answered;
use super::user::{User, identity_json};

macro_rules! sql {
    ($name:literal) => {
        include_str!(concat!("../../../sql/auth/", $name, ".sql"))
    };
}

type Values<'a> = &'a [&'a (dyn ToSql + Sync)];

async fn query(client: &impl GenericClient, sql: &str, values: Values<'_>) -> Answered<Vec<Row>> {
    let statement = client.prepare_cached(sql).await?;
    Ok(client.query(&statement, values).await?)
}

async fn execute(client: &impl GenericClient, sql: &str, values: Values<'_>) -> Answered<u64> {
    let statement = client.prepare_cached(sql).await?;
    Ok(client.execute(&statement, values).await?)
}

pub(super) async fn user_by_email(
    client: &impl GenericClient,
    email: &str,
) -> Answered<Option<User>> {
    Ok(query(client, sql!("user_by_email"), &[&email])
        .await?
        .first()
        .map(User::read))
}

pub(super) async fn user_by_id(client: &impl GenericClient, id: Uuid) -> Answered<Option<User>> {
    Ok(query(client, sql!("user_by_id"), &[&id])
        .await?
        .first()
        .map(User::read))
}

/// A page of users and the number of all.
pub(super) async fn list_users(
    client: &impl GenericClient,
    limit: i64,
    offset: i64,
) -> Answered<(Vec<User>, i64)> {
    let rows = query(client, sql!("list_users"), &[&limit, &offset]).await?;
    let total = rows.first().map_or(0, |row| row.get("total"));
    Ok((rows.iter().map(User::read).collect(), total))
}

/// What is known of a new user.
#[derive(Debug, Default)]
pub(super) struct NewUser {
    pub(super) id: Option<Uuid>,
    pub(super) email: Option<String>,
    pub(super) password_hash: Option<String>,
    pub(super) email_confirmed_at: Option<Timestamp>,
    pub(super) app_metadata: Value,
    pub(super) user_metadata: Value,
    pub(super) is_anonymous: bool,
    pub(super) role: String,
}

/// The new user's id; `None` when the address or the id is taken.
pub(super) async fn insert_user(
    client: &impl GenericClient,
    user: &NewUser,
    now: Timestamp,
) -> Answered<Option<Uuid>> {
    let values: Values<'_> = &[
        &user.id,
        &user.email,
        &user.password_hash,
        &user.email_confirmed_at,
        &user.app_metadata,
        &user.user_metadata,
        &user.is_anonymous,
        &user.role,
        &now,
    ];
    Ok(query(client, sql!("insert_user"), values)
        .await?
        .first()
        .map(|row| row.get(0)))
}

/// What changes of a user.
#[derive(Debug, Default)]
pub(super) struct UserChange {
    pub(super) email: Option<String>,
    pub(super) password_hash: Option<String>,
    pub(super) email_confirmed_at: Option<Timestamp>,
    pub(super) app_metadata: Option<Value>,
    pub(super) user_metadata: Option<Value>,
    pub(super) role: Option<String>,
    pub(super) banned_until: Option<Timestamp>,
}

/// Whether the user exists.
pub(super) async fn update_user(
    client: &impl GenericClient,
    id: Uuid,
    change: &UserChange,
    now: Timestamp,
) -> Answered<bool> {
    let values: Values<'_> = &[
        &id,
        &change.email,
        &change.password_hash,
        &change.email_confirmed_at,
        &change.app_metadata,
        &change.user_metadata,
        &change.role,
        &change.banned_until,
        &now,
    ];
    Ok(!query(client, sql!("update_user"), values).await?.is_empty())
}

/// Whether the user existed.
pub(super) async fn delete_user(client: &impl GenericClient, id: Uuid) -> Answered<bool> {
    Ok(!query(client, sql!("delete_user"), &[&id]).await?.is_empty())
}

pub(super) async fn identities(client: &impl GenericClient, user: Uuid) -> Answered<Vec<Value>> {
    Ok(query(client, sql!("identities"), &[&user])
        .await?
        .iter()
        .map(identity_json)
        .collect())
}

pub(super) async fn put_email_identity(
    client: &impl GenericClient,
    user: Uuid,
    data: &Value,
    now: Timestamp,
) -> Answered<()> {
    execute(client, sql!("put_email_identity"), &[&user, data, &now])
        .await
        .map(drop)
}

/// A sign-in.
#[derive(Debug)]
pub(super) struct SignIn<'a> {
    pub(super) user: Uuid,
    pub(super) method: &'a str,
    pub(super) refresh_token: &'a str,
    pub(super) user_agent: Option<&'a str>,
    pub(super) address: Option<String>,
}

/// The id of the session opened.
pub(super) async fn open_session(
    client: &impl GenericClient,
    sign_in: &SignIn<'_>,
    now: Timestamp,
) -> Answered<Option<Uuid>> {
    let values: Values<'_> = &[
        &sign_in.user,
        &now,
        &sign_in.method,
        &sign_in.refresh_token,
        &sign_in.user_agent,
        &sign_in.address,
    ];
    Ok(query(client, sql!("open_session"), values)
        .await?
        .first()
        .map(|row| row.get(0)))
}

/// A refresh token as stored.
#[derive(Debug)]
pub(super) struct RefreshToken {
    pub(super) token: String,
    pub(super) revoked: bool,
    pub(super) updated_at: Option<Timestamp>,
    pub(super) session: Option<(Uuid, Uuid)>,
    pub(super) not_after: Option<Timestamp>,
}

pub(super) async fn refresh_token(
    client: &impl GenericClient,
    token: &str,
) -> Answered<Option<RefreshToken>> {
    let rows = query(client, sql!("lock_refresh_token"), &[&token]).await?;
    Ok(rows.first().map(|row| RefreshToken {
        token: row.get("token"),
        revoked: row.get::<_, Option<bool>>("revoked").unwrap_or(false),
        updated_at: row.get("updated_at"),
        session: row
            .get::<_, Option<Uuid>>("session_id")
            .zip(row.get("user_id")),
        not_after: row.get("not_after"),
    }))
}

pub(super) async fn lock_session(client: &impl GenericClient, session: Uuid) -> Answered<bool> {
    Ok(!query(client, sql!("lock_session"), &[&session])
        .await?
        .is_empty())
}

/// The token that counts and the one it replaced.
pub(super) async fn active_refresh_token(
    client: &impl GenericClient,
    session: Uuid,
) -> Answered<Option<(String, Option<String>)>> {
    let rows = query(client, sql!("active_refresh_token"), &[&session]).await?;
    Ok(rows.first().map(|row| (row.get(0), row.get(1))))
}

pub(super) async fn rotate_refresh_token(
    client: &impl GenericClient,
    old: &str,
    session: Uuid,
    user: Uuid,
    new: &str,
    now: Timestamp,
) -> Answered<bool> {
    let values: Values<'_> = &[&old, &session, &user, &now, &new];
    Ok(execute(client, sql!("rotate_refresh_token"), values).await? == 1)
}

pub(super) async fn revoke_session_tokens(
    client: &impl GenericClient,
    session: Uuid,
    now: Timestamp,
) -> Answered<()> {
    execute(client, sql!("revoke_session_tokens"), &[&session, &now])
        .await
        .map(drop)
}

/// Methods and when, newest first.
pub(super) async fn session_methods(
    client: &impl GenericClient,
    session: Uuid,
) -> Answered<Vec<(String, Timestamp)>> {
    let rows = query(client, sql!("session_methods"), &[&session]).await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

pub(super) async fn session_exists(client: &impl GenericClient, session: Uuid) -> Answered<bool> {
    Ok(!query(
        client,
        "select 1 from auth.sessions where id = $1",
        &[&session],
    )
    .await?
    .is_empty())
}

pub(super) async fn close_sessions(
    client: &impl GenericClient,
    user: Uuid,
    session: Option<Uuid>,
    scope: &str,
) -> Answered<()> {
    execute(client, sql!("close_sessions"), &[&user, &session, &scope])
        .await
        .map(drop)
}

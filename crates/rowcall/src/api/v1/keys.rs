//! Developer keys. A key is shown once, when it is made.

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use rowcall_engine::store::{KeyRow, Store};
use serde::Serialize;
use utoipa::ToSchema;

use super::{Done, Problem, schema};
use crate::{
    api::{
        body::Fields,
        error::ApiError,
        rules::{Operator, Routes},
        state::Api,
    },
    cli::key::{KeyError, add_key},
};

pub(super) fn routes() -> Routes {
    Routes::default()
        .get("/rowcall/v1/keys", list)
        .post("/rowcall/v1/keys", add)
        .delete("/rowcall/v1/keys/{name}", revoke)
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Keys {
    #[schema(value_type = Vec<schema::KeyShape>)]
    keys: Vec<KeyRow>,
}

/// All keys, revoked ones included.
#[utoipa::path(get, path = "/rowcall/v1/keys", tag = "keys", security(("token" = [])),
    responses((status = 200, body = Keys), (status = 401, body = Problem)))]
pub(super) async fn list(_: Operator, State(api): State<Api>) -> Result<Json<Keys>, ApiError> {
    let keys = api.store(Store::keys).await?;
    Ok(Json(Keys { keys }))
}

#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "describes a body that is read member by member")]
struct NewKey {
    /// Its name.
    name: String,
    /// Whether it may also administer this machine.
    admin: Option<bool>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AddedKey {
    success: bool,
    name: String,
    /// The key. It is not stored and cannot be shown again.
    key: String,
}

/// Makes a key.
#[utoipa::path(post, path = "/rowcall/v1/keys", tag = "keys", request_body = NewKey, security(("token" = [])),
    responses((status = 201, body = AddedKey), (status = 400, body = Problem), (status = 401, body = Problem), (status = 409, body = Problem),
        (status = 415, body = Problem)))]
pub(super) async fn add(
    _: Operator,
    State(api): State<Api>,
    body: Fields,
) -> Result<(StatusCode, Json<AddedKey>), ApiError> {
    let name = body.required("name", 100)?.to_owned();
    let (admin, now) = (body.flag("admin")?, api.now());
    let added = {
        let name = name.clone();
        api.store(move |store| Ok(add_key(store, &name, None, admin, now)))
            .await?
    };
    match added {
        Ok(key) => Ok((
            StatusCode::CREATED,
            Json(AddedKey {
                success: true,
                name,
                key,
            }),
        )),
        Err(KeyError::Store(error)) => Err(error.into()),
        Err(error @ (KeyError::NameTaken(_) | KeyError::KeyTaken)) => {
            Err(ApiError::conflict(error.to_string()))
        }
        Err(error) => Err(ApiError::invalid(error.to_string())),
    }
}

/// Revokes a key; it is refused from this moment on.
#[utoipa::path(delete, path = "/rowcall/v1/keys/{name}", tag = "keys", params(("name" = String, Path, description = "Its name")),
    security(("token" = [])),
    responses((status = 200, body = Done), (status = 401, body = Problem), (status = 404, body = Problem)))]
pub(super) async fn revoke(
    _: Operator,
    State(api): State<Api>,
    Path(name): Path<String>,
) -> Result<Json<Done>, ApiError> {
    let now = api.now();
    if api.store(move |store| store.revoke_key(&name, now)).await? {
        Ok(Done::json("revoked"))
    } else {
        Err(ApiError::not_found("Key"))
    }
}

//! The dashboard's cookie: who has the session's token gets one, so that pages and their event streams need no header.

use axum::{
    extract::State,
    http::{HeaderValue, header},
    response::{IntoResponse as _, Response},
};

use super::{Done, Problem};
use crate::api::{
    error::ApiError,
    rules::{Operator, Routes},
    session::COOKIE,
    state::Api,
};

pub(super) fn routes() -> Routes {
    Routes::default()
        .post("/rowcall/v1/session", sign_in)
        .delete("/rowcall/v1/session", sign_out)
}

/// Gives the browser a cookie that stands for the token, until the daemon ends.
#[utoipa::path(post, path = "/rowcall/v1/session", tag = "session", security(("token" = [])),
    responses((status = 200, body = Done), (status = 401, body = Problem)))]
pub(super) async fn sign_in(_: Operator, State(api): State<Api>) -> Result<Response, ApiError> {
    with_cookie(api.session().cookie(), "")
}

/// Takes the cookie away.
#[utoipa::path(delete, path = "/rowcall/v1/session", tag = "session", security(("token" = [])),
    responses((status = 200, body = Done), (status = 401, body = Problem)))]
pub(super) async fn sign_out(_: Operator) -> Result<Response, ApiError> {
    with_cookie("", "; Max-Age=0")
}

fn with_cookie(value: &str, more: &str) -> Result<Response, ApiError> {
    let cookie = format!("{COOKIE}={value}; Path=/; HttpOnly; SameSite=Strict{more}");
    let cookie = HeaderValue::from_str(&cookie).map_err(ApiError::internal)?;
    let mut response = Done::json("done").into_response();
    response.headers_mut().insert(header::SET_COOKIE, cookie);
    Ok(response)
}

//! Apps ask for permissions: all at start (`/sdk/register`), or one when a call was refused.
//!
//! Neither route has a credential; the app's uuid is in the body.

use axum::{Json, extract::State, http::StatusCode};
use rowcall_core::AppId;
use rowcall_engine::store::Decision;
use serde_json::{Value, json};

use crate::api::{
    body::{Fields, check_text},
    error::ApiError,
    identity::Caller,
    permissions::{Answer, MAX_AT_ONCE, MAX_NAME},
    rules::{InBody, Routes},
    state::Api,
};

/// The longest name of an app that is shown with its questions, in bytes.
const MAX_APP_NAME: usize = 200;

/// What apps call themselves when they say nothing.
const NO_NAME: &str = "Local App";

pub(super) fn routes() -> Routes {
    Routes::default()
        .post("/sdk/register", register)
        .post("/api/local-apps/request-permission", request)
}

async fn register(
    _: InBody,
    State(api): State<Api>,
    body: Fields,
) -> Result<Json<Value>, ApiError> {
    let app = app(&api, &body)?;
    let names = names(&body)?;
    let answers = api.ask(&app, asked_as(&body)?, &names).await?;
    let (mut granted, mut denied, mut open) = (Vec::new(), Vec::new(), 0);
    for (name, answer) in names.into_iter().zip(answers) {
        match answer {
            Answer::Decided(Decision::Granted) => granted.push(name),
            Answer::Decided(Decision::Denied) => denied.push(name),
            Answer::Open => {
                open += 1;
                denied.push(name);
            }
        }
    }
    let message = if open > 0 {
        "Permissions wait for a decision: answer with `rowcall permissions`"
    } else if denied.is_empty() {
        "All permissions granted"
    } else {
        "Some permissions were denied"
    };
    Ok(Json(json!({
        "success": true,
        "message": message,
        "permissions": { "granted": granted, "denied": denied },
        "dismissed": open > 0,
    })))
}

async fn request(_: InBody, State(api): State<Api>, body: Fields) -> Result<Json<Value>, ApiError> {
    let refuse = |error: ApiError| error.with("granted", false);
    let app = app(&api, &body).map_err(refuse)?;
    let name = body
        .required("permission", MAX_NAME)
        .map_err(refuse)?
        .to_owned();
    let answers = api
        .ask(&app, asked_as(&body).map_err(refuse)?, &[name])
        .await
        .map_err(refuse)?;
    let granted = answers == [Answer::Decided(Decision::Granted)];
    Ok(Json(json!({ "success": true, "granted": granted })))
}

fn app(api: &Api, body: &Fields) -> Result<AppId, ApiError> {
    let not_found = || ApiError::new(StatusCode::NOT_FOUND, "NOT_FOUND", "App not found");
    let id = body.required("app_id", 200)?;
    match api.directory().app_by_uuid(id) {
        Ok(Caller::App { app, .. }) => Ok(app),
        Ok(Caller::Key { .. }) => Err(not_found()),
        Err(error) if error.status() == StatusCode::UNAUTHORIZED => Err(not_found()),
        Err(error) => Err(error),
    }
}

fn asked_as(body: &Fields) -> Result<&str, ApiError> {
    Ok(body.text("app_name", MAX_APP_NAME)?.unwrap_or(NO_NAME))
}

/// The permissions asked for, each once. Names that match no route are stored all the same: apps declare such.
fn names(body: &Fields) -> Result<Vec<String>, ApiError> {
    let list = match body.get("permissions") {
        None => return Ok(Vec::new()),
        Some(Value::Array(list)) if list.len() <= MAX_AT_ONCE => list,
        Some(Value::Array(_)) => {
            return Err(ApiError::invalid(format!(
                "permissions: at most {MAX_AT_ONCE} at once"
            )));
        }
        Some(_) => return Err(ApiError::invalid("permissions must be a list of names")),
    };
    let mut names: Vec<String> = Vec::with_capacity(list.len());
    for item in list {
        match item {
            Value::String(name) if !name.is_empty() => {
                let name = check_text("permissions", name, MAX_NAME)?;
                if !names.iter().any(|known| known == name) {
                    names.push(name.to_owned());
                }
            }
            _ => return Err(ApiError::invalid("permissions must be a list of names")),
        }
    }
    Ok(names)
}

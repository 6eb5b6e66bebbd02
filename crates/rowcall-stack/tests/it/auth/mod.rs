//! The auth server, over HTTP.

mod admin;
mod sessions;
mod signup;
mod users;

use serde_json::{Value, json};

use crate::rest::world::{Answer, World};

pub(crate) const PASSWORD: &str = "correct horse";

/// Signs somebody up.
async fn sign_up(world: &World, email: &str) -> Value {
    let answer = post(
        world,
        "/signup",
        &json!({"email": email, "password": PASSWORD}),
    )
    .await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()
}

async fn post(world: &World, path: &str, body: &Value) -> Answer {
    world
        .auth(reqwest::Method::POST, path)
        .json(body)
        .send()
        .await
}

/// Checks an error in the form of current clients.
#[track_caller]
fn expect_error(answer: &Answer, status: u16, code: &str) -> String {
    let body = answer.json();
    assert_eq!(
        (answer.status.as_u16(), body["code"].as_str()),
        (status, Some(code)),
        "{}",
        answer.text
    );
    assert_eq!(answer.header("x-supabase-api-version"), "2024-01-01");
    assert_eq!(answer.header("x-sb-error-code"), code);
    body["message"].as_str().expect("a message").to_owned()
}

//! Signing in, refreshing, signing out.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use super::{PASSWORD, expect_error, post, sign_up};
use crate::rest::world::{Answer, World};

async fn refresh(world: &World, token: &Value) -> Answer {
    post(
        world,
        "/token?grant_type=refresh_token",
        &json!({"refresh_token": token}),
    )
    .await
}

async fn user(world: &World, session: &Value) -> Answer {
    let token = session["access_token"].as_str().expect("a token");
    world.auth(Method::GET, "/user").token(token).send().await
}

#[tokio::test]
async fn the_right_password_opens_a_session_and_no_other() {
    let world = World::new().await;
    sign_up(&world, "a@example.com").await;
    let path = "/token?grant_type=password";
    let session = post(
        &world,
        path,
        &json!({"email": "A@example.com ", "password": PASSWORD}),
    )
    .await;
    assert_eq!(session.status, 200, "{}", session.text);
    assert_eq!(
        user(&world, &session.json()).await.json()["email"],
        "a@example.com"
    );
    for body in [
        json!({"email": "a@example.com", "password": "wrong"}),
        json!({"email": "nobody@example.com", "password": PASSWORD}),
        json!({"email": "a@example.com"}),
        json!({"email": "a@example.com", "password": ""}),
        json!({}),
    ] {
        let message = expect_error(&post(&world, path, &body).await, 400, "invalid_credentials");
        assert_eq!(message, "Invalid login credentials", "{body}");
    }
    let message = expect_error(
        &post(&world, "/token?grant_type=magic", &json!({})).await,
        400,
        "invalid_credentials",
    );
    assert_eq!(message, "unsupported_grant_type");
}

#[tokio::test]
async fn wrong_passwords_run_out() {
    let world = World::with(|config| config.auth.failures_per_account = 3).await;
    sign_up(&world, "a@example.com").await;
    sign_up(&world, "b@example.com").await;
    let path = "/token?grant_type=password";
    for _ in 0..3 {
        let answer = post(
            &world,
            path,
            &json!({"email": "a@example.com", "password": "wrong"}),
        )
        .await;
        expect_error(&answer, 400, "invalid_credentials");
    }
    let right = json!({"email": "a@example.com", "password": PASSWORD});
    expect_error(
        &post(&world, path, &right).await,
        429,
        "over_request_rate_limit",
    );
    let other = json!({"email": "b@example.com", "password": PASSWORD});
    assert_eq!(
        post(&world, path, &other).await.status,
        200,
        "others are not affected"
    );
    world.clock.advance(Duration::from_mins(5));
    assert_eq!(post(&world, path, &right).await.status, 200);
}

#[tokio::test]
async fn one_client_cannot_sign_up_for_ever() {
    let world = World::with(|config| config.auth.sign_ins_per_client = 2).await;
    sign_up(&world, "a@example.com").await;
    sign_up(&world, "b@example.com").await;
    let answer = post(
        &world,
        "/signup",
        &json!({"email": "c@example.com", "password": PASSWORD}),
    )
    .await;
    expect_error(&answer, 429, "over_request_rate_limit");
}

#[tokio::test]
async fn refreshing_rotates_the_token() {
    let world = World::new().await;
    let first = sign_up(&world, "a@example.com").await;
    world.clock.advance(Duration::from_mins(50));
    let answer = refresh(&world, &first["refresh_token"]).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let second = answer.json();
    assert_ne!(second["refresh_token"], first["refresh_token"]);
    assert_ne!(second["access_token"], first["access_token"]);
    assert_eq!(user(&world, &second).await.status, 200);
    // The answer may have been lost: the replaced token gives the one that replaced it.
    let again = refresh(&world, &first["refresh_token"]).await.json();
    assert_eq!(again["refresh_token"], second["refresh_token"]);
    // Also later, as long as it is the parent of the active one.
    world.clock.advance(Duration::from_mins(1));
    let again = refresh(&world, &first["refresh_token"]).await.json();
    assert_eq!(again["refresh_token"], second["refresh_token"]);
    let third = refresh(&world, &second["refresh_token"]).await.json();
    world.clock.advance(Duration::from_secs(11));
    // The first is now a grandparent: somebody else has it. Nobody keeps the session.
    let stolen = refresh(&world, &first["refresh_token"]).await;
    assert_eq!(
        expect_error(&stolen, 400, "refresh_token_already_used"),
        "Invalid Refresh Token: Already Used"
    );
    expect_error(
        &refresh(&world, &third["refresh_token"]).await,
        400,
        "refresh_token_already_used",
    );
    expect_error(
        &refresh(&world, &json!("nosuchtoken1")).await,
        400,
        "refresh_token_not_found",
    );
    expect_error(
        &refresh(&world, &json!("")).await,
        400,
        "refresh_token_not_found",
    );
}

#[tokio::test]
async fn refreshing_twice_at_once_gives_one_successor() {
    let world = World::new().await;
    let first = sign_up(&world, "a@example.com").await;
    let token = &first["refresh_token"];
    let answers = futures_util::future::join_all((0..6).map(|_| refresh(&world, token))).await;
    let tokens: Vec<Value> = answers
        .iter()
        .map(|answer| answer.json()["refresh_token"].clone())
        .collect();
    assert!(tokens.iter().all(|token| *token == tokens[0]), "{tokens:?}");
    assert!(tokens[0].is_string() && tokens[0] != *token);
}

#[tokio::test]
async fn signing_out_ends_the_sessions_meant() {
    let world = World::new().await;
    let first = sign_up(&world, "a@example.com").await;
    let grant = json!({"email": "a@example.com", "password": PASSWORD});
    let open = async || {
        post(&world, "/token?grant_type=password", &grant)
            .await
            .json()
    };
    let logout = async |session: &Value, scope: &str| {
        let token = session["access_token"].as_str().expect("a token");
        world
            .auth(Method::POST, &format!("/logout{scope}"))
            .token(token)
            .send()
            .await
    };
    let (second, third) = (open().await, open().await);
    expect_error(
        &logout(&first, "?scope=some").await,
        400,
        "validation_failed",
    );
    logout(&first, "?scope=local").await.expect_empty(204);
    expect_error(&user(&world, &first).await, 403, "session_not_found");
    expect_error(
        &refresh(&world, &first["refresh_token"]).await,
        400,
        "refresh_token_not_found",
    );
    assert_eq!(user(&world, &second).await.status, 200);
    logout(&second, "?scope=others").await.expect_empty(204);
    expect_error(&user(&world, &third).await, 403, "session_not_found");
    assert_eq!(user(&world, &second).await.status, 200);
    logout(&second, "").await.expect_empty(204);
    expect_error(&user(&world, &second).await, 403, "session_not_found");
}

//! What the holder of the service key does with users.

use reqwest::Method;
use serde_json::{Value, json};

use super::{PASSWORD, expect_error, post, sign_up};
use crate::rest::world::{Answer, World};

async fn admin(world: &World, method: Method, path: &str, body: &Value) -> Answer {
    world
        .auth(method, &format!("/admin/users{path}"))
        .token(world.keys.service_role_key())
        .json(body)
        .send()
        .await
}

#[tokio::test]
async fn users_are_made_listed_changed_and_deleted() {
    let world = World::new().await;
    let body = json!({
        "email": "A@example.com", "password": PASSWORD, "email_confirm": true, "user_metadata": {"name": "A"},
        "app_metadata": {"plan": "pro"}
    });
    let made = admin(&world, Method::POST, "", &body).await;
    assert_eq!(made.status, 200, "{}", made.text);
    let user = made.json();
    assert_eq!(
        (&user["email"], &user["app_metadata"]["plan"]),
        (&json!("a@example.com"), &json!("pro"))
    );
    expect_error(
        &admin(&world, Method::POST, "", &body).await,
        422,
        "email_exists",
    );
    expect_error(
        &admin(&world, Method::POST, "", &json!({})).await,
        400,
        "validation_failed",
    );
    let grant = json!({"email": "a@example.com", "password": PASSWORD});
    assert_eq!(
        post(&world, "/token?grant_type=password", &grant)
            .await
            .status,
        200
    );

    sign_up(&world, "b@example.com").await;
    let list = admin(&world, Method::GET, "?page=1&per_page=1", &json!({})).await;
    assert_eq!(list.json()["users"].as_array().map(Vec::len), Some(1));
    assert_eq!(list.header("x-total-count"), "2");
    assert_eq!(
        list.header("link"),
        "</admin/users?page=2&per_page=1>; rel=\"next\", </admin/users?page=2&per_page=1>; rel=\"last\""
    );

    let path = format!("/{}", user["id"].as_str().expect("an id"));
    assert_eq!(
        admin(&world, Method::GET, &path, &json!({})).await.json()["email"],
        "a@example.com"
    );
    let change = json!({"email": "c@example.com", "user_metadata": {"age": 5}, "app_metadata": {"plan": null}, "ban_duration": "24h"});
    let changed = admin(&world, Method::PUT, &path, &change).await.json();
    assert_eq!(
        (&changed["email"], &changed["user_metadata"]["name"]),
        (&json!("c@example.com"), &json!("A"))
    );
    assert_eq!(changed["app_metadata"].get("plan"), None);
    let grant = json!({"email": "c@example.com", "password": PASSWORD});
    expect_error(
        &post(&world, "/token?grant_type=password", &grant).await,
        400,
        "user_banned",
    );
    admin(&world, Method::PUT, &path, &json!({"ban_duration": "none"})).await;
    assert_eq!(
        post(&world, "/token?grant_type=password", &grant)
            .await
            .status,
        200
    );
    expect_error(
        &admin(
            &world,
            Method::PUT,
            &path,
            &json!({"email": "b@example.com"}),
        )
        .await,
        422,
        "email_exists",
    );

    admin(&world, Method::DELETE, &path, &json!({}))
        .await
        .expect(200, json!({}));
    expect_error(
        &admin(&world, Method::DELETE, &path, &json!({})).await,
        404,
        "user_not_found",
    );
    expect_error(
        &admin(&world, Method::GET, &path, &json!({})).await,
        404,
        "user_not_found",
    );
    expect_error(
        &admin(&world, Method::GET, "/nonsense", &json!({})).await,
        404,
        "validation_failed",
    );
}

#[tokio::test]
async fn nobody_else_may() {
    let world = World::new().await;
    let session = sign_up(&world, "a@example.com").await;
    let id = session["user"]["id"].as_str().expect("an id");
    for (method, path) in [
        (Method::GET, "/admin/users".to_owned()),
        (Method::POST, "/admin/users".to_owned()),
        (Method::GET, format!("/admin/users/{id}")),
        (Method::PUT, format!("/admin/users/{id}")),
        (Method::DELETE, format!("/admin/users/{id}")),
    ] {
        for token in [
            session["access_token"].as_str().expect("a token"),
            world.keys.anon_key(),
        ] {
            let answer = world
                .auth(method.clone(), &path)
                .token(token)
                .json(&json!({}))
                .send()
                .await;
            assert_eq!(expect_error(&answer, 403, "not_admin"), "User not allowed");
        }
        let answer = world
            .auth(method.clone(), &path)
            .json(&json!({}))
            .send()
            .await;
        expect_error(&answer, 401, "no_authorization");
        // The new secret key is as good as the old service key.
        let url = format!("{}/auth/v1{path}", world.stack.url());
        let answer = world
            .ask_url(method.clone(), &url)
            .header("apikey", world.keys.secret_key())
            .json(&json!({}))
            .send()
            .await;
        assert_ne!(answer.status, 403, "{}", answer.text);
    }
}

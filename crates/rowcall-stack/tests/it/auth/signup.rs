//! Signing up.

use reqwest::Method;
use serde_json::json;

use super::{PASSWORD, expect_error, post, sign_up};
use crate::rest::world::{World, now};

#[tokio::test]
async fn signing_up_opens_a_session() {
    let world = World::new().await;
    let body = json!({"email": "Angela@Example.com", "password": PASSWORD, "data": {"name": "Angela"}, "gotrue_meta_security": {}});
    let answer = post(&world, "/signup", &body).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let session = answer.json();
    assert_eq!(session["token_type"], "bearer");
    assert_eq!(session["expires_in"], 3600);
    assert_eq!(session["expires_at"], now().as_second() + 3600);
    assert_eq!(session["refresh_token"].as_str().map(str::len), Some(12));
    let user = &session["user"];
    assert_eq!(user["email"], "angela@example.com");
    assert_eq!(user["user_metadata"]["name"], "Angela");
    assert_eq!(
        user["app_metadata"],
        json!({"provider": "email", "providers": ["email"]})
    );
    assert_eq!(user["email_confirmed_at"], "2026-11-21T12:00:00Z");
    assert_eq!(user["confirmed_at"], "2026-11-21T12:00:00Z");
    assert_eq!(user["is_anonymous"], false);
    assert_eq!(user["phone"], "");
    assert_eq!(user["identities"][0]["provider"], "email");
    assert_eq!(user["identities"][0]["user_id"], user["id"]);
    let token = session["access_token"].as_str().expect("a token");
    let claims = world.keys.verify(token, now()).expect("our token");
    assert_eq!(claims.subject(), user["id"].as_str());
    assert_eq!(claims.role(), Some("authenticated"));
    assert_eq!(claims.get("aud"), Some(&json!("authenticated")));
    assert_eq!(
        claims.get("iss"),
        Some(&json!(format!("{}/auth/v1", world.stack.url())))
    );
    assert_eq!(
        claims.get("amr"),
        Some(&json!([{"method": "password", "timestamp": now().as_second()}]))
    );
    assert_eq!(claims.get("aal"), Some(&json!("aal1")));
    assert!(claims.session_id().is_some());
    // The token works in REST.
    let who = world.get("/rpc/whoami").token(token).send().await.json();
    assert_eq!((&who["uid"], &who["email"]), (&user["id"], &user["email"]));
}

#[tokio::test]
async fn what_does_not_fit_is_refused() {
    let world = World::new().await;
    sign_up(&world, "a@example.com").await;
    for (body, status, code) in [
        (
            json!({"email": "A@example.com", "password": PASSWORD}),
            422,
            "user_already_exists",
        ),
        (json!({"email": "b@example.com"}), 400, "validation_failed"),
        (
            json!({"email": "b@example.com", "password": "short"}),
            422,
            "weak_password",
        ),
        (
            json!({"email": "b@example.com", "password": "x".repeat(73)}),
            400,
            "validation_failed",
        ),
        (
            json!({"email": "nonsense", "password": PASSWORD}),
            400,
            "validation_failed",
        ),
        (
            json!({"email": "a b@example.com", "password": PASSWORD}),
            400,
            "validation_failed",
        ),
        (
            json!({"phone": "+491234", "password": PASSWORD}),
            400,
            "phone_provider_disabled",
        ),
        (json!({"email": 5}), 400, "bad_json"),
    ] {
        expect_error(&post(&world, "/signup", &body).await, status, code);
    }
    let weak = post(
        &world,
        "/signup",
        &json!({"email": "b@example.com", "password": "short"}),
    )
    .await;
    assert_eq!(weak.json()["weak_password"], json!({"reasons": ["length"]}));
    // Clients from before 2024 get the older form.
    let old = world
        .ask_url(
            Method::POST,
            &format!("{}/auth/v1/signup", world.stack.url()),
        )
        .json(&json!({"email": "a@example.com", "password": PASSWORD}))
        .send()
        .await;
    old.expect(
        422,
        json!({"code": 422, "error_code": "user_already_exists", "msg": "User already registered"}),
    );
    let world = World::with(|config| config.auth.signup = false).await;
    let answer = post(
        &world,
        "/signup",
        &json!({"email": "a@example.com", "password": PASSWORD}),
    )
    .await;
    expect_error(&answer, 422, "signup_disabled");
}

#[tokio::test]
async fn people_may_stay_anonymous_where_that_is_on() {
    let world = World::new().await;
    let answer = post(
        &world,
        "/signup",
        &json!({"data": {"theme": "dark"}, "gotrue_meta_security": {}}),
    )
    .await;
    let session = answer.json();
    assert_eq!(session["user"]["is_anonymous"], true, "{}", answer.text);
    assert_eq!(session["user"]["user_metadata"], json!({"theme": "dark"}));
    let token = session["access_token"].as_str().expect("a token");
    let claims = world.keys.verify(token, now()).expect("our token");
    assert_eq!(claims.get("is_anonymous"), Some(&json!(true)));
    // Giving an address and a password makes them somebody.
    let update = world
        .auth(Method::PUT, "/user")
        .token(token)
        .json(&json!({"email": "known@example.com", "password": PASSWORD}))
        .send()
        .await;
    assert_eq!(
        (update.status.as_u16(), &update.json()["is_anonymous"]),
        (200, &json!(false))
    );
    let grant = json!({"email": "known@example.com", "password": PASSWORD});
    assert_eq!(
        post(&world, "/token?grant_type=password", &grant)
            .await
            .status,
        200
    );
    let world = World::with(|config| config.auth.anonymous = false).await;
    expect_error(
        &post(&world, "/signup", &json!({})).await,
        422,
        "anonymous_provider_disabled",
    );
}

#[tokio::test]
async fn without_autoconfirm_an_admin_confirms() {
    let world = World::with(|config| config.auth.autoconfirm = false).await;
    let grant = json!({"email": "a@example.com", "password": PASSWORD});
    let user = post(&world, "/signup", &grant).await.json();
    assert!(
        user.get("access_token").is_none() && user.get("email_confirmed_at").is_none(),
        "{user}"
    );
    let answer = post(&world, "/token?grant_type=password", &grant).await;
    expect_error(&answer, 400, "email_not_confirmed");
    let id = user["id"].as_str().expect("an id");
    let confirmed = world
        .auth(Method::PUT, &format!("/admin/users/{id}"))
        .token(world.keys.service_role_key())
        .json(&json!({"email_confirm": true}))
        .send()
        .await;
    assert_eq!(confirmed.status, 200, "{}", confirmed.text);
    assert_eq!(
        post(&world, "/token?grant_type=password", &grant)
            .await
            .status,
        200
    );
}

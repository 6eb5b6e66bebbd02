//! What people who are signed in see and change of themselves; what the server says of itself.

use reqwest::Method;
use serde_json::{Value, json};

use super::{PASSWORD, expect_error, post, sign_up};
use crate::rest::world::World;

#[tokio::test]
async fn only_the_holder_of_a_token_is_shown() {
    let world = World::new().await;
    let session = sign_up(&world, "a@example.com").await;
    let get = |token: &str| world.auth(Method::GET, "/user").token(token).send();
    let token = session["access_token"].as_str().expect("a token");
    let user = get(token).await;
    assert_eq!(
        (user.status.as_u16(), &user.json()["id"]),
        (200, &session["user"]["id"])
    );
    let none = world
        .ask_url(Method::GET, &format!("{}/auth/v1/user", world.stack.url()))
        .header("x-supabase-api-version", "2024-01-01")
        .send()
        .await;
    assert_eq!(
        expect_error(&none, 401, "no_authorization"),
        "This endpoint requires a valid Bearer token"
    );
    expect_error(&get("nonsense").await, 403, "bad_jwt");
    expect_error(&get(world.keys.anon_key()).await, 403, "bad_jwt");
    let stranger = world.token(
        "authenticated",
        Some("00000000-0000-0000-0000-00000000000a"),
    );
    expect_error(&get(&stranger).await, 403, "user_not_found");
    world.clock.advance(std::time::Duration::from_secs(3631));
    expect_error(&get(token).await, 403, "bad_jwt");
}

#[tokio::test]
async fn people_change_themselves() {
    let world = World::new().await;
    let session = sign_up(&world, "a@example.com").await;
    sign_up(&world, "taken@example.com").await;
    let token = session["access_token"].as_str().expect("a token");
    let put = async |body: Value| {
        world
            .auth(Method::PUT, "/user")
            .token(token)
            .json(&body)
            .send()
            .await
    };
    let changed = put(json!({"data": {"name": "A", "gone": 1}})).await.json();
    assert_eq!(changed["user_metadata"]["name"], "A");
    let merged = put(json!({"data": {"gone": null, "age": 7}})).await.json();
    assert_eq!(
        (
            &merged["user_metadata"]["name"],
            merged["user_metadata"].get("gone")
        ),
        (&json!("A"), None)
    );
    expect_error(
        &put(json!({"password": PASSWORD})).await,
        422,
        "same_password",
    );
    expect_error(&put(json!({"password": "x"})).await, 422, "weak_password");
    expect_error(
        &put(json!({"email": "taken@example.com"})).await,
        422,
        "email_exists",
    );
    assert_eq!(put(json!({"password": "a new password"})).await.status, 200);
    assert_eq!(
        put(json!({"email": "new@example.com"})).await.json()["email"],
        "new@example.com"
    );
    let old = json!({"email": "a@example.com", "password": PASSWORD});
    expect_error(
        &post(&world, "/token?grant_type=password", &old).await,
        400,
        "invalid_credentials",
    );
    let new = json!({"email": "new@example.com", "password": "a new password"});
    assert_eq!(
        post(&world, "/token?grant_type=password", &new)
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn the_server_tells_what_it_does() {
    let world = World::new().await;
    let get = async |path: &str| world.auth(Method::GET, path).send().await.json();
    assert_eq!(get("/health").await["name"], "GoTrue");
    let settings = get("/settings").await;
    assert_eq!(
        (&settings["external"]["email"], &settings["disable_signup"]),
        (&json!(true), &json!(false))
    );
    assert_eq!(get("/.well-known/jwks.json").await, json!({"keys": []}));
    let url = format!("{}/auth/v1", world.stack.url());
    assert_eq!(
        get("/.well-known/openid-configuration").await["issuer"],
        url
    );
    for (path, status, code) in [
        ("/otp", 422, "otp_disabled"),
        ("/recover", 422, "email_provider_disabled"),
        ("/resend", 422, "email_provider_disabled"),
        ("/verify", 422, "email_provider_disabled"),
        ("/factors", 422, "mfa_totp_enroll_not_enabled"),
        ("/nothing", 404, "not_found"),
    ] {
        expect_error(&post(&world, path, &json!({})).await, status, code);
    }
    expect_error(
        &world
            .auth(Method::GET, "/authorize?provider=github")
            .send()
            .await,
        400,
        "provider_disabled",
    );
}

#[tokio::test]
async fn passwords_are_kept_as_hashes_only() {
    let world = World::new().await;
    sign_up(&world, "a@example.com").await;
    let client = world.db.connect().await;
    let stored: String = client
        .query_one("select encrypted_password from auth.users", &[])
        .await
        .expect("a row")
        .get(0);
    assert!(
        stored.starts_with("$argon2id$") && !stored.contains(PASSWORD),
        "{stored}"
    );
    // Users who come from Supabase bring bcrypt hashes.
    let bcrypt = bcrypt::hash("from elsewhere", 4).expect("a hash");
    client
        .execute("update auth.users set encrypted_password = $1", &[&bcrypt])
        .await
        .expect("updated");
    let grant = json!({"email": "a@example.com", "password": "from elsewhere"});
    assert_eq!(
        post(&world, "/token?grant_type=password", &grant)
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn nobody_reads_the_tables_of_the_auth_server() {
    let world = World::with(|config| config.rest.schemas.push("auth".to_owned())).await;
    sign_up(&world, "a@example.com").await;
    for token in [
        world.keys.anon_key().to_owned(),
        world.token("authenticated", None),
        world.keys.service_role_key().to_owned(),
    ] {
        for table in ["users", "refresh_tokens", "sessions", "identities"] {
            let answer = world
                .get(&format!("/{table}"))
                .header("accept-profile", "auth")
                .token(&token)
                .send()
                .await;
            assert!(
                matches!(answer.status.as_u16(), 401 | 403),
                "{table}: {}",
                answer.text
            );
        }
    }
}

//! Tokens, roles, keys, row level security, the gate.

use reqwest::Method;
use serde_json::json;

use super::world::{World, now};

const ANGELA: &str = "00000000-0000-0000-0000-00000000000a";
const MICHAEL: &str = "00000000-0000-0000-0000-00000000000b";

#[tokio::test]
async fn tokens_decide_who_asks() {
    let world = World::new().await;
    let who = async |token: &str| world.get("/rpc/whoami").token(token).send().await.json();
    assert_eq!(world.read("/rpc/whoami").await["user"], "anon");
    assert_eq!(who(world.keys.anon_key()).await["user"], "anon");
    assert_eq!(
        who(world.keys.service_role_key()).await["user"],
        "service_role"
    );
    let angela = who(&world.token("authenticated", Some(ANGELA))).await;
    assert_eq!(
        (&angela["user"], &angela["uid"], &angela["role"]),
        (
            &json!("authenticated"),
            &json!(ANGELA),
            &json!("authenticated")
        )
    );
    assert_eq!(angela["jwt"]["sub"], ANGELA);
    // The new keys, alone and the way supabase-js sends them.
    for (key, role) in [
        (world.keys.publishable_key(), "anon"),
        (world.keys.secret_key(), "service_role"),
    ] {
        let alone = world
            .get("/rpc/whoami")
            .header("apikey", key)
            .send()
            .await
            .json();
        let doubled = world
            .get("/rpc/whoami")
            .header("apikey", key)
            .token(key)
            .send()
            .await
            .json();
        assert_eq!(
            (alone["user"].as_str(), doubled["user"].as_str()),
            (Some(role), Some(role))
        );
    }
    // A user's token wins over the key beside it.
    let both = world
        .get("/rpc/whoami")
        .header("apikey", world.keys.secret_key())
        .token(&world.token("authenticated", None))
        .send()
        .await;
    assert_eq!(both.json()["user"], "authenticated");
}

#[tokio::test]
async fn tokens_that_do_not_count_are_refused() {
    let world = World::new().await;
    let sign = |claims| world.keys.sign(&claims);
    let (past, future) = (now().as_second() - 31, now().as_second() + 31);
    for (token, code, message) in [
        (
            String::new(),
            "PGRST301",
            "Empty JWT is sent in Authorization header",
        ),
        (
            "a.b".to_owned(),
            "PGRST301",
            "Expected 3 parts in JWT; got 2",
        ),
        (
            "a.b.c".to_owned(),
            "PGRST301",
            "JWT cryptographic operation failed",
        ),
        (
            format!("{}x", world.keys.service_role_key()),
            "PGRST301",
            "No suitable key or wrong key type",
        ),
        (
            rowcall_stack::auth::Keys::generate(now())
                .service_role_key()
                .to_owned(),
            "PGRST301",
            "No suitable key or wrong key type",
        ),
        // {"alg":"none"}
        (
            "eyJhbGciOiJub25lIn0.eyJyb2xlIjoic2VydmljZV9yb2xlIn0.".to_owned(),
            "PGRST301",
            "Wrong or unsupported encoding algorithm",
        ),
        (
            sign(json!({"role": "authenticated", "exp": past})),
            "PGRST303",
            "JWT expired",
        ),
        (
            sign(json!({"role": "authenticated", "nbf": future})),
            "PGRST303",
            "JWT not yet valid",
        ),
        (
            sign(json!({"role": "authenticated", "iat": future})),
            "PGRST303",
            "JWT issued at future",
        ),
        (
            sign(json!({"role": "authenticated", "exp": "soon"})),
            "PGRST303",
            "The JWT 'exp' claim must be a number",
        ),
    ] {
        let answer = world.get("/clients").token(&token).send().await;
        assert_eq!(
            answer.expect_error(401, code)["message"],
            message,
            "{token}"
        );
        assert!(
            answer.header("www-authenticate").starts_with("Bearer"),
            "{token}"
        );
    }
    for (role, status, code) in [("nobody_such", 401, "22023"), ("postgres", 403, "42501")] {
        world
            .get("/clients")
            .token(&world.token(role, None))
            .send()
            .await
            .expect_error(status, code);
    }
    // Within the skew, and other schemes than Bearer.
    let late = sign(json!({"role": "authenticated", "exp": now().as_second() - 29}));
    assert_eq!(world.get("/clients").token(&late).send().await.status, 200);
    assert_eq!(
        world
            .get("/clients")
            .header("authorization", "Basic eDp5")
            .send()
            .await
            .status,
        200
    );
    world
        .clock
        .advance(std::time::Duration::from_hours(11 * 365 * 24));
    let key = world
        .get("/clients")
        .token(world.keys.anon_key())
        .send()
        .await;
    key.expect_error(401, "PGRST303");
}

#[tokio::test]
async fn row_level_security_is_in_force() {
    let world = World::new().await;
    let (angela, michael) = (
        world.token("authenticated", Some(ANGELA)),
        world.token("authenticated", Some(MICHAEL)),
    );
    let note = json!({"text": "mine"});
    let made = world
        .post("/notes?select=owner,text", &note)
        .prefer("return=representation")
        .token(&angela)
        .send()
        .await;
    made.expect(201, json!([{"owner": ANGELA, "text": "mine"}]));
    let seen = async |token: &str| {
        world
            .get("/notes?select=text")
            .token(token)
            .send()
            .await
            .json()
    };
    assert_eq!(seen(&angela).await, json!([{"text": "mine"}]));
    assert_eq!(seen(&michael).await, json!([]));
    assert_eq!(world.read("/notes").await, json!([]));
    assert_eq!(
        seen(world.keys.service_role_key()).await,
        json!([{"text": "mine"}])
    );
    let taken = world
        .patch("/notes?select=text", &json!({"text": "stolen"}))
        .prefer("return=representation")
        .token(&michael)
        .send()
        .await;
    taken.expect(200, json!([]));
    world
        .post("/notes", &note)
        .send()
        .await
        .expect_error(401, "42501");
    world
        .post("/notes", &json!({"owner": ANGELA}))
        .token(&michael)
        .send()
        .await
        .expect_error(403, "42501");
    let deleted = world
        .ask(Method::DELETE, "/notes?id=gt.0&select=id")
        .prefer("return=representation")
        .token(&michael)
        .send()
        .await;
    deleted.expect(200, json!([]));
}

#[tokio::test]
async fn grants_are_in_force() {
    let world = World::new().await;
    world
        .get("/secrets")
        .send()
        .await
        .expect_error(401, "42501");
    world
        .get("/secrets")
        .token(&world.token("authenticated", None))
        .send()
        .await
        .expect_error(403, "42501");
    world
        .get("/users?select=id,secrets(*)")
        .send()
        .await
        .expect_error(400, "PGRST200");
    // Column grants: what is not asked for is not touched.
    assert_eq!(
        world.read("/partly?select=id,open").await,
        json!([{"id": 1, "open": "o"}])
    );
    world.get("/partly").send().await.expect_error(401, "42501");
    world
        .get("/partly?select=id&closed=eq.c")
        .send()
        .await
        .expect_error(401, "42501");
    world
        .get("/partly?select=id&order=closed")
        .send()
        .await
        .expect_error(401, "42501");
    world
        .post("/partly", &json!({"id": 2, "open": "x"}))
        .send()
        .await
        .expect_empty(201);
    let shown = world
        .post("/partly?select=id,open", &json!({"id": 3, "open": "x"}))
        .prefer("return=representation")
        .send()
        .await;
    shown.expect(201, json!([{"id": 3, "open": "x"}]));
    world
        .post("/partly", &json!({"id": 4, "closed": "x"}))
        .send()
        .await
        .expect_error(401, "42501");
}

#[tokio::test]
async fn roles_bring_their_settings() {
    let world = World::new().await;
    let setting = async |token: &str| {
        world
            .get("/rpc/request_setting?name=statement_timeout")
            .token(token)
            .send()
            .await
            .json()
    };
    assert_eq!(setting(world.keys.anon_key()).await, json!("3s"));
    assert_eq!(
        setting(&world.token("authenticated", None)).await,
        json!("8s")
    );
    assert_eq!(
        setting(world.keys.service_role_key()).await,
        json!("8s"),
        "that of the authenticator"
    );
}

#[tokio::test]
async fn the_gate_knows_hosts_keys_and_pages() {
    let world = World::new().await;
    let url = format!("{}/rest/v1/clients", world.stack.url());
    let foreign = world
        .ask_url(Method::GET, &url)
        .header("host", "evil.example")
        .send()
        .await;
    assert_eq!(foreign.status, 403);
    let local = world
        .ask_url(Method::GET, &url)
        .header("host", "localhost:1")
        .send()
        .await;
    assert_eq!(local.status, 200);
    let page = world
        .ask_url(Method::GET, &url)
        .header("origin", "https://evil.example")
        .send()
        .await;
    assert_eq!(
        (page.status.as_u16(), page.json()["message"].as_str()),
        (401, Some("No API key found in request"))
    );
    assert_eq!(page.header("access-control-allow-origin"), "*");
    for key in [
        world.keys.anon_key(),
        world.keys.publishable_key(),
        world.keys.service_role_key(),
        world.keys.secret_key(),
    ] {
        let page = world
            .ask_url(Method::GET, &url)
            .header("origin", "https://app.example")
            .header("apikey", key)
            .send()
            .await;
        assert_eq!(page.status, 200);
    }
    for key in ["sb_publishable_wrong", "sb_secret_wrong", "nonsense"] {
        let wrong = world
            .ask_url(Method::GET, &url)
            .header("apikey", key)
            .send()
            .await;
        assert_eq!(
            (wrong.status.as_u16(), wrong.json()["message"].as_str()),
            (401, Some("Invalid API key"))
        );
    }
    let preflight = world
        .ask_url(Method::OPTIONS, &url)
        .header("origin", "https://app.example")
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "apikey,x-other")
        .send()
        .await;
    preflight.expect_empty(200);
    assert_eq!(
        preflight.header("access-control-allow-headers"),
        "apikey,x-other"
    );
    assert_eq!(
        preflight.header("access-control-allow-methods"),
        "GET, POST, PATCH, PUT, DELETE, OPTIONS, HEAD"
    );
    let options = world.ask_url(Method::OPTIONS, &url).send().await;
    assert_eq!(
        options.header("allow"),
        "OPTIONS,GET,HEAD,POST,PUT,PATCH,DELETE"
    );
    let absent = world
        .ask_url(
            Method::GET,
            &format!("{}/storage/v1/bucket", world.stack.url()),
        )
        .send()
        .await;
    assert_eq!(
        (absent.status.as_u16(), absent.json()["message"].as_str()),
        (404, Some("/storage/v1 is not part of this stack"))
    );
    let world = World::with(|config| config.gateway.require_key = true).await;
    let answer = world.get("/clients").send().await;
    assert_eq!(answer.status, 401);
}

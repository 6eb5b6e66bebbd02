//! Activities with users and row level security, and what the database refuses.

use reqwest::Method;
use serde_json::{Value, json};

use super::world::{As, World, demo};

#[tokio::test]
async fn odd_values_are_errors_of_the_client() {
    let world = World::start().await;
    let key = As::Key(&world.key);
    let (_, made) = world
        .post("/activities", key, &json!({ "raw_data": null }))
        .await;
    assert_eq!(made["data"]["raw_data"], json!({}));
    let id = made["data"]["id"].as_str().unwrap();
    for body in [
        json!({ "retry_count": "many" }),
        json!({ "locked_at": "yesterday-ish" }),
        json!({ "attempted_by": { "a": 1 } }),
        json!({ "raw_data": { "text": "\u{0}" } }),
        json!({ "retry_count": 9_999_999_999_i64 }),
    ] {
        let request = world
            .request(Method::PATCH, &format!("/activities/{id}"), key)
            .body(body.to_string());
        let (status, answer) = world.send(request).await;
        assert_eq!(
            (status, &answer["code"]),
            (400, &json!("VALIDATION_ERROR")),
            "{body}: {answer}"
        );
    }
    for query in [
        "limit=-1",
        "limit=x",
        "limit=100000",
        "offset=-5",
        "status=%00",
    ] {
        let (status, answer) = world.get(&format!("/activities?{query}"), key).await;
        assert_eq!(status, 400, "{query}: {answer}");
    }
    assert_eq!(
        world.get("/activities?limit=&offset=&status=", key).await.0,
        200
    );
    assert_eq!(
        world.get("/activities?limit=0", key).await.1,
        json!({ "data": [] })
    );
    // Nothing to change changes nothing.
    let request = world
        .request(Method::PATCH, &format!("/activities/{id}"), key)
        .body(r#"{"id":"x","unknown":1}"#);
    assert_eq!(world.send(request).await.1["data"]["id"], id);
    world.daemon.stop().await;
}

/// A token whose signature nobody here can check, as with a Supabase project elsewhere.
fn token(claims: &Value) -> String {
    use std::fmt::Write as _;
    let encode = |text: &str| {
        const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let mut out = String::new();
        for chunk in text.as_bytes().chunks(3) {
            let bits = chunk
                .iter()
                .fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte))
                << (8 * (3 - chunk.len()));
            for index in 0..=chunk.len() {
                let six = (bits >> (18 - 6 * index)) & 63;
                let _ = write!(out, "{}", char::from(ALPHABET[six as usize]));
            }
        }
        out
    };
    format!(
        "{}.{}.signature",
        encode(r#"{"alg":"HS256"}"#),
        encode(&claims.to_string())
    )
}

#[tokio::test]
async fn a_synced_user_sees_and_changes_only_what_row_level_security_allows() {
    let world = World::start_with(&demo(), &[]).await;
    world.grant_all().await;
    let role = "create or replace function pg_temp.r() returns void language plpgsql as $$ begin
        if not exists (select from pg_roles where rolname = 'authenticated') then create role authenticated; end if; end $$;
        select pg_temp.r();
        create schema if not exists auth;
        create or replace function auth.uid() returns uuid language sql stable as
          $$ select (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub')::uuid $$;
        grant usage on schema auth to authenticated;
        alter table public.rtx_activities alter column user_id set default auth.uid();
        alter table public.rtx_activities enable row level security;
        create policy own_insert on public.rtx_activities for insert to authenticated with check (auth.uid() = user_id);
        create policy own_select on public.rtx_activities for select to authenticated using (auth.uid() = user_id);
        grant select, insert, update, delete on public.rtx_activities to authenticated;";
    world
        .db
        .client
        .batch_execute(role)
        .await
        .expect("security is on");
    let foreign = world.db.add_task(&json!({ "of": "somebody else" })).await;
    let user = "11111111-1111-4111-8111-111111111111";
    let sync = |claims: Value| json!({ "token": token(&claims) });
    let (status, answer) = world
        .post(
            "/sdk/auth/sync-supabase-token",
            As::App,
            &sync(json!({ "sub": user, "role": "authenticated", "exp": 4_000_000_000_u64 })),
        )
        .await;
    assert_eq!(
        (status, &answer["hasToken"]),
        (200, &json!(true)),
        "{answer}"
    );
    let (status, made) = world
        .post(
            "/activities",
            As::App,
            &json!({ "raw_data": { "of": "me" } }),
        )
        .await;
    assert_eq!(
        (status, &made["data"]["user_id"]),
        (201, &json!(user)),
        "{made}"
    );
    let id = made["data"]["id"].as_str().unwrap();
    let (_, list) = world.get("/activities", As::App).await;
    assert_eq!(list["data"].as_array().unwrap().len(), 1, "{list}");
    assert_eq!(
        world
            .get(&format!("/activities/{foreign}"), As::App)
            .await
            .0,
        404
    );
    // Visible, but no policy lets it be removed or changed: never a success, and never the permission prompt.
    let (status, answer) = world.delete(&format!("/activities/{id}"), As::App).await;
    assert_eq!(
        (status, &answer["code"]),
        (403, &json!("RLS_DENIED")),
        "{answer}"
    );
    assert_eq!(
        world
            .delete(&format!("/activities/{foreign}"), As::App)
            .await
            .0,
        404
    );
    let request = world
        .request(Method::PATCH, &format!("/activities/{id}"), As::App)
        .body(r#"{"status":"x"}"#);
    assert_eq!(world.send(request).await.0, 403);
    // Another caller has not handed over a token: it works with the daemon's rights.
    assert_eq!(
        world.get("/activities", As::Key(&world.key)).await.1["data"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    // An expired token takes rights away, it does not give them back.
    world
        .post(
            "/sdk/auth/sync-supabase-token",
            As::App,
            &sync(json!({ "sub": user, "exp": 1 })),
        )
        .await;
    let (status, answer) = world.get("/activities", As::App).await;
    assert_eq!(
        (status, &answer["code"]),
        (403, &json!("TOKEN_EXPIRED")),
        "{answer}"
    );
    for claims in [
        json!({ "role": "service_role" }),
        json!({ "role": "postgres" }),
    ] {
        assert_eq!(
            world
                .post("/sdk/auth/sync-supabase-token", As::App, &sync(claims))
                .await
                .0,
            400
        );
    }
    world.daemon.stop().await;
}

#[tokio::test]
async fn without_the_database_the_answer_says_so() {
    let world = World::start().await;
    let key = As::Key(&world.key);
    assert_eq!(world.get("/activities", key).await.0, 200);
    world
        .db
        .client
        .batch_execute("alter table public.rtx_activities rename to gone")
        .await
        .expect("the table is gone");
    let (status, answer) = world.get("/activities", key).await;
    assert_eq!(status, 500, "{answer}");
    assert_eq!(answer["code"], "INTERNAL");
    world
        .db
        .client
        .batch_execute("alter table public.gone rename to rtx_activities")
        .await
        .unwrap();
    assert_eq!(
        world.get("/activities", key).await.0,
        200,
        "it mends itself"
    );
    world.daemon.stop().await;
}

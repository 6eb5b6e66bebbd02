//! What is wrong with a request is said the way clients know it.

use reqwest::Method;
use serde_json::json;

use super::world::World;

#[tokio::test]
async fn parse_errors_name_the_place() {
    let world = World::new().await;
    for (query, message) in [
        (
            "/items?id=foo.1",
            "\"failed to parse filter (foo.1)\" (line 1, column 1)",
        ),
        (
            "/items?id=1",
            "\"failed to parse filter (1)\" (line 1, column 1)",
        ),
        (
            "/items?select=id,(",
            "\"failed to parse select parameter (id,()\" (line 1, column 4)",
        ),
        (
            "/items?order=id.up",
            "\"failed to parse order (id.up)\" (line 1, column 4)",
        ),
        (
            "/items?or=(id.eq.1",
            "\"failed to parse logic tree ((id.eq.1)\" (line 1, column 9)",
        ),
        (
            "/items?columns=a,",
            "\"failed to parse columns parameter (a,)\" (line 1, column 3)",
        ),
    ] {
        let error = world.get(query).send().await.expect_error(400, "PGRST100");
        assert_eq!(error["message"], message, "{query}");
        assert!(error["details"].is_string(), "{query}");
    }
}

#[tokio::test]
async fn what_is_not_there_is_told() {
    let world = World::new().await;
    let error = world
        .get("/item")
        .send()
        .await
        .expect_error(404, "PGRST205");
    assert_eq!(
        error["message"],
        "Could not find the table 'public.item' in the schema cache"
    );
    assert_eq!(error["hint"], "Perhaps you meant the table 'public.items'");
    let error = world
        .get("/items?nope=eq.1")
        .send()
        .await
        .expect_error(400, "42703");
    assert_eq!(error["message"], "column items.nope does not exist");
    world
        .get("/items?select=nope")
        .send()
        .await
        .expect_error(400, "42703");
    world
        .get("/items?order=nope")
        .send()
        .await
        .expect_error(400, "42703");
    world
        .get("/items?id=eq.x")
        .send()
        .await
        .expect_error(400, "22P02");
    world
        .get("/items?select=id::nonsense")
        .send()
        .await
        .expect_error(400, "42704");
    world
        .get("/a/b/c")
        .send()
        .await
        .expect_error(404, "PGRST125");
    world
        .ask(Method::from_bytes(b"PURGE").expect("a method"), "/items")
        .send()
        .await
        .expect_error(405, "PGRST117");
    let error = world.get("/").send().await.expect_error(400, "PGRST127");
    assert_eq!(error["message"], "Feature not implemented");
}

#[tokio::test]
async fn answers_to_errors_are_readable_by_pages() {
    let world = World::new().await;
    let answer = world.get("/nope").send().await;
    assert_eq!(
        answer.header("content-type"),
        "application/json; charset=utf-8"
    );
    assert_eq!(answer.header("proxy-status"), "PostgREST; error=PGRST205");
    assert_eq!(answer.header("access-control-allow-origin"), "*");
    assert!(
        answer
            .header("access-control-expose-headers")
            .contains("Content-Range")
    );
}

#[tokio::test]
async fn long_urls_pass() {
    let world = World::new().await;
    let list: Vec<String> = (1..8_000).map(|n| n.to_string()).collect();
    let found = world
        .read(&format!(
            "/items?select=id&order=id&id=in.({})",
            list.join(",")
        ))
        .await;
    assert_eq!(found, json!([{"id": 1}, {"id": 2}, {"id": 3}]));
}

#[tokio::test]
async fn hostile_names_and_values_stay_names_and_values() {
    let world = World::new().await;
    let hostile = "'; drop table public.items; --";
    let encoded = "%27%3B%20drop%20table%20public.items%3B%20--";
    for query in [
        format!("/items?code=eq.{encoded}"),
        format!("/items?code=in.({encoded})"),
        format!("/kinds?jb->>\"{encoded}\"=eq.1"),
        format!("/kinds?select=jb->>\"{encoded}\"&limit=1"),
        format!("/items?select=\"{encoded}\""),
        format!("/items?order=\"{encoded}\""),
        format!("/items?select=\"{encoded}\":id&limit=1"),
        "/items?select=id::text);drop%20table%20public.items;--".to_owned(),
        "/items?select=x:id::int4%20as%20y&limit=1".to_owned(),
        format!("/items?t=fts({encoded}).x"),
        "/%22;drop%20table%20items;--".to_owned(),
        "/rpc/%22;drop%20table%20items;--".to_owned(),
        "/items?limit=1;drop%20table%20items".to_owned(),
    ] {
        let answer = world.get(&query).send().await;
        assert!(
            answer.status.as_u16() < 500,
            "{query}: {} {}",
            answer.status,
            answer.text
        );
    }
    let mut body = serde_json::Map::new();
    body.insert(format!("\"{hostile}"), json!(1));
    world
        .post("/items", &serde_json::Value::Object(body))
        .send()
        .await
        .expect_error(400, "PGRST204");
    world
        .get("/items")
        .header("accept-profile", hostile)
        .send()
        .await
        .expect_error(406, "PGRST106");
    assert_eq!(
        world.read("/items?select=id&id=eq.1").await,
        json!([{"id": 1}])
    );
}

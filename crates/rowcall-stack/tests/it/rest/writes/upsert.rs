//! Rows that are there already.

use reqwest::Method;
use serde_json::json;

use super::super::world::World;
use super::REPRESENTATION;

#[tokio::test]
async fn upserts_merge_or_ignore() {
    let world = World::new().await;
    let merge = "resolution=merge-duplicates,return=representation";
    let ignore = "resolution=ignore-duplicates,return=representation";
    let mixed = json!([{"id": 1, "note": "new"}, {"id": 40, "note": "new"}]);
    let answer = world
        .post("/items?select=id,note", &mixed)
        .prefer(merge)
        .send()
        .await;
    answer.expect(
        201,
        json!([{"id": 1, "note": "new"}, {"id": 40, "note": "new"}]),
    );
    assert_eq!(
        answer.header("preference-applied"),
        "resolution=merge-duplicates, return=representation"
    );
    let known = world
        .post("/items?select=id,note", &json!({"id": 1, "note": "again"}))
        .prefer(merge)
        .send()
        .await;
    known.expect(200, json!([{"id": 1, "note": "again"}]));
    let star = world
        .post("/items", &json!({"id": 1, "note": "again"}))
        .prefer(merge)
        .send()
        .await;
    star.expect(
        200,
        json!([{"id": 1, "code": "a", "amount": 1, "note": "again"}]),
    );
    let ignored = world
        .post(
            "/items?select=id",
            &json!([{"id": 1, "note": "x"}, {"id": 41, "note": "x"}]),
        )
        .prefer(ignore)
        .send()
        .await;
    ignored.expect(201, json!([{"id": 41}]));
    let by_code = world
        .post(
            "/items?on_conflict=code&select=id,note",
            &json!({"id": 50, "code": "b", "note": "by code"}),
        )
        .prefer(merge)
        .send()
        .await;
    by_code.expect(200, json!([{"id": 50, "note": "by code"}]));
    let quiet = world
        .post("/items?on_conflict=id", &json!({"id": 1}))
        .prefer("resolution=ignore-duplicates")
        .send()
        .await;
    quiet.expect_empty(201);
    world
        .post("/items?on_conflict=note", &json!({"id": 1, "note": "x"}))
        .prefer("resolution=merge-duplicates")
        .send()
        .await
        .expect_error(400, "42P10");
    let parted = world
        .post("/parted", &json!({"id": 1, "part": 1}))
        .prefer("resolution=merge-duplicates")
        .send()
        .await;
    assert!(parted.status.is_success(), "{}", parted.text);
}

#[tokio::test]
async fn views_know_the_key_of_their_table() {
    let world = World::new().await;
    let merge = "resolution=merge-duplicates,return=representation";
    let row = json!({"id": 1, "name": "Windows 7 SP1", "client_id": 1});
    let known = world
        .post("/windows?select=id,name", &row)
        .prefer(merge)
        .send()
        .await;
    known.expect(201, json!([{"id": 1, "name": "Windows 7 SP1"}]));
    let located = world
        .post("/windows", &json!({"id": 90, "name": "Windows 90"}))
        .prefer("return=headers-only")
        .send()
        .await;
    assert_eq!(located.header("location"), "/windows?id=eq.90");
}

#[tokio::test]
async fn put_replaces_exactly_one_row() {
    let world = World::new().await;
    let put = |path: &str, body| world.ask(Method::PUT, path).json(&body);
    put(
        "/items?id=eq.1",
        json!({"id": 1, "code": "p", "amount": 1, "note": null}),
    )
    .send()
    .await
    .expect_empty(204);
    let new = put("/items?id=eq.70&select=id", json!({"id": 70, "code": "q"}))
        .prefer(REPRESENTATION)
        .send()
        .await;
    new.expect(201, json!([{"id": 70}]));
    let known = put(
        "/items?id=eq.70&select=id,code",
        json!({"id": 70, "code": "r"}),
    )
    .prefer(REPRESENTATION)
    .send()
    .await;
    known.expect(200, json!([{"id": 70, "code": "r"}]));
    put("/items?id=eq.71", json!({"id": 72}))
        .send()
        .await
        .expect_error(400, "PGRST115");
    assert_eq!(world.read("/items?id=eq.72").await, json!([]));
    put("/items?code=eq.a", json!({"id": 1}))
        .send()
        .await
        .expect_error(405, "PGRST105");
    put("/items?id=gt.1", json!({"id": 1}))
        .send()
        .await
        .expect_error(405, "PGRST105");
    put("/items?id=eq.1&limit=1", json!({"id": 1}))
        .send()
        .await
        .expect_error(400, "PGRST114");
}

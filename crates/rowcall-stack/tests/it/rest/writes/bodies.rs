//! What may be a body, and what may not.

use reqwest::Method;
use serde_json::json;

use super::super::world::World;
use super::REPRESENTATION;

#[tokio::test]
async fn bodies_that_make_no_sense_are_refused() {
    let world = World::new().await;
    let error = world
        .ask(Method::POST, "/items")
        .body("application/json", "{")
        .send()
        .await
        .expect_error(400, "PGRST102");
    assert_eq!(error["message"], "Empty or invalid json");
    world
        .ask(Method::POST, "/items")
        .body("application/json", "")
        .send()
        .await
        .expect_error(400, "PGRST102");
    world
        .ask(Method::POST, "/items")
        .body("application/json", "5")
        .send()
        .await
        .expect_error(400, "PGRST102");
    let uneven = world
        .post("/items", &json!([{"id": 1}, {"code": "a"}]))
        .send()
        .await
        .expect_error(400, "PGRST102");
    assert_eq!(uneven["message"], "All object keys must match");
    let unknown = world
        .post("/items", &json!({"id": 1, "nope": 2}))
        .send()
        .await
        .expect_error(400, "PGRST204");
    assert_eq!(
        unknown["message"],
        "Could not find the 'nope' column of 'items' in the schema cache"
    );
    let kind = world
        .ask(Method::POST, "/items")
        .body("image/png", "x")
        .send()
        .await
        .expect_error(400, "PGRST102");
    assert_eq!(kind["message"], "Content-Type not acceptable: image/png");
    world
        .post("/items", &json!({"id": 1}))
        .send()
        .await
        .expect_error(409, "23505");
    world
        .post("/tasks", &json!({"id": 99, "name": "x", "project_id": 99}))
        .send()
        .await
        .expect_error(409, "23503");
    world
        .post("/clients", &json!({"id": 99}))
        .send()
        .await
        .expect_error(400, "23502");
}

#[tokio::test]
async fn csv_and_forms_are_bodies_too() {
    let world = World::new().await;
    let csv = "id,code,note\n30,\"a,b\",NULL\n31,\"c\"\"d\",\"line\nbreak\"";
    let answer = world
        .ask(Method::POST, "/items?select=id,code,note")
        .prefer(REPRESENTATION)
        .body("text/csv", csv)
        .send()
        .await;
    answer.expect(
        201,
        json!([{"id": 30, "code": "a,b", "note": null}, {"id": 31, "code": "c\"d", "note": "line\nbreak"}]),
    );
    let uneven = world
        .ask(Method::POST, "/items")
        .body("text/csv", "id,code\n1")
        .send()
        .await;
    uneven.expect_error(400, "PGRST102");
    let form = world
        .ask(Method::POST, "/items?select=id,code")
        .prefer(REPRESENTATION)
        .body("application/x-www-form-urlencoded", "id=32&code=a+b%26c")
        .send()
        .await;
    form.expect(201, json!([{"id": 32, "code": "a b&c"}]));
}

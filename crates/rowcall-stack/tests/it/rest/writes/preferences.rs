//! What `Prefer` asks of writes.

use reqwest::Method;
use serde_json::json;

use super::super::world::World;

#[tokio::test]
async fn strict_handling_bounds_what_is_affected() {
    let world = World::new().await;
    let strict = "handling=strict,max-affected=2";
    world
        .patch("/items?id=in.(1,2)", &json!({"note": "a"}))
        .prefer(strict)
        .send()
        .await
        .expect_empty(204);
    let error = world
        .ask(Method::DELETE, "/items")
        .prefer(strict)
        .send()
        .await
        .expect_error(400, "PGRST124");
    assert_eq!(error["details"], "The query affects 3 rows");
    assert_eq!(
        world.read("/items?select=id&order=id").await,
        json!([{"id": 1}, {"id": 2}, {"id": 3}])
    );
    world
        .post("/rpc/add_items", &json!({"n": 3}))
        .prefer(strict)
        .send()
        .await
        .expect_error(400, "PGRST124");
    world
        .post("/rpc/add", &json!({"a": 3}))
        .prefer(strict)
        .send()
        .await
        .expect_error(400, "PGRST128");
    let error = world
        .get("/items")
        .prefer("handling=strict,nonsense")
        .send()
        .await
        .expect_error(400, "PGRST122");
    assert_eq!(error["details"], "Invalid preferences: nonsense");
    let lenient = world
        .get("/items?id=eq.1&select=id")
        .prefer("nonsense")
        .send()
        .await;
    lenient.expect(200, json!([{"id": 1}]));
}

#[tokio::test]
async fn transactions_roll_back_where_that_may_be_preferred() {
    let world = World::new().await;
    world
        .ask(Method::DELETE, "/items?id=eq.1")
        .prefer("tx=rollback")
        .send()
        .await
        .expect_empty(204);
    assert_eq!(
        world.read("/items?id=eq.1").await,
        json!([]),
        "the preference does not count by default"
    );
    let world =
        World::with(|config| config.rest.tx = rowcall_stack::rest::TxPolicy::CommitAllowOverride)
            .await;
    let answer = world
        .ask(Method::DELETE, "/items?id=eq.1")
        .prefer("tx=rollback")
        .send()
        .await;
    answer.expect_empty(204);
    assert_eq!(answer.header("preference-applied"), "tx=rollback");
    assert_eq!(
        world.read("/items?id=eq.1&select=id").await,
        json!([{"id": 1}])
    );
}

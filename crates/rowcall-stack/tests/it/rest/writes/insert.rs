//! Inserted rows.

use serde_json::json;

use super::super::world::World;
use super::REPRESENTATION;

#[tokio::test]
async fn rows_are_inserted() {
    let world = World::new().await;
    let quiet = world
        .post("/items", &json!({"id": 10, "code": "x"}))
        .send()
        .await;
    quiet.expect_empty(201);
    assert_eq!(quiet.header("content-range"), "*/*");
    assert_eq!(quiet.header("location"), "");
    let shown = world
        .post(
            "/items?columns=\"id\",\"code\"&select=*",
            &json!([{"id": 11, "code": "y"}, {"id": 12, "code": "z"}]),
        )
        .prefer(REPRESENTATION)
        .send()
        .await;
    shown.expect(201, json!([{"id": 11, "code": "y", "amount": 7, "note": null}, {"id": 12, "code": "z", "amount": 7, "note": null}]));
    assert_eq!(shown.header("preference-applied"), "return=representation");
    let one = world
        .post("/items?select=id", &json!({"id": 13}))
        .prefer(REPRESENTATION)
        .header("accept", "application/vnd.pgrst.object+json")
        .send()
        .await;
    one.expect(201, json!({"id": 13}));
    let located = world
        .post("/items", &json!({"id": 14}))
        .prefer("return=headers-only")
        .send()
        .await;
    located.expect_empty(201);
    assert_eq!(located.header("location"), "/items?id=eq.14");
    world
        .post("/items", &json!([]))
        .send()
        .await
        .expect_empty(201);
    world
        .post("/items", &json!([]))
        .prefer(REPRESENTATION)
        .send()
        .await
        .expect(201, json!([]));
    let counted = world
        .post("/items", &json!([{"id": 15}, {"id": 16}]))
        .prefer("count=exact")
        .send()
        .await;
    assert_eq!(counted.header("content-range"), "*/2");
    world
        .post("/kinds?select=label", &json!({}))
        .prefer(REPRESENTATION)
        .send()
        .await
        .expect(201, json!([{"label": "unnamed"}]));
    world
        .post("/kinds?select=label", &json!([{}, {}]))
        .prefer(REPRESENTATION)
        .send()
        .await
        .expect(201, json!([{"label": "unnamed"}, {"label": "unnamed"}]));
}

#[tokio::test]
async fn missing_keys_are_null_or_defaults() {
    let world = World::new().await;
    let rows = json!([{"id": 20, "amount": 5}, {"id": 21}]);
    let path = "/items?columns=id,amount&select=id,amount";
    let nulls = world.post(path, &rows).prefer(REPRESENTATION).send().await;
    nulls.expect(
        201,
        json!([{"id": 20, "amount": 5}, {"id": 21, "amount": null}]),
    );
    let rows = json!([{"id": 22, "amount": 5}, {"id": 23}]);
    let defaults = world
        .post(path, &rows)
        .prefer("return=representation, missing=default")
        .send()
        .await;
    defaults.expect(
        201,
        json!([{"id": 22, "amount": 5}, {"id": 23, "amount": 7}]),
    );
    assert_eq!(
        defaults.header("preference-applied"),
        "missing=default, return=representation"
    );
    let one = world
        .post(
            "/items?columns=id,amount&select=id,amount",
            &json!({"id": 24}),
        )
        .prefer("return=representation,missing=default")
        .send()
        .await;
    one.expect(201, json!([{"id": 24, "amount": 7}]));
    let identity = json!([{"t": "a"}, {"t": "b"}]);
    let answer = world
        .post("/kinds?columns=id,t&select=t", &identity)
        .prefer("return=representation,missing=default")
        .send()
        .await;
    answer.expect(201, json!([{"t": "a"}, {"t": "b"}]));
}

#[tokio::test]
async fn every_type_travels_in_a_body() {
    let world = World::new().await;
    let row = json!({
        "i": 5, "t": "tä\"\\", "j": {"a": [1, null]}, "jb": [1, {"b": 2}], "a": [1, 2], "ta": ["a,b", "c\"d"],
        "r": "[1,3)", "d": "2024-02-29", "ts": "2024-02-29T10:00:00+00:00", "m": "sad", "s": "ok", "b": false,
        "n": 12_345.678, "u": "00000000-0000-0000-0000-00000000000f"
    });
    let select = "/kinds?select=i,t,j,jb,a,ta,r,d,ts,m,s,b,n,u";
    world
        .post(select, &row)
        .prefer(REPRESENTATION)
        .send()
        .await
        .expect(201, json!([row]));
    world
        .post("/kinds", &json!({"m": "angry"}))
        .send()
        .await
        .expect_error(400, "22P02");
    world
        .post("/kinds", &json!({"s": "much too long"}))
        .send()
        .await
        .expect_error(400, "23514");
    world
        .post("/kinds", &json!({"i": "x"}))
        .send()
        .await
        .expect_error(400, "22P02");
}

//! Inserts, updates, upserts, deletes.

use reqwest::Method;
use serde_json::json;

use super::world::World;

const REPRESENTATION: &str = "return=representation";

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
async fn rows_are_updated() {
    let world = World::new().await;
    world
        .patch("/items?id=eq.1", &json!({"note": "n"}))
        .send()
        .await
        .expect_empty(204);
    let fenced = world
        .patch(
            "/items?id=eq.1&note=eq.other&select=id",
            &json!({"note": "m"}),
        )
        .prefer(REPRESENTATION)
        .send()
        .await;
    fenced.expect(200, json!([]));
    assert_eq!(fenced.header("content-range"), "*/*");
    let shown = world
        .patch(
            "/items?id=in.(1,2)&select=id,note&order=id.desc",
            &json!({"note": "m"}),
        )
        .prefer(REPRESENTATION)
        .send()
        .await;
    shown.expect(200, json!([{"id": 2, "note": "m"}, {"id": 1, "note": "m"}]));
    assert_eq!(shown.header("content-range"), "0-1/*");
    let counted = world
        .patch("/items?id=in.(1,2)", &json!({"note": null}))
        .prefer("count=exact,return=minimal")
        .send()
        .await;
    counted.expect_empty(204);
    assert_eq!(counted.header("content-range"), "0-1/2");
    let moved = world
        .patch(
            "/items?or=(id.eq.1,id.eq.2)&select=id,note",
            &json!({"id": 77, "note": "moved"}),
        )
        .prefer(REPRESENTATION)
        .send()
        .await;
    moved.expect_error(409, "23505");
    world
        .patch("/items?id=eq.1", &json!({}))
        .send()
        .await
        .expect_empty(204);
    world
        .patch("/items?id=eq.1", &json!({}))
        .prefer(REPRESENTATION)
        .send()
        .await
        .expect(200, json!([]));
    let logic = world
        .patch(
            "/items?or=(note.is.null,note.eq.zzz)&select=id&order=id",
            &json!({"note": "set"}),
        )
        .prefer(REPRESENTATION)
        .send()
        .await;
    logic.expect(200, json!([{"id": 1}, {"id": 2}, {"id": 3}]));
    let single = "application/vnd.pgrst.object+json";
    let many = world
        .patch("/items?id=in.(1,2)", &json!({"note": "undone"}))
        .prefer(REPRESENTATION)
        .header("accept", single)
        .send()
        .await;
    many.expect_error(406, "PGRST116");
    assert_eq!(
        world.read("/items?note=eq.undone").await,
        json!([]),
        "a refused write is rolled back"
    );
    world
        .patch("/items?nope=eq.1", &json!({"note": 1}))
        .send()
        .await
        .expect_error(400, "42703");
}

#[tokio::test]
async fn written_rows_are_shown_with_what_belongs_to_them() {
    let world = World::new().await;
    let answer = world
        .post(
            "/projects?select=name,shout,clients(name),tasks(id)",
            &json!({"id": 60, "name": "new", "client_id": 2}),
        )
        .prefer(REPRESENTATION)
        .send()
        .await;
    answer.expect(
        201,
        json!([{"name": "new", "shout": "NEW", "clients": {"name": "Apple"}, "tasks": []}]),
    );
    let answer = world
        .patch(
            "/projects?id=eq.60&select=id,computed_client(name)",
            &json!({"client_id": 1}),
        )
        .prefer(REPRESENTATION)
        .send()
        .await;
    answer.expect(
        200,
        json!([{"id": 60, "computed_client": {"name": "Microsoft"}}]),
    );
    let answer = world
        .patch(
            "/users?id=eq.1&select=name,tasks(id)&tasks.id=eq.1",
            &json!({"name": "Angie"}),
        )
        .prefer(REPRESENTATION)
        .send()
        .await;
    answer.expect(200, json!([{"name": "Angie", "tasks": [{"id": 1}]}]));
    let answer = world
        .ask(Method::DELETE, "/projects?id=eq.60&select=clients(name)")
        .prefer(REPRESENTATION)
        .send()
        .await;
    answer.expect(200, json!([{"clients": {"name": "Microsoft"}}]));
}

#[tokio::test]
async fn rows_are_deleted() {
    let world = World::new().await;
    let quiet = world
        .ask(Method::DELETE, "/items?id=in.(1,2)")
        .prefer("count=exact")
        .send()
        .await;
    quiet.expect_empty(204);
    assert_eq!(quiet.header("content-range"), "*/2");
    let shown = world
        .ask(Method::DELETE, "/items?id=eq.3&select=id")
        .prefer(REPRESENTATION)
        .send()
        .await;
    shown.expect(200, json!([{"id": 3}]));
    world
        .ask(Method::DELETE, "/clients?id=eq.1")
        .send()
        .await
        .expect_error(409, "23503");
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

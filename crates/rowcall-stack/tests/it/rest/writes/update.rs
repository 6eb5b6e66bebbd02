//! Changed and deleted rows, and what is shown of them.

use reqwest::Method;
use serde_json::json;

use super::super::world::World;
use super::REPRESENTATION;

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

//! Types, triggers, views and functions that are less usual.

use reqwest::Method;
use serde_json::json;

use super::world::World;

const REPRESENTATION: &str = "return=representation";

#[tokio::test]
async fn composite_and_other_types_go_in_and_out() {
    let world = World::new().await;
    let mut row = json!({
        "spot": {"x": 1, "y": 2}, "path": [{"x": 1, "y": 2}, {"x": 3, "y": 4}], "moods": ["happy", "sad"],
        "grid": [[1, 2], [3, 4]], "code": "abc", "short": "12345", "blob": "\\x00ff", "span": "01:30:00",
        "address": "10.0.0.1", "doc": "<a/>"
    });
    let mut select = "spot,path,moods,grid,code,short,blob,span,address,doc";
    // The build of PyPI knows no XML.
    let sql = world.db.connect().await;
    if sql.simple_query("select '<a/>'::xml").await.is_err() {
        row.as_object_mut().expect("an object").remove("doc");
        select = "spot,path,moods,grid,code,short,blob,span,address";
    }
    let made = world
        .post(&format!("/shapes?select={select}"), &row)
        .prefer(REPRESENTATION)
        .send()
        .await;
    made.expect(201, json!([row]));
    for (query, expected) in [
        (
            "select=spot->x,path->1->>y,moods->0",
            json!([{"x": 1, "y": "4", "moods": "happy"}]),
        ),
        ("select=doubled&spot->>x=eq.1", json!([{"doubled": 2}])),
        (
            "select=code&address=eq.10.0.0.1&span=gt.1%20hour",
            json!([{"code": "abc"}]),
        ),
        ("select=code&moods=cs.{sad}", json!([{"code": "abc"}])),
        ("select=code&made=gt.2020-01-01", json!([{"code": "abc"}])),
        ("select=code&order=spot->x.desc", json!([{"code": "abc"}])),
    ] {
        assert_eq!(
            world.read(&format!("/shapes?{query}")).await,
            expected,
            "{query}"
        );
    }
    world
        .post("/shapes", &json!({"short": "123456"}))
        .send()
        .await
        .expect_error(400, "22001");
    world
        .post("/shapes", &json!({"doubled": 1}))
        .send()
        .await
        .expect_error(400, "428C9");
    world
        .post("/shapes", &json!({"made": null}))
        .send()
        .await
        .expect_error(400, "23502");
    // A default that is computed anew for each row.
    let rows = json!([{"code": "a"}, {"code": "b"}]);
    let made = world
        .post("/shapes?columns=id,code&select=id", &rows)
        .prefer("return=representation,missing=default")
        .send()
        .await
        .json();
    assert_ne!(made[0]["id"], made[1]["id"], "{made}");
}

#[tokio::test]
async fn triggers_and_views_are_written_through() {
    let world = World::new().await;
    let made = world
        .post("/audited", &json!({"id": 1, "note": "n"}))
        .prefer(REPRESENTATION)
        .send()
        .await;
    made.expect(201, json!([{"id": 1, "note": "n", "by_role": "anon"}]));
    let view = world
        .post("/safe_audited", &json!({"id": 2, "note": "v"}))
        .prefer(REPRESENTATION)
        .send()
        .await;
    view.expect(201, json!([{"id": 2, "note": "v"}]));
    let gone = world
        .ask(Method::DELETE, "/safe_audited?id=eq.2")
        .prefer(REPRESENTATION)
        .send()
        .await;
    gone.expect(200, json!([{"id": 2, "note": "v"}]));
    world
        .patch("/safe_audited?id=eq.1", &json!({"note": "x"}))
        .send()
        .await
        .expect_empty(204);
    world
        .post("/project_names", &json!({"id": 1}))
        .send()
        .await
        .expect_error(400, "42809");
    assert_eq!(
        world
            .ask(Method::OPTIONS, "/project_names")
            .send()
            .await
            .header("allow"),
        "OPTIONS,GET,HEAD"
    );
}

#[tokio::test]
async fn upserts_show_rows_with_what_belongs_to_them() {
    let world = World::new().await;
    let row = json!([{"id": 1, "name": "Win 7", "client_id": 2}, {"id": 80, "name": "New", "client_id": 1}]);
    let answer = world
        .post(
            "/projects?select=*,clients(name),tasks(count),shout&order=id",
            &row,
        )
        .prefer("resolution=merge-duplicates,return=representation")
        .send()
        .await;
    answer.expect(
        201,
        json!([
            {"id": 1, "name": "Win 7", "client_id": 2, "clients": {"name": "Apple"}, "tasks": [{"count": 2}], "shout": "WIN 7"},
            {"id": 80, "name": "New", "client_id": 1, "clients": {"name": "Microsoft"}, "tasks": [{"count": 0}], "shout": "NEW"},
        ]),
    );
}

#[tokio::test]
async fn counts_follow_conditions_on_embeds() {
    let world = World::new().await;
    for (query, expected) in [
        ("/projects?select=id,clients()&clients=is.null", "0-0/1"),
        ("/projects?select=id,clients()&clients=not.is.null", "0-3/4"),
        ("/users?select=id,tasks!inner(id)&tasks.id=eq.5", "0-0/1"),
        (
            "/users?select=id,tasks()&or=(tasks.is.null,id.eq.1)",
            "0-1/2",
        ),
        (
            "/clients?select=id,projects!inner(id,tasks!inner(id))&projects.tasks.done=is.false",
            "0-1/2",
        ),
        (
            "/rpc/all_projects?select=id,clients!inner(name)&clients.name=eq.Apple",
            "0-1/2",
        ),
        (
            "/projects?select=id,computed_client!inner(id)&computed_client.id=eq.1",
            "0-1/2",
        ),
    ] {
        let answer = world.get(query).prefer("count=exact").send().await;
        assert_eq!(
            answer.header("content-range"),
            expected,
            "{query}: {}",
            answer.text
        );
    }
}

#[tokio::test]
async fn functions_of_every_shape_are_called() {
    let world = World::new().await;
    for (name, body, expected) in [
        ("enum_arg", json!({"m": "sad"}), json!("sad")),
        (
            "many_defaults",
            json!({}),
            json!({"a": 1, "b": "b", "c": {}}),
        ),
        (
            "many_defaults",
            json!({"c": {"x": [1]}, "a": 2}),
            json!({"a": 2, "b": "b", "c": {"x": [1]}}),
        ),
        ("inout_params", json!({"a": 1}), json!({"a": 2, "b": 6})),
        ("single_out", json!({}), json!({"result": "r"})),
        (
            "table_of_one",
            json!({}),
            json!([{"only_one": 1}, {"only_one": 2}]),
        ),
        ("Odd-Fn", json!({"Arg One": 7}), json!(7)),
        // An array of objects: the first counts.
        ("add", json!([{"a": 1, "b": 2}, {"a": 5, "b": 5}]), json!(3)),
    ] {
        world
            .post(&format!("/rpc/{name}"), &body)
            .send()
            .await
            .expect(200, expected);
    }
    assert_eq!(
        world.read("/rpc/many_defaults?a=3&c={\"y\":1}").await,
        json!({"a": 3, "b": "b", "c": {"y": 1}})
    );
    let columns = world
        .post("/rpc/add?columns=a", &json!({"a": 1, "b": 2}))
        .send()
        .await;
    columns.expect(200, json!(11));
    for name in ["a_procedure", "returns_trigger", "pg_sleep"] {
        world
            .post(&format!("/rpc/{name}"), &json!({}))
            .send()
            .await
            .expect_error(404, "PGRST202");
    }
    world
        .post("/rpc/records", &json!({}))
        .send()
        .await
        .expect_error(400, "42601");
    let other = |path: &str| world.get(path).header("accept-profile", "other").send();
    other("/rpc/clients_of_public?select=id&order=id")
        .await
        .expect(200, json!([{"id": 1}, {"id": 2}]));
    other("/rpc/things_again")
        .await
        .expect(200, json!([{"id": 1, "name": "thing"}]));
}

#[tokio::test]
async fn stars_and_embeds_live_side_by_side() {
    let world = World::new().await;
    assert_eq!(
        world
            .read("/projects?select=*,clients(*),tasks(*)&id=eq.3&tasks.id=eq.5")
            .await,
        json!([{
            "id": 3, "name": "IOS", "client_id": 2, "clients": {"id": 2, "name": "Apple"},
            "tasks": [{"id": 5, "name": "Design IOS", "project_id": 3, "done": false}]
        }])
    );
    assert_eq!(
        world
            .read("/tasks?select=id,projects(*,...clients(client:name))&id=eq.1")
            .await,
        json!([{"id": 1, "projects": {"id": 1, "name": "Windows 7", "client_id": 1, "client": "Microsoft"}}])
    );
    assert_eq!(
        world.read("/clients?select=id,...projects(name,tasks(id))&id=eq.2&projects.order=id&projects.limit=1&projects.tasks.order=id").await,
        json!([{"id": 2, "name": ["IOS"], "tasks": [[{"id": 5}, {"id": 6}]]}])
    );
    // The same resource twice, under different names and conditions.
    assert_eq!(
        world
            .read("/clients?select=id,a:projects(id),b:projects(id)&a.id=eq.1&b.id=eq.2&id=eq.1")
            .await,
        json!([{"id": 1, "a": [{"id": 1}], "b": [{"id": 2}]}])
    );
}

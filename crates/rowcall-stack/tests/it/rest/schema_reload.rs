//! New tables and functions are seen at once, and statements live through changes.

use serde_json::json;

use super::world::World;

#[tokio::test]
async fn new_relations_are_found_by_the_first_request() {
    let world = World::new().await;
    let client = world.db.connect().await;
    world
        .get("/brand_new")
        .send()
        .await
        .expect_error(404, "PGRST205");
    client
        .batch_execute("create table public.brand_new (id int primary key); insert into public.brand_new values (1)")
        .await
        .expect("a table");
    assert_eq!(world.read("/brand_new").await, json!([{"id": 1}]));
    client
        .batch_execute(
            "create function public.brand_new_function() returns int language sql as 'select 1'",
        )
        .await
        .expect("a function");
    world
        .post("/rpc/brand_new_function", &json!({}))
        .send()
        .await
        .expect(200, json!(1));
    client
        .batch_execute("alter table public.brand_new add column extra text default 'e'")
        .await
        .expect("a column");
    let written = world
        .post("/brand_new?select=extra", &json!({"id": 2, "extra": "x"}))
        .prefer("return=representation")
        .send()
        .await;
    written.expect(201, json!([{"extra": "x"}]));
}

#[tokio::test]
async fn a_database_without_event_triggers_is_looked_at_again_on_a_miss() {
    let world = World::new().await;
    let client = world.db.connect().await;
    client
        .batch_execute(
            "drop event trigger pgrst_ddl_watch; drop event trigger pgrst_drop_watch;
             create table public.unnoticed (id int primary key)",
        )
        .await
        .expect("a table");
    assert_eq!(world.read("/unnoticed").await, json!([]));
}

#[tokio::test]
async fn prepared_statements_follow_changed_types() {
    let world = World::new().await;
    let client = world.db.connect().await;
    for _ in 0..8 {
        assert_eq!(
            world.read("/items?select=id,code&code=eq.a&id=eq.1").await,
            json!([{"id": 1, "code": "a"}])
        );
    }
    client
        .batch_execute(
            "alter table public.items alter column id type bigint, alter column amount type text",
        )
        .await
        .expect("altered");
    for _ in 0..8 {
        assert_eq!(
            world.read("/items?select=id,code&code=eq.a&id=eq.1").await,
            json!([{"id": 1, "code": "a"}])
        );
    }
    assert_eq!(
        world.read("/items?select=amount&id=eq.1").await,
        json!([{"amount": "1"}])
    );
}

#[tokio::test]
async fn settings_in_the_database_are_obeyed() {
    let world = World::new().await;
    let client = world.db.connect().await;
    let name = world.db.name();
    client
        .batch_execute(&format!(
            "alter role authenticator in database {name} set pgrst.db_max_rows = '2';
             alter role authenticator in database {name} set pgrst.db_aggregates_enabled = 'true';
             alter role authenticator in database {name} set pgrst.db_schemas = 'other, public';
             notify pgrst, 'reload config'"
        ))
        .await
        .expect("settings");
    // A name that is missing forces a load that is newer than the settings.
    world
        .get("/missing")
        .header("accept-profile", "public")
        .send()
        .await
        .expect_error(404, "PGRST205");
    assert_eq!(
        world.read("/things").await,
        json!([{"id": 1, "name": "thing"}])
    );
    let rows = world
        .get("/tasks?select=id&order=id")
        .header("accept-profile", "public")
        .send()
        .await;
    rows.expect(200, json!([{"id": 1}, {"id": 2}]));
    let count = world
        .get("/tasks?select=count()")
        .header("accept-profile", "public")
        .send()
        .await;
    count.expect(200, json!([{"count": 8}]));
}

//! Which tables are told of: those published, now or later, whole or in parts.

use serde_json::json;

use super::changes::{ITEMS, all_of, server};
use super::client::Client;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_before_the_join_are_not_for_it() {
    let server = server(ITEMS).await;
    let mut client = Client::anon(&server).await;
    for round in 0..5 {
        server
            .execute(&format!("insert into items values ({round}0)"))
            .await;
        let topic = format!("realtime:{round}");
        client.join_changes(&topic, all_of("items")).await;
        server
            .execute(&format!("insert into items values ({round}1)"))
            .await;
        let wanted = round * 10 + 1;
        let change = client
            .expect_where("a change of the new channel", |received| {
                received.event == "postgres_changes" && received.topic == topic
            })
            .await;
        assert_eq!(change.payload["data"]["record"]["id"], wanted);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wildcards_cover_schemas_and_tables_that_come_later() {
    let server = server("create schema other; create table other.a (id int primary key)").await;
    let mut client = Client::service(&server).await;
    let bindings = json!([{"event": "*", "schema": "other"}]);
    client.join_changes("realtime:schema", bindings).await;
    client
        .join_changes("realtime:all", json!([{"event": "DELETE", "schema": "*"}]))
        .await;
    server
        .execute(
            "grant usage on schema other to service_role; grant all on other.a to service_role;
             alter publication supabase_realtime add table other.a;
             insert into other.a values (1);
             create table public.late (id int primary key);
             alter publication supabase_realtime add table public.late;
             insert into public.late values (2);
             delete from public.late;
             delete from other.a",
        )
        .await;
    let mut seen = Vec::new();
    for _ in 0..4 {
        let change = client.expect("postgres_changes").await;
        let data = &change.payload["data"];
        seen.push(format!(
            "{} {} {}",
            change.topic,
            data["table"].as_str().unwrap(),
            data["type"].as_str().unwrap()
        ));
    }
    assert_eq!(
        seen,
        [
            "realtime:schema a INSERT",
            "realtime:all late DELETE",
            "realtime:all a DELETE",
            "realtime:schema a DELETE",
        ]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_is_subscribed_when_it_is_published_and_silent_when_no_longer() {
    let server = server("create table public.t (id int primary key)").await;
    let mut client = Client::anon(&server).await;
    client
        .join("realtime:a", json!({"postgres_changes": all_of("t")}))
        .await;
    let notice = client.expect("system").await;
    assert_eq!(notice.payload["status"], "error");
    assert_eq!(
        notice.payload["message"],
        "Unable to subscribe to changes with given parameters. Please check Realtime is enabled for the given \
         connect parameters: [event: *, schema: public, table: t, filters: [], select: nil]"
    );
    server
        .execute("alter publication supabase_realtime add table t; insert into t values (1)")
        .await;
    assert_eq!(
        client.expect("system").await.payload["message"],
        "Subscribed to PostgreSQL"
    );
    assert_eq!(client.change().await["record"], json!({"id": 1}));
    server
        .execute(
            "alter publication supabase_realtime drop table t; insert into t values (2);
             alter publication supabase_realtime add table t; insert into t values (3)",
        )
        .await;
    assert_eq!(client.change().await["record"], json!({"id": 3}));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn columns_come_and_go_while_changes_flow() {
    let server = server(ITEMS).await;
    let mut client = Client::anon(&server).await;
    client.join_changes("realtime:a", all_of("items")).await;
    let filtered =
        json!([{"event": "*", "schema": "public", "table": "items", "filter": "name=eq.7"}]);
    client.join_changes("realtime:b", filtered).await;
    server.execute("insert into items values (1, 'a')").await;
    assert_eq!(
        client.change().await["record"],
        json!({"id": 1, "name": "a", "secret": null})
    );
    server
        .execute(
            "alter table items add column extra int default 5; insert into items values (2, 'b')",
        )
        .await;
    assert_eq!(
        client.change().await["record"],
        json!({"id": 2, "name": "b", "secret": null, "extra": 5})
    );
    server
        .execute(
            "alter table items drop column secret; alter table items rename column extra to more;
             insert into items values (3, 'c')",
        )
        .await;
    let third = client.change().await;
    assert_eq!(third["record"], json!({"id": 3, "name": "c", "more": 5}));
    server
        .execute("truncate items; alter table items alter column name type int using 0; insert into items values (4, 7)")
        .await;
    let change = client
        .expect_where("the filtered one", |received| {
            received.topic == "realtime:b" && received.event == "postgres_changes"
        })
        .await;
    assert_eq!(
        change.payload["data"]["record"]["name"], 7,
        "the filter was checked again with the new type"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_come_under_their_own_name_unless_published_by_the_root() {
    let server = server(
        "create table public.p (id int, day int, primary key (id, day)) partition by list (day);
         create table public.p_1 partition of public.p for values in (1);
         alter publication supabase_realtime add table public.p;",
    )
    .await;
    let mut client = Client::anon(&server).await;
    client
        .join_changes("realtime:a", json!([{"event": "*", "schema": "public"}]))
        .await;
    server.execute("insert into p values (1, 1)").await;
    assert_eq!(client.change().await["table"], "p_1");
    server
        .execute("alter publication supabase_realtime set (publish_via_partition_root = true); insert into p values (2, 1)")
        .await;
    assert_eq!(client.change().await["table"], "p");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publication_row_filters_and_column_lists_apply() {
    let server = server("create table public.t (id int primary key, a int, b int)").await;
    let version: i32 = server
        .sql
        .query_one("select current_setting('server_version_num')::int", &[])
        .await
        .unwrap()
        .get(0);
    if version < 150_000 {
        return;
    }
    server
        .execute("alter publication supabase_realtime add table t (id, a) where (id > 5)")
        .await;
    let mut client = Client::anon(&server).await;
    client.join_changes("realtime:a", all_of("t")).await;
    server
        .execute("insert into t values (1, 1, 1), (6, 2, 3)")
        .await;
    let change = client.change().await;
    assert_eq!(change["record"], json!({"id": 6, "a": 2}));
    assert_eq!(client.all().await, []);
}

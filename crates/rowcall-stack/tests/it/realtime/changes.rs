use rowcall_realtime::Version;
use serde_json::{Value, json};

use super::client::Client;
use super::server::Server;

/// A server whose publication has `public.items`.
pub(super) async fn server(tables: &str) -> Server {
    let server = Server::start().await;
    server.execute(tables).await;
    server
}

pub(super) const ITEMS: &str = "
    create table public.items (id int8 primary key, name text, secret text);
    alter publication supabase_realtime add table public.items;
";

pub(super) fn all_of(table: &str) -> Value {
    json!([{"event": "*", "schema": "public", "table": table}])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bindings_are_echoed_and_every_kind_of_change_comes() {
    let server = server(ITEMS).await;
    for version in [Version::V1, Version::V2] {
        let mut client = Client::connect(&server, version, server.keys.anon_key()).await;
        let bindings = json!([
            {"event": "INSERT", "schema": "public", "table": "items", "filter": "id=gt.0"},
            null,
            {"event": "*", "schema": "public", "table": "items", "x": [1.50]},
        ]);
        let config = json!({"postgres_changes": bindings});
        let (_, reply) = client
            .try_join("realtime:a", json!({"config": config}))
            .await;
        let echoed = reply["response"]["postgres_changes"]
            .as_array()
            .unwrap()
            .clone();
        assert_eq!(echoed.len(), 2);
        let mut first = echoed[0].clone();
        let id = first.as_object_mut().unwrap().remove("id").unwrap();
        assert_eq!(first, bindings[0]);
        assert!(id.as_u64().unwrap() > 0);
        let notice = client.expect("system").await;
        assert_eq!(
            notice.payload,
            json!({"extension": "postgres_changes", "status": "ok", "message": "Subscribed to PostgreSQL", "channel": "a"})
        );
        server
            .execute(
                "insert into items values (1, 'a'); update items set name = 'b'; delete from items",
            )
            .await;
        let inserted = client.expect("postgres_changes").await;
        assert_eq!((inserted.join_ref, inserted.reference), (None, None));
        let mut ids = inserted.payload["ids"].as_array().unwrap().clone();
        ids.sort_by_key(Value::to_string);
        let mut expected = vec![id, echoed[1]["id"].clone()];
        expected.sort_by_key(Value::to_string);
        assert_eq!(ids, expected);
        let data = &inserted.payload["data"];
        assert_eq!(data["type"], "INSERT");
        assert_eq!(
            (&data["schema"], &data["table"]),
            (&json!("public"), &json!("items"))
        );
        assert_eq!(
            data["record"],
            json!({"id": 1, "name": "a", "secret": null})
        );
        assert!(data.get("old_record").is_none());
        assert_eq!(data["errors"], Value::Null);
        let columns = json!([{"name": "id", "type": "int8"}, {"name": "name", "type": "text"}, {"name": "secret", "type": "text"}]);
        assert_eq!(data["columns"], columns);
        let at = data["commit_timestamp"].as_str().unwrap();
        assert!(at.len() == 24 && at.ends_with('Z'), "{at}");
        let updated = client.change().await;
        assert_eq!(updated["record"]["name"], "b");
        assert_eq!(updated["old_record"], json!({"id": 1}));
        let deleted = client.change().await;
        assert_eq!(deleted["old_record"], json!({"id": 1}));
        assert!(deleted.get("record").is_none());
        assert_eq!(client.all().await, []);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_binding_of_nothing_is_told_so_and_others_of_the_channel_live() {
    let server = server(ITEMS).await;
    let mut client = Client::anon(&server).await;
    let bindings = json!([{"event": "*"}, {"event": "*", "schema": "public", "table": "items"}]);
    client
        .join("realtime:a", json!({"postgres_changes": bindings}))
        .await;
    let notice = client.expect("system").await.payload;
    assert!(
        notice["message"]
            .as_str()
            .unwrap()
            .starts_with("No subscription params provided."),
        "{notice}"
    );
    server.execute("insert into items values (1)").await;
    client.change().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_transaction_comes_in_order() {
    let server = server(ITEMS).await;
    let mut client = Client::anon(&server).await;
    client.join_changes("realtime:a", all_of("items")).await;
    server
        .execute("insert into items select n, 'x' from generate_series(1, 3000) n")
        .await;
    for n in 1..=3000 {
        assert_eq!(client.change().await["record"]["id"], n);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_that_left_gets_nothing_and_its_neighbour_does() {
    let server = server(ITEMS).await;
    let mut client = Client::anon(&server).await;
    let join_ref = client.join_changes("realtime:a", all_of("items")).await;
    client.join_changes("realtime:b", all_of("items")).await;
    client
        .ask(Some(&join_ref), "realtime:a", "phx_leave", &json!({}))
        .await;
    server.execute("insert into items values (1)").await;
    assert_eq!(client.expect("postgres_changes").await.topic, "realtime:b");
    assert!(
        client
            .all()
            .await
            .iter()
            .all(|received| received.event != "postgres_changes")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_are_quoted_everywhere() {
    let server = server(
        "create schema \"od\"\"d-schema\";
         create type \"od\"\"d-schema\".\"mo'od\" as enum ('sad', 'o\"k');
         create table \"od\"\"d-schema\".\"ta-ble\"\"\" (\"i d\" \"od\"\"d-schema\".\"mo'od\" primary key, \"va'l,ue\" text);
         alter table \"od\"\"d-schema\".\"ta-ble\"\"\" enable row level security;
         create policy p on \"od\"\"d-schema\".\"ta-ble\"\"\" for select using (auth.role() is not null);
         grant usage on schema \"od\"\"d-schema\" to anon; grant select on \"od\"\"d-schema\".\"ta-ble\"\"\" to anon;
         alter publication supabase_realtime add table \"od\"\"d-schema\".\"ta-ble\"\"\"",
    )
    .await;
    let mut client = Client::anon(&server).await;
    let bindings = json!([{"event": "*", "schema": "od\"d-schema", "table": "ta-ble\"", "filter": "va'l,ue=like.x%,i d=in.(\"o\\\"k\")"}]);
    // A comma in a column's name ends a segment; there is no way to write such a filter.
    client
        .join("realtime:a", json!({"postgres_changes": bindings}))
        .await;
    assert_eq!(client.expect("system").await.payload["status"], "error");
    let bindings = json!([{"event": "*", "schema": "od\"d-schema", "table": "ta-ble\"", "filter": "i d=in.(\"o\\\"k\")"}]);
    client.join_changes("realtime:b", bindings).await;
    server
        .execute("insert into \"od\"\"d-schema\".\"ta-ble\"\"\" values ('sad', 'x'), ('o\"k', 'y')")
        .await;
    let change = client.change().await;
    assert_eq!(change["record"], json!({"i d": "o\"k", "va'l,ue": "y"}));
    assert_eq!(change["columns"][0]["type"], "mo'od");
}

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

const ITEMS: &str = "
    create table public.items (id int8 primary key, name text, secret text);
    alter publication supabase_realtime add table public.items;
";

fn all_of(table: &str) -> Value {
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
async fn old_records_follow_the_replica_identity() {
    let server = server(
        "create table public.t (id int, part int, body text, primary key (part, id));
         create table public.f (id int primary key, body text);
         alter table public.f replica identity full;
         alter publication supabase_realtime add table public.t, public.f;",
    )
    .await;
    let mut client = Client::anon(&server).await;
    client
        .join_changes("realtime:a", json!([{"event": "*", "schema": "public"}]))
        .await;
    server
        .execute(
            "insert into t values (1, 2, 'x'); update t set id = 9; delete from t;
             insert into f values (1, 'x'); update f set body = 'y'; delete from f;",
        )
        .await;
    client.change().await;
    let updated = client.change().await;
    assert_eq!(
        updated["old_record"],
        json!({"id": 1, "part": 2}),
        "the old key"
    );
    assert_eq!(updated["record"], json!({"id": 9, "part": 2, "body": "x"}));
    assert_eq!(
        client.change().await["old_record"],
        json!({"id": 9, "part": 2})
    );
    client.change().await;
    assert_eq!(
        client.change().await["old_record"],
        json!({"id": 1, "body": "x"})
    );
    assert_eq!(
        client.change().await["old_record"],
        json!({"id": 1, "body": "y"})
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn columns_without_rights_are_left_out_and_keys_without_rights_are_errors() {
    let server = server(ITEMS).await;
    server
        .execute(
            "revoke all on items from anon; grant select (id, name) on items to anon;
             create table public.hidden (id int primary key, a int);
             revoke all on hidden from anon; grant select (a) on hidden to anon;
             create table public.keyless (a int); alter table public.keyless replica identity full;
             alter publication supabase_realtime add table hidden, keyless;",
        )
        .await;
    let mut client = Client::anon(&server).await;
    client
        .join_changes("realtime:a", json!([{"event": "*", "schema": "public"}]))
        .await;
    server
        .execute("insert into items values (1, 'a', 's'); insert into hidden values (1, 2); insert into keyless values (1); delete from keyless")
        .await;
    let visible = client.change().await;
    assert_eq!(visible["record"], json!({"id": 1, "name": "a"}));
    assert_eq!(visible["columns"].as_array().unwrap().len(), 2);
    for expected in [
        "Error 401: Unauthorized",
        "Error 400: Bad Request, no primary key",
    ] {
        let refused = client.change().await;
        assert_eq!(refused["errors"], json!([expected]));
        assert_eq!(
            (&refused["record"], &refused["columns"]),
            (&json!({}), &json!([]))
        );
        assert!(refused["commit_timestamp"].is_string());
    }
    assert_eq!(
        client.change().await["old_record"],
        json!({"a": 1}),
        "deletes are not refused"
    );
    server
        .execute("grant select on items to anon; insert into items values (2, 'b', 't')")
        .await;
    assert_eq!(
        client.change().await["record"]["secret"],
        "t",
        "rights are looked at again"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_is_too_large_keeps_its_small_values() {
    let server = server(ITEMS).await;
    let mut client = Client::anon(&server).await;
    client.join_changes("realtime:a", all_of("items")).await;
    server
        .execute("insert into items values (1, repeat('x', 1100000), 'small')")
        .await;
    let change = client.change().await;
    assert_eq!(change["errors"], json!(["Error 413: Payload Too Large"]));
    assert_eq!(change["record"], json!({"id": 1, "secret": "small"}));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unchanged_toasted_values_are_left_out_unless_the_old_row_is_known() {
    let server = server(
        "create table public.t (id int primary key, body text, n int);
         alter table public.t alter column body set storage external;
         create table public.f (like public.t including all);
         alter table public.f alter column body set storage external;
         alter table public.f replica identity full;
         alter publication supabase_realtime add table public.t, public.f;",
    )
    .await;
    let mut client = Client::anon(&server).await;
    client
        .join_changes(
            "realtime:a",
            json!([{"event": "UPDATE", "schema": "public"}]),
        )
        .await;
    server
        .execute(
            "insert into t values (1, repeat('x', 5000)); update t set n = 1;
             insert into f values (1, repeat('x', 5000)); update f set n = 1;",
        )
        .await;
    let without = client.change().await;
    assert_eq!(without["record"], json!({"id": 1, "n": 1}));
    let with = client.change().await;
    assert_eq!(with["record"]["body"].as_str().unwrap().len(), 5000);
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn selected_columns_come_with_the_primary_key() {
    let server = server(ITEMS).await;
    let mut client = Client::anon(&server).await;
    let bindings = json!([
        {"event": "*", "schema": "public", "table": "items", "select": ["name"]},
        {"event": "*", "schema": "public", "table": "items"},
    ]);
    let join_ref = client.join_changes("realtime:a", bindings).await;
    server
        .execute("insert into items values (1, 'a', 's')")
        .await;
    let (one, two) = (client.change().await, client.change().await);
    let (few, all) = if one["record"].get("secret").is_none() {
        (one, two)
    } else {
        (two, one)
    };
    assert_eq!(few["record"], json!({"id": 1, "name": "a"}));
    assert_eq!(all["record"], json!({"id": 1, "name": "a", "secret": "s"}));
    client
        .ask(Some(&join_ref), "realtime:a", "phx_leave", &json!({}))
        .await;
    for (select, table, expected) in [
        (json!("name"), "items", "Error parsing `select` params"),
        (json!(["nope"]), "items", "invalid column for select nope"),
        (
            json!(["name"]),
            "*",
            "Column selection is not supported for wildcard subscriptions",
        ),
    ] {
        let bindings =
            json!([{"event": "*", "schema": "public", "table": table, "select": select}]);
        client
            .join("realtime:b", json!({"postgres_changes": bindings}))
            .await;
        let notice = client.expect("system").await.payload;
        assert!(
            notice["message"].as_str().unwrap().contains(expected),
            "{notice}"
        );
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

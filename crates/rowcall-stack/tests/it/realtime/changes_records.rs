//! What a change says of its row: which columns, old and new.

use serde_json::json;

use super::changes::{ITEMS, all_of, server};
use super::client::Client;

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

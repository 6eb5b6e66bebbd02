use serde_json::{Value, json};

use super::changes::server;
use super::client::Client;
use super::server::Server;

const TABLE: &str = "
    create type public.mood as enum ('sad', 'ok', 'happy');
    create table public.t (id int primary key, i int, n numeric, f float8, t text, b bool, u uuid, ts timestamptz,
      m public.mood, a int[], j jsonb, ci text collate \"C\");
    alter publication supabase_realtime add table public.t;
";

/// Ids of the rows a filter lets through, of those that are inserted.
async fn matched(
    client: &mut Client,
    server: &Server,
    filter: &str,
    rows: &[(&str, &str)],
) -> Vec<i64> {
    let topic = format!("realtime:{filter}");
    let bindings = json!([{"event": "INSERT", "schema": "public", "table": "t", "filter": filter}]);
    let join_ref = client.join_changes(&topic, bindings).await;
    for (id, (column, value)) in rows.iter().enumerate() {
        server
            .execute(&format!(
                "insert into t (id, {column}) values ({id}, {value})"
            ))
            .await;
    }
    // The filter of the second channel lets the last row through, which comes after all others.
    server
        .execute("insert into t (id, i) values (999, 999); delete from t")
        .await;
    let mut ids = Vec::new();
    loop {
        let change = client.expect("postgres_changes").await;
        let id = change.payload["data"]["record"]["id"].as_i64().unwrap();
        if change.topic == "realtime:sentinel" {
            break;
        }
        if id != 999 {
            ids.push(id);
        }
    }
    client
        .ask(Some(&join_ref), &topic, "phx_leave", &json!({}))
        .await;
    ids
}

/// A filter, the rows that are inserted (column and SQL), and the numbers of those it lets through.
type Case = (
    &'static str,
    &'static [(&'static str, &'static str)],
    &'static [i64],
);

const NUMBERS: [(&str, &str); 4] = [("i", "1"), ("i", "5"), ("i", "9"), ("i", "null")];
const TEXTS: [(&str, &str); 4] = [
    ("t", "'apple'"),
    ("t", "'banana'"),
    ("t", "'a,b'"),
    ("t", "null"),
];

const CASES: &[Case] = &[
    ("i=eq.5", &NUMBERS, &[1]),
    ("i=neq.5", &NUMBERS, &[0, 2]),
    ("i=not.eq.5", &NUMBERS, &[0, 2]),
    ("i=lt.5", &NUMBERS, &[0]),
    ("i=lte.5", &NUMBERS, &[0, 1]),
    ("i=gt.5", &NUMBERS, &[2]),
    ("i=gte.5", &NUMBERS, &[1, 2]),
    ("i=not.gte.5", &NUMBERS, &[0]),
    ("i=in.(1,9)", &NUMBERS, &[0, 2]),
    ("i=not.in.(1,9)", &NUMBERS, &[1]),
    ("i=is.null", &NUMBERS, &[3]),
    ("i=not.is.null", &NUMBERS, &[0, 1, 2]),
    ("i=isdistinct.5", &NUMBERS, &[0, 2, 3]),
    ("i=not.isdistinct.5", &NUMBERS, &[1]),
    ("i=gt.0,i=lt.9", &NUMBERS, &[0, 1]),
    ("t=eq.apple", &TEXTS, &[0]),
    ("t=gt.b", &TEXTS, &[1]),
    ("t=like.%an%", &TEXTS, &[1]),
    ("t=like.b_nana", &TEXTS, &[1]),
    ("t=not.like.%an%", &TEXTS, &[0, 2]),
    ("t=ilike.%AN%", &TEXTS, &[1]),
    ("t=match.^a", &TEXTS, &[0, 2]),
    ("t=imatch.^b", &TEXTS, &[1]),
    ("t=not.imatch.^b", &TEXTS, &[0, 2]),
    (r#"t=in.("a,b",apple)"#, &TEXTS, &[0, 2]),
    (r#"t=eq."a,b""#, &TEXTS, &[2]),
    (
        "b=is.true",
        &[("b", "true"), ("b", "false"), ("b", "null")],
        &[0],
    ),
    (
        "b=not.is.true",
        &[("b", "true"), ("b", "false"), ("b", "null")],
        &[1, 2],
    ),
    ("b=is.unknown", &[("b", "true"), ("b", "null")], &[1]),
    ("b=eq.yes", &[("b", "true"), ("b", "false")], &[0]),
    ("n=eq.1", &[("n", "1.00"), ("n", "1.01")], &[0]),
    (
        "f=lt.1e-3",
        &[("f", "'NaN'"), ("f", "0.0001"), ("f", "'-Infinity'")],
        &[1, 2],
    ),
    (
        "u=eq.6F9619FF8B86D011B42D00C04FC964FF",
        &[("u", "'6f9619ff-8b86-d011-b42d-00c04fc964ff'")],
        &[0],
    ),
    (
        "ts=gte.2026-01-01T00:00:00+01:00",
        &[
            ("ts", "'2025-12-31 23:00+00'"),
            ("ts", "'2025-12-31 22:59+00'"),
        ],
        &[0],
    ),
    (
        "ts=eq.2026-01-01T00:00:00+01:00",
        &[("ts", "'2025-12-31 23:00+00'")],
        &[0],
    ),
    ("m=eq.ok", &[("m", "'ok'"), ("m", "'sad'")], &[0]),
    ("m=gt.sad", &[("m", "'ok'"), ("m", "'sad'")], &[0]),
    (r#"a=eq."{1,2}""#, &[("a", "'{1,2}'"), ("a", "'{2}'")], &[0]),
    (
        r#"j=eq."{\"a\":1.0}""#,
        &[("j", "'{\"a\": 1}'"), ("j", "'{}'")],
        &[0],
    ),
    ("ci=lt.a", &[("ci", "'B'"), ("ci", "'b'")], &[0]),
    ("  ", &NUMBERS, &[0, 1, 2, 3]),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_operator_means_what_sql_means() {
    let server = server(TABLE).await;
    let mut client = Client::anon(&server).await;
    let sentinel =
        json!([{"event": "INSERT", "schema": "public", "table": "t", "filter": "id=eq.999"}]);
    client.join_changes("realtime:sentinel", sentinel).await;
    for (filter, rows, expected) in CASES {
        assert_eq!(
            matched(&mut client, &server, filter, rows).await,
            *expected,
            "{filter}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn filters_that_make_no_sense_are_refused_with_a_reason() {
    let server = server(TABLE).await;
    server
        .execute("create table public.s (id int primary key, open int, shut int); revoke all on s from anon;
                  grant select (id, open) on s to anon; alter publication supabase_realtime add table s")
        .await;
    let mut client = Client::anon(&server).await;
    for (table, filter, expected) in [
        (
            "t",
            "foo=hey",
            r#"Error parsing `filter` params: ["foo", "hey"]"#,
        ),
        (
            "t",
            "i=eq.1,",
            "Error parsing `filter` params: filter must not contain empty segments (check for extra commas)",
        ),
        ("t", "nope=eq.1", "invalid column for filter nope"),
        ("s", "shut=eq.1", "invalid column for filter shut"),
        ("t", "i=eq.x", "22P02 invalid input syntax for type integer"),
        ("t", "i=in.(1,x)", "22P02"),
        ("t", "m=eq.angry", "22P02"),
        ("t", "t=match.(", "2201B"),
        ("t", "i=like.1", "needs a text column"),
        ("t", "i=is.true", "needs a boolean column"),
        ("t", r"t=like.a\", "22025"),
        ("t", "a=like.x", "needs a text column"),
    ] {
        let bindings =
            json!([{"event": "*", "schema": "public", "table": table, "filter": filter}]);
        client
            .join("realtime:a", json!({"postgres_changes": bindings}))
            .await;
        let notice = client.expect("system").await.payload;
        assert_eq!(notice["status"], "error", "{filter}: {notice}");
        assert!(
            notice["message"].as_str().unwrap().contains(expected),
            "{filter}: {notice}"
        );
    }
    client
        .expect_where("nothing else", |received| received.event == "phx_close")
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn updates_are_filtered_by_the_new_row_and_deletes_by_the_identity() {
    let server = server(TABLE).await;
    server
        .execute("create table public.f (id int primary key, i int); alter table public.f replica identity full;
                  alter publication supabase_realtime add table public.f")
        .await;
    let mut client = Client::anon(&server).await;
    let bindings = json!([
        {"event": "UPDATE", "schema": "public", "table": "t", "filter": "i=eq.2"},
        {"event": "DELETE", "schema": "public", "table": "t", "filter": "i=eq.2"},
        {"event": "DELETE", "schema": "public", "table": "t", "filter": "id=eq.1"},
        {"event": "DELETE", "schema": "public", "table": "f", "filter": "i=eq.2"},
    ]);
    client.join_changes("realtime:a", bindings).await;
    server
        .execute(
            "insert into t (id, i) values (1, 1), (2, 2);
             update t set i = 3 - i;
             delete from t;
             insert into f values (1, 2), (2, 3); delete from f;
             insert into t (id) values (1); delete from t",
        )
        .await;
    let mut seen: Vec<Value> = Vec::new();
    for _ in 0..4 {
        let change = client.change().await;
        seen.push(json!([
            change["table"],
            change["type"],
            change["old_record"]["id"]
        ]));
    }
    assert_eq!(
        seen,
        [
            json!(["t", "UPDATE", 1]),
            json!(["t", "DELETE", 1]),
            json!(["f", "DELETE", 1]),
            json!(["t", "DELETE", 1]),
        ]
    );
}

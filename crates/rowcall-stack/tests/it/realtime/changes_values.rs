use futures_util::StreamExt as _;
use serde_json::{Value, json};

use super::changes::server;
use super::client::Client;

/// Types, and the values that are tried of each.
const VALUES: [(&str, &[&str]); 42] = [
    ("int2", &["-32768", "0"]),
    ("int4", &["2147483647"]),
    ("int8", &["9007199254740993"]),
    ("float4", &["1.5", "1e-10", "1e20", "-0"]),
    ("float8", &["0.1", "1e300", "1e-300", "123456789.125"]),
    (
        "numeric",
        &[
            "12.50000",
            "-0.00000000000000000001",
            "123456789012345678901234567890",
        ],
    ),
    ("bool", &["true", "false"]),
    ("text", &["plain", "quote \" back \\ tab \t ž 🙂", ""]),
    ("varchar(5)", &["abc"]),
    ("char(4)", &["ab"]),
    ("name", &["n"]),
    ("uuid", &["6f9619ff-8b86-d011-b42d-00c04fc964ff"]),
    ("date", &["2026-01-02", "infinity", "0044-03-15 BC"]),
    ("time", &["01:02:03.5"]),
    ("timetz", &["01:02:03+02"]),
    (
        "timestamp",
        &[
            "2026-01-02 03:04:05.678",
            "infinity",
            "0044-03-15 00:00:00 BC",
        ],
    ),
    (
        "timestamptz",
        &[
            "2026-01-02 03:04:05.678+02",
            "-infinity",
            "0044-03-15 00:00:00+00 BC",
        ],
    ),
    ("interval", &["1 year 2 days 03:04:05"]),
    ("json", &["{\"a\":[1,{\"b\":null}]}", "\"text\"", "null"]),
    ("jsonb", &["{\"a\": 1.50, \"b\": {}}", "[]"]),
    ("inet", &["10.0.0.1/24"]),
    ("oid", &["42"]),
    ("money", &["12.34"]),
    ("point", &["(1,2)"]),
    ("box", &["(1,2),(3,4)"]),
    ("tsvector", &["a b"]),
    ("macaddr", &["08:00:2b:01:02:03"]),
    ("int4range", &["[1,5)"]),
    ("bit(3)", &["101"]),
    ("int4[]", &["{1,NULL,3}", "{}", "[0:1]={5,6}"]),
    (
        "text[]",
        &["{a,\"b,c\",NULL,\"NULL\",\"\"}", "{{a,b},{c,d}}"],
    ),
    ("box[]", &["{(1,2),(3,4);(5,6),(7,8)}"]),
    ("jsonb[]", &["{\"{\\\"a\\\": 1}\",null}"]),
    ("timestamptz[]", &["{2026-01-02 03:04:05+00}"]),
    ("bool[]", &["{t,f}"]),
    ("public.mood", &["o\"k"]),
    ("public.pair", &["(1,\"a \"\"b\"\"\",\"{1,2}\")", "(,,)"]),
    ("public.pair[]", &["{\"(1,x,{})\"}"]),
    ("public.positive", &["7.50"]),
    ("public.names", &["{a,b}"]),
    ("numeric[]", &["{1.10,2}"]),
    ("cidr", &["10.0.0.0/8"]),
];

const TYPES: &str = "
    create type public.mood as enum ('sad', 'o\"k');
    create type public.pair as (n int, t text, l int[]);
    create domain public.positive as numeric(5,2) check (value > 0);
    create domain public.names as text[];
";

/// The column that says which value a row is about.
fn row(type_name: &str, number: usize) -> String {
    format!("{type_name} {number}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_are_what_to_jsonb_makes_of_them() {
    let columns: Vec<String> = (0..VALUES.len())
        .map(|n| format!("c{n} {}", VALUES[n].0))
        .collect();
    let server = server(&format!(
        "{TYPES} create table public.t (id text primary key, {}); alter publication supabase_realtime add table public.t",
        columns.join(", ")
    ))
    .await;
    let mut client = Client::anon(&server).await;
    client
        .join_changes(
            "realtime:a",
            json!([{"event": "*", "schema": "public", "table": "t"}]),
        )
        .await;
    server.execute("set timezone = 'UTC'").await;
    for (column, (type_name, values)) in VALUES.iter().enumerate() {
        for (number, value) in values.iter().enumerate() {
            let id = row(type_name, number);
            let insert = format!(
                "insert into t (id, c{column}) values ($1, $2::text::{type_name}) returning to_jsonb(c{column})::text"
            );
            let expected: Option<String> = server
                .sql
                .query_one(&insert, &[&id, value])
                .await
                .unwrap()
                .get(0);
            let expected: Value =
                serde_json::from_str(&expected.unwrap_or("null".to_owned())).unwrap();
            let change = client.change().await;
            assert_eq!(change["record"]["id"], id);
            assert_eq!(
                change["record"][format!("c{column}")],
                expected,
                "{type_name} {value}"
            );
            let described = change["columns"][column + 1].clone();
            assert_eq!(described["name"], format!("c{column}"));
            let name: String = server
                .sql
                .query_one(
                    "select t.typname::text from pg_attribute a join pg_type t on t.oid = a.atttypid \
                      where attrelid = 't'::regclass and attname = $1",
                    &[&format!("c{column}")],
                )
                .await
                .unwrap()
                .get(0);
            assert_eq!(described["type"], name);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_that_json_cannot_hold_have_a_form_of_their_own() {
    let server = server(
        "create table public.t (id int primary key, f float8, n numeric, b bytea, d float8[]);
         alter publication supabase_realtime add table public.t",
    )
    .await;
    let mut client = Client::anon(&server).await;
    client
        .join_changes(
            "realtime:a",
            json!([{"event": "*", "schema": "public", "table": "t"}]),
        )
        .await;
    server
        .execute("insert into t values (1, 'NaN', '-Infinity', '\\x0aff', '{NaN,1}')")
        .await;
    assert_eq!(
        client.change().await["record"],
        json!({"id": 1, "f": null, "n": null, "b": "0aff", "d": [null, 1]})
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn numbers_keep_their_digits_in_the_text() {
    let server = server(
        "create table public.t (id int8 primary key, n numeric);
         alter publication supabase_realtime add table public.t",
    )
    .await;
    let mut client = Client::anon(&server).await;
    client
        .join_changes(
            "realtime:a",
            json!([{"event": "*", "schema": "public", "table": "t"}]),
        )
        .await;
    server
        .execute("insert into t values (9007199254740993, 12.50000)")
        .await;
    loop {
        let message = client.socket.next().await.unwrap().unwrap();
        let text = message.to_text().unwrap_or_default();
        if text.contains("postgres_changes") {
            assert!(
                text.contains(r#""record":{"id":9007199254740993,"n":12.50000}"#),
                "{text}"
            );
            break;
        }
    }
}

//! Capturing the changes of tables of every kind.

use rowcall_backend::capture::{self, CaptureError, CaptureSpec, Change};
use rowcall_core::{EventKind, EventSet, Filter, TableName};
use serde_json::{Value, json};
use tokio_postgres::Client;

use super::database::{Database, database};

fn spec(table: &str, events: &[EventKind], filter: Option<&str>) -> CaptureSpec {
    CaptureSpec {
        table: table.parse().unwrap(),
        events: events.iter().copied().collect(),
        filter: filter.map(|text| Filter::parse(text).unwrap()),
    }
}

/// A database with `ddl` run in it and `table` captured for every event.
async fn captured(ddl: &str, table: &str) -> Database {
    let mut database = database().await;
    database.client.batch_execute(ddl).await.unwrap();
    capture::install(&mut database.client, &spec(table, &EventKind::ALL, None))
        .await
        .unwrap_or_else(|error| panic!("{error}"));
    database
}

/// `[source_table, source_event, source_key, raw_data, old_data]` of every activity, in order.
async fn activities(client: &Client) -> Vec<Value> {
    let sql = "select jsonb_build_array(source_table, source_event, source_key, raw_data, old_data)::text from rtx_activities \
               order by created_at, source_event, raw_data::text";
    let rows = client.query(sql, &[]).await.unwrap();
    rows.iter()
        .map(|row| serde_json::from_str(row.get(0)).unwrap())
        .collect()
}

async fn refused(ddl: &str, spec: &CaptureSpec) -> CaptureError {
    let mut database = database().await;
    database.client.batch_execute(ddl).await.unwrap();
    capture::install(&mut database.client, spec)
        .await
        .unwrap_err()
}

#[tokio::test]
async fn every_event_becomes_an_activity_in_the_same_transaction() {
    let database = captured(
        "create table tickets (id int primary key, note text)",
        "tickets",
    )
    .await;
    let client = &database.client;
    for statement in [
        "insert into tickets values (1, 'a'), (2, 'b')",
        "update tickets set note = 'c' where id = 1",
        "update tickets set note = note",
        "delete from tickets where id = 2",
        "begin; insert into tickets values (3, 'never'); rollback",
        "insert into tickets values (1, 'up') on conflict (id) do update set note = excluded.note",
    ] {
        client.batch_execute(statement).await.unwrap();
    }
    let name = "public.tickets";
    assert_eq!(
        activities(client).await,
        [
            json!([name, "INSERT", {"id": 1}, {"id": 1, "note": "a"}, null]),
            json!([name, "INSERT", {"id": 2}, {"id": 2, "note": "b"}, null]),
            json!([name, "UPDATE", {"id": 1}, {"id": 1, "note": "c"}, {"id": 1, "note": "a"}]),
            json!([name, "DELETE", {"id": 2}, null, {"id": 2, "note": "b"}]),
            json!([name, "UPDATE", {"id": 1}, {"id": 1, "note": "up"}, {"id": 1, "note": "c"}]),
        ]
    );
}

#[tokio::test]
async fn installing_twice_changes_nothing_and_changing_replaces() {
    let mut database = captured("create table t (id int primary key, n int)", "t").await;
    let client = &mut database.client;
    let all = spec("t", &EventKind::ALL, None);
    assert_eq!(
        capture::install(client, &all).await.unwrap().change,
        Change::Unchanged
    );
    let narrow = spec("t", &[EventKind::Insert], Some("n=gt.1"));
    let report = capture::install(client, &narrow).await.unwrap();
    assert_eq!(
        (report.change, report.filter.as_deref()),
        (Change::Updated, Some("n=gt.1"))
    );
    client
        .batch_execute(
            "insert into t values (1, 1), (2, 2), (3, 3); update t set n = 9; delete from t",
        )
        .await
        .unwrap();
    assert_eq!(activities(client).await.len(), 2);
    let listed = capture::list(client).await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].table.as_ref().unwrap().to_string(), "public.t");
    assert_eq!(
        (&listed[0].events[..], listed[0].active),
        (&[EventKind::Insert][..], true)
    );
    client
        .batch_execute("alter table t disable trigger user")
        .await
        .unwrap();
    assert!(!capture::list(client).await.unwrap()[0].active);
    assert_eq!(
        capture::install(client, &narrow).await.unwrap().change,
        Change::Updated
    );
    assert!(capture::list(client).await.unwrap()[0].active);
    let table: TableName = "t".parse().unwrap();
    assert!(capture::remove(client, &table).await.unwrap());
    assert!(!capture::remove(client, &table).await.unwrap());
    client
        .batch_execute("insert into t values (7, 7)")
        .await
        .unwrap();
    assert_eq!(activities(client).await.len(), 2);
    let left = "select count(*) from pg_proc where proname like 'capture\\_%' and pronamespace = 'rowcall'::regnamespace";
    assert_eq!(
        client.query_one(left, &[]).await.unwrap().get::<_, i64>(0),
        0
    );
    assert!(capture::list(client).await.unwrap().is_empty());
}

#[tokio::test]
async fn odd_names_keys_and_columns() {
    let ddl = r#"create schema "My Shop"; create table "My Shop"."Or""der's" (
        "Region" text, "no." bigint generated always as identity, "Größe" numeric, twice numeric generated always as ("Größe" * 2) stored,
        doc json, raw bytea, at timestamptz, primary key ("no.", "Region"))"#;
    let table = r#""My Shop"."Or""der's""#;
    let database = captured(ddl, table).await;
    let insert = r#"insert into "My Shop"."Or""der's" ("Region", "Größe", doc, raw, at)
        values ('it''s', 0.10000000000000000001, '{"a": [1]}', '\x00ff', '2024-01-15T10:00:00Z')"#;
    database.client.batch_execute(insert).await.unwrap();
    let row = database
        .client
        .query_one(
            "select source_table, source_key::text, raw_data::text from rtx_activities",
            &[],
        )
        .await
        .unwrap();
    let parsed: TableName = row.get::<_, &str>(0).parse().unwrap();
    assert_eq!((parsed.schema(), parsed.name()), ("My Shop", "Or\"der's"));
    assert_eq!(row.get::<_, &str>(1), r#"{"no.": 1, "Region": "it's"}"#);
    let raw: &str = row.get(2);
    assert!(
        raw.contains(r#""Größe": 0.10000000000000000001"#)
            && raw.contains(r#""twice": 0.20000000000000000002"#),
        "{raw}"
    );
    assert!(
        raw.contains(r#""doc": {"a": [1]}"#) && raw.contains("00ff"),
        "{raw}"
    );
}

#[tokio::test]
async fn partitions_are_captured_whichever_way_rows_come_in() {
    let ddl = "create table p (id int, k text, primary key (id, k)) partition by list (k); \
               create table p_a partition of p for values in ('a'); create table p_b partition of p for values in ('b')";
    let database = captured(ddl, "p").await;
    let client = &database.client;
    for statement in [
        "insert into p values (1, 'a'), (2, 'b')",
        "insert into p_a values (3, 'a')",
        "create table p_c partition of p for values in ('c')",
        "insert into p values (4, 'c')",
        "update p set id = 5 where id = 4",
        "delete from p_b",
    ] {
        client.batch_execute(statement).await.unwrap();
    }
    let seen = activities(client).await;
    assert!(seen.iter().all(|one| one[0] == "public.p"), "{seen:?}");
    let events: Vec<(&str, &Value)> = seen
        .iter()
        .map(|one| (one[1].as_str().unwrap(), &one[2]["id"]))
        .collect();
    let expected = [
        ("INSERT", 1),
        ("INSERT", 2),
        ("INSERT", 3),
        ("INSERT", 4),
        ("UPDATE", 5),
        ("DELETE", 2),
    ];
    assert_eq!(
        events,
        expected
            .each_ref()
            .map(|(event, id)| (*event, json!(id)))
            .each_ref()
            .map(|(event, id)| (*event, id))
    );
}

#[tokio::test]
async fn filters_decide_in_the_database() {
    let mut database = database().await;
    let client = &mut database.client;
    client
        .batch_execute(
            "create table plain (id int primary key, prio text, at timestamptz); \
             create table parts (id int primary key, prio text, at timestamptz) partition by range (id); \
             create table parts_1 partition of parts default",
        )
        .await
        .unwrap();
    let filter = "prio=in.(high,\"it's\")&at=gte.2024-01-01T00:00:00+01:00";
    for table in ["plain", "parts"] {
        capture::install(client, &spec(table, &EventKind::ALL, Some(filter)))
            .await
            .unwrap();
        let statements = format!(
            "insert into {table} values (1, 'high', '2024-01-01Z'), (2, 'high', '2023-01-01Z'), (3, 'low', '2024-01-01Z'), (4, 'it''s', '2025-01-01Z'); \
             update {table} set prio = 'high' where id = 3; update {table} set prio = 'low' where id = 3; delete from {table}"
        );
        client.batch_execute(&statements).await.unwrap();
        let source: TableName = table.parse().unwrap();
        let sql = "select source_event, (source_key ->> 'id')::int from rtx_activities where source_table = $1 order by 1, 2";
        let rows = client.query(sql, &[&source.to_string()]).await.unwrap();
        let seen: Vec<(String, i32)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
        let seen: Vec<(&str, i32)> = seen
            .iter()
            .map(|(event, id)| (event.as_str(), *id))
            .collect();
        assert_eq!(
            seen,
            [
                ("DELETE", 1),
                ("DELETE", 4),
                ("INSERT", 1),
                ("INSERT", 4),
                ("UPDATE", 3)
            ],
            "{table}"
        );
    }
}

#[tokio::test]
async fn bookkeeping_of_the_protocol_is_no_news() {
    let ddl = "create table locked (id int primary key, note text, status text, locked_by text, locked_at timestamptz); \
               create table free (id int primary key, status text)";
    let mut database = captured(ddl, "locked").await;
    let client = &mut database.client;
    let report = capture::install(client, &spec("free", &EventKind::ALL, None))
        .await
        .unwrap();
    assert!(report.notes.is_empty());
    client
        .batch_execute(
            "insert into locked values (1, 'n'); insert into free values (1, 'new'); delete from rtx_activities; \
             update locked set status = 'claimed', locked_by = 'm', locked_at = now(); update free set status = 'shipped'",
        )
        .await
        .unwrap();
    let seen = activities(client).await;
    assert_eq!(seen.len(), 1);
    assert_eq!(
        seen[0][0], "public.free",
        "an application's own status is news"
    );
    client
        .batch_execute("update locked set note = 'other', status = 'done'")
        .await
        .unwrap();
    assert_eq!(activities(client).await.len(), 2);
}

#[tokio::test]
async fn ordinary_users_need_no_rights_on_the_activities() {
    let database = captured("create table t (id int primary key)", "t").await;
    let role = database.db.unique("writer");
    let setup = format!(
        "create role {role}; grant insert, select on t to {role}; \
         create schema evil; grant usage, create on schema evil to {role}; \
         create function evil.to_jsonb(anyelement) returns jsonb language sql as $$ select '\"hijacked\"'::jsonb $$"
    );
    database.client.batch_execute(&setup).await.unwrap();
    let write = format!(
        "set role {role}; set search_path = evil, pg_catalog, public; insert into t values (1); reset role; reset search_path"
    );
    database.client.batch_execute(&write).await.unwrap();
    let denied = format!("set role {role}; select * from rtx_activities");
    assert!(database.client.batch_execute(&denied).await.is_err());
    database.client.batch_execute("reset role").await.unwrap();
    assert_eq!(activities(&database.client).await[0][3], json!({"id": 1}));
    let drop = format!("drop schema evil cascade; drop owned by {role}; drop role {role}");
    database.client.batch_execute(&drop).await.unwrap();
}

#[tokio::test]
async fn what_cannot_be_captured_is_refused_with_the_way_out() {
    let any = |table: &str| spec(table, &[EventKind::Insert], None);
    let mut said = Vec::new();
    for (ddl, spec) in [
        ("create table t (n int)", any("t")),
        ("create table t (n int not null unique)", any("t")),
        ("create view v as select 1 as id", any("v")),
        (
            "create table \"Tickets\" (id int primary key)",
            any("tickets"),
        ),
        ("select 1", any("nowhere.nothing")),
        ("select 1", any("public.rtx_activities")),
        ("select 1", any("pg_catalog.pg_class")),
        (
            "create table t (id int primary key, note text)",
            spec("t", &[EventKind::Insert], Some("nte=eq.x")),
        ),
        (
            "create table t (id int primary key)",
            CaptureSpec {
                events: EventSet::default(),
                ..any("t")
            },
        ),
    ] {
        said.push(refused(ddl, &spec).await.to_string());
    }
    insta::assert_snapshot!(said.join("\n"));
}

#[tokio::test]
async fn a_replica_identity_index_serves_as_key() {
    let ddl = "create table t (code text not null, n int); create unique index t_code on t (code); \
               alter table t replica identity using index t_code";
    let database = captured(ddl, "t").await;
    database
        .client
        .batch_execute("insert into t values ('x', 1)")
        .await
        .unwrap();
    assert_eq!(
        activities(&database.client).await[0][2],
        json!({"code": "x"})
    );
}

#[tokio::test]
async fn a_database_without_migrations_says_so() {
    let db = rowcall_stack::testing::TestDb::create().await;
    let mut client = db.connect().await;
    client
        .batch_execute("create table t (id int primary key)")
        .await
        .unwrap();
    let error = capture::install(&mut client, &spec("t", &[EventKind::Insert], None))
        .await
        .unwrap_err();
    assert!(matches!(error, CaptureError::NotPrepared), "{error}");
}

#[tokio::test]
async fn a_renamed_table_is_noticed_and_removable_by_either_name() {
    let mut database = captured("create table t (id int primary key)", "t").await;
    let client = &mut database.client;
    client
        .batch_execute("alter table t rename to u")
        .await
        .unwrap();
    let listed = capture::list(client).await.unwrap();
    assert_eq!(
        (
            listed[0].table.as_ref().unwrap().name(),
            listed[0].source.as_str()
        ),
        ("u", "public.t")
    );
    assert_eq!(
        capture::install(client, &spec("u", &EventKind::ALL, None))
            .await
            .unwrap()
            .change,
        Change::Updated
    );
    client
        .batch_execute("insert into u values (1)")
        .await
        .unwrap();
    assert_eq!(activities(client).await[0][0], "public.u");
    client.batch_execute("drop table u").await.unwrap();
    assert_eq!(capture::list(client).await.unwrap()[0].table, None);
    assert!(
        capture::remove(client, &"u".parse().unwrap())
            .await
            .unwrap()
    );
}

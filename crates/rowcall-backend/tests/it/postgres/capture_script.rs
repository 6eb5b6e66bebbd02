//! Capturing by a text of SQL is the same as capturing over a connection.

use rowcall_backend::capture::{self, CaptureSpec, Change};
use rowcall_core::{EventKind, Filter};

use super::database::database;

fn spec(table: &str, events: &[EventKind], filter: Option<&str>) -> CaptureSpec {
    CaptureSpec {
        table: table.parse().unwrap(),
        events: events.iter().copied().collect(),
        filter: filter.map(|text| Filter::parse(text).unwrap()),
    }
}

const TABLES: &str = r#"
    create table tickets (id int primary key, note text);
    create schema "My Shop";
    create table "My Shop"."Order @@ it's" ("Or\der" int, "Li""ne's" text, note text, primary key ("Or\der", "Li""ne's"));
    create table parts (id int, region text, primary key (id, region)) partition by list (region);
    create table parts_eu partition of parts for values in ('eu');
    create table jobs (id int primary key, status text, locked_by text, locked_at timestamptz, note text);
"#;

#[tokio::test]
async fn a_script_installs_what_a_connection_installs() {
    let mut database = database().await;
    database.client.batch_execute(TABLES).await.unwrap();
    let all = EventKind::ALL;
    for spec in [
        spec("tickets", &all, None),
        spec(
            "My Shop.Order @@ it's",
            &all,
            Some("note=eq.@@it's \\ @@@ {key}"),
        ),
        spec("parts", &all, Some("region=eq.eu")),
        spec("jobs", &[EventKind::Update], None),
        // Another set of events replaces the first one.
        spec("tickets", &[EventKind::Insert], Some("note=not.is.null")),
    ] {
        let script = capture::script(&spec).unwrap();
        let client = &mut database.client;
        client.batch_execute(&script).await.expect(&script);
        let listed = capture::list(client).await.unwrap();
        let one = listed
            .iter()
            .find(|one| one.source == spec.table.to_string());
        let one = one.expect("it is noted");
        assert!(one.active);
        assert_eq!(one.events, spec.events.iter().collect::<Vec<_>>());
        assert_eq!(one.filter, spec.filter.as_ref().map(ToString::to_string));
        let report = capture::install(client, &spec).await.unwrap();
        assert_eq!(report.change, Change::Unchanged, "{}", spec.table);
        client.batch_execute(&script).await.unwrap();
        assert_eq!(capture::list(client).await.unwrap(), listed, "twice");
    }
    let write = "insert into tickets values (1, 'a'), (2, null); insert into parts_eu values (1, 'eu');
        insert into jobs values (1, 'pending'); update jobs set status = 'claimed'; update jobs set note = 'news'";
    database.client.batch_execute(write).await.unwrap();
    let sql = "select source_table || ' ' || source_event || ' ' || source_key from rtx_activities order by 1";
    let rows = database.client.query(sql, &[]).await.unwrap();
    let made: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(
        made,
        [
            r#"public.jobs UPDATE {"id": 1}"#,
            r#"public.parts INSERT {"id": 1, "region": "eu"}"#,
            r#"public.tickets INSERT {"id": 1}"#,
        ]
    );
}

#[tokio::test]
async fn a_script_says_what_is_wrong_and_changes_nothing() {
    let database = database().await;
    let ddl = "create table loose (note text); create view seen as select 1 as id; create table t (id int primary key)";
    database.client.batch_execute(ddl).await.unwrap();
    for (table, filter, why) in [
        ("nowhere", None, "there is no table public.nowhere"),
        ("loose", None, "has no primary key"),
        ("seen", None, "is no table"),
        ("t", Some("missing=eq.1"), "the column missing"),
    ] {
        let script = capture::script(&spec(table, &[EventKind::Insert], filter)).unwrap();
        let error = database.client.batch_execute(&script).await.unwrap_err();
        let message = error.as_db_error().expect("PostgreSQL says so").message();
        assert!(message.contains(why), "{message}");
    }
    assert!(capture::list(&database.client).await.unwrap().is_empty());
    for (table, events) in [
        ("rtx_activities", &EventKind::ALL[..]),
        ("rowcall.captures", &EventKind::ALL),
        ("t", &[]),
    ] {
        capture::script(&spec(table, events, None)).unwrap_err();
    }
}

//! Primary keys of every type name their rows in `source_key`, and what works on those tasks never doubles.

use rowcall_backend::{PostgresBackend, capture};
use rowcall_core::{
    AppId, EventKind, EventSet, LeasePolicy, MachineId, Payload, RetryPolicy, Selector, TableName,
    ports::{ClaimBatch, ClaimOrder, ClaimRules, Coordinator, Fence, Settlement, Verdict},
};
use rowcall_stack::testing::TestDb;
use uuid::Uuid;

use super::database::{config, database};

/// Types that can be a primary key, each with a value that a careless conversion would change.
const KEYS: [(&str, &str); 27] = [
    ("smallint", "-32768"),
    ("integer", "7"),
    ("bigint", "9007199254740993"),
    ("numeric", "123456789012345678901234567890.000001"),
    ("real", "'1.5'"),
    ("double precision", "'0.1'"),
    ("boolean", "true"),
    ("text", "E'it''s \"quoted\"\\n\\\\ and \\u00fc'"),
    ("varchar(20)", "''"),
    ("char(5)", "'ab'"),
    ("\"char\"", "'x'"),
    ("name", "'a name'"),
    ("uuid", "'7F0B9C1E-0B53-4A8A-9D0E-0F4D0A3A2B11'"),
    ("date", "'0044-03-15 BC'"),
    ("time", "'24:00:00'"),
    ("timestamp", "'infinity'"),
    ("timestamptz", "'2024-01-15 10:00:00.123456+05:30'"),
    ("interval", "'1 mon 2 days -3 hours'"),
    ("inet", "'::ffff:1.2.3.4/128'"),
    ("macaddr", "'08:00:2b:01:02:03'"),
    ("bytea", "'\\x00ff'"),
    ("bit(3)", "b'101'"),
    ("jsonb", "'{\"b\": 1, \"a\": [null]}'"),
    ("int4range", "'[1,5)'"),
    ("text[]", "array['a,b', null]"),
    ("mood", "'so so'"),
    ("positive", "5"),
];

#[tokio::test]
async fn every_type_of_key_names_its_row() {
    let mut database = database().await;
    let client = &mut database.client;
    client
        .batch_execute(
            "create type mood as enum ('sad', 'so so'); create domain positive as numeric check (value > 0)",
        )
        .await
        .unwrap();
    for (number, (kind, value)) in KEYS.iter().enumerate() {
        let table = format!("keyed_{number}");
        let make = format!("create table {table} (k {kind} primary key, n int)");
        client.batch_execute(&make).await.unwrap();
        let spec = capture::CaptureSpec {
            table: table.parse().unwrap(),
            events: EventSet::ALL,
            filter: None,
        };
        let report = capture::install(client, &spec)
            .await
            .unwrap_or_else(|error| panic!("{kind}: {error}"));
        assert_eq!(report.key, ["k"], "{kind}");
        let change = format!(
            "insert into {table} values ({value}, 1); update {table} set n = 2; delete from {table}"
        );
        client.batch_execute(&change).await.unwrap();
        let sql = format!(
            "select source_event, source_key = jsonb_build_object('k', ({value})::{kind}), source_key::text \
             from rtx_activities where source_table = 'public.{table}' order by source_event"
        );
        let rows = client.query(&sql, &[]).await.unwrap();
        let events: Vec<&str> = rows.iter().map(|row| row.get(0)).collect();
        assert_eq!(events, ["DELETE", "INSERT", "UPDATE"], "{kind}");
        for row in rows {
            assert!(row.get::<_, bool>(1), "{kind}: {}", row.get::<_, &str>(2));
        }
    }
}

#[tokio::test]
async fn a_key_that_changes_is_the_new_one_and_the_old_row_has_the_old_one() {
    let mut database = database().await;
    let client = &mut database.client;
    client
        .batch_execute("create table t (a int, b text, primary key (b, a))")
        .await
        .unwrap();
    let spec = capture::CaptureSpec {
        table: "t".parse().unwrap(),
        events: [EventKind::Update].into_iter().collect(),
        filter: None,
    };
    capture::install(client, &spec).await.unwrap();
    client
        .batch_execute("insert into t values (1, 'x'); update t set a = 2, b = 'y'")
        .await
        .unwrap();
    let row = client
        .query_one(
            "select source_key = '{\"a\": 2, \"b\": \"y\"}', old_data = '{\"a\": 1, \"b\": \"x\"}' from rtx_activities",
            &[],
        )
        .await
        .unwrap();
    assert!(row.get::<_, bool>(0) && row.get::<_, bool>(1));
}

/// How many rows are worked off.
const TICKETS: i32 = 120;

/// RealTimeX clients and our daemons on one captured table, with attempts that fail: every task is completed once, by the
/// machine the row names, and every failure is one that somebody reported.
#[tokio::test]
async fn foreign_clients_and_ours_share_a_captured_table() {
    let mut database = database().await;
    let client = &mut database.client;
    client
        .batch_execute(
            "create table tickets (id int primary key, note text); create table runs (id uuid, who text, completed boolean)",
        )
        .await
        .unwrap();
    let spec = capture::CaptureSpec {
        table: "tickets".parse().unwrap(),
        events: [EventKind::Insert].into_iter().collect(),
        filter: None,
    };
    capture::install(client, &spec).await.unwrap();
    let insert =
        format!("insert into tickets select n, 'note' from generate_series(1, {TICKETS}) n");
    client.batch_execute(&insert).await.unwrap();
    let ours = (0..2).map(|number| ours(&database.db, format!("rowcall-{number}")));
    let theirs = (0..2).map(|number| theirs(&database.db, format!("desktop-{number}")));
    tokio::join!(
        futures_util::future::join_all(ours),
        futures_util::future::join_all(theirs)
    );
    let sql = "select count(*), count(*) filter (where a.status = 'completed'), \
               count(*) filter (where (select count(*) from runs r where r.id = a.id and r.completed) = 1), \
               count(*) filter (where exists (select from runs r where r.id = a.id and r.completed and r.who = a.locked_by)), \
               sum(a.retry_count), (select count(*) from runs where not completed), \
               (select count(distinct split_part(who, '-', 1)) from runs where completed) from rtx_activities a";
    let row = database.client.query_one(sql, &[]).await.unwrap();
    let all = i64::from(TICKETS);
    for (column, what) in [
        (0, "tasks"),
        (1, "completed"),
        (2, "once"),
        (3, "by whom it says"),
    ] {
        assert_eq!(row.get::<_, i64>(column), all, "{what}");
    }
    assert_eq!(row.get::<_, i64>(4), row.get::<_, i64>(5), "failures");
    assert!(row.get::<_, i64>(5) > 0, "some attempts failed");
    assert_eq!(row.get::<_, i64>(6), 2, "both kinds had a share");
}

/// First attempts of one task in four fail.
fn fails(id: Uuid, retry_count: i32) -> bool {
    retry_count == 0 && id.as_u128().is_multiple_of(4)
}

async fn open(client: &tokio_postgres::Client) -> bool {
    let sql = "select exists (select from rtx_activities where status <> 'completed')";
    client.query_one(sql, &[]).await.unwrap().get(0)
}

async fn ran(client: &tokio_postgres::Client, id: Uuid, who: &str, completed: bool) {
    let sql = "insert into runs values ($1, $2, $3)";
    client.execute(sql, &[&id, &who, &completed]).await.unwrap();
}

async fn ours(db: &TestDb, name: String) {
    let backend = PostgresBackend::connect(config(db, &name)).await.unwrap();
    let client = db.connect().await;
    let rules = ClaimRules {
        machine: MachineId::new(&name).unwrap(),
        lease: LeasePolicy::default(),
        retry: RetryPolicy::default(),
    };
    let selector = Selector {
        table: "tickets".parse::<TableName>().unwrap(),
        events: EventSet::ALL,
        filter: None,
    };
    let batch = ClaimBatch {
        app: AppId::new("interop").unwrap(),
        selectors: [selector].into(),
        limit: 3,
        retryable: true,
        order: ClaimOrder::OldestFirst,
        hints: std::sync::Arc::default(),
    };
    while open(&client).await {
        for one in backend.claim_next(&rules, &batch).await.unwrap() {
            let failing = fails(
                one.task.task.id.as_uuid().unwrap(),
                i32::try_from(one.task.retry_count).unwrap(),
            );
            let lease = one.lease.into_key();
            let id = lease.task.id.as_uuid().unwrap();
            ran(&client, id, &name, !failing).await;
            let verdict = if failing {
                Verdict::Failed {
                    error: "broke".into(),
                    retry_in: None,
                }
            } else {
                Verdict::Completed(Payload::empty_object())
            };
            let fences = backend
                .settle(&[Settlement { lease, verdict }])
                .await
                .unwrap();
            assert_eq!(fences, [Fence::Held]);
        }
    }
}

/// As the desktop does: looks for open rows, then claims each by its function, in an order of its own.
async fn theirs(db: &TestDb, name: String) {
    let client = db.connect().await;
    while open(&client).await {
        let open = "select id from rtx_activities where status in ('pending', 'failed') order by random() limit 20";
        for row in client.query(open, &[]).await.unwrap() {
            let id: Uuid = row.get(0);
            let claim = "select rtx_fn_claim_task(target_task_id => $1, machine_id => $2)";
            if !client
                .query_one(claim, &[&id, &name])
                .await
                .unwrap()
                .get::<_, bool>(0)
            {
                continue;
            }
            let count = "select retry_count from rtx_activities where id = $1";
            let retry_count: i32 = client.query_one(count, &[&id]).await.unwrap().get(0);
            let failing = fails(id, retry_count);
            ran(&client, id, &name, !failing).await;
            let done = if failing {
                let fail = "select rtx_fn_fail_task(target_task_id => $1, machine_id => $2, error_msg => 'broke')";
                client.query_one(fail, &[&id, &name]).await.unwrap()
            } else {
                let complete =
                    "select rtx_fn_complete_task(target_task_id => $1, result_data => '{}')";
                client.query_one(complete, &[&id]).await.unwrap()
            };
            assert!(done.get::<_, bool>(0));
        }
    }
}

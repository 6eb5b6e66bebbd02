//! The published functions: their signatures, what clients rely on, and the repaired defects.

use rowcall_backend::{
    NewTask, PostgresBackend,
    conformance::Fixture,
    migrate::{self, MigrateOptions},
};
use rowcall_core::{
    AppId, EventSet, LeasePolicy, MachineId, Payload, RetryPolicy, Selector, TableName, TaskRef,
    ports::{ClaimBatch, ClaimOrder, ClaimRules, Coordinator, Fence, Settlement, Verdict},
};
use rowcall_stack::testing::TestDb;
use tokio_postgres::Client;
use uuid::Uuid;

use super::database::{Database, config, database};

async fn task(database: &Database) -> (TaskRef, Uuid) {
    let task = database
        .insert(NewTask::direct(Payload::empty_object()))
        .await;
    let id = task.id.as_uuid().unwrap();
    (task, id)
}

async fn claim(client: &Client, id: Uuid, machine: &str) -> bool {
    let sql = "select rtx_fn_claim_task(target_task_id => $1, machine_id => $2)";
    client
        .query_one(sql, &[&id, &machine])
        .await
        .unwrap()
        .get(0)
}

async fn complete(client: &Client, id: Uuid) -> bool {
    let sql =
        "select rtx_fn_complete_task(target_task_id => $1, result_data => '{\"by\": \"client\"}')";
    client.query_one(sql, &[&id]).await.unwrap().get(0)
}

async fn fail(client: &Client, id: Uuid, machine: &str) -> bool {
    let sql =
        "select rtx_fn_fail_task(target_task_id => $1, machine_id => $2, error_msg => 'broke')";
    client
        .query_one(sql, &[&id, &machine])
        .await
        .unwrap()
        .get(0)
}

async fn status(client: &Client, id: Uuid) -> String {
    let sql = "select concat_ws(' ', status, locked_by, retry_count, attempted_by) from rtx_activities where id = $1";
    client.query_one(sql, &[&id]).await.unwrap().get(0)
}

#[tokio::test]
async fn what_clients_rely_on() {
    let database = database().await;
    let client = &database.client;
    let (task, id) = task(&database).await;
    let unknown = Uuid::from_u128(7);
    assert!(
        !claim(client, unknown, "m").await
            && !complete(client, unknown).await
            && !fail(client, unknown, "m").await
    );
    assert!(!complete(client, id).await, "complete on pending");
    assert!(claim(client, id, "a").await);
    assert!(
        !claim(client, id, "a").await && !claim(client, id, "b").await,
        "a second claim"
    );
    database
        .age(&task, std::time::Duration::from_secs(301))
        .await;
    assert!(claim(client, id, "a").await, "its own stale lock");
    assert!(fail(client, id, "a").await);
    assert!(!complete(client, id).await, "complete on failed");
    assert!(!claim(client, id, "a").await, "never again");
    assert!(claim(client, id, "b").await, "others do");
    assert!(complete(client, id).await);
    assert!(!claim(client, id, "c").await, "claim of completed");
    assert_eq!(status(client, id).await, "completed b 1 {a}");
}

#[tokio::test]
async fn a_late_failure_changes_nothing() {
    let database = database().await;
    let client = &database.client;
    let (_, id) = task(&database).await;
    assert!(claim(client, id, "a").await && complete(client, id).await);
    assert!(!fail(client, id, "a").await);
    assert_eq!(status(client, id).await, "completed a 0 {}");
    let (_, id) = self::task(&database).await;
    assert!(claim(client, id, "a").await);
    assert!(!fail(client, id, "b").await, "another machine holds it");
    assert!(
        fail(client, id, "a").await && fail(client, id, "a").await,
        "a repeat is true and changes nothing"
    );
    assert_eq!(status(client, id).await, "failed 1 {a}");
}

#[tokio::test]
async fn nulls_do_not_lock_a_task_out() {
    let database = database().await;
    let client = &database.client;
    let (task, id) = task(&database).await;
    database.set_nulls(&task).await;
    assert!(claim(client, id, "a").await && fail(client, id, "a").await);
    assert_eq!(status(client, id).await, "failed 1 {a}");
    database.set_status(&task, Some("claimed")).await;
    database.set_lock(&task, Some("gone"), None).await;
    assert!(claim(client, id, "b").await, "a lock without a time");
    database.set_lock(&task, Some("gone"), None).await;
    client
        .batch_execute("select unlock_stale_locks()")
        .await
        .unwrap();
    assert_eq!(status(client, id).await, "pending 1 {a}");
}

#[tokio::test]
async fn stale_rows_of_any_table_are_recovered() {
    let database = database().await;
    let client = &database.client;
    client
        .batch_execute(
            "create schema shop; create table shop.\"Jobs\" (id uuid primary key, status text, locked_by text, locked_at timestamptz); \
             insert into shop.\"Jobs\" values ('00000000-0000-0000-0000-000000000001', 'claimed', 'm', now() - interval '6 minutes'), \
             ('00000000-0000-0000-0000-000000000002', 'processing', 'm', now())",
        )
        .await
        .unwrap();
    let call = async |arguments: &str| {
        let sql = format!(
            "select recovered_count, recovered_ids::text from recover_stale_locks_custom({arguments})"
        );
        let row = client.query_one(&sql, &[]).await.unwrap();
        (row.get::<_, i32>(0), row.get::<_, String>(1))
    };
    assert_eq!(call("").await, (0, "{}".to_owned()));
    let one = "{00000000-0000-0000-0000-000000000001}".to_owned();
    assert_eq!(
        call("table_name => 'shop.\"Jobs\"', timeout_minutes => 5").await,
        (1, one)
    );
    assert_eq!(call("'shop.\"Jobs\"'").await, (0, "{}".to_owned()));
}

/// A client with RealTimeX's own functions and our coordinator work off the same table at once: every task is finished exactly
/// once, by one of them.
#[tokio::test]
async fn a_foreign_client_and_ours_never_double() {
    const TASKS: i32 = 150;
    let db = TestDb::create().await;
    let mut client = db.connect().await;
    client
        .batch_execute(include_str!("original.sql"))
        .await
        .unwrap();
    migrate::apply(&mut client, MigrateOptions::default())
        .await
        .unwrap();
    let log = format!(
        "create table runs (id uuid, who text); insert into rtx_activities (raw_data) select '{{}}' from generate_series(1, {TASKS})"
    );
    client.batch_execute(&log).await.unwrap();
    let ours = (0..2).map(|number| ours(&db, format!("rowcall-{number}")));
    let theirs = (0..2).map(|number| theirs(&db, format!("desktop-{number}")));
    let (ours, theirs) = tokio::join!(
        futures_util::future::join_all(ours),
        futures_util::future::join_all(theirs)
    );
    let (ours, theirs): (usize, usize) = (ours.into_iter().sum(), theirs.into_iter().sum());
    assert_eq!(ours + theirs, usize::try_from(TASKS).unwrap());
    assert!(
        ours > 0 && theirs > 0,
        "both had a share: {ours} and {theirs}"
    );
    let doubled = "select count(*) from (select id from runs group by id having count(*) > 1) d";
    assert_eq!(
        client
            .query_one(doubled, &[])
            .await
            .unwrap()
            .get::<_, i64>(0),
        0
    );
    let done = "select count(*) from rtx_activities a join runs r on r.id = a.id and r.who = a.locked_by where a.status = 'completed'";
    assert_eq!(
        client.query_one(done, &[]).await.unwrap().get::<_, i64>(0),
        i64::from(TASKS)
    );
}

async fn ours(db: &TestDb, name: String) -> usize {
    let backend = PostgresBackend::connect(config(db, &name)).await.unwrap();
    let log = db.connect().await;
    let rules = ClaimRules {
        machine: MachineId::new(&name).unwrap(),
        lease: LeasePolicy::default(),
        retry: RetryPolicy::default(),
    };
    let selector = Selector {
        table: TableName::activities(),
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
    let mut done = 0;
    loop {
        let claimed = backend.claim_next(&rules, &batch).await.unwrap();
        if claimed.is_empty() {
            return done;
        }
        for one in claimed {
            let lease = one.lease.into_key();
            let id = lease.task.id.as_uuid().unwrap();
            log.execute("insert into runs values ($1, $2)", &[&id, &name])
                .await
                .unwrap();
            let verdict = Verdict::Completed(Payload::empty_object());
            let fences = backend
                .settle(&[Settlement { lease, verdict }])
                .await
                .unwrap();
            assert_eq!(fences, [Fence::Held]);
            done += 1;
        }
    }
}

/// As the desktop does: looks for open rows, then claims each by its function, in an order of its own.
async fn theirs(db: &TestDb, name: String) -> usize {
    let client = db.connect().await;
    let mut done = 0;
    loop {
        let open = "select id from rtx_activities where status in ('pending', 'failed') order by random() limit 20";
        let rows = client.query(open, &[]).await.unwrap();
        if rows.is_empty() {
            return done;
        }
        for row in rows {
            let id: Uuid = row.get(0);
            if claim(&client, id, &name).await {
                client
                    .execute("insert into runs values ($1, $2)", &[&id, &name])
                    .await
                    .unwrap();
                assert!(complete(&client, id).await);
                done += 1;
            }
        }
    }
}

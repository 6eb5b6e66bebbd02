//! Preparing databases: empty ones, those of RealTimeX, those of other versions.

use rowcall_backend::{
    PostgresBackend,
    migrate::{self, FunctionState, MigrateError, MigrateOptions},
};
use rowcall_core::ErrorClass;
use rowcall_stack::testing::TestDb;
use tokio_postgres::Client;

use super::database::config;

const REPLACE: MigrateOptions = MigrateOptions {
    replace_functions: true,
};

async fn empty() -> (TestDb, Client) {
    let db = TestDb::create().await;
    let client = db.connect().await;
    (db, client)
}

async fn apply(client: &mut Client) -> migrate::Applied {
    migrate::apply(client, MigrateOptions::default())
        .await
        .unwrap_or_else(|error| panic!("{error}"))
}

fn states(functions: &[migrate::FunctionStatus], state: FunctionState) -> usize {
    functions.iter().filter(|one| one.state == state).count()
}

/// Columns, indexes, policies and functions of `public` and `rowcall`, as text.
async fn shape(client: &Client) -> String {
    let sql = "select string_agg(line, e'\\n' order by line) from (
        select format('%s.%s %s %s', table_name, column_name, data_type, column_default) as line
          from information_schema.columns where table_schema in ('public', 'rowcall')
        union all select indexdef from pg_indexes where schemaname in ('public', 'rowcall')
        union all select format('%s %s', oid::regprocedure, md5(prosrc)) from pg_proc
          where pronamespace in ('public'::regnamespace, 'rowcall'::regnamespace)
        union all select format('policy %s %s', polname, polcmd) from pg_policy
        union all select format('trigger %s %s', tgname, tgrelid::regclass) from pg_trigger where not tgisinternal
    ) shape";
    client.query_one(sql, &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn an_empty_database_is_prepared_once() {
    let (_db, mut client) = empty().await;
    let before = migrate::status(&client).await.unwrap();
    assert_eq!((before.applied.len(), before.is_current()), (0, false));
    let first = apply(&mut client).await;
    assert_eq!(first.migrations, before.pending);
    assert_eq!(
        states(&first.functions, FunctionState::Installed),
        first.functions.len()
    );
    let shape_before = shape(&client).await;
    let second = apply(&mut client).await;
    assert!(second.migrations.is_empty() && second.notes.is_empty());
    assert_eq!(
        states(&second.functions, FunctionState::Current),
        second.functions.len()
    );
    assert_eq!(shape(&client).await, shape_before);
    let after = migrate::status(&client).await.unwrap();
    assert!(after.is_current() && after.pending.is_empty());
    let left: String = client
        .query_one("select current_setting('rowcall.quiet')", &[])
        .await
        .unwrap()
        .get(0);
    assert_ne!(left, "on", "what was set for the run is taken back");
}

#[tokio::test]
async fn daemons_that_start_together_prepare_it_once() {
    let (db, _client) = empty().await;
    let starts = (0..6).map(|_| async {
        let mut client = db.connect().await;
        migrate::apply(&mut client, MigrateOptions::default())
            .await
            .unwrap()
            .migrations
            .len()
    });
    let done: usize = futures_util::future::join_all(starts)
        .await
        .into_iter()
        .sum();
    let known = migrate::status(&db.connect().await)
        .await
        .unwrap()
        .applied
        .len();
    assert_eq!(done, known);
}

#[tokio::test]
async fn other_versions_are_refused_with_words() {
    let (db, mut client) = empty().await;
    let outdated = PostgresBackend::connect(config(&db, "m"))
        .await
        .unwrap_err();
    assert_eq!(outdated.class, ErrorClass::Permanent);
    assert!(
        outdated.message.contains("rowcall db migrate"),
        "{}",
        outdated.message
    );
    apply(&mut client).await;
    PostgresBackend::connect(config(&db, "m")).await.unwrap();
    client
        .batch_execute(
            "insert into rowcall.migrations (version, name, checksum) values (900, 'later', 'x')",
        )
        .await
        .unwrap();
    for error in [
        migrate::apply(&mut client, MigrateOptions::default())
            .await
            .unwrap_err(),
        migrate::status(&client).await.unwrap_err(),
    ] {
        assert!(
            matches!(error, MigrateError::NewerDatabase { found: 900, .. }),
            "{error}"
        );
    }
    let newer = PostgresBackend::connect(config(&db, "m"))
        .await
        .unwrap_err();
    assert!(
        newer.message.contains("Update this program"),
        "{}",
        newer.message
    );
    client
        .batch_execute("delete from rowcall.migrations where version = 900; update rowcall.migrations set checksum = 'x' where version = 2")
        .await
        .unwrap();
    let changed = migrate::apply(&mut client, MigrateOptions::default())
        .await
        .unwrap_err();
    assert!(changed.to_string().contains("0002_filter"), "{changed}");
}

#[tokio::test]
async fn a_table_of_another_kind_is_not_touched() {
    let (_db, mut client) = empty().await;
    for (ddl, reason) in [
        (
            "create table rtx_activities (id bigint primary key)",
            "no column \"id\" of type uuid",
        ),
        (
            "create view rtx_activities as select 1 as id",
            "is not a plain table",
        ),
    ] {
        client.batch_execute(ddl).await.unwrap();
        let error = migrate::apply(&mut client, MigrateOptions::default())
            .await
            .unwrap_err()
            .to_string();
        assert!(
            error.contains(reason) && error.contains("Rename it"),
            "{error}"
        );
        let clean = "drop table if exists rtx_activities";
        if client.batch_execute(clean).await.is_err() {
            client
                .batch_execute("drop view rtx_activities")
                .await
                .unwrap();
        }
    }
    let status = migrate::status(&client).await.unwrap();
    assert_eq!(status.applied.len(), 0, "the failed one was rolled back");
    apply(&mut client).await;
}

#[tokio::test]
async fn a_database_of_realtimex_is_extended_and_keeps_its_functions() {
    let (_db, mut client) = empty().await;
    client
        .batch_execute(include_str!("original.sql"))
        .await
        .unwrap();
    client
        .batch_execute("insert into rtx_activities (raw_data, attempted_by, status) values ('{\"old\": true}', null, 'pending')")
        .await
        .unwrap();
    let bodies = "select string_agg(prosrc, '' order by proname) from pg_proc where pronamespace = 'public'::regnamespace \
                  and proname in ('rtx_fn_claim_task', 'rtx_fn_complete_task', 'rtx_fn_fail_task')";
    let before: String = client.query_one(bodies, &[]).await.unwrap().get(0);
    let applied = apply(&mut client).await;
    assert_eq!(states(&applied.functions, FunctionState::Foreign), 5);
    let missing = applied.functions.len() - 5;
    assert_eq!(
        states(&applied.functions, FunctionState::Installed),
        missing
    );
    let after: String = client.query_one(bodies, &[]).await.unwrap().get(0);
    assert_eq!(before, after);
    let kept = "select raw_data::text, attempt, source_table, source_event from rtx_activities";
    let row = client.query_one(kept, &[]).await.unwrap();
    assert_eq!(
        (
            row.get::<_, &str>(0),
            row.get::<_, i32>(1),
            row.get::<_, &str>(2),
            row.get::<_, &str>(3)
        ),
        ("{\"old\": true}", 0, "public.rtx_activities", "INSERT")
    );
    let again = apply(&mut client).await;
    assert_eq!(
        states(&again.functions, FunctionState::Foreign),
        5,
        "and they stay theirs"
    );
    let replaced = migrate::apply(&mut client, REPLACE).await.unwrap();
    assert_eq!(states(&replaced.functions, FunctionState::Replaced), 5);
    let settled = apply(&mut client).await;
    assert_eq!(
        states(&settled.functions, FunctionState::Current),
        settled.functions.len()
    );
    let overloads = "select count(*) from pg_proc where proname like 'rtx\\_fn\\_%' and pronamespace = 'public'::regnamespace";
    assert_eq!(
        client
            .query_one(overloads, &[])
            .await
            .unwrap()
            .get::<_, i64>(0),
        4,
        "no overloads"
    );
}

#[tokio::test]
async fn supabase_roles_get_row_level_security_and_the_publication() {
    let (_db, mut client) = empty().await;
    rowcall_stack::bootstrap::apply(&client).await.unwrap();
    let applied = apply(&mut client).await;
    assert!(
        applied
            .notes
            .iter()
            .any(|note| note.contains("row level security is on")),
        "{:?}",
        applied.notes
    );
    let published = "select count(*) from pg_publication_tables where pubname = 'supabase_realtime' and tablename = 'rtx_activities'";
    assert_eq!(
        client
            .query_one(published, &[])
            .await
            .unwrap()
            .get::<_, i64>(0),
        1
    );
    let publications: String = client
        .query_one("select get_publications_full()::text", &[])
        .await
        .unwrap()
        .get(0);
    let publications: serde_json::Value = serde_json::from_str(&publications).unwrap();
    assert_eq!(
        publications[0]["tables"],
        serde_json::json!([{"schema": "public", "table": "rtx_activities"}])
    );
    let (mine, theirs) = (uuid::Uuid::from_u128(1), uuid::Uuid::from_u128(2));
    for user in [mine, theirs] {
        client
            .execute(
                "insert into auth.users (id, email) values ($1, $2)",
                &[&user, &format!("{user}@example.com")],
            )
            .await
            .unwrap();
    }
    let sign_in = format!(
        "set role authenticated; select set_config('request.jwt.claims', '{{\"sub\": \"{mine}\", \"role\": \"authenticated\"}}', false)"
    );
    client.batch_execute(&sign_in).await.unwrap();
    client
        .batch_execute("insert into rtx_activities (raw_data) values ('{}')")
        .await
        .unwrap();
    let forged = client
        .execute(
            "insert into rtx_activities (user_id) values ($1)",
            &[&theirs],
        )
        .await;
    assert!(forged.is_err());
    let claimed: bool = client
        .query_one("select rtx_fn_claim_task(id, 'm') from rtx_activities", &[])
        .await
        .unwrap()
        .get(0);
    assert!(claimed, "a signed-in user claims its own");
    client
        .batch_execute("reset role; reset all; set role anon")
        .await
        .unwrap();
    let seen: i64 = client
        .query_one("select count(*) from rtx_activities", &[])
        .await
        .unwrap()
        .get(0);
    assert_eq!(seen, 0);
    assert!(
        client
            .batch_execute("insert into rtx_activities (raw_data) values ('{}')")
            .await
            .is_err()
    );
    client.batch_execute("reset role; reset all").await.unwrap();
    assert!(apply(&mut client).await.notes.is_empty());
}

#[tokio::test]
async fn roles_that_come_later_are_fitted_in_later() {
    let (_db, mut client) = empty().await;
    assert!(apply(&mut client).await.notes.is_empty());
    rowcall_stack::bootstrap::apply(&client).await.unwrap();
    let notes = apply(&mut client).await.notes;
    assert!(
        notes.iter().any(|note| note.contains("row level security")),
        "{notes:?}"
    );
}

#[tokio::test]
async fn no_superuser_is_needed() {
    let (db, client) = empty().await;
    let role = db.unique("owner");
    let setup = format!(
        "create role {role} login password 'x'; grant create on database {} to {role}; grant create on schema public to {role}",
        db.name()
    );
    client.batch_execute(&setup).await.unwrap();
    let (_, address) = db
        .url()
        .split_once('@')
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .unwrap();
    let url = format!("postgres://{role}:x@{address}");
    let (mut own, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls)
        .await
        .unwrap();
    let driver = tokio::spawn(connection);
    apply(&mut own).await;
    own.batch_execute("create table t (id int primary key)")
        .await
        .unwrap();
    let spec = rowcall_backend::capture::CaptureSpec {
        table: "t".parse().unwrap(),
        events: rowcall_core::EventSet::ALL,
        filter: None,
    };
    rowcall_backend::capture::install(&mut own, &spec)
        .await
        .unwrap();
    own.batch_execute("insert into t values (1)").await.unwrap();
    let config = rowcall_backend::PostgresConfig::new(&url, "m").unwrap();
    let backend = PostgresBackend::connect(config).await.unwrap();
    backend.close().await;
    drop(own);
    driver.await.unwrap().unwrap();
    client
        .batch_execute(&format!("drop owned by {role} cascade; drop role {role}"))
        .await
        .unwrap();
}

/// What people paste into an SQL editor does the same as the program itself.
#[tokio::test]
async fn the_script_prepares_a_database_as_the_program_does() {
    let script = rowcall_backend::setup::script(MigrateOptions::default(), &[]);
    let (_by_program, mut program) = empty().await;
    apply(&mut program).await;
    let (_by_script, mut client) = empty().await;
    for _ in 0..2 {
        client.batch_execute(&script).await.unwrap();
        assert_eq!(shape(&client).await, shape(&program).await);
    }
    let status = migrate::status(&client).await.unwrap();
    assert!(status.is_current());
    assert_eq!(
        states(&status.functions, FunctionState::Current),
        status.functions.len()
    );
    // Each takes the other's work for its own.
    let again = apply(&mut client).await;
    assert!(again.migrations.is_empty());
    program.batch_execute(&script).await.unwrap();
    assert_eq!(shape(&program).await, shape(&client).await);
}

#[tokio::test]
async fn the_script_leaves_the_functions_of_others_alone_unless_told() {
    let (_db, mut client) = empty().await;
    client
        .batch_execute(include_str!("original.sql"))
        .await
        .unwrap();
    client
        .batch_execute(&rowcall_backend::setup::script(
            MigrateOptions::default(),
            &[],
        ))
        .await
        .unwrap();
    let foreign = migrate::status(&client).await.unwrap().functions;
    let before = states(&foreign, FunctionState::Foreign);
    assert!(before > 0);
    assert_eq!(
        states(&foreign, FunctionState::Current) + before,
        foreign.len()
    );
    client
        .batch_execute(&rowcall_backend::setup::script(REPLACE, &[]))
        .await
        .unwrap();
    let ours = migrate::status(&client).await.unwrap().functions;
    assert_eq!(states(&ours, FunctionState::Current), ours.len());
    let client = &mut client;
    assert!(apply(client).await.migrations.is_empty());
}

#[tokio::test]
async fn the_script_publishes_tables() {
    let (_db, client) = empty().await;
    client
        .batch_execute("create publication supabase_realtime; create schema shop; create table shop.\"Odd \"\"Orders\" (id int primary key)")
        .await
        .unwrap();
    let table = rowcall_core::TableName::new("shop", "Odd \"Orders").unwrap();
    for _ in 0..2 {
        client
            .batch_execute(&rowcall_backend::setup::script(
                MigrateOptions::default(),
                std::slice::from_ref(&table),
            ))
            .await
            .unwrap();
    }
    let sql = "select c.relreplident = 'f' from pg_publication_tables p, pg_class c \
               where p.pubname = 'supabase_realtime' and p.tablename = c.relname and c.relname like 'Odd%'";
    let full: bool = client.query_one(sql, &[]).await.unwrap().get(0);
    assert!(full);
}

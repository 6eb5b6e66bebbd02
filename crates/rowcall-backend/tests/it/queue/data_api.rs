//! A1, A2, C8, C10: the Data API functions, as PostgREST and our REST server call them: as the role of the request.

use rowcall_backend::queue::Migration;
use rowcall_stack::testing::TestDb;
use tokio_postgres::Client;

use super::{VERSIONS, database, name};

/// A database with the roles of Supabase, and the grants for them.
async fn with_roles(version: &'static str) -> (TestDb, Client) {
    let db = database(version).await;
    let client = db.connect().await;
    rowcall_stack::bootstrap::apply(&client)
        .await
        .expect("the roles are made");
    client
        .batch_execute(include_str!("../../../sql/queue/public_grants.sql"))
        .await
        .unwrap();
    (db, client)
}

async fn json(client: &Client, sql: &str) -> serde_json::Value {
    client
        .query_one(&format!("select ({sql})::text"), &[])
        .await
        .unwrap()
        .get::<_, String>(0)
        .parse()
        .unwrap()
}

fn keys(value: &serde_json::Value) -> Vec<&str> {
    let mut keys: Vec<&str> = value
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    keys.sort_unstable();
    keys
}

#[tokio::test]
async fn a2_the_answers_are_aimqs() {
    for version in VERSIONS {
        let (_db, client) = with_roles(version).await;
        client.batch_execute("set role service_role").await.unwrap();
        let created = json(&client, "pgmq_public.create_queue('Incoming-Messages')").await;
        assert_eq!(
            keys(&created),
            [
                "channel",
                "event",
                "queue_name",
                "realtime_enabled",
                "success"
            ]
        );
        assert_eq!(
            (&created["success"], &created["channel"]),
            (&true.into(), &"aimq:jobs".into()),
            "{version}"
        );
        let plain = json(
            &client,
            "pgmq_public.create_queue('plain', with_realtime => false)",
        )
        .await;
        assert_eq!(
            (&plain["realtime_enabled"], &plain["channel"]),
            (&false.into(), &serde_json::Value::Null)
        );
        client
            .batch_execute("select pgmq_public.send('Incoming-Messages', '{}')")
            .await
            .unwrap();
        let listed = json(&client, "pgmq_public.list_queues()").await;
        assert_eq!(keys(&listed), ["queues", "success"]);
        let queues = listed["queues"].as_array().unwrap();
        assert_eq!(
            keys(&queues[0]),
            [
                "newest_msg_age_sec",
                "oldest_msg_age_sec",
                "queue_length",
                "queue_name",
                "realtime_enabled",
                "scrape_time",
                "total_messages"
            ]
        );
        let brief: Vec<_> = queues
            .iter()
            .map(|queue| {
                (
                    &queue["queue_name"],
                    &queue["realtime_enabled"],
                    &queue["queue_length"],
                )
            })
            .collect();
        assert_eq!(
            brief,
            [
                (&"Incoming-Messages".into(), &true.into(), &1.into()),
                (&"plain".into(), &false.into(), &0.into())
            ]
        );
    }
}

#[tokio::test]
async fn a2_c8_realtime_is_switched_by_aimqs_and_the_designs_names() {
    for version in VERSIONS {
        let (_db, client) = with_roles(version).await;
        client
            .batch_execute("set role service_role; select pgmq_public.create_queue('plain', false)")
            .await
            .unwrap();
        for _ in 0..2 {
            let enabled = json(&client, "pgmq_public.enable_queue_realtime('plain', channel_name => 'c', event_name => 'e')").await;
            assert_eq!(
                (&enabled["success"], &enabled["channel"], &enabled["event"]),
                (&true.into(), &"c".into(), &"e".into())
            );
        }
        let triggers: i64 = client
            .query_one(
                "select count(*) from pg_trigger where tgname = 'aimq_notify_plain'",
                &[],
            )
            .await
            .unwrap()
            .get(0);
        assert_eq!(triggers, 1);
        let disabled = json(&client, "pgmq_public.disable_queue_realtime('plain')").await;
        assert_eq!(keys(&disabled), ["message", "queue_name", "success"]);
        for call in [
            "enable_queue_realtime('nope')",
            "disable_queue_realtime('nope')",
            "create_queue('a;b')",
        ] {
            let refused = json(&client, &format!("pgmq_public.{call}")).await;
            assert_eq!(
                (keys(&refused), &refused["success"]),
                (vec!["error", "success"], &false.into()),
                "{call}"
            );
        }
        // The streaming design's names, called without a schema.
        for call in [
            "public.create_pgmq_realtime_trigger(queue_name => 'plain', channel => 'worker-wakeup', event => 'job_enqueued')",
            "public.setup_realtime_triggers('plain')",
            "pgmq_public.create_pgmq_realtime_trigger('plain')",
        ] {
            assert_eq!(json(&client, call).await["success"], true, "{call}");
        }
    }
}

#[tokio::test]
async fn a1_the_six_functions_work_for_service_role() {
    for version in VERSIONS {
        let (_db, client) = with_roles(version).await;
        client
            .batch_execute(
                "set role service_role; select pgmq_public.create_queue('in-box', false)",
            )
            .await
            .unwrap();
        let ids = client
            .query("select * from pgmq_public.send_batch('in-box', array['{\"n\":1}', '{\"n\":2}', '[3]']::jsonb[], 0)", &[])
            .await
            .unwrap();
        assert_eq!(
            ids.iter()
                .map(|row| row.get::<_, i64>(0))
                .collect::<Vec<_>>(),
            [1, 2, 3]
        );
        let read = client.query("select msg_id, read_ct, message from pgmq_public.read(queue_name => 'in-box', sleep_seconds => 30, n => 2)", &[]).await.unwrap();
        assert_eq!(read.len(), 2);
        assert_eq!(
            read[0].get::<_, serde_json::Value>(2),
            serde_json::json!({"n": 1})
        );
        let popped = client
            .query_one("select msg_id, headers from pgmq_public.pop('in-box')", &[])
            .await
            .unwrap();
        assert_eq!(
            (
                popped.get::<_, i64>(0),
                popped.get::<_, Option<serde_json::Value>>(1)
            ),
            (3, None),
            "{version}"
        );
        for (call, done) in [
            ("archive('in-box', 1)", true),
            ("delete('in-box', 2)", true),
            ("delete('in-box', 2)", false),
        ] {
            let row = client
                .query_one(&format!("select pgmq_public.{call}"), &[])
                .await
                .unwrap();
            assert_eq!(row.get::<_, bool>(0), done, "{version} {call}");
        }
        let delayed = client
            .query("select pgmq_public.send('in-box', '{}', 60)", &[])
            .await
            .unwrap();
        assert_eq!(delayed[0].get::<_, i64>(0), 4);
        assert!(
            client
                .query("select * from pgmq_public.pop('in-box')", &[])
                .await
                .unwrap()
                .is_empty()
        );
        let missing = client
            .query("select * from pgmq_public.read('nope', 0, 1)", &[])
            .await
            .unwrap_err();
        assert_eq!(missing.code().unwrap().code(), "42P01");
    }
}

#[tokio::test]
async fn c10_others_get_what_policies_give_them_and_anon_nothing() {
    let (_db, client) = with_roles("1.5.1").await;
    client.batch_execute("set role service_role; select pgmq_public.create_queue('q', false); select pgmq_public.send('q', '{}'); reset role").await.unwrap();
    let refused = async |role: &str, call: &str| {
        client
            .batch_execute(&format!("set role {role}"))
            .await
            .unwrap();
        let answer = client
            .query(&format!("select pgmq_public.{call}"), &[])
            .await;
        client.batch_execute("reset role").await.unwrap();
        answer
            .err()
            .map(|error| error.code().unwrap().code().to_owned())
    };
    for call in [
        "send('q', '{}')",
        "read('q', 0, 1)",
        "create_queue('x')",
        "list_queues()",
        "enable_queue_realtime('q')",
    ] {
        assert_eq!(
            refused("anon", call).await.as_deref(),
            Some("42501"),
            "{call}"
        );
    }
    for call in [
        "create_queue('x')",
        "list_queues()",
        "enable_queue_realtime('q')",
        "setup_realtime_triggers('q')",
    ] {
        assert_eq!(
            refused("authenticated", call).await.as_deref(),
            Some("42501"),
            "{call}"
        );
    }
    assert_eq!(
        refused("authenticated", "read('q', 0, 1)").await.as_deref(),
        Some("42501"),
        "no grant on the table yet"
    );
    client
        .batch_execute(
            "grant select, insert, update, delete on pgmq.q_q to authenticated; \
             create policy mine on pgmq.q_q for all to authenticated using (true) with check (true)",
        )
        .await
        .unwrap();
    assert_eq!(refused("authenticated", "read('q', 0, 1)").await, None);
    let public: i64 = client
        .query_one("select count(*) from pg_proc where proname in ('setup_realtime_triggers', 'create_pgmq_realtime_trigger') and has_function_privilege('anon', oid, 'execute')", &[])
        .await
        .unwrap()
        .get(0);
    assert_eq!(public, 0);
}

#[tokio::test]
async fn a1_supabase_studios_own_functions_stay() {
    let db = super::database("1.5.1").await;
    let client = db.connect().await;
    client
        .batch_execute(
            "drop function pgmq_public.read(text, integer, integer); \
             create function pgmq_public.read(queue_name text, sleep_seconds integer, n integer) returns setof pgmq.message_record \
             language sql as 'select * from pgmq.read(queue_name, sleep_seconds, n)'",
        )
        .await
        .unwrap();
    client
        .batch_execute(include_str!("../../../sql/queue/public_rpc.sql"))
        .await
        .unwrap();
    let kept: bool = client
        .query_one("select prorettype = 'pgmq.message_record'::regtype from pg_proc where oid = 'pgmq_public.read(text,integer,integer)'::regprocedure", &[])
        .await
        .unwrap()
        .get(0);
    assert!(kept);
}

#[tokio::test]
async fn a12_migration_files_apply_on_every_version() {
    let now = "2026-11-21T10:00:00Z".parse().unwrap();
    let queue = name("Odd \"name\" \\ here");
    for version in VERSIONS {
        let (db, client) = with_roles(version).await;
        let broadcast = rowcall_backend::queue::Broadcast::default();
        let files = [
            Migration::setup(now),
            Migration::create_queue(&queue, Some(&broadcast), now),
            Migration::broadcast(&queue, None, now),
            Migration::broadcast(&queue, Some(&broadcast), now),
        ];
        for _ in 0..2 {
            for file in &files {
                client
                    .batch_execute(&file.sql)
                    .await
                    .unwrap_or_else(|error| panic!("{version} {}: {error:?}", file.file_name));
            }
        }
        let status = super::store(&db).wake_status().await.unwrap();
        assert_eq!(
            (status.len(), status[0].direct, &status[0].broadcast),
            (1, true, &Some(broadcast)),
            "{version}"
        );
    }
}

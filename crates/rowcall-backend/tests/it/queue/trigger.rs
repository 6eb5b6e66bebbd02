//! C1, C2, C8, C10: the triggers.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use rowcall_backend::queue::Wake;
use rowcall_stack::testing::TestDb;
use tokio_postgres::{AsyncMessage, Client, NoTls};

use super::{VERSIONS, count, database, eventually};

/// What a connection is told: warnings, and notifications on our channel.
#[derive(Default)]
pub(super) struct Heard {
    pub(super) warnings: Vec<String>,
    wakes: Vec<Wake>,
}

pub(super) async fn listening(db: &TestDb) -> (Client, Arc<Mutex<Heard>>) {
    let (client, mut connection) = tokio_postgres::connect(&db.url(), NoTls).await.unwrap();
    let heard = Arc::new(Mutex::new(Heard::default()));
    let sink = Arc::clone(&heard);
    tokio::spawn(async move {
        while let Some(Ok(message)) = std::future::poll_fn(|cx| connection.poll_message(cx)).await {
            match message {
                AsyncMessage::Notice(notice) if notice.severity() == "WARNING" => {
                    sink.lock().warnings.push(notice.message().to_owned());
                }
                AsyncMessage::Notification(one) => {
                    sink.lock().wakes.extend(Wake::parse(one.payload()));
                }
                _ => {}
            }
        }
    });
    client.batch_execute("listen rowcall_queue").await.unwrap();
    (client, heard)
}

/// Supabase's `realtime.send` as the tests need it: a row in `realtime.messages`.
pub(super) const REALTIME: &str = "create schema realtime; \
    create table realtime.messages (id bigint generated always as identity, topic text, event text, payload jsonb, private boolean); \
    create function realtime.send(payload jsonb, event text, topic text, private boolean default true) returns void \
    language sql as 'insert into realtime.messages (payload, event, topic, private) values (payload, event, topic, private)'";

pub(super) async fn broadcasts(client: &Client) -> Vec<(String, String, serde_json::Value, bool)> {
    let rows = client
        .query(
            "select topic, event, payload::text, private from realtime.messages order by id",
            &[],
        )
        .await
        .unwrap();
    rows.iter()
        .map(|row| {
            (
                row.get(0),
                row.get(1),
                serde_json::from_str(row.get(2)).unwrap(),
                row.get(3),
            )
        })
        .collect()
}

async fn arm(client: &Client) {
    client
        .batch_execute("update rowcall_queue.waiting set armed = true")
        .await
        .unwrap();
}

#[tokio::test]
async fn c1_c2_every_way_of_sending_notifies_once_per_statement() {
    for version in VERSIONS {
        let db = database(version).await;
        let (client, heard) = listening(&db).await;
        client
            .batch_execute(
                "select pgmq.create('In-Box'); select rowcall_queue.enable_wake('In-Box')",
            )
            .await
            .unwrap();
        let mut expected = 0;
        for (sql, first, last) in [
            ("select pgmq.send('In-Box', '{}'::jsonb)", 1, 1),
            (
                "select pgmq.send_batch('In-Box', array['{}', '{}', '{}']::jsonb[])",
                2,
                4,
            ),
            (
                "insert into pgmq.\"q_in-box\" (vt, message) values (now(), '{}')",
                5,
                5,
            ),
            ("select pgmq_public.send('In-Box', '{}')", 6, 6),
        ] {
            arm(&client).await;
            client.batch_execute(sql).await.unwrap();
            expected += 1;
            let wake = eventually("it is told", || async {
                let heard = heard.lock();
                (heard.wakes.len() == expected).then(|| heard.wakes[expected - 1].clone())
            })
            .await;
            assert_eq!(
                (wake.queue.as_str(), wake.job_id, wake.last_job_id),
                ("In-Box", Some(first), Some(last)),
                "{version}"
            );
            assert_eq!(wake.count, Some(u64::try_from(last - first + 1).unwrap()));
        }
        // Disarmed by the first, the rest is silent; a roll-back tells nothing and leaves the gate armed.
        arm(&client).await;
        client
            .batch_execute("begin; select pgmq.send('In-Box', '{}'::jsonb); rollback")
            .await
            .unwrap();
        client
            .batch_execute(
                "insert into pgmq.\"q_in-box\" (vt, message) select now(), '{}' where false",
            )
            .await
            .unwrap();
        for _ in 0..5 {
            client
                .batch_execute("select pgmq.send('In-Box', '{}'::jsonb)")
                .await
                .unwrap();
        }
        client
            .batch_execute("notify rowcall_queue, '{\"queue\":\"end\"}'")
            .await
            .unwrap();
        eventually("the end is told", || async {
            heard
                .lock()
                .wakes
                .iter()
                .any(|wake| wake.queue == "end")
                .then_some(())
        })
        .await;
        assert_eq!(
            heard.lock().wakes.len(),
            expected + 2,
            "{version}: {:?}",
            heard.lock().wakes
        );
    }
}

#[tokio::test]
async fn b7_a_delayed_message_says_so() {
    let db = database("1.5.1").await;
    let (client, heard) = listening(&db).await;
    client
        .batch_execute("select pgmq.create('q'); select rowcall_queue.enable_wake('q')")
        .await
        .unwrap();
    arm(&client).await;
    client
        .batch_execute("select pgmq.send('q', '{}'::jsonb, 30)")
        .await
        .unwrap();
    let delay = eventually("it is told", || async {
        heard.lock().wakes.first().map(Wake::visible_in)
    })
    .await;
    assert!(
        delay > Duration::from_secs(29) && delay <= Duration::from_secs(30),
        "{delay:?}"
    );
}

#[tokio::test]
async fn b4_other_isolation_levels_always_notify() {
    let db = database("1.13.0").await;
    let (client, heard) = listening(&db).await;
    client
        .batch_execute("select pgmq.create('q'); select rowcall_queue.enable_wake('q')")
        .await
        .unwrap();
    for (sent, level) in ["repeatable read", "serializable"].into_iter().enumerate() {
        // The gate is disarmed; a snapshot this old could not tell.
        client
            .batch_execute(&format!(
                "begin isolation level {level}; select pgmq.send('q', '{{}}'::jsonb); commit"
            ))
            .await
            .unwrap();
        eventually("it is told", || async {
            (heard.lock().wakes.len() == sent + 1).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_lost_gate_counts_as_armed_and_heals() {
    let db = database("1.13.0").await;
    let (client, heard) = listening(&db).await;
    client
        .batch_execute("select pgmq.create('q'); select rowcall_queue.enable_wake('q')")
        .await
        .unwrap();
    // What a crash does to an unlogged table.
    client
        .batch_execute("truncate rowcall_queue.waiting")
        .await
        .unwrap();
    for _ in 0..3 {
        client
            .batch_execute("select pgmq.send('q', '{}'::jsonb)")
            .await
            .unwrap();
    }
    assert_eq!(
        count(&client, "rowcall_queue.waiting where not armed").await,
        1
    );
    client.batch_execute("select 1").await.unwrap();
    assert_eq!(heard.lock().wakes.len(), 1);
}

#[tokio::test]
async fn c8_triggers_work_on_unlogged_and_partitioned_queues() {
    let db = database("1.13.0").await;
    let client = db.connect().await;
    client.batch_execute(REALTIME).await.unwrap();
    // What create_partitioned makes, without pg_partman.
    client
        .batch_execute(
            "select pgmq.create_unlogged('fast'); \
             create table pgmq.q_wide (msg_id bigint generated by default as identity, read_ct int default 0 not null, \
             enqueued_at timestamptz default now() not null, last_read_at timestamptz, vt timestamptz not null, message jsonb, \
             headers jsonb) partition by range (msg_id); \
             create table pgmq.q_wide_1 partition of pgmq.q_wide for values from (0) to (1000); \
             insert into pgmq.meta (queue_name, is_partitioned, is_unlogged) values ('wide', true, false)",
        )
        .await
        .unwrap();
    for queue in ["fast", "wide"] {
        client
            .batch_execute(&format!(
                "select rowcall_queue.enable_broadcast('{queue}', 'c', 'e'); select rowcall_queue.enable_wake('{queue}'); \
                 select pgmq.send('{queue}', '{{}}'::jsonb)"
            ))
            .await
            .unwrap();
    }
    let queues: Vec<_> = broadcasts(&client)
        .await
        .into_iter()
        .map(|(_, _, payload, _)| payload["queue"].clone())
        .collect();
    assert_eq!(queues, ["fast", "wide"]);
    let rows = client
        .query("select queue_name, direct, broadcast, channel, event, private, gate_ms, foreign_trigger from rowcall_queue.wake_status()", &[])
        .await
        .unwrap();
    for row in &rows {
        assert!(
            row.get::<_, bool>("direct")
                && row.get::<_, bool>("broadcast")
                && !row.get::<_, bool>("foreign_trigger")
        );
        assert_eq!(
            (row.get("channel"), row.get("event"), row.get("gate_ms")),
            ("c", "e", 0)
        );
        assert!(!row.get::<_, bool>("private"));
    }
    assert_eq!(rows.len(), 2);
}

#[tokio::test]
async fn c8_unknown_and_hostile_names_are_refused() {
    let db = database("1.13.0").await;
    let client = db.connect().await;
    for hostile in [
        "nope",
        "q; drop table pgmq.meta",
        "q\" on pgmq.meta; --",
        "q' or true",
    ] {
        for call in [
            "enable_wake($1)",
            "enable_broadcast($1, 'c', 'e')",
            "disable_wake($1)",
            "disable_broadcast($1)",
        ] {
            let error = client
                .query(&format!("select rowcall_queue.{call}"), &[&hostile])
                .await
                .unwrap_err();
            assert_eq!(error.code().unwrap().code(), "42P01", "{hostile} {call}");
        }
    }
    client
        .batch_execute("select pgmq.create('q')")
        .await
        .unwrap();
    let odd = "it's \"odd\" \\ $1";
    client
        .execute(
            "select rowcall_queue.enable_broadcast('q', $1, $1)",
            &[&odd],
        )
        .await
        .unwrap();
    let row = client
        .query_one(
            "select channel, event from rowcall_queue.wake_status()",
            &[],
        )
        .await
        .unwrap();
    assert_eq!((row.get(0), row.get(1)), (odd, odd), "quoted, not run");
}

#[tokio::test]
async fn c10_nobody_else_may_touch_the_helpers() {
    let db = database("1.13.0").await;
    let client = db.connect().await;
    let role = db.unique("guest");
    client
        .batch_execute(&format!(
            "create role {role} login; select pgmq.create('q'); select rowcall_queue.enable_wake('q'); \
             grant usage on schema pgmq to {role}; grant insert, select on pgmq.q_q to {role}"
        ))
        .await
        .unwrap();
    let open: i64 = client
        .query_one(
            "select count(*) from pg_proc p where p.pronamespace = 'rowcall_queue'::regnamespace \
             and has_function_privilege($1, p.oid, 'execute')",
            &[&role],
        )
        .await
        .unwrap()
        .get(0);
    assert_eq!(open, 0);
    let unpinned: i64 = client
        .query_one(
            "select count(*) from pg_proc p where p.pronamespace in ('rowcall_queue'::regnamespace, 'pgmq_public'::regnamespace) \
             and not coalesce(p.proconfig @> array['search_path=\"\"'], false)",
            &[],
        )
        .await
        .unwrap()
        .get(0);
    assert_eq!(unpinned, 0, "every function pins its search_path");
    // Who may only send still wakes workers: the trigger has its owner's rights.
    client
        .batch_execute(&format!("update rowcall_queue.waiting set armed = true; set role {role}; insert into pgmq.q_q (vt, message) values (now(), '{{}}'); reset role"))
        .await
        .unwrap();
    assert_eq!(
        count(&client, "rowcall_queue.waiting where not armed").await,
        1
    );
    client
        .batch_execute(&format!("drop owned by {role}; drop role {role}"))
        .await
        .unwrap();
}

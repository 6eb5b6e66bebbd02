//! C1, C2, C3, C5, C6: the triggers that broadcast.

use super::{
    VERSIONS, count, database,
    stack::Project,
    trigger::{REALTIME, broadcasts, listening},
};

#[tokio::test]
async fn c1_c2_broadcasts_are_what_aimq_reads() {
    for version in VERSIONS {
        let db = database(version).await;
        let client = db.connect().await;
        client.batch_execute(REALTIME).await.unwrap();
        client
            .batch_execute(
                "select pgmq.create('In-Box'); select pgmq.create('silent'); \
                 select rowcall_queue.enable_broadcast('in-box', 'aimq:jobs', 'job_enqueued'); \
                 select pgmq.send('In-Box', '{}'::jsonb); select pgmq.send('silent', '{}'::jsonb); \
                 select pgmq.send_batch('In-Box', array['{}', '{}']::jsonb[])",
            )
            .await
            .unwrap();
        client
            .batch_execute("begin; select pgmq.send('In-Box', '{}'::jsonb); rollback")
            .await
            .unwrap();
        let sent = broadcasts(&client).await;
        assert_eq!(sent.len(), 2, "{version}: one per statement");
        let (topic, event, payload, private) = &sent[0];
        assert_eq!(
            (topic.as_str(), event.as_str(), *private),
            ("aimq:jobs", "job_enqueued", false)
        );
        assert_eq!(
            (&payload["queue"], &payload["job_id"]),
            (&"In-Box".into(), &1.into())
        );
        let batch = &sent[1].2;
        assert_eq!(
            (&batch["job_id"], &batch["last_job_id"], &batch["count"]),
            (&2.into(), &3.into(), &2.into())
        );
        // One per row, privately, under other names.
        client
            .batch_execute(
                "select rowcall_queue.enable_broadcast('In-Box', 'c', 'e', true, 0, true); \
                 select pgmq.send_batch('In-Box', array['{}', '{}', '{}']::jsonb[])",
            )
            .await
            .unwrap();
        let rows = &broadcasts(&client).await[2..];
        assert_eq!(rows.len(), 3, "{version}: enabled twice is one trigger");
        assert!(
            rows.iter()
                .all(|(topic, event, _, private)| topic == "c" && event == "e" && *private)
        );
    }
}

#[tokio::test]
async fn c6_the_gate_of_broadcasts_lets_one_through_per_window() {
    let db = database("1.13.0").await;
    let client = db.connect().await;
    client.batch_execute(REALTIME).await.unwrap();
    client
        .batch_execute(
            "select pgmq.create('q'); select rowcall_queue.enable_broadcast('q', 'c', 'e', gate_ms => 60000)",
        )
        .await
        .unwrap();
    for _ in 0..10 {
        client
            .batch_execute("select pgmq.send('q', '{}'::jsonb)")
            .await
            .unwrap();
    }
    let sent = broadcasts(&client).await;
    assert_eq!(sent.len(), 1);
    assert_eq!(
        sent[0].2["gate_ms"], 60_000,
        "who listens knows when to look again"
    );
    client.batch_execute("update rowcall_queue.broadcast_gate set last = last - interval '61 s'; select pgmq.send('q', '{}'::jsonb)").await.unwrap();
    assert_eq!(broadcasts(&client).await.len(), 2);
}

#[tokio::test]
async fn c5_whatever_realtime_does_the_insert_commits() {
    for version in VERSIONS {
        let db = database(version).await;
        let (client, heard) = listening(&db).await;
        client
            .batch_execute("select pgmq.create('q'); select rowcall_queue.enable_broadcast('q', 'c', 'e'); select rowcall_queue.enable_wake('q')")
            .await
            .unwrap();
        let mut sent = 0;
        for breakage in [
            // No realtime at all; then one that cannot take the row; then a gate that is gone.
            "select 1",
            "create schema realtime; create function realtime.send(jsonb, text, text, boolean) returns void language plpgsql \
             as 'begin raise exception ''no partition''; end'",
            "drop table rowcall_queue.waiting, rowcall_queue.broadcast_gate",
        ] {
            client.batch_execute(breakage).await.unwrap();
            client
                .batch_execute("select pgmq.send('q', '{}'::jsonb)")
                .await
                .unwrap();
            sent += 1;
            assert_eq!(
                count(&client, "pgmq.q_q").await,
                sent,
                "{version}: {breakage}"
            );
        }
        let warnings = heard.lock().warnings.clone();
        assert!(
            warnings.len() >= 3
                && warnings
                    .iter()
                    .all(|warning| warning.starts_with("rowcall: queue q ")),
            "{warnings:?}"
        );
    }
}

#[tokio::test]
async fn c3_the_publication_shows_broadcasts_and_schema_realtime_stays_as_it_was() {
    let project = Project::start().await;
    let db = &project.db;
    let client = db.connect().await;
    // As on a project of Supabase's: whoever owns the trigger's function is no superuser, may not make anything in schema
    // realtime, and row level security does not hold it back.
    let role = db.unique("owner");
    client
        .batch_execute(&format!(
            "create role {role} bypassrls; grant usage on schema realtime, rowcall_queue to {role}; \
             grant select, insert on realtime.messages to {role}; grant all on all tables in schema rowcall_queue to {role}; \
             grant create on schema rowcall_queue to {role}; alter function rowcall_queue.broadcast_sent() owner to {role}"
        ))
        .await
        .unwrap();
    let objects = "select string_agg(name, ',' order by name) from (select relname::text as name from pg_class \
                   where relnamespace = 'realtime'::regnamespace union all select oid::regprocedure::text from pg_proc \
                   where pronamespace = 'realtime'::regnamespace) o";
    let before: String = client.query_one(objects, &[]).await.unwrap().get(0);
    // What Supabase's server reads: a temporary slot, and its publication.
    let slot = db.unique("slot");
    let make = "select pg_create_logical_replication_slot($1::text::name, 'pgoutput', true)::text";
    client.query_one(make, &[&slot]).await.unwrap();
    let queue = super::name("Orders");
    let queues = super::store(db);
    queues
        .create(&queue, rowcall_backend::queue::Kind::Logged)
        .await
        .unwrap();
    let broadcast = rowcall_backend::queue::Broadcast::default();
    queues.enable_broadcast(&queue, &broadcast).await.unwrap();
    let (sender, heard) = listening(db).await;
    for sql in [
        // What is not flushed yet is not decoded.
        "set synchronous_commit = on",
        "select pgmq.send('Orders', '{}')",
        "begin; select pgmq.send('Orders', '{}'); rollback",
        "select count(*) from pgmq.send_batch('Orders', array_fill('{}'::jsonb, array[3]))",
    ] {
        sender.batch_execute(sql).await.unwrap();
    }
    assert_eq!(heard.lock().warnings, [""; 0]);
    let read = "select data from pg_logical_slot_get_binary_changes($1::text::name, null, null, \
                'proto_version', '1', 'publication_names', 'supabase_realtime_messages_publication') \
                where get_byte(data, 0) = ascii('I')";
    let rows = client.query(read, &[&slot]).await.unwrap();
    let told: Vec<String> = rows
        .iter()
        .map(|row| String::from_utf8_lossy(row.get(0)).into_owned())
        .collect();
    assert_eq!(
        told.len(),
        2,
        "one for each statement that was committed: {told:?}"
    );
    for (told, job) in told.iter().zip([r#""job_id": 1,"#, r#""job_id": 3,"#]) {
        let parts = [
            job,
            r#""queue": "Orders""#,
            r#""id": ""#,
            "aimq:jobs",
            "job_enqueued",
        ];
        for part in parts {
            assert!(told.contains(part), "{part} in {told}");
        }
    }
    let after: String = client.query_one(objects, &[]).await.unwrap().get(0);
    assert_eq!(after, before);
    client
        .batch_execute(&format!(
            "select pg_drop_replication_slot('{slot}'); drop owned by {role} cascade; drop role {role}"
        ))
        .await
        .unwrap();
}

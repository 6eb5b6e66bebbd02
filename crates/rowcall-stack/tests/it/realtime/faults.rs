use std::time::Duration;

use rowcall_realtime::Version;
use rowcall_stack::realtime::Limits;
use serde_json::{Value, json};

use super::client::{Client, PATIENCE};
use super::server::{Options, Server};

const TABLE: &str = "
    create table public.t (id int primary key, body text);
    alter publication supabase_realtime add table public.t;
";

fn bindings() -> Value {
    json!([{"event": "*", "schema": "public", "table": "t"}])
}

/// Waits until a query says true.
async fn until(server: &Server, query: &str) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !server
        .sql
        .query_one(query, &[])
        .await
        .unwrap()
        .get::<_, bool>(0)
    {
        assert!(tokio::time::Instant::now() < deadline, "{query}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_replication_session_loses_and_doubles_nothing() {
    let server = Server::start().await;
    server.execute(TABLE).await;
    let mut client = Client::anon(&server).await;
    client.join_changes("realtime:a", bindings()).await;
    for round in 0..3 {
        server
            .execute(&format!(
                "insert into t select n from generate_series({round} * 1000 + 1, {round} * 1000 + 500) n;
                 select pg_terminate_backend(active_pid) from pg_replication_slots where database = current_database();
                 insert into t select n from generate_series({round} * 1000 + 501, {round} * 1000 + 1000) n"
            ))
            .await;
        for n in 1..=1000 {
            assert_eq!(client.change().await["record"]["id"], round * 1000 + n);
        }
    }
    assert_eq!(client.all().await, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_connection_may_break_under_load() {
    let server = Server::start().await;
    server.execute(TABLE).await;
    server
        .execute("alter table t enable row level security; create policy p on t using (auth.role() = 'anon')")
        .await;
    let mut client = Client::anon(&server).await;
    client.join_changes("realtime:a", bindings()).await;
    for round in 0..4 {
        server
            .execute(&format!(
                "insert into t select n from generate_series({round} * 100 + 1, {round} * 100 + 100) n;
                 select pg_terminate_backend(pid) from pg_stat_activity
                  where datname = current_database() and application_name like 'rowcall realtime%'"
            ))
            .await;
    }
    for n in 1..=400 {
        assert_eq!(client.change().await["record"]["id"], n);
    }
    client.join_changes("realtime:b", bindings()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_comes_back_gets_what_it_missed() {
    let server = Server::start().await;
    server.execute(TABLE).await;
    let mut client = Client::anon(&server).await;
    client.join_changes("realtime:a", bindings()).await;
    server.execute("insert into t values (1), (2), (3)").await;
    client.change().await;
    let seen = client.change().await["position"].clone();
    drop(client);
    server.execute("insert into t values (4)").await;
    let mut client = Client::anon(&server).await;
    let config =
        json!({"postgres_changes": bindings(), "postgres_changes_options": {"since": seen}});
    client.join("realtime:a", config).await;
    server.execute("insert into t values (5)").await;
    for id in 3..=5 {
        assert_eq!(client.change().await["record"]["id"], id);
    }
    assert_eq!(
        client
            .all()
            .await
            .iter()
            .filter(|received| received.event == "postgres_changes")
            .count(),
        0
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_that_was_lost_is_made_anew_and_clients_are_told_to_come_back() {
    let server = Server::start().await;
    server.execute(TABLE).await;
    let mut client = Client::anon(&server).await;
    client.join_changes("realtime:a", bindings()).await;
    // As after `max_slot_wal_keep_size`: the slot is gone when the reader comes back.
    server
        .execute(
            "do $$ begin
               loop
                 begin
                   perform pg_terminate_backend(active_pid) from pg_replication_slots where database = current_database();
                   perform pg_drop_replication_slot(slot_name) from pg_replication_slots where database = current_database();
                   exit when found;
                 exception when object_in_use then null;
                 end;
               end loop;
             end $$",
        )
        .await;
    assert_eq!(client.closed().await, 1012);
    let mut client = Client::anon(&server).await;
    client.join_changes("realtime:a", bindings()).await;
    server.execute("insert into t values (1)").await;
    client.change().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publication_that_is_made_anew_is_read_again() {
    let server = Server::start().await;
    server.execute(TABLE).await;
    let mut client = Client::anon(&server).await;
    client.join_changes("realtime:a", bindings()).await;
    server
        .execute(
            "begin; drop publication supabase_realtime; create publication supabase_realtime; commit;
             alter publication supabase_realtime add table t; insert into t values (1)",
        )
        .await;
    assert_eq!(client.change().await["record"]["id"], 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shutting_down_drops_the_slot() {
    let server = Server::start().await;
    let count = "select count(*) = 1 from pg_replication_slots where database = current_database()";
    until(&server, count).await;
    let (db, _) = server.shutdown().await;
    let sql = db.connect().await;
    let left: i64 = sql
        .query_one(
            "select count(*) from pg_replication_slots where database = current_database()",
            &[],
        )
        .await
        .unwrap()
        .get(0);
    assert_eq!(left, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_does_not_read_is_given_up_and_others_are_served() {
    let limits = Limits {
        queued_bytes: 1_000_000,
        ..Limits::default()
    };
    let server = Server::start_with(Options {
        limits,
        ..Options::default()
    })
    .await;
    server.execute(TABLE).await;
    let mut slow = Client::anon(&server).await;
    slow.join_changes("realtime:a", bindings()).await;
    let mut quick = Client::connect(&server, Version::V1, server.keys.anon_key()).await;
    quick.join_changes("realtime:a", bindings()).await;
    let reader = tokio::spawn(async move {
        for n in 1..=400 {
            assert_eq!(quick.change().await["record"]["id"], n);
        }
        quick
    });
    for n in 1..=400 {
        server
            .execute(&format!("insert into t values ({n}, repeat('x', 50000))"))
            .await;
    }
    let quick = reader.await.unwrap();
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while server.realtime().health().connections > 1 {
        assert!(
            tokio::time::Instant::now() < deadline,
            "the slow socket is closed"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    drop((quick, slow));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_sockets_at_once_are_served() {
    let server = Server::start().await;
    server.execute(TABLE).await;
    let server = std::sync::Arc::new(server);
    let joined: Vec<_> = (0..1_000)
        .map(|_| {
            let server = std::sync::Arc::clone(&server);
            tokio::spawn(async move {
                let mut client = Client::anon(&server).await;
                client.join_changes("realtime:a", bindings()).await;
                client
            })
        })
        .collect();
    let mut clients = Vec::new();
    for client in joined {
        clients.push(client.await.unwrap());
    }
    server.execute("insert into t values (1)").await;
    for client in &mut clients {
        client.change().await;
    }
    drop(clients);
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while server.realtime().health().connections > 0 {
        assert!(
            tokio::time::Instant::now() < deadline,
            "sockets are not closed"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(server.realtime().health().topics, 0);
}

//! The database goes away and comes back, and so does the server: nobody who stays or comes back in time loses a change, and
//! what needs no database goes on meanwhile.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use rowcall_realtime::Version;
use rowcall_stack::testing::{PrivateCluster, ServerEnd, TestCluster};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::client::{Client, PATIENCE};
use super::server::{NOW, Options, Server, connect};
use super::wire::Wire;

const TABLE: &str = "
    create table public.t (id int primary key, body text);
    alter publication supabase_realtime add table public.t;
";
/// The pause of a writer whose database is away.
const RETRY: Duration = Duration::from_millis(20);

fn bindings() -> Value {
    json!([{"event": "*", "schema": "public", "table": "t"}])
}

/// How far a writer may be ahead of the slowest reader: on one slow processor it would be ever further otherwise.
const AHEAD: i64 = 400;
/// What is waited for between two outages; less than [`AHEAD`].
const ROWS_BETWEEN: i64 = 200;

/// The last change each reader has seen.
type Seen = Arc<[AtomicI64; 2]>;

/// Inserts one row after the other until `stop`, whatever becomes of the connection. Returns the ids whose commit was
/// confirmed.
async fn write(url: String, seen: Seen, stop: CancellationToken) -> BTreeSet<i64> {
    let (mut confirmed, mut id) = (BTreeSet::new(), 0);
    let slowest = || seen.iter().map(|last| last.load(Ordering::Relaxed)).min();
    while !stop.is_cancelled() {
        let Ok((client, connection)) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await
        else {
            tokio::time::sleep(RETRY).await;
            continue;
        };
        let driver = tokio::spawn(connection);
        while !stop.is_cancelled() {
            if slowest().is_some_and(|slowest| id >= slowest + AHEAD) {
                tokio::time::sleep(RETRY).await;
                continue;
            }
            id += 1;
            let insert = format!("insert into public.t values ({id})");
            if client.batch_execute(&insert).await.is_err() {
                break;
            }
            confirmed.insert(id);
        }
        driver.abort();
    }
    confirmed
}

/// Sends broadcasts from one client to another until `stop`; how many arrived.
async fn talk(mut one: Client, mut two: Client, stop: CancellationToken) -> usize {
    let reference = one.join("realtime:talk", json!({})).await;
    two.join("realtime:talk", json!({})).await;
    let mut heard = 0;
    while !stop.is_cancelled() {
        let word = json!({"type": "broadcast", "event": "e", "payload": {"n": heard}});
        one.push(Some(&reference), "realtime:talk", "broadcast", &word)
            .await;
        two.expect("broadcast").await;
        heard += 1;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    heard
}

/// Reads changes until `last` has come; every id once, in order.
async fn read(
    mut client: Client,
    (all, number): (Seen, usize),
    mut last: tokio::sync::watch::Receiver<i64>,
) -> BTreeSet<i64> {
    let mut seen = BTreeSet::new();
    loop {
        let received = tokio::select! {
            biased;
            received = client.next() => received.expect("the socket stays open"),
            changed = last.changed() => {
                changed.unwrap();
                if seen.last() == Some(&*last.borrow()) {
                    return seen;
                }
                continue;
            }
        };
        if received.event == "postgres_changes" {
            let id = received.payload["data"]["record"]["id"].as_i64().unwrap();
            assert!(
                seen.last().is_none_or(|last| *last < id),
                "{id} after {seen:?}"
            );
            seen.insert(id);
            all[number].store(id, Ordering::Relaxed);
            if id == *last.borrow() {
                return seen;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_restarted_under_load_loses_nothing_and_stops_nobody() {
    // Confirmed means written here, as it does on every server that is not one of tests.
    let cluster = PrivateCluster::with(&["synchronous_commit=on"]).await;
    let url = cluster.url_of("postgres");
    let sql = connect(&url).await;
    rowcall_stack::bootstrap::apply(&sql).await.unwrap();
    let server = Server::at(&url, Options::default()).await;
    server.execute(TABLE).await;
    let (last, done) = tokio::sync::watch::channel(-1);
    let mut readers = Vec::new();
    let seen = Seen::default();
    for (number, version) in [Version::V1, Version::V2].into_iter().enumerate() {
        let mut client = Client::connect(&server, version, server.keys.anon_key()).await;
        client.join_changes("realtime:t", bindings()).await;
        let progress = (Arc::clone(&seen), number);
        readers.push(tokio::spawn(read(client, progress, done.clone())));
    }
    let stop = CancellationToken::new();
    let (one, two) = (Client::anon(&server).await, Client::anon(&server).await);
    let talking = tokio::spawn(talk(one, two, stop.clone()));
    let writing = tokio::spawn(write(url.clone(), seen, stop.clone()));
    for end in [ServerEnd::Fast, ServerEnd::Immediate, ServerEnd::Kill] {
        until_rows(&url, ROWS_BETWEEN).await;
        cluster.end(end).await;
        cluster.start_again().await;
    }
    until_rows(&url, ROWS_BETWEEN).await;
    stop.cancel();
    let confirmed = writing.await.unwrap();
    let sql = connect(&url).await;
    let stored: BTreeSet<i64> = sql
        .query("select id::bigint from public.t", &[])
        .await
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert!(confirmed.is_subset(&stored));
    last.send_replace(*stored.last().unwrap());
    for reader in readers {
        let seen = tokio::time::timeout(PATIENCE, reader)
            .await
            .expect("every change comes")
            .unwrap();
        assert_eq!(seen, stored);
    }
    assert!(talking.await.unwrap() > 0);
    // Joining works again, too.
    let mut client = Client::anon(&server).await;
    client.join_changes("realtime:late", bindings()).await;
}

/// Waits until so many more rows are there.
async fn until_rows(url: &str, more: i64) {
    let sql = connect(url).await;
    let count = "select count(*) from public.t";
    let before: i64 = sql.query_one(count, &[]).await.unwrap().get(0);
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while sql.query_one(count, &[]).await.unwrap().get::<_, i64>(0) < before + more {
        assert!(tokio::time::Instant::now() < deadline, "nothing is written");
        tokio::time::sleep(RETRY).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wire_that_is_cut_and_mended_loses_and_doubles_nothing() {
    let cluster = TestCluster::shared().await;
    let wire = Wire::to(cluster.port()).await;
    let db = super::server::database().await;
    let behind = db.url().replace(
        &format!(":{}/", cluster.port()),
        &format!(":{}/", wire.port()),
    );
    let server = Server::on(
        db,
        Options {
            database_url: Some(behind),
            ..Options::default()
        },
    )
    .await;
    server.execute(TABLE).await;
    server
        .execute("alter table t enable row level security; create policy p on t using (auth.role() = 'anon')")
        .await;
    let mut client = Client::anon(&server).await;
    let topic = "realtime:a";
    let config = json!({"postgres_changes": bindings(), "broadcast": {"ack": true}});
    let join_ref = client.join(topic, config).await;
    for round in 0..4 {
        let insert = |from: i32, to: i32| {
            format!("insert into t select {round} * 1000 + n from generate_series({from}, {to}) n")
        };
        server.execute(&insert(1, 300)).await;
        wire.cut();
        server.execute(&insert(301, 600)).await;
        let word = json!({"event": "e"});
        let reply = client.ask(Some(&join_ref), topic, "broadcast", &word).await;
        assert_eq!(reply["status"], "ok", "what needs no database goes on");
        wire.mend();
        server.execute(&insert(601, 900)).await;
        for n in 1..=900 {
            assert_eq!(client.change().await["record"]["id"], round * 1000 + n);
        }
    }
    let changes = client.all().await;
    assert!(
        changes.iter().all(|one| one.event != "postgres_changes"),
        "{changes:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_server_gives_those_who_come_back_what_they_missed() {
    let keep = |keys: Option<Arc<rowcall_stack::auth::Keys>>| Options {
        keep_slot: true,
        keys,
        ..Options::default()
    };
    let server = Server::start_with(keep(None)).await;
    server.execute(TABLE).await;
    let mut client = Client::anon(&server).await;
    client.join_changes("realtime:a", bindings()).await;
    server.execute("insert into t values (1), (2)").await;
    let seen = client.change().await["position"].clone();
    let (db, keys) = server.shutdown().await;
    let sql = db.connect().await;
    sql.batch_execute("insert into t values (3)").await.unwrap();
    sql.batch_execute("update t set body = 'x' where id = 3")
        .await
        .unwrap();
    let server = Server::on(db, keep(Some(keys))).await;
    let mut fresh = Client::anon(&server).await;
    fresh.join_changes("realtime:a", bindings()).await;
    let mut client = Client::anon(&server).await;
    let config =
        json!({"postgres_changes": bindings(), "postgres_changes_options": {"since": seen}});
    client.join("realtime:a", config).await;
    server.execute("insert into t values (4)").await;
    let mut told = Vec::new();
    for _ in 0..4 {
        let change = client.change().await;
        told.push((
            change["type"].as_str().unwrap().to_owned(),
            change["record"]["id"].as_i64().unwrap(),
        ));
    }
    let expected = [("INSERT", 2), ("INSERT", 3), ("UPDATE", 3), ("INSERT", 4)];
    assert_eq!(told, expected.map(|(kind, id)| (kind.to_owned(), id)));
    assert_eq!(
        fresh.change().await["record"]["id"],
        4,
        "who asks for nothing gets nothing old"
    );
    // The next to drop this database must find no slot in use.
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_ends_in_the_middle_ends_its_channel_only() {
    let server = Server::start().await;
    server.execute(TABLE).await;
    let mut client = Client::anon(&server).await;
    let short = server.token_until("authenticated", NOW + 2, &json!({}));
    let long = server.token("authenticated", &json!({}));
    for (topic, token) in [("realtime:short", short), ("realtime:long", long)] {
        let config = json!({"postgres_changes": bindings()});
        let (_, reply) = client
            .try_join(topic, json!({"config": config, "access_token": token}))
            .await;
        assert_eq!(reply["status"], "ok");
    }
    let on = |topic: &'static str, event: &'static str| {
        move |received: &super::client::Received| received.topic == topic && received.event == event
    };
    server.execute("insert into t values (1)").await;
    for topic in ["realtime:short", "realtime:long"] {
        client
            .expect_where(topic, on(topic, "postgres_changes"))
            .await;
    }
    // Its timer runs in real time, two seconds.
    server.clock.advance(Duration::from_secs(2));
    let notice = client
        .expect_where("a notice", |received| {
            received.event == "system" && received.payload["status"] == "error"
        })
        .await;
    assert_eq!(notice.topic, "realtime:short");
    client
        .expect_where("the end", on("realtime:short", "phx_close"))
        .await;
    server.execute("insert into t values (2)").await;
    client
        .expect_where("the change", on("realtime:long", "postgres_changes"))
        .await;
    let rest = client.all().await;
    assert!(
        !rest.iter().any(on("realtime:short", "postgres_changes")),
        "{rest:?}"
    );
}

//! Clients that leave, a database that goes away, too much at once.

use std::time::Duration;

use reqwest::Method;
use rowcall_stack::testing::TestDb;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_postgres::Client;

use super::world::World;

/// How long to wait for a condition of the database.
const CONDITION_TIMEOUT: Duration = Duration::from_mins(1);

/// Waits until `query` answers true.
async fn until(client: &Client, query: &str) {
    let holds = async {
        while !client
            .query_one(query, &[])
            .await
            .expect("an answer")
            .get::<_, bool>(0)
        {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(CONDITION_TIMEOUT, holds)
        .await
        .unwrap_or_else(|_| panic!("never true: {query}"));
}

fn sleeping(db: &TestDb) -> String {
    format!(
        "select count(*) = 1 from pg_stat_activity where datname = '{}' and state = 'active' and query like '%\"sleep\"%'
           and pid <> pg_backend_pid()",
        db.name()
    )
}

#[tokio::test]
async fn the_statement_of_a_client_that_leaves_is_cancelled() {
    let world = World::new().await;
    let client = world.db.connect().await;
    let address = world.stack.addresses()[0];
    let mut socket = tokio::net::TcpStream::connect(address)
        .await
        .expect("connected");
    let body = r#"{"seconds": 100}"#;
    let key = world.keys.service_role_key();
    let head = format!(
        "POST /rest/v1/rpc/sleep HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    socket.write_all(head.as_bytes()).await.expect("sent");
    until(&client, &sleeping(&world.db)).await;
    drop(socket);
    until(&client, &sleeping(&world.db).replace("= 1", "= 0")).await;
    assert_eq!(world.read("/rpc/hello").await, json!("hello"));
}

#[tokio::test]
async fn lost_connections_are_replaced() {
    let world = World::new().await;
    let client = world.db.connect().await;
    for _ in 0..3 {
        assert_eq!(world.read("/rpc/hello").await, json!("hello"));
        client
            .execute(
                "select pg_terminate_backend(pid) from pg_stat_activity
                  where datname = current_database() and pid <> pg_backend_pid()",
                &[],
            )
            .await
            .expect("terminated");
        // A request that finds its connection just gone may be answered 503, which clients repeat; none hangs.
        let mut answers = Vec::new();
        for _ in 0..5 {
            answers.push(world.get("/rpc/hello").send().await.status.as_u16());
        }
        assert!(
            answers.iter().all(|status| matches!(status, 200 | 503)),
            "{answers:?}"
        );
        assert_eq!(answers.last(), Some(&200), "{answers:?}");
    }
    // The keeper of the schema has come back too.
    client
        .batch_execute("create table public.after_all (id int)")
        .await
        .expect("a table");
    assert_eq!(world.read("/after_all").await, json!([]));
}

#[tokio::test]
async fn many_requests_share_few_connections() {
    let world = World::new().await;
    let asks = (0..200).map(|n| {
        world
            .get(if n % 2 == 0 {
                "/clients?select=id&order=id"
            } else {
                "/rpc/hello"
            })
            .send()
    });
    for answer in futures_util::future::join_all(asks).await {
        assert_eq!(answer.status, 200, "{}", answer.text);
    }
    let client = world.db.connect().await;
    let open: i64 = client
        .query_one(
            "select count(*) from pg_stat_activity where datname = current_database()",
            &[],
        )
        .await
        .expect("a row")
        .get(0);
    assert!(open <= 16 + 4 + 2, "{open}");
}

#[tokio::test]
async fn transactions_do_not_leak_into_each_other() {
    let world = World::new().await;
    for _ in 0..40 {
        let error = world.post("/rpc/fails", &json!({})).send().await;
        assert_eq!(error.status, 400);
        let refused = world
            .patch("/items", &json!({"note": "x"}))
            .prefer("handling=strict,max-affected=1")
            .send()
            .await;
        assert_eq!(refused.status, 400);
        let service = world
            .get("/rpc/whoami")
            .token(world.keys.service_role_key())
            .send()
            .await;
        assert_eq!(service.json()["user"], "service_role");
        let anon = world.read("/rpc/whoami").await;
        assert_eq!(
            (&anon["user"], &anon["jwt"]),
            (&json!("anon"), &json!({"role": "anon"}))
        );
    }
    assert_eq!(world.read("/items?note=eq.x").await, json!([]));
}

#[tokio::test]
async fn too_large_is_refused() {
    let world = World::new().await;
    let url = world
        .get(&format!("/items?id=eq.1&x=eq.{}", "a".repeat(64_000)))
        .send()
        .await;
    assert!(url.status == 414, "{}", url.status);
    let body = world
        .ask(Method::POST, "/items")
        .body("application/json", vec![b' '; 33 * 1024 * 1024])
        .send()
        .await;
    assert_eq!(body.status, 413);
    let deep = format!("/items?select={}id{}", "a(".repeat(50), ")".repeat(50));
    world.get(&deep).send().await.expect_error(400, "PGRST100");
}

#[tokio::test]
async fn a_stack_that_stops_finishes_what_it_has() {
    let world = World::new().await;
    let address = world.stack.addresses()[0];
    let client = world.db.connect().await;
    client
        .batch_execute(
            "create function public.wait_for_me() returns text language sql as
               $$ select 'done' from pg_advisory_xact_lock(1) $$;
             grant execute on function public.wait_for_me to anon; select pg_advisory_lock(1)",
        )
        .await
        .expect("a function that waits");
    let http = reqwest::Client::builder().timeout(CONDITION_TIMEOUT);
    let slow = http.build().expect("a client");
    let slow = slow.get(format!("{}/rest/v1/rpc/wait_for_me", world.stack.url()));
    let slow = tokio::spawn(slow.header("apikey", world.keys.anon_key()).send());
    let waiting =
        "select count(*) = 1 from pg_locks where locktype = 'advisory' and not granted and
                   database = (select oid from pg_database where datname = current_database())";
    until(&client, waiting).await;
    // An idle connection that is kept open does not hold it up.
    let mut idle = tokio::net::TcpStream::connect(address)
        .await
        .expect("connected");
    let ((), ()) = tokio::join!(world.stack.shutdown(), async {
        until_refused(address).await;
        let release = "select pg_advisory_unlock(1)";
        client.batch_execute(release).await.expect("released");
    });
    let answer = slow.await.expect("the task").expect("an answer");
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.text().await.expect("a body"), "\"done\"");
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(CONDITION_TIMEOUT, idle.read_to_end(&mut rest)).await;
    assert!(ended.is_ok(), "the idle connection is closed");
}

/// Waits until nothing listens any more.
async fn until_refused(address: std::net::SocketAddr) {
    let refused = async {
        while tokio::net::TcpStream::connect(address).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(CONDITION_TIMEOUT, refused)
        .await
        .expect("it stops listening");
}

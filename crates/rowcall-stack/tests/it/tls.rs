//! The database behind TLS: every connection of the stack is encrypted as the URL asks, and what is not in order is refused.

use std::sync::Arc;

use futures_util::StreamExt as _;
use rowcall_core::{FixedClock, SequentialIds};
use rowcall_postgres::{Server, explain};
use rowcall_stack::auth::Keys;
use rowcall_stack::realtime::{Limits, Slot};
use rowcall_stack::stack::{RealtimeSettings, Stack, StackConfig, loopback};
use rowcall_stack::testing::{TestCluster, TestDb, TlsFront};
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

/// How long anything that is expected may take.
const PATIENCE: std::time::Duration = std::time::Duration::from_mins(1);

/// A front whose certificate is for `name`, before the shared server.
async fn front(name: &str) -> TlsFront {
    TlsFront::before(TestCluster::shared().await.port(), name).await
}

fn settings(mode: &str, front: &TlsFront) -> String {
    format!("sslmode={mode}&sslrootcert={}", front.roots().display())
}

/// What becomes of a connection.
async fn try_connect(url: &str) -> Result<(), String> {
    let server = Server::parse(url).map_err(|error| error.to_string())?;
    let connected = server.connect().await.map_err(|error| explain(&error))?;
    let driver = tokio::spawn(connected.1);
    let answer = connected.0.simple_query("select 1").await;
    driver.abort();
    answer.map(drop).map_err(|error| explain(&error))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_connection_of_the_stack_is_encrypted() {
    let front = front("localhost").await;
    let db = TestDb::create().await;
    let clock = FixedClock::at(jiff::Timestamp::from_second(1_800_000_000).unwrap());
    let keys = Keys::generate(jiff::Timestamp::from_second(1_800_000_000).unwrap());
    let url = front.url(&db.url(), &settings("verify-full", &front));
    let mut config = StackConfig::new(url, keys.clone(), Arc::new(clock));
    config.bind = loopback(0);
    config.realtime = Some(RealtimeSettings {
        ids: Arc::new(SequentialIds::default()),
        limits: Limits::default(),
        slot: Some(Slot::Durable {
            name: None,
            keep: false,
        }),
        private_only: false,
    });
    let stack = Stack::start(config).await.expect("the stack starts");
    let sql = db.connect().await;
    sql.batch_execute(
        "create table public.t (id int primary key);
         alter publication supabase_realtime add table public.t; notify pgrst, 'reload schema'",
    )
    .await
    .unwrap();

    let key = keys.anon_key();
    let address = stack.addresses()[0];
    let (mut socket, _) = tokio_tungstenite::connect_async(format!(
        "ws://{address}/realtime/v1/websocket?apikey={key}&vsn=1.0.0"
    ))
    .await
    .unwrap();
    let join = json!({"topic": "realtime:a", "event": "phx_join", "ref": "1", "join_ref": "1", "payload":
        {"config": {"postgres_changes": [{"event": "*", "schema": "public", "table": "t"}]}}});
    let text = Message::text(join.to_string());
    futures_util::SinkExt::send(&mut socket, text)
        .await
        .unwrap();
    let mut wait_for = async |word: &str| {
        let coming = async {
            while let Some(Ok(message)) = socket.next().await {
                if message.to_text().is_ok_and(|text| text.contains(word)) {
                    return;
                }
            }
            panic!("the socket closed before {word}");
        };
        tokio::time::timeout(PATIENCE, coming).await.expect(word);
    };
    wait_for("Subscribed to PostgreSQL").await;

    let http = {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let builder = reqwest::Client::builder().timeout(PATIENCE);
        builder.build().unwrap()
    };
    let ask = |path: &str, body: serde_json::Value| {
        http.post(format!("{}{path}", stack.url()))
            .header("apikey", keys.anon_key())
            .json(&body)
            .send()
    };
    let written = ask("/rest/v1/t", json!({"id": 1})).await.unwrap();
    assert_eq!(written.status(), 201, "{}", written.text().await.unwrap());
    wait_for("postgres_changes").await;
    let person = json!({"email": "a@example.com", "password": "correct horse"});
    let signed_up = ask("/auth/v1/signup", person).await.unwrap();
    assert_eq!(signed_up.status(), 200);
    stack.shutdown().await;
    // Preparing, the schema, REST, Auth, Realtime's pool, and the replication session.
    assert!(front.encrypted() >= 6, "{}", front.encrypted());
    assert_eq!(front.refused(), 0);
}

#[tokio::test]
async fn modes_check_what_they_promise() {
    let db = TestDb::create().await;
    let (ours, other_name) = tokio::join!(front("localhost"), front("db.example.com"));
    let stranger = front("localhost").await;
    for (mode, through, trusting, expected) in [
        ("require", &ours, None, Ok(())),
        ("require", &ours, Some(&ours), Ok(())),
        ("require", &ours, Some(&stranger), Err("sslrootcert=FILE")),
        ("verify-ca", &ours, Some(&ours), Ok(())),
        ("verify-ca", &ours, Some(&stranger), Err("sslrootcert=FILE")),
        ("verify-ca", &other_name, Some(&other_name), Ok(())),
        (
            "verify-ca",
            &other_name,
            Some(&ours),
            Err("sslrootcert=FILE"),
        ),
        ("verify-full", &ours, Some(&ours), Ok(())),
        (
            "verify-full",
            &ours,
            Some(&stranger),
            Err("sslrootcert=FILE"),
        ),
        (
            "verify-full",
            &other_name,
            Some(&other_name),
            Err("issued for another name"),
        ),
        ("prefer", &ours, None, Ok(())),
        ("disable", &ours, None, Err("no encryption")),
    ] {
        let query = match trusting {
            Some(roots) => settings(mode, roots),
            None => format!("sslmode={mode}"),
        };
        let answer = try_connect(&through.url(&db.url(), &query)).await;
        match expected {
            Ok(()) => assert_eq!(answer, Ok(()), "{query}"),
            Err(words) => assert!(
                answer.clone().is_err_and(|said| said.contains(words)),
                "{query}: {answer:?}"
            ),
        }
    }
}

#[tokio::test]
async fn a_server_without_tls_is_refused_where_tls_is_asked_for() {
    // As PostgreSQL answers whose programs or settings have no TLS.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 8];
            tokio::io::AsyncReadExt::read_exact(&mut stream, &mut request)
                .await
                .unwrap();
            tokio::io::AsyncWriteExt::write_all(&mut stream, b"N")
                .await
                .unwrap();
        }
    });
    let url = format!("postgres://u:p@127.0.0.1:{port}/d?sslmode=require");
    let said = try_connect(&url).await.unwrap_err();
    assert!(
        said.contains("does not support TLS") && said.contains("sslmode=disable"),
        "{said}"
    );
    let said = Server::parse(&url)
        .unwrap()
        .dial()
        .await
        .err()
        .map(|error| explain(&error));
    assert!(said.is_some_and(|said| said.contains("does not support TLS")));
    server.abort();
}

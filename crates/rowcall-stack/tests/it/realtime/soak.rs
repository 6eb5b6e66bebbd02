//! What clients do for long or do wrong leaves nothing behind and hurts nobody else.

use std::time::Duration;

use futures_util::SinkExt as _;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use rowcall_realtime::Version;
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

use super::client::{Client, PATIENCE};
use super::server::{Options, Server};

/// Sockets of one round, each with every kind of channel.
const SOCKETS: usize = 60;
/// Rounds before memory is looked at: pools, caches and the allocator fill up.
const WARM_UP: usize = 4;
/// Rounds that must not cost memory.
const ROUNDS: usize = 12;
/// A channel that is left behind costs at least 1 KB: the rounds would add up to far more.
const GROWTH: usize = 3 * 1024 * 1024;

/// Resident memory of this process, server and clients, in bytes.
fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))
        .unwrap();
    let kib: usize = line.trim().trim_end_matches(" kB").parse().unwrap();
    kib * 1024
}

async fn until_idle(server: &Server) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let health = server.realtime().health();
        if health.connections == 0 && health.topics == 0 {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "{health:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Sockets that join, talk, leave or are lost.
async fn round(server: &Server, number: usize) {
    for socket in 0..SOCKETS {
        let version = if socket % 2 == 0 {
            Version::V1
        } else {
            Version::V2
        };
        let mut client = Client::connect(server, version, server.keys.anon_key()).await;
        let topic = format!("realtime:{number}:{socket}");
        let changes = json!([{"event": "*", "schema": "public", "table": "t", "filter": format!("id=eq.{socket}")}]);
        client.join_changes(&topic, changes).await;
        let config = json!({"presence": {"enabled": true, "key": ""}, "broadcast": {"self": true}});
        let join_ref = client.join("realtime:room", config).await;
        let call = json!({"event": "track", "payload": {"n": socket}});
        client
            .ask(Some(&join_ref), "realtime:room", "presence", &call)
            .await;
        let word =
            json!({"type": "broadcast", "event": "e", "payload": {"text": "x".repeat(1_000)}});
        client
            .push(Some(&join_ref), "realtime:room", "broadcast", &word)
            .await;
        client.expect("broadcast").await;
        // A third leaves, a third closes, a third is lost.
        match socket % 3 {
            0 => {
                client
                    .ask(Some(&join_ref), "realtime:room", "phx_leave", &json!({}))
                    .await;
            }
            1 => client.socket.close(None).await.unwrap(),
            _ => {}
        }
    }
    until_idle(server).await;
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn joining_and_leaving_for_long_costs_no_memory() {
    let server = Server::start().await;
    server
        .execute(
            "create table t (id int primary key); alter publication supabase_realtime add table t",
        )
        .await;
    for number in 0..WARM_UP {
        round(&server, number).await;
    }
    let before = resident();
    for number in WARM_UP..WARM_UP + ROUNDS {
        round(&server, number).await;
    }
    let grown = resident().saturating_sub(before);
    assert!(grown < GROWTH, "{grown} bytes more after {ROUNDS} rounds");
}

/// Frames of every sort between right and wrong.
fn frames() -> impl Strategy<Value = Message> {
    let scalar = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        Just("-1e400".to_owned()),
        Just("18446744073709551616".to_owned()),
        Just("[[[[]]]]".to_owned()),
        Just(r#"{"":{"":[]}}"#.to_owned()),
        Just(r#""\ud800""#.to_owned()),
        any::<String>().prop_map(|text| serde_json::Value::from(text).to_string()),
    ];
    let topic = prop_oneof![
        Just("\"realtime:room\"".to_owned()),
        Just("\"phoenix\"".to_owned()),
        scalar.clone(),
    ];
    let event = prop_oneof![
        prop::sample::select(vec![
            "phx_join",
            "phx_leave",
            "heartbeat",
            "broadcast",
            "presence",
            "access_token",
            "postgres_changes",
        ])
        .prop_map(|event| format!("\"{event}\"")),
        scalar.clone(),
    ];
    let config = (
        prop::sample::select(vec![
            "broadcast",
            "presence",
            "postgres_changes",
            "private",
            "config",
            "payload",
            "event",
            "access_token",
        ]),
        scalar.clone(),
    )
        .prop_map(|(key, value)| format!(r#"{{"config":{{"{key}":{value}}},"{key}":{value}}}"#));
    let payload = prop_oneof![scalar.clone(), config];
    let array = (
        scalar.clone(),
        scalar.clone(),
        topic.clone(),
        event.clone(),
        payload.clone(),
    )
        .prop_map(|(join, reference, topic, event, payload)| {
            Message::text(format!("[{join},{reference},{topic},{event},{payload}]"))
        });
    let object = (topic, event, payload, scalar).prop_map(|(topic, event, payload, reference)| {
        Message::text(format!(
            r#"{{"topic":{topic},"event":{event},"payload":{payload},"ref":{reference}}}"#
        ))
    });
    let binary = (
        prop::collection::vec(any::<u8>(), 0..64),
        prop_oneof![Just(3_u8), any::<u8>()],
    )
        .prop_map(|(mut bytes, kind)| {
            bytes.insert(0, kind);
            Message::binary(bytes)
        });
    prop_oneof![
        4 => array,
        2 => object,
        2 => binary,
        1 => any::<String>().prop_map(Message::text),
        1 => prop::collection::vec(any::<u8>(), 0..32).prop_map(|bytes| Message::Ping(bytes.into())),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_sent_hurts_only_its_sender() {
    let server = Server::start_with(Options::default()).await;
    server
        .execute(
            "create table t (id int primary key); alter publication supabase_realtime add table t",
        )
        .await;
    let mut bystander = Client::anon(&server).await;
    let bindings = json!([{"event": "*", "schema": "public", "table": "t"}]);
    bystander.join_changes("realtime:quiet", bindings).await;
    let mut runner = TestRunner::deterministic();
    let strategy = prop::collection::vec(frames(), 1..40);
    for number in 0..150 {
        let version = if number % 2 == 0 {
            Version::V2
        } else {
            Version::V1
        };
        let mut client = Client::connect(&server, version, server.keys.anon_key()).await;
        client.join("realtime:room", json!({})).await;
        for frame in strategy.new_tree(&mut runner).unwrap().current() {
            // The server may have had enough.
            if client.socket.send(frame).await.is_err() {
                break;
            }
        }
        let _ = client.socket.close(None).await;
        if number % 50 == 0 {
            server
                .execute(&format!("insert into t values ({number})"))
                .await;
            assert_eq!(bystander.change().await["record"]["id"], number);
        }
    }
    let rest = bystander.all().await;
    assert!(rest.is_empty(), "{rest:?}");
    drop(bystander);
    until_idle(&server).await;
}

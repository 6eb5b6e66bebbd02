use rowcall_realtime::Version;
use rowcall_stack::realtime::Limits;
use serde_json::{Value, json};

use super::client::Client;
use super::server::{Options, Server};

const TOPIC: &str = "realtime:room";

async fn joined(server: &Server, version: Version, key: &str, enabled: bool) -> (Client, String) {
    let mut client = Client::connect(server, version, server.keys.anon_key()).await;
    let config = json!({"presence": {"key": key, "enabled": enabled}});
    let join_ref = client.join(TOPIC, config).await;
    (client, join_ref)
}

async fn track(client: &mut Client, join_ref: &str, payload: Value) -> Value {
    let call = json!({"type": "presence", "event": "track", "payload": payload});
    client.ask(Some(join_ref), TOPIC, "presence", &call).await
}

/// What was tracked under `key`, without references.
fn tracked(side: &Value, key: &str) -> Vec<Value> {
    let metas = side[key]["metas"].as_array().cloned().unwrap_or_default();
    metas
        .into_iter()
        .map(|mut meta| {
            let meta_object = meta.as_object_mut().unwrap();
            assert!(meta_object.remove("phx_ref").unwrap().is_string());
            meta_object.remove("phx_ref_prev");
            meta
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn state_comes_first_and_diffs_follow() {
    let server = Server::without_changes().await;
    let (mut one, one_ref) = joined(&server, Version::V2, "one", true).await;
    let state = one.expect("presence_state").await;
    assert_eq!(state.payload, json!({}));
    assert_eq!(state.join_ref.as_deref(), Some(&*one_ref));
    assert_eq!(
        track(&mut one, &one_ref, json!({"n": 1})).await["status"],
        "ok"
    );
    let diff = one.expect("presence_diff").await;
    assert_eq!(tracked(&diff.payload["joins"], "one"), [json!({"n": 1})]);
    let (mut two, _) = joined(&server, Version::V1, "two", true).await;
    let state = two.expect("presence_state").await;
    assert_eq!(tracked(&state.payload, "one"), [json!({"n": 1})]);
    track(&mut one, &one_ref, json!({"n": 2})).await;
    let diff = two.expect("presence_diff").await;
    assert_eq!(tracked(&diff.payload["joins"], "one"), [json!({"n": 2})]);
    assert_eq!(tracked(&diff.payload["leaves"], "one"), [json!({"n": 1})]);
    assert_eq!(
        diff.payload["joins"]["one"]["metas"][0]["phx_ref_prev"],
        diff.payload["leaves"]["one"]["metas"][0]["phx_ref"]
    );
    track(&mut one, &one_ref, json!({"n": 2})).await;
    let untrack = json!({"type": "presence", "event": "untrack"});
    one.ask(Some(&one_ref), TOPIC, "presence", &untrack).await;
    let diff = two.expect("presence_diff").await;
    assert_eq!(
        diff.payload["joins"],
        json!({}),
        "the unchanged payload made no diff"
    );
    assert_eq!(tracked(&diff.payload["leaves"], "one"), [json!({"n": 2})]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_key_on_two_sockets_has_two_metas_and_a_lost_socket_leaves() {
    let server = Server::without_changes().await;
    let (mut watcher, _) = joined(&server, Version::V2, "", true).await;
    watcher.expect("presence_state").await;
    let (mut one, one_ref) = joined(&server, Version::V2, "k", false).await;
    let (mut two, two_ref) = joined(&server, Version::V2, "k", false).await;
    track(&mut one, &one_ref, json!({"n": 1})).await;
    track(&mut two, &two_ref, json!({"n": 2})).await;
    let (mut late, _) = joined(&server, Version::V2, "", true).await;
    let state = late.expect("presence_state").await.payload;
    assert_eq!(tracked(&state, "k").len(), 2);
    drop(one.socket);
    let left = late.expect("presence_diff").await;
    assert_eq!(tracked(&left.payload["leaves"], "k"), [json!({"n": 1})]);
    two.push(Some(&two_ref), TOPIC, "phx_leave", &json!({}))
        .await;
    let left = late.expect("presence_diff").await;
    assert_eq!(tracked(&left.payload["leaves"], "k"), [json!({"n": 2})]);
    for _ in 0..4 {
        watcher.expect("presence_diff").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn diffs_reach_channels_that_did_not_ask_for_the_state() {
    let server = Server::without_changes().await;
    let (mut quiet, _) = joined(&server, Version::V1, "q", false).await;
    let (mut one, one_ref) = joined(&server, Version::V2, "one", false).await;
    track(&mut one, &one_ref, json!({})).await;
    quiet.expect("presence_diff").await;
    assert!(
        quiet
            .all()
            .await
            .iter()
            .all(|received| received.event != "presence_state")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_tracked_is_refused() {
    let limits = Limits {
        presence_bytes: 200,
        presences_per_topic: 1,
        ..Limits::default()
    };
    let server = Server::start_with(Options {
        limits,
        without_changes: true,
        ..Options::default()
    })
    .await;
    let (mut client, join_ref) = joined(&server, Version::V2, "k", false).await;
    let reply = track(&mut client, &join_ref, json!([1])).await;
    assert_eq!(
        reply["response"]["reason"],
        "Presence track payload must be a map"
    );
    for call in [
        json!({}),
        json!({"event": "other", "payload": {}}),
        json!("x"),
    ] {
        assert_eq!(
            client.ask(Some(&join_ref), TOPIC, "presence", &call).await["status"],
            "error"
        );
    }
    let python = json!({"event": "TRACK", "payload": {"a": 1}});
    assert_eq!(
        client
            .ask(Some(&join_ref), TOPIC, "presence", &python)
            .await["status"],
        "ok"
    );
    let (mut second, second_ref) = joined(&server, Version::V2, "l", false).await;
    let reply = track(&mut second, &second_ref, json!({})).await;
    assert!(
        reply["response"]["reason"]
            .as_str()
            .unwrap()
            .starts_with("PresenceLimitReached")
    );
    let large = json!({"event": "track", "payload": {"a": "x".repeat(300)}});
    client
        .push(Some(&join_ref), TOPIC, "presence", &large)
        .await;
    assert_eq!(
        client.expect("system").await.payload["message"],
        "Track message size exceeded"
    );
    client.expect("phx_close").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_many_calls_are_refused_first_and_then_end_the_channel() {
    let limits = Limits {
        presence_calls: 2,
        ..Limits::default()
    };
    let server = Server::start_with(Options {
        limits,
        without_changes: true,
        ..Options::default()
    })
    .await;
    let (mut client, join_ref) = joined(&server, Version::V2, "k", false).await;
    let mut statuses = Vec::new();
    for n in 0..4 {
        statuses.push(track(&mut client, &join_ref, json!({"n": n})).await["status"].clone());
    }
    assert_eq!(statuses, ["ok", "ok", "error", "error"]);
    client
        .push(
            Some(&join_ref),
            TOPIC,
            "presence",
            &json!({"event": "untrack"}),
        )
        .await;
    assert_eq!(
        client.expect("system").await.payload["message"],
        "Client presence rate limit exceeded"
    );
    client.expect("phx_close").await;
}

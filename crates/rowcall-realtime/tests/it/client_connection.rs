//! The socket: handshake, heartbeats, loss and return.

use std::{sync::Arc, time::Duration};

use futures_util::SinkExt;
use rowcall_realtime::{
    channel::{Cause, ChangeFilter, ChannelSpec, Event, PushError},
    client::{Client, JoinError, Status},
};
use serde_json::json;
use tokio::time::{Instant, advance, sleep};
use tokio_tungstenite::tungstenite::Message;

use crate::client_server::{Server, down, next, run, status, up, within};

#[tokio::test(start_paused = true)]
async fn a_channel_is_joined_with_the_key_and_version_two() {
    let (mut server, client, _driver) = Server::start();
    let mut room = client.join(ChannelSpec::new("room")).await.unwrap();
    let mut peer = server.accept().await;
    assert_eq!(peer.uri, "/realtime/v1/websocket?apikey=the-key&vsn=2.0.0");
    let join = peer.grant().await;
    assert_eq!(join.topic, "realtime:room");
    assert_eq!(join.join_ref, join.reference);
    assert_eq!(join.payload.get("access_token"), None);
    up(&mut room).await;
    assert_eq!(*client.status().borrow(), Status::Connected);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_connected_without_a_channel() {
    let (mut server, client, driver) = Server::start();
    sleep(Duration::from_mins(1)).await;
    assert_eq!(server.dialled(), 0);
    let room = client.join(ChannelSpec::new("room")).await.unwrap();
    let mut peer = server.accept().await;
    let join = peer.grant().await;
    drop(room);
    let leave = peer.expect("phx_leave").await;
    assert_eq!(leave.join_ref, join.join_ref);
    let last = peer.message().await;
    assert!(matches!(last, Some(Message::Close(_))), "{last:?}");
    status(&client, |status| *status == Status::Idle).await;
    drop(client);
    within(driver).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_missed_heartbeat_is_a_dead_socket() {
    let (mut server, client, _driver) = Server::start();
    let mut room = client.join(ChannelSpec::new("room")).await.unwrap();
    let mut peer = server.accept().await;
    peer.grant().await;
    up(&mut room).await;
    let start = Instant::now();
    let beat = peer.any().await;
    assert_eq!(
        (beat.topic.as_str(), beat.event.as_str()),
        ("phoenix", "heartbeat")
    );
    assert_eq!(start.elapsed().as_secs(), 25);
    peer.reply(&beat, "ok", json!({})).await;
    let unanswered = peer.any().await;
    assert_eq!(unanswered.event, "heartbeat");
    let (cause, reason, _) = down(&mut room).await;
    assert_eq!(cause, Cause::Connection);
    assert!(reason.contains("heartbeat"), "{reason}");
    assert_eq!(start.elapsed().as_secs(), 25 + 25 + 15);
    server.accept().await.grant().await;
    up(&mut room).await;
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_answered_with_another_reference_is_not_answered() {
    let (mut server, client, _driver) = Server::start();
    let mut room = client.join(ChannelSpec::new("room")).await.unwrap();
    let mut peer = server.accept().await;
    peer.grant().await;
    up(&mut room).await;
    let mut beat = peer.any().await;
    beat.reference = json!("99999");
    peer.reply(&beat, "ok", json!({})).await;
    down(&mut room).await;
}

#[tokio::test(start_paused = true)]
async fn a_close_of_the_server_is_confirmed_and_the_client_comes_back() {
    let (mut server, client, _driver) = Server::start();
    let mut room = client.join(ChannelSpec::new("room")).await.unwrap();
    let mut peer = server.accept().await;
    peer.grant().await;
    up(&mut room).await;
    peer.socket.send(Message::Close(None)).await.unwrap();
    assert!(matches!(peer.message().await, Some(Message::Close(_))));
    let (cause, _, retry_in) = down(&mut room).await;
    assert_eq!(
        (cause, retry_in),
        (Cause::Connection, Duration::from_secs(1))
    );
    server.accept().await.grant().await;
    up(&mut room).await;
}

#[tokio::test(start_paused = true)]
async fn every_channel_is_joined_again_and_tracked_again() {
    let (mut server, client, _driver) = Server::start();
    let spec = ChannelSpec::new("machines").presence("m-1");
    let mut machines = client.join(spec).await.unwrap();
    let tickets = ChannelSpec::new("tickets").changes(ChangeFilter::table("public", "tickets"));
    let mut tickets = client.join(tickets).await.unwrap();
    machines
        .sender()
        .track(&json!({"status": "idle"}))
        .await
        .unwrap();
    for round in 0..3 {
        let mut peer = server.accept().await;
        let mut topics = Vec::new();
        for _ in 0..2 {
            topics.push(peer.grant().await.topic);
        }
        assert_eq!(topics, ["realtime:machines", "realtime:tickets"]);
        let track = peer.expect("presence").await;
        assert_eq!(track.payload["payload"], json!({"status": "idle"}));
        peer.subscribed("realtime:tickets").await;
        up(&mut machines).await;
        up(&mut tickets).await;
        drop(peer);
        let (_, _, retry_in) = down(&mut machines).await;
        assert_eq!(retry_in.as_secs(), 1 << round);
        down(&mut tickets).await;
    }
}

#[tokio::test(start_paused = true)]
async fn delays_start_over_only_after_a_stable_while() {
    let (mut server, client, _driver) = Server::start();
    let mut room = client.join(ChannelSpec::new("room")).await.unwrap();
    let mut delays = Vec::new();
    for live_for in [0, 29, 0, 0, 31, 0] {
        let mut peer = server.accept().await;
        peer.grant().await;
        up(&mut room).await;
        peer.serve_until(sleep(Duration::from_secs(live_for))).await;
        drop(peer);
        delays.push(down(&mut room).await.2.as_secs());
    }
    assert_eq!(delays, [1, 2, 4, 8, 1, 2]);
}

#[tokio::test(start_paused = true)]
async fn nothing_that_was_said_while_away_is_sent_later() {
    let (mut server, client, _driver) = Server::start();
    let mut room = client.join(ChannelSpec::new("room")).await.unwrap();
    let sender = room.sender();
    let said = sender.broadcast("hello", &json!({"n": 1})).await;
    assert_eq!(said, Err(PushError::NotJoined));
    let mut peer = server.accept().await;
    peer.grant().await;
    up(&mut room).await;
    sender.broadcast("hello", &json!({"n": 2})).await.unwrap();
    let heard = peer.expect("broadcast").await;
    assert_eq!(
        heard.payload,
        json!({"type": "broadcast", "event": "hello", "payload": {"n": 2}})
    );
}

#[tokio::test(start_paused = true)]
async fn a_busy_server_decides_when_to_come_back() {
    let (mut server, client, _driver) = Server::start();
    let mut room = client.join(ChannelSpec::new("room")).await.unwrap();
    let start = Instant::now();
    let head = "503 Service Unavailable\r\nretry-after: 42";
    server.refuse(head, r#"{"message":"starting"}"#).await;
    let (cause, reason, retry_in) = down(&mut room).await;
    assert_eq!((cause, retry_in.as_secs()), (Cause::Refused, 42));
    assert!(
        reason.contains("503") && reason.contains("starting"),
        "{reason}"
    );
    let far = "429 Too Many Requests\r\nretry-after: 99999999999";
    server.refuse(far, "").await;
    assert_eq!(start.elapsed().as_secs(), 42);
    let (cause, _, retry_in) = down(&mut room).await;
    assert_eq!((cause, retry_in.as_secs()), (Cause::RateLimited, 300));
    server.accept().await.grant().await;
    up(&mut room).await;
}

#[tokio::test(start_paused = true)]
async fn refused_handshakes_are_explained() {
    let (mut server, client, _driver) = Server::start();
    let mut room = client.join(ChannelSpec::new("room")).await.unwrap();
    for (head, body, cause, words) in [
        (
            "401 Unauthorized",
            r#"{"error":"Token has expired"}"#,
            Cause::Unauthorized,
            "Token has expired",
        ),
        (
            "302 Found\r\nlocation: http://server.test/again",
            "",
            Cause::Refused,
            "redirects are not followed",
        ),
        ("404 Not Found", "<html>", Cause::Refused, "no Realtime"),
        ("500 Oops", "[[[[", Cause::Refused, "500"),
    ] {
        server.refuse(head, body).await;
        let (told, reason, _) = down(&mut room).await;
        assert_eq!(told, cause, "{reason}");
        assert!(reason.contains(words), "{reason}");
        assert!(!reason.contains("the-key"), "{reason}");
    }
    assert_eq!(server.dialled(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_never_answers_the_handshake_is_given_up() {
    let (mut server, client, _driver) = Server::start();
    let mut room = client.join(ChannelSpec::new("room")).await.unwrap();
    let silent = server.accept_raw().await;
    let start = Instant::now();
    let (cause, reason, _) = down(&mut room).await;
    assert_eq!(cause, Cause::Connection);
    assert!(reason.contains("in time"), "{reason}");
    assert_eq!(start.elapsed().as_secs(), 15);
    drop(silent);
    server.accept().await.grant().await;
    up(&mut room).await;
}

#[tokio::test(start_paused = true)]
async fn version_one_is_spoken_where_version_two_is_refused() {
    let (mut server, client, _driver) = Server::start();
    let mut room = client.join(ChannelSpec::new("room")).await.unwrap();
    server.refuse("403 Forbidden", "").await;
    down(&mut room).await;
    let mut peer = server.accept().await;
    assert!(peer.uri.ends_with("vsn=1.0.0"), "{}", peer.uri);
    let text = peer.message().await.unwrap().into_text().unwrap();
    let join: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(join["event"], "phx_join");
    let reply = json!({
        "event": "phx_reply", "topic": "realtime:room", "ref": join["ref"],
        "payload": {"status": "ok", "response": {"postgres_changes": []}},
    });
    peer.send(reply).await;
    up(&mut room).await;
    let binary = room.sender().broadcast_bytes("raw", vec![1]).await;
    assert!(matches!(binary, Err(PushError::NotBinary(_))));
    // The end of an earlier join names it by its reference.
    let stale =
        json!({"event": "phx_close", "topic": "realtime:room", "ref": "999", "payload": {}});
    peer.send(stale).await;
    let said = json!({
        "event": "broadcast", "topic": "realtime:room", "ref": null,
        "payload": {"type": "broadcast", "event": "hi", "payload": 1},
    });
    peer.send(said).await;
    assert!(matches!(next(&mut room).await, Event::Broadcast(_)));
}

#[tokio::test(start_paused = true)]
async fn a_topic_is_joined_once_and_channels_are_bounded() {
    let (_server, client, _driver) = Server::start();
    let mut kept = Vec::new();
    for n in 0..rowcall_realtime::client::MAX_CHANNELS {
        let spec = ChannelSpec::new(format!("room-{n}"));
        kept.push(client.join(spec).await.unwrap());
    }
    let again = client.join(ChannelSpec::new("room-7")).await;
    assert_eq!(again.err(), Some(JoinError::Taken("room-7".to_owned())));
    let more = client.join(ChannelSpec::new("more")).await;
    assert_eq!(more.err(), Some(JoinError::TooMany));
    kept.remove(7);
    within(async {
        while client.join(ChannelSpec::new("room-7")).await.is_err() {
            advance(Duration::from_millis(1)).await;
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_driver_ends_every_subscription() {
    let (mut server, config) = Server::new();
    let (client, driver) = Client::new(config);
    let driver = run(driver);
    let mut room = client.join(ChannelSpec::new("room")).await.unwrap();
    server.accept().await.grant().await;
    up(&mut room).await;
    driver.abort();
    within(async { while room.next().await.is_some() {} }).await;
    let closed = room.sender().broadcast("x", &json!({})).await;
    assert_eq!(closed, Err(PushError::Closed));
    let join = client.join(ChannelSpec::new("other")).await;
    assert_eq!(join.err(), Some(JoinError::Closed));
    drop(Arc::new(server));
}

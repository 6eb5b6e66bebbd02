//! Channels: joins, trouble and return, tokens, presence, messages.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use rowcall_realtime::{
    binary::{Encoding, UserBroadcast, UserPush},
    channel::{Cause, ChangeFilter, ChannelSpec, Event, PushError, Said},
    client::{Client, TokenError, TokenSource},
    join::ChangeEvent,
};
use secrecy::SecretString;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use tokio_tungstenite::tungstenite::Message;

use crate::client_server::{Server, down, next, run, up};

fn tickets() -> ChannelSpec {
    let all = ChangeFilter::table("public", "tickets").filter("status=eq.pending");
    let deletes = ChangeFilter::table("public", "tickets").event(ChangeEvent::Delete);
    ChannelSpec::new("tickets").changes(all).changes(deletes)
}

#[tokio::test(start_paused = true)]
async fn a_channel_is_up_when_changes_flow_not_when_the_join_is_answered() {
    let (mut server, client, _driver) = Server::start();
    let mut channel = client.join(tickets()).await.unwrap();
    let mut peer = server.accept().await;
    peer.grant().await;
    let early = tokio::time::timeout(Duration::from_secs(20), channel.next()).await;
    assert!(early.is_err(), "{early:?}");
    peer.subscribed("realtime:tickets").await;
    up(&mut channel).await;
    // The server says it again after every re-subscription.
    peer.subscribed("realtime:tickets").await;
    let change = |ids: Value, kind: &str| {
        json!({"ids": ids, "data": {
            "schema": "public", "table": "tickets", "type": kind,
            "commit_timestamp": "2026-11-21T07:11:00.986Z", "columns": [],
            "record": {"id": 1, "price": 12.50000}, "errors": null, "new key": 1,
        }})
    };
    for (ids, kind) in [
        (json!([7]), "INSERT"),
        (json!([101]), "INSERT"),
        (json!([100, 101]), "DELETE"),
    ] {
        peer.push("realtime:tickets", "postgres_changes", change(ids, kind))
            .await;
    }
    let Event::Change(delete) = next(&mut channel).await else {
        panic!("expected the delete");
    };
    assert_eq!(delete.kind, ChangeEvent::Delete);
    assert_eq!(delete.filters, [0, 1]);
    let record = delete.record.unwrap();
    assert!(record.get().contains("12.5"), "{record}");
}

#[tokio::test(start_paused = true)]
async fn an_unconfirmed_subscription_is_tried_again() {
    let (mut server, client, _driver) = Server::start();
    let mut channel = client.join(tickets()).await.unwrap();
    let mut peer = server.accept().await;
    let first = peer.grant().await;
    peer.serve_until(sleep(Duration::from_secs(30))).await;
    let (cause, reason, _) = down(&mut channel).await;
    assert_eq!(cause, Cause::Subscription);
    assert!(reason.contains("confirm"), "{reason}");
    let second = peer.grant().await;
    assert_ne!(first.join_ref, second.join_ref);
    peer.subscribed("realtime:tickets").await;
    up(&mut channel).await;
}

#[tokio::test(start_paused = true)]
async fn a_reply_with_other_bindings_is_not_believed() {
    let (mut server, client, _driver) = Server::start();
    let mut channel = client.join(tickets()).await.unwrap();
    let mut peer = server.accept().await;
    let asked = json!({"event": "*", "schema": "public", "table": "tickets", "filter": "status=eq.pending", "id": 1});
    for bindings in [
        json!(null),
        json!([]),
        json!([asked]),
        json!([asked, {"event": "DELETE", "schema": "public", "table": "other", "id": 2}]),
        json!([asked, {"event": "DELETE", "schema": "public", "table": "tickets", "id": "2"}]),
        json!("tickets"),
    ] {
        let join = peer.expect("phx_join").await;
        peer.reply(&join, "ok", json!({"postgres_changes": bindings}))
            .await;
        let (cause, reason, _) = down(&mut channel).await;
        assert_eq!(cause, Cause::Subscription, "{bindings}");
        assert!(reason.contains("other changes"), "{reason}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_table_that_is_not_published_is_told_and_tried_again_later() {
    let (mut server, client, _driver) = Server::start();
    let mut channel = client.join(tickets()).await.unwrap();
    let mut peer = server.accept().await;
    let first = peer.grant().await;
    let start = Instant::now();
    let denied = json!({
        "extension": "postgres_changes", "status": "error", "channel": "tickets",
        "message": "Unable to subscribe to changes with given parameters.",
    });
    peer.push("realtime:tickets", "system", denied.clone())
        .await;
    let (cause, reason, retry_in) = down(&mut channel).await;
    assert_eq!((cause, retry_in.as_secs()), (Cause::Subscription, 30));
    assert!(reason.contains("Unable to subscribe"), "{reason}");
    let second = peer.grant().await;
    assert_eq!(start.elapsed().as_secs(), 30);
    assert_ne!(second.join_ref, first.join_ref);
    // The server may come round by itself.
    peer.push("realtime:tickets", "system", denied).await;
    down(&mut channel).await;
    peer.subscribed("realtime:tickets").await;
    up(&mut channel).await;
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_channel_is_recovered_from() {
    let (mut server, client, _driver) = Server::start();
    let mut channel = client.join(ChannelSpec::new("room")).await.unwrap();
    let mut peer = server.accept().await;
    let mut join = peer.grant().await;
    up(&mut channel).await;
    for (event, payload) in [
        ("phx_close", json!({})),
        ("phx_error", json!({"reason": "channel_crash"})),
        ("phx_error", json!("odd")),
    ] {
        let end = json!([join.join_ref, join.join_ref, join.topic, event, payload]);
        peer.send(end.clone()).await;
        let (cause, _, _) = down(&mut channel).await;
        assert_eq!(cause, Cause::Refused);
        join = peer.grant().await;
        up(&mut channel).await;
        // What belongs to the earlier join does not end the new one.
        peer.send(end).await;
    }
    assert_eq!(server.dialled(), 1, "the socket stays");
    channel
        .sender()
        .broadcast("alive", &json!({}))
        .await
        .unwrap();
    peer.expect("broadcast").await;
}

#[tokio::test(start_paused = true)]
async fn joins_that_are_not_answered_are_made_again() {
    let (mut server, client, _driver) = Server::start();
    let mut channel = client.join(ChannelSpec::new("room")).await.unwrap();
    let mut peer = server.accept().await;
    let first = peer.expect("phx_join").await;
    let (cause, reason, retry_in) = down(&mut channel).await;
    assert_eq!((cause, retry_in.as_secs()), (Cause::Connection, 1));
    assert!(reason.contains("join"), "{reason}");
    let second = peer.expect("phx_join").await;
    // A late answer to the first join is no answer to the second.
    peer.reply(&first, "ok", json!({})).await;
    peer.reply(
        &second,
        "error",
        json!({"reason": "Unknown Error on Channel"}),
    )
    .await;
    let (cause, reason, _) = down(&mut channel).await;
    assert_eq!(
        (cause, reason.as_str()),
        (Cause::Refused, "Unknown Error on Channel")
    );
    peer.grant().await;
    up(&mut channel).await;
}

#[tokio::test(start_paused = true)]
async fn limits_make_the_channel_wait_also_on_a_new_socket() {
    let (mut server, client, _driver) = Server::start();
    let mut channel = client.join(ChannelSpec::new("room")).await.unwrap();
    let mut peer = server.accept().await;
    let join = peer.expect("phx_join").await;
    let start = Instant::now();
    let reason = "ClientJoinRateLimitReached: Too many joins per second";
    peer.reply(&join, "error", json!({"reason": reason})).await;
    let (cause, _, retry_in) = down(&mut channel).await;
    assert_eq!((cause, retry_in.as_secs()), (Cause::RateLimited, 30));
    drop(peer);
    down(&mut channel).await;
    let mut peer = server.accept().await;
    peer.grant().await;
    assert_eq!(start.elapsed().as_secs(), 30);
    up(&mut channel).await;
    let exceeded = json!({
        "extension": "system", "status": "error", "channel": "room",
        "message": "Client presence rate limit exceeded",
    });
    peer.push("realtime:room", "system", exceeded).await;
    let (cause, _, _) = down(&mut channel).await;
    assert_eq!(cause, Cause::RateLimited);
}

/// Tokens `t-1`, `t-2`, …: the next one whenever the last was rejected or a test says so.
#[derive(Default)]
struct Tokens {
    current: AtomicU32,
    rejected: AtomicU32,
    broken: AtomicU32,
}

#[async_trait]
impl TokenSource for Tokens {
    async fn token(&self) -> Result<Option<SecretString>, TokenError> {
        if self.broken.load(Ordering::Relaxed) > 0 {
            self.broken.fetch_sub(1, Ordering::Relaxed);
            return Err(TokenError("the refresh token is used up".to_owned()));
        }
        let current = self.current.load(Ordering::Relaxed);
        Ok(Some(format!("t-{current}").into()))
    }

    fn rejected(&self) {
        self.rejected.fetch_add(1, Ordering::Relaxed);
        self.current.fetch_add(1, Ordering::Relaxed);
    }
}

fn with_tokens() -> (Server, Client, Arc<Tokens>) {
    let (server, config) = Server::new();
    let tokens = Arc::new(Tokens::default());
    let (client, driver) = Client::new(config.tokens(tokens.clone()));
    run(driver);
    (server, client, tokens)
}

#[tokio::test(start_paused = true)]
async fn a_new_token_is_told_to_every_channel_once() {
    let (mut server, client, tokens) = with_tokens();
    let mut one = client.join(ChannelSpec::new("one")).await.unwrap();
    let mut two = client.join(ChannelSpec::new("two")).await.unwrap();
    let mut peer = server.accept().await;
    for _ in 0..2 {
        let join = peer.grant().await;
        assert_eq!(join.payload["access_token"], "t-0");
    }
    up(&mut one).await;
    up(&mut two).await;
    peer.serve_until(sleep(Duration::from_mins(1))).await;
    tokens.current.store(1, Ordering::Relaxed);
    let start = Instant::now();
    for topic in ["realtime:one", "realtime:two"] {
        let push = peer.expect("access_token").await;
        assert_eq!(push.topic, topic);
        assert_eq!(push.payload, json!({"access_token": "t-1"}));
    }
    assert!(
        start.elapsed() <= Duration::from_secs(25),
        "{:?}",
        start.elapsed()
    );
    tokens.current.store(2, Ordering::Relaxed);
    client.refresh_token().await;
    let asked = Instant::now();
    peer.expect("access_token").await;
    assert_eq!(asked.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn an_expired_token_is_replaced_before_the_next_join() {
    let (mut server, client, tokens) = with_tokens();
    let mut channel = client.join(ChannelSpec::new("room")).await.unwrap();
    let mut peer = server.accept().await;
    let join = peer.grant().await;
    up(&mut channel).await;
    let expired = json!({
        "extension": "system", "status": "error", "channel": "room",
        "message": "Token has expired 3 seconds ago",
    });
    peer.push("realtime:room", "system", expired).await;
    peer.send(json!([
        join.join_ref,
        join.join_ref,
        join.topic,
        "phx_close",
        {}
    ]))
    .await;
    let (cause, reason, _) = down(&mut channel).await;
    assert_eq!(cause, Cause::Unauthorized);
    assert!(reason.contains("expired"), "{reason}");
    let again = peer.expect("phx_join").await;
    assert_eq!(again.payload["access_token"], "t-1");
    assert_eq!(tokens.rejected.load(Ordering::Relaxed), 1);
    let reason = "InvalidJWTToken: Token has expired 5 seconds ago";
    peer.reply(&again, "error", json!({"reason": reason})).await;
    down(&mut channel).await;
    let third = peer.grant().await;
    assert_eq!(third.payload["access_token"], "t-2");
    up(&mut channel).await;
}

#[tokio::test(start_paused = true)]
async fn without_a_token_nobody_joins_as_somebody_else() {
    let (mut server, client, tokens) = with_tokens();
    tokens.broken.store(2, Ordering::Relaxed);
    let mut channel = client.join(ChannelSpec::new("room")).await.unwrap();
    for _ in 0..2 {
        let (cause, reason, _) = down(&mut channel).await;
        assert_eq!(cause, Cause::Unauthorized);
        assert!(reason.contains("used up"), "{reason}");
    }
    assert_eq!(server.dialled(), 0);
    server.accept().await.grant().await;
    up(&mut channel).await;
}

#[tokio::test(start_paused = true)]
async fn presence_is_debounced_within_the_servers_limit() {
    let (mut server, client, _driver) = Server::start();
    let spec = ChannelSpec::new("machines").presence("m-1");
    let mut channel = client.join(spec).await.unwrap();
    let sender = channel.sender();
    let mut peer = server.accept().await;
    peer.grant().await;
    up(&mut channel).await;
    let flood = async {
        for n in 0..300 {
            sender.track(&json!({"running": n})).await.unwrap();
            sleep(Duration::from_millis(100)).await;
        }
        sleep(Duration::from_secs(9)).await;
    };
    let mut calls = Vec::new();
    tokio::pin!(flood);
    let start = Instant::now();
    loop {
        tokio::select! {
            () = &mut flood => break,
            heard = peer.hear() => {
                assert_eq!(heard.event, "presence");
                calls.push((start.elapsed().as_secs(), heard.payload["payload"]["running"].clone()));
            }
        }
    }
    for window in calls.windows(5) {
        assert!(window[4].0 - window[0].0 > 30, "{calls:?}");
    }
    assert_eq!(calls.last().unwrap().1, 299);
    assert!(sender.track(&json!([1])).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn who_is_present_is_known_and_forgotten_with_the_socket() {
    let (mut server, client, _driver) = Server::start();
    let spec = ChannelSpec::new("machines").presence("m-1");
    let mut channel = client.join(spec).await.unwrap();
    let present = channel.present();
    let mut peer = server.accept().await;
    peer.grant().await;
    up(&mut channel).await;
    let state = json!({"m-1": {"metas": [{"phx_ref": "a"}]}});
    peer.push("realtime:machines", "presence_state", state)
        .await;
    let diff = json!({"joins": {"m-2": {"metas": [{"phx_ref": "b", "app": "x"}]}}, "leaves": {}});
    peer.push("realtime:machines", "presence_diff", diff).await;
    for _ in 0..2 {
        let event = next(&mut channel).await;
        assert!(matches!(event, Event::Presence(_)), "{event:?}");
    }
    assert_eq!(present.borrow().keys().collect::<Vec<_>>(), ["m-1", "m-2"]);
    drop(peer);
    down(&mut channel).await;
    assert!(present.borrow().is_empty());
}

#[tokio::test(start_paused = true)]
async fn acknowledged_messages_tell_how_they_fared() {
    let (mut server, client, _driver) = Server::start();
    let spec = ChannelSpec::new("room").private().acknowledged();
    let mut channel = client.join(spec).await.unwrap();
    let mut peer = server.accept().await;
    let join = peer.grant().await;
    assert_eq!(join.payload["config"]["private"], true);
    up(&mut channel).await;
    let sender = channel.sender();
    let send = |n: u32| {
        let sender = sender.clone();
        tokio::spawn(async move { sender.broadcast("e", &json!(n)).await })
    };
    let (fine, refused, slow) = (send(1), send(2), send(3));
    for _ in 0..3 {
        let push = peer.expect("broadcast").await;
        match push.payload["payload"].as_u64() {
            Some(1) => peer.reply(&push, "ok", json!({})).await,
            Some(2) => {
                let response = json!({"error": "payload_size_exceeded"});
                peer.reply(&push, "error", response).await;
            }
            _ => {}
        }
    }
    assert_eq!(fine.await.unwrap(), Ok(()));
    let reason = "payload_size_exceeded".to_owned();
    assert_eq!(refused.await.unwrap(), Err(PushError::Refused(reason)));
    assert_eq!(slow.await.unwrap(), Err(PushError::TimedOut));
    let lost = send(4);
    peer.expect("broadcast").await;
    drop(peer);
    assert_eq!(lost.await.unwrap(), Err(PushError::Lost));
}

#[tokio::test(start_paused = true)]
async fn messages_come_as_text_and_as_binary_frames() {
    let (mut server, client, _driver) = Server::start();
    let mut channel = client.join(ChannelSpec::new("room")).await.unwrap();
    let mut peer = server.accept().await;
    peer.grant().await;
    up(&mut channel).await;
    let text = json!({"type": "broadcast", "event": "a", "payload": {"n": 1}, "meta": {"id": "x"}});
    peer.push("realtime:room", "broadcast", text).await;
    for (encoding, payload) in [
        (Encoding::Json, &br#"{"n":2}"#[..]),
        (Encoding::Binary, &[1, 2, 255][..]),
    ] {
        let frame = UserBroadcast {
            topic: "realtime:room",
            event: "b",
            meta: r#"{"id":"y"}"#,
            encoding,
            payload,
        };
        let message = Message::Binary(frame.encode().unwrap());
        futures_util::SinkExt::send(&mut peer.socket, message)
            .await
            .unwrap();
    }
    let mut heard = Vec::new();
    for _ in 0..3 {
        let Event::Broadcast(broadcast) = next(&mut channel).await else {
            panic!("expected a broadcast");
        };
        assert!(broadcast.meta.is_some());
        heard.push(broadcast);
    }
    assert_eq!(heard[0].payload.read::<Value>().unwrap(), json!({"n": 1}));
    assert_eq!(heard[1].payload.read::<Value>().unwrap(), json!({"n": 2}));
    assert!(matches!(&heard[2].payload, Said::Bytes(bytes) if bytes[..] == [1, 2, 255]));
    channel
        .sender()
        .broadcast_bytes("raw", vec![9, 8])
        .await
        .unwrap();
    let Some(Message::Binary(bytes)) = peer.message().await else {
        panic!("expected a binary frame");
    };
    let push = UserPush::decode(&bytes).unwrap();
    assert_eq!(
        (push.topic, push.event, push.payload),
        ("realtime:room", "raw", &[9, 8][..])
    );
}

#[tokio::test(start_paused = true)]
async fn the_last_position_is_offered_after_a_rejoin() {
    let (mut server, client, _driver) = Server::start();
    let mut channel = client.join(tickets()).await.unwrap();
    let mut peer = server.accept().await;
    let join = peer.grant().await;
    assert_eq!(join.payload["config"].get("postgres_changes_options"), None);
    peer.subscribed("realtime:tickets").await;
    up(&mut channel).await;
    let change = json!({"ids": [100], "data": {
        "schema": "public", "table": "tickets", "type": "INSERT", "record": {"id": 1}, "lsn": "0/2A",
    }});
    peer.push("realtime:tickets", "postgres_changes", change)
        .await;
    assert!(matches!(next(&mut channel).await, Event::Change(_)));
    drop(peer);
    down(&mut channel).await;
    let join = server.accept().await.grant().await;
    assert_eq!(
        join.payload["config"]["postgres_changes_options"],
        json!({"since": "0/2A"})
    );
}

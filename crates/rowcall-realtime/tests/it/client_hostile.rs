//! Servers that do harm: garbage, wrong types, huge frames, silence.

use std::time::Duration;

use futures_util::SinkExt;
use proptest::prelude::*;
use rowcall_realtime::{
    channel::{Cause, ChangeFilter, ChannelSpec, Event},
    client::{Client, InboxLimits},
    frame::MAX_FRAME_BYTES,
};
use serde_json::json;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Message;

use crate::client_server::{Peer, Server, down, next, run, up, within};

async fn room() -> (Server, Client, rowcall_realtime::client::Subscription, Peer) {
    let (mut server, client, _driver) = Server::start();
    let spec = ChannelSpec::new("room")
        .presence("me")
        .changes(ChangeFilter::table("public", "t"));
    let mut channel = client.join(spec).await.expect("a channel");
    let mut peer = server.accept().await;
    peer.grant().await;
    peer.subscribed("realtime:room").await;
    up(&mut channel).await;
    (server, client, channel, peer)
}

#[tokio::test(start_paused = true)]
async fn a_little_nonsense_is_ignored_a_lot_ends_the_socket() {
    let (mut server, _client, mut channel, mut peer) = room().await;
    for n in 0..40 {
        peer.send_text(["", "null", "[1,2", "{}", "[]"][n % 5])
            .await;
        peer.push("realtime:room", "postgres_changes", json!({"ids": "all"}))
            .await;
    }
    for bytes in [vec![], vec![0], vec![4, 255], vec![9; 100]] {
        let message = Message::Binary(bytes.into());
        peer.socket.send(message).await.unwrap();
    }
    let change =
        json!({"ids": [100], "data": {"schema": "public", "table": "t", "type": "INSERT"}});
    peer.push("realtime:room", "postgres_changes", change).await;
    assert!(matches!(next(&mut channel).await, Event::Change(_)));
    for _ in 0..30 {
        peer.send_text("garbage").await;
    }
    let (cause, reason, _) = down(&mut channel).await;
    assert_eq!(cause, Cause::Refused);
    assert!(reason.contains("no sense"), "{reason}");
    server.accept().await.grant().await;
}

#[tokio::test(start_paused = true)]
async fn a_huge_frame_ends_the_socket_without_being_kept() {
    let (mut server, _client, mut channel, mut peer) = room().await;
    let huge = Message::Text("x".repeat(MAX_FRAME_BYTES + 1).into());
    // The client may close while this is still being written.
    let sending = tokio::spawn(async move { peer.socket.send(huge).await });
    let (cause, reason, _) = down(&mut channel).await;
    assert_eq!(cause, Cause::Connection);
    assert!(reason.contains("too much"), "{reason}");
    server.accept().await.grant().await;
    let _ = within(sending).await;
}

#[tokio::test(start_paused = true)]
async fn presences_without_end_are_not_kept() {
    let (_server, _client, mut channel, mut peer) = room().await;
    let filler = "x".repeat(1_000_000);
    let feeding = tokio::spawn(async move {
        for n in 0..40 {
            let joins =
                json!({format!("m-{n}"): {"metas": [{"phx_ref": n.to_string(), "f": filler}]}});
            let diff = json!({"joins": joins, "leaves": {}});
            peer.push("realtime:room", "presence_diff", diff).await;
        }
        peer
    });
    let (cause, reason, _) = down(&mut channel).await;
    assert_eq!(cause, Cause::Refused);
    assert!(reason.contains("presences"), "{reason}");
    within(feeding).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_read_is_given_up() {
    let (_server, _client, mut channel, peer) = room().await;
    let sender = channel.sender();
    let start = Instant::now();
    let filler = "x".repeat(100_000);
    let mut refused = false;
    for _ in 0..10 {
        refused |= sender.broadcast("e", &filler).await.is_err();
    }
    assert!(!refused, "a megabyte may wait");
    let (cause, reason, _) = down(&mut channel).await;
    assert_eq!(cause, Cause::Connection);
    assert!(reason.contains("does not read"), "{reason}");
    assert!(
        start.elapsed() <= Duration::from_secs(40),
        "{:?}",
        start.elapsed()
    );
    drop(peer);
}

#[tokio::test(start_paused = true)]
async fn who_takes_no_events_is_told_what_was_missed() {
    let (mut server, config) = Server::new();
    let limits = InboxLimits {
        events: 10,
        bytes: 1 << 20,
    };
    let (client, driver) = Client::new(config.inbox(limits));
    run(driver);
    let mut channel = client.join(ChannelSpec::new("room")).await.unwrap();
    let mut peer = server.accept().await;
    peer.grant().await;
    for n in 0..100 {
        let payload = json!({"type": "broadcast", "event": "e", "payload": n});
        peer.push("realtime:room", "broadcast", payload).await;
    }
    // The driver has taken all frames when it answers what came after them.
    peer.socket
        .send(Message::Ping(vec![1].into()))
        .await
        .unwrap();
    assert!(matches!(peer.message().await, Some(Message::Pong(_))));
    assert!(matches!(
        next(&mut channel).await,
        Event::Lagged { dropped: 91 }
    ));
    let Event::Broadcast(broadcast) = next(&mut channel).await else {
        panic!("expected a broadcast");
    };
    assert_eq!(broadcast.payload.read::<u32>().unwrap(), 90);
}

/// What a server may say on a channel, sensible or not.
fn frames() -> impl Strategy<Value = String> {
    let event = prop_oneof![
        proptest::sample::select(vec![
            "phx_reply",
            "phx_close",
            "phx_error",
            "system",
            "broadcast",
            "presence_state",
            "presence_diff",
            "postgres_changes",
        ])
        .prop_map(str::to_owned),
        any::<String>(),
    ];
    let payload = proptest::sample::select(vec![
        "null",
        "[]",
        "{}",
        "7",
        r#"{"status":"ok"}"#,
        r#"{"status":"ok","response":null}"#,
        r#"{"status":"error","response":{"reason":7}}"#,
        r#"{"status":1,"response":{}}"#,
        r#"{"extension":"system","status":"error","message":{"a":1}}"#,
        r#"{"extension":"postgres_changes","status":"ok"}"#,
        r#"{"event":"e"}"#,
        r#"{"event":null,"payload":{}}"#,
        r#"{"joins":{"a":{"metas":[{"phx_ref":"1"}]}},"leaves":[]}"#,
        r#"{"a":{"metas":[{"phx_ref":"1"}]}}"#,
        r#"{"ids":[1,"2"],"data":{}}"#,
        r#"{"ids":[100],"data":{"schema":"s","table":"t","type":"TRUNCATE"}}"#,
        r#"{"ids":[100],"data":{"schema":"s","table":"t","type":"INSERT","errors":"x"}}"#,
    ]);
    let reference = proptest::sample::select(vec!["null", r#""1""#, r#""2""#, "3", "true"]);
    (reference.clone(), reference, event, payload).prop_map(
        |(join_ref, reference, event, payload)| {
            let event = rowcall_realtime::frame::json_string(&event);
            format!(r#"[{join_ref},{reference},"realtime:room",{event},{payload}]"#)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever a server says, the client neither panics nor gets stuck: the next server finds it well.
    #[test]
    fn any_conversation_is_survived(said in prop::collection::vec(frames(), 0..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let (mut server, _client, channel, mut peer) = room().await;
            for text in said {
                if peer.socket.send(Message::Text(text.into())).await.is_err() {
                    break;
                }
            }
            drop(peer);
            let mut channel = channel;
            let mut peer = server.accept().await;
            peer.grant().await;
            peer.subscribed("realtime:room").await;
            within(async {
                while !matches!(channel.next().await, Some(Event::Up)) {}
            })
            .await;
        });
    }
}

use futures_util::{SinkExt as _, StreamExt as _};
use rowcall_realtime::Version;
use rowcall_stack::realtime::Limits;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite;

use super::client::Client;
use super::server::{NOW, Options, Server};

/// Status and body of a refused handshake.
async fn refused(server: &Server, query: &str) -> (u16, Value) {
    let url = format!("ws://{}/realtime/v1/websocket?{query}", server.address);
    match tokio_tungstenite::connect_async(url).await {
        Err(tungstenite::Error::Http(response)) => {
            let body = response.body().as_deref().unwrap_or_default();
            (
                response.status().as_u16(),
                serde_json::from_slice(body).unwrap_or_default(),
            )
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_handshake_says_what_is_wrong_with_the_key() {
    let server = Server::without_changes().await;
    assert_eq!(
        refused(&server, "vsn=2.0.0").await,
        (401, json!({"error": "API key is missing"}))
    );
    let expired = server.token_until("anon", NOW - 100, &json!({}));
    assert_eq!(
        refused(&server, &format!("apikey={expired}")).await,
        (401, json!({"error": "Token has expired 100 seconds ago"}))
    );
    let no_role = server.keys.sign(&json!({"exp": NOW + 100}));
    assert_eq!(
        refused(&server, &format!("apikey={no_role}")).await,
        (
            401,
            json!({"error": "Fields `role` and `exp` are required in JWT"})
        )
    );
    assert_eq!(
        refused(&server, "apikey=nonsense").await,
        (
            401,
            json!({"error": "The token provided is not a valid JWT"})
        )
    );
    let root = server.token("postgres", &json!({}));
    assert_eq!(refused(&server, &format!("apikey={root}")).await.0, 401);
    let key = server.keys.anon_key();
    assert_eq!(
        refused(&server, &format!("apikey={key}&vsn=3.0.0")).await.0,
        400
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn opaque_keys_open_a_socket_and_a_missing_version_is_the_first() {
    let server = Server::without_changes().await;
    let key = server.keys.publishable_key();
    let url = format!("ws://{}/realtime/v1/websocket?apikey={key}", server.address);
    let (mut socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
    let heartbeat =
        r#"{"event":"heartbeat","payload":{},"topic":"phoenix","ref":null,"join_ref":null}"#;
    socket.send(heartbeat.into()).await.unwrap();
    let reply = socket.next().await.unwrap().unwrap().into_text().unwrap();
    assert_eq!(
        reply.as_str(),
        r#"{"event":"phx_reply","payload":{"status":"ok","response":{}},"ref":null,"topic":"phoenix"}"#
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_that_are_not_joined_are_unmatched_and_leaving_them_is_fine() {
    let server = Server::without_changes().await;
    for version in [Version::V1, Version::V2] {
        let mut client = Client::connect(&server, version, server.keys.anon_key()).await;
        for (topic, event) in [
            ("room", "phx_join"),
            ("realtime:x", "broadcast"),
            ("phoenix", "other"),
        ] {
            let reply = client.ask(Some("9"), topic, event, &json!({})).await;
            assert_eq!(
                reply,
                json!({"status": "error", "response": {"reason": "unmatched topic"}})
            );
        }
        let reply = client
            .ask(None, "realtime:x", "phx_leave", &json!({}))
            .await;
        assert_eq!(reply, json!({"status": "ok", "response": {}}));
        let nameless = client
            .ask(Some("9"), "realtime:", "phx_join", &json!({}))
            .await;
        assert_eq!(
            nameless["response"]["reason"],
            "TopicNameRequired: You must provide a topic name"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_join_is_answered_with_its_bindings_and_leaving_closes() {
    let server = Server::without_changes().await;
    let mut client = Client::anon(&server).await;
    let (join_ref, reply) = client.try_join("realtime:a", json!({"config": {}})).await;
    assert_eq!(
        reply,
        json!({"status": "ok", "response": {"postgres_changes": []}})
    );
    let reference = client
        .push(Some(&join_ref), "realtime:a", "phx_leave", &json!({}))
        .await;
    let reply = client.reply_to(&reference).await;
    assert_eq!(reply.join_ref.as_deref(), Some(&*join_ref));
    let close = client.expect("phx_close").await;
    assert_eq!(close.join_ref.as_deref(), Some(&*join_ref));
    assert_eq!(close.reference.as_deref(), Some(&*join_ref));
    let gone = client
        .ask(None, "realtime:a", "broadcast", &json!({}))
        .await;
    assert_eq!(gone["response"]["reason"], "unmatched topic");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn joining_again_ends_the_old_channel_first() {
    let server = Server::without_changes().await;
    let mut client = Client::anon(&server).await;
    let old = client
        .join("realtime:a", json!({"broadcast": {"ack": true}}))
        .await;
    let new = client
        .join("realtime:a", json!({"broadcast": {"ack": true}}))
        .await;
    let all = client.all().await;
    let events: Vec<_> = all
        .iter()
        .map(|received| (&*received.event, received.join_ref.as_deref()))
        .collect();
    assert_eq!(events, [("phx_close", Some(&*old))]);
    let stale = client
        .push(
            Some(&old),
            "realtime:a",
            "broadcast",
            &json!({"event": "e"}),
        )
        .await;
    let current = client
        .push(
            Some(&new),
            "realtime:a",
            "broadcast",
            &json!({"event": "e"}),
        )
        .await;
    client.reply_to(&current).await;
    let answered = client
        .all()
        .await
        .iter()
        .any(|received| received.reference == Some(stale.clone()));
    assert!(!answered, "a message of the old channel is ignored");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_of_joins_are_checked_and_opaque_ones_are_not_looked_at() {
    let server = Server::without_changes().await;
    let mut client = Client::anon(&server).await;
    let expired = server.token_until("anon", NOW - 7, &json!({}));
    let mut reason = async |token: &str| {
        let (_, reply) = client
            .try_join("realtime:a", json!({"access_token": token}))
            .await;
        reply["response"]["reason"].as_str().map(str::to_owned)
    };
    assert_eq!(
        reason(&expired).await.as_deref(),
        Some("InvalidJWTToken: Token has expired 7 seconds ago")
    );
    assert_eq!(
        reason("x").await.as_deref(),
        Some("MalformedJWT: The token provided is not a valid JWT")
    );
    let root = server.token("postgres", &json!({}));
    assert!(
        reason(&root)
            .await
            .unwrap()
            .starts_with("InvalidJWTToken: The role `postgres`")
    );
    assert_eq!(reason("sb_publishable_anything").await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expired_channel_ends_with_a_notice() {
    let server = Server::without_changes().await;
    let mut client = Client::anon(&server).await;
    let token = server.token_until("authenticated", NOW + 1, &json!({}));
    let (join_ref, reply) = client
        .try_join("realtime:a", json!({"access_token": token}))
        .await;
    assert_eq!(reply["status"], "ok");
    server.clock.advance(std::time::Duration::from_secs(1));
    let notice = client.expect("system").await;
    assert_eq!(
        notice.payload,
        json!({"extension": "system", "status": "error", "message": "Token has expired 0 seconds ago", "channel": "a"})
    );
    assert_eq!(
        client.expect("phx_close").await.join_ref.as_deref(),
        Some(&*join_ref)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refreshed_token_keeps_the_channel_and_a_bad_one_ends_it() {
    let server = Server::without_changes().await;
    let mut client = Client::anon(&server).await;
    let token = server.token_until("authenticated", NOW + 1, &json!({}));
    let (join_ref, _) = client
        .try_join(
            "realtime:a",
            json!({"access_token": token, "config": {"broadcast": {"ack": true}}}),
        )
        .await;
    let join_ref = Some(&*join_ref);
    for ignored in [json!(null), json!("sb_publishable_x"), json!(token)] {
        client
            .push(
                join_ref,
                "realtime:a",
                "access_token",
                &json!({"access_token": ignored}),
            )
            .await;
    }
    let longer = server.token("authenticated", &json!({}));
    client
        .push(
            join_ref,
            "realtime:a",
            "access_token",
            &json!({"access_token": longer}),
        )
        .await;
    assert_eq!(client.all().await, [], "no reply to any of them");
    server.clock.advance(std::time::Duration::from_secs(5));
    let reply = client
        .ask(join_ref, "realtime:a", "broadcast", &json!({"event": "e"}))
        .await;
    assert_eq!(reply["status"], "ok");
    client
        .push(
            join_ref,
            "realtime:a",
            "access_token",
            &json!({"access_token": "rubbish"}),
        )
        .await;
    assert_eq!(
        client.expect("system").await.payload["message"],
        "The token provided is not a valid JWT"
    );
    client.expect("phx_close").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_frame_closes_the_socket_and_no_other() {
    let server = Server::without_changes().await;
    let mut other = Client::anon(&server).await;
    for text in ["", "{}", "[]", "[1,2,3]", "\u{0}", &"[".repeat(100_000)] {
        let mut client = Client::anon(&server).await;
        client.send_raw(text).await;
        assert_eq!(client.closed().await, 1002, "{text:.20}");
    }
    let mut client = Client::anon(&server).await;
    client
        .socket
        .send(tungstenite::Message::binary(vec![3, 200, 1]))
        .await
        .unwrap();
    assert_eq!(client.closed().await, 1002);
    assert_eq!(other.all().await, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_have_their_own_reasons() {
    let limits = Limits {
        connections: 2,
        channels_per_connection: 1,
        frame_bytes: 100_000,
        messages_per_second: Some(3),
        ..Limits::default()
    };
    let server = Server::start_with(Options {
        limits,
        without_changes: true,
        ..Options::default()
    })
    .await;
    let mut client = Client::anon(&server).await;
    let mut second = Client::anon(&server).await;
    match Client::try_connect(&server, Version::V2, server.keys.anon_key()).await {
        Err(tungstenite::Error::Http(response)) => assert_eq!(response.status(), 429),
        _ => panic!("a third socket is one too many"),
    }
    let join_ref = client.join("realtime:a", json!({})).await;
    let (_, reply) = client.try_join("realtime:b", json!({})).await;
    assert_eq!(
        reply["response"]["reason"],
        "ChannelRateLimitReached: Too many channels"
    );
    for _ in 0..4 {
        client
            .push(
                Some(&join_ref),
                "realtime:a",
                "broadcast",
                &json!({"event": "e"}),
            )
            .await;
    }
    assert_eq!(
        client.expect("system").await.payload["message"],
        "Too many messages per second"
    );
    client.expect("phx_close").await;
    second.send_raw(&"x".repeat(100_001)).await;
    assert_eq!(second.closed().await, 1009);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn joins_have_a_rate() {
    let limits = Limits {
        joins_per_second: Some(1),
        ..Limits::default()
    };
    let server = Server::start_with(Options {
        limits,
        without_changes: true,
        ..Options::default()
    })
    .await;
    let mut client = Client::anon(&server).await;
    for topic in ["realtime:a", "realtime:b", "realtime:c"] {
        client.push(Some("1"), topic, "phx_join", &json!({})).await;
    }
    let refused = client
        .expect_where("a refusal", |received| {
            received.payload["response"]["reason"]
                == "ClientJoinRateLimitReached: Too many joins per second"
        })
        .await;
    assert_eq!(refused.event, "phx_reply");
    assert_eq!(client.closed().await, 1008);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_private_channels_where_that_is_set() {
    let options = Options {
        private_only: true,
        without_changes: true,
        ..Options::default()
    };
    let server = Server::start_with(options).await;
    let mut client = Client::anon(&server).await;
    let (_, reply) = client.try_join("realtime:a", json!({})).await;
    assert_eq!(
        reply["response"]["reason"],
        "PrivateOnly: This project only allows private channels"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shutting_down_closes_sockets_so_that_clients_come_back() {
    let server = Server::without_changes().await;
    let mut client = Client::anon(&server).await;
    client.join("realtime:a", json!({})).await;
    let (closed, _) = tokio::join!(client.closed(), server.shutdown());
    assert_eq!(closed, 1012);
}

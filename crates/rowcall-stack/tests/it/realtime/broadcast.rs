use rowcall_realtime::Version;
use rowcall_realtime::binary::Encoding;
use rowcall_stack::realtime::Limits;
use serde_json::{Value, json};

use super::client::{Client, Received};
use super::server::{Options, Server, http_client};

const TOPIC: &str = "realtime:room";

async fn joined(server: &Server, version: Version, broadcast: Value) -> (Client, String) {
    let mut client = Client::connect(server, version, server.keys.anon_key()).await;
    let join_ref = client.join(TOPIC, json!({"broadcast": broadcast})).await;
    (client, join_ref)
}

fn pushed(event: &str, payload: &Value) -> Value {
    json!({"type": "broadcast", "event": event, "payload": payload})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_text_push_reaches_the_others_as_it_is() {
    let server = Server::without_changes().await;
    let (mut sender, join_ref) =
        joined(&server, Version::V1, json!({"ack": false, "self": false})).await;
    let (mut v1, _) = joined(&server, Version::V1, json!(null)).await;
    let (mut v2, _) = joined(&server, Version::V2, json!({})).await;
    let payload = json!({"type": "broadcast", "event": "e", "payload": {"a": 1}, "extra": "kept"});
    sender
        .push(Some(&join_ref), TOPIC, "broadcast", &payload)
        .await;
    for client in [&mut v1, &mut v2] {
        let received = client.expect("broadcast").await;
        assert_eq!(received.payload, payload);
        assert_eq!((received.join_ref, received.reference), (None, None));
    }
    assert_eq!(sender.all().await, [], "neither an echo nor a reply");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn self_and_ack_are_as_asked() {
    let server = Server::without_changes().await;
    let (mut sender, join_ref) =
        joined(&server, Version::V2, json!({"ack": true, "self": "true"})).await;
    let reply = sender
        .ask(Some(&join_ref), TOPIC, "broadcast", &pushed("e", &json!(1)))
        .await;
    assert_eq!(reply, json!({"status": "ok", "response": {}}));
    assert_eq!(sender.expect("broadcast").await.payload["payload"], 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn binary_pushes_are_binary_in_version_two_and_text_in_version_one() {
    let server = Server::without_changes().await;
    let (mut sender, join_ref) = joined(&server, Version::V2, json!({"ack": true})).await;
    let (mut v2, _) = joined(&server, Version::V2, json!({})).await;
    let (mut v1, _) = joined(&server, Version::V1, json!({})).await;
    let reference = sender
        .push_binary(&join_ref, TOPIC, "job", Encoding::Json, br#"{"n":1}"#)
        .await;
    assert_eq!(sender.reply_to(&reference).await.payload["status"], "ok");
    let received = v2.expect("job").await;
    assert_eq!(received.binary.as_deref(), Some(&br#"{"n":1}"#[..]));
    let received = v1.expect("broadcast").await;
    assert_eq!(received.payload, pushed("job", &json!({"n": 1})));
    sender
        .push_binary(&join_ref, TOPIC, "raw", Encoding::Binary, &[1, 2, 255])
        .await;
    assert_eq!(
        v2.expect("raw").await.binary.as_deref(),
        Some(&[1, 2, 255][..])
    );
    assert_eq!(v1.all().await, [], "version 1 has no form for raw bytes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broken_json_and_payloads_that_are_too_large_are_not_passed_on() {
    let limits = Limits {
        broadcast_bytes: 100,
        ..Limits::default()
    };
    let server = Server::start_with(Options {
        limits,
        without_changes: true,
        ..Options::default()
    })
    .await;
    let (mut sender, join_ref) = joined(&server, Version::V2, json!({"ack": true})).await;
    let (mut listener, _) = joined(&server, Version::V2, json!({})).await;
    let reference = sender
        .push_binary(&join_ref, TOPIC, "e", Encoding::Json, b"{broken")
        .await;
    assert_eq!(sender.reply_to(&reference).await.payload["status"], "error");
    let reply = sender
        .ask(Some(&join_ref), TOPIC, "broadcast", &json!([1]))
        .await;
    assert_eq!(reply["status"], "error");
    let large = pushed("e", &json!("x".repeat(100)));
    let reply = sender
        .ask(Some(&join_ref), TOPIC, "broadcast", &large)
        .await;
    assert_eq!(
        reply,
        json!({"status": "error", "response": {"error": "payload_size_exceeded"}})
    );
    assert_eq!(listener.all().await, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_too_long_for_the_binary_header_goes_out_as_text() {
    let server = Server::without_changes().await;
    let (mut listener, _) = joined(&server, Version::V2, json!({})).await;
    let event = "e".repeat(300);
    let url = format!(
        "http://{}/realtime/v1/api/broadcast/room/events/{event}",
        server.address
    );
    let response = http_client()
        .post(url)
        .header("apikey", server.keys.anon_key())
        .body("[1]")
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 202);
    let received = listener.expect("broadcast").await;
    assert_eq!(received.payload, pushed(&event, &json!([1])));
}

struct Api<'a> {
    server: &'a Server,
    http: reqwest::Client,
}

impl<'a> Api<'a> {
    fn new(server: &'a Server) -> Self {
        let http = http_client();
        Self { server, http }
    }

    fn post(&self, path: &str) -> reqwest::RequestBuilder {
        let url = format!(
            "http://{}/realtime/v1/api/broadcast{path}",
            self.server.address
        );
        self.http.post(url).bearer_auth(self.server.keys.anon_key())
    }

    async fn batch(&self, body: &Value) -> (u16, String) {
        let response = self
            .post("?apikey=x&vsn=2.0.0")
            .json(body)
            .send()
            .await
            .unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_over_http_reaches_public_topics() {
    let server = Server::without_changes().await;
    let api = Api::new(&server);
    let (mut v1, _) = joined(&server, Version::V1, json!({})).await;
    let (mut v2, _) = joined(&server, Version::V2, json!({})).await;
    let sent = api
        .batch(&json!({"messages": [
            {"topic": "room", "event": "a", "payload": {"n": 1}},
            {"topic": "elsewhere", "event": "a", "payload": {}},
            {"topic": "room", "event": "b", "payload": {"n": 2}, "private": false},
            {"topic": "room", "event": "c", "payload": {"n": 3}, "private": true},
        ]}))
        .await;
    assert_eq!(sent, (202, String::new()));
    for client in [&mut v1, &mut v2] {
        let events: Vec<Received> = vec![
            client.expect("broadcast").await,
            client.expect("broadcast").await,
        ];
        assert_eq!(events[0].payload, pushed("a", &json!({"n": 1})));
        assert_eq!(events[1].payload, pushed("b", &json!({"n": 2})));
        assert_eq!(
            client.all().await,
            [],
            "a private message is not for a public channel"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_says_what_is_wrong_with_each_message() {
    let server = Server::without_changes().await;
    let api = Api::new(&server);
    let (status, body) = api
        .batch(&json!({"messages": [
            {"topic": "room", "event": "a", "payload": {}},
            {"topic": "", "event": 1},
        ]}))
        .await;
    assert_eq!(status, 422);
    assert_eq!(
        serde_json::from_str::<Value>(&body).unwrap(),
        json!({"errors": {"messages": [
            {},
            {"topic": ["can't be blank"], "event": ["is invalid"], "payload": ["can't be blank"]},
        ]}})
    );
    for broken in [json!({}), json!([]), json!({"messages": 1})] {
        assert_eq!(api.batch(&broken).await.0, 422);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_message_over_http_has_its_topic_and_event_in_the_path() {
    let server = Server::without_changes().await;
    let api = Api::new(&server);
    let mut client = Client::anon(&server).await;
    client.join("realtime:room:1/x", json!({})).await;
    let send = async |body: &'static [u8], content_type: Option<&str>| {
        let mut request = api
            .post("/room%3A1%2Fx/events/ev%2Fx?apikey=k&vsn=2.0.0")
            .body(body);
        if let Some(content_type) = content_type {
            request = request.header("content-type", content_type);
        }
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    };
    assert_eq!(
        send(br#"{"a":1}"#, Some("application/json; charset=utf-8")).await,
        (202, String::new())
    );
    assert_eq!(
        client.expect("ev/x").await.payload["payload"],
        json!({"a": 1})
    );
    assert_eq!(send(b"[2]", None).await.0, 202);
    assert_eq!(client.expect("ev/x").await.payload["payload"], json!([2]));
    assert_eq!(
        send(&[0, 255], Some("application/octet-stream")).await.0,
        202
    );
    assert_eq!(
        client.expect("ev/x").await.binary.as_deref(),
        Some(&[0, 255][..])
    );
    assert_eq!(send(b"x", Some("text/plain")).await.0, 415);
    assert_eq!(send(b"{", None).await.0, 422);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_http_api_wants_a_token() {
    let server = Server::without_changes().await;
    let http = http_client();
    let url = format!("http://{}/realtime/v1/api/broadcast", server.address);
    let body = json!({"messages": [{"topic": "t", "event": "e", "payload": {}}]});
    let refused = http.post(&url).json(&body).send().await.unwrap();
    assert_eq!(refused.status(), 401);
    assert_eq!(
        refused.json::<Value>().await.unwrap(),
        json!({"message": "Unauthorized"})
    );
    let publishable = http
        .post(&url)
        .bearer_auth(server.keys.publishable_key())
        .header("apikey", server.keys.publishable_key())
        .json(&body)
        .send()
        .await
        .unwrap();
    assert_eq!(publishable.status(), 202);
    let forged = http
        .post(&url)
        .bearer_auth("a.b.c")
        .json(&body)
        .send()
        .await
        .unwrap();
    assert_eq!(forged.status(), 401);
}

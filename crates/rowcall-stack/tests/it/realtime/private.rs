use rowcall_realtime::Version;
use rowcall_realtime::binary::Encoding;
use serde_json::{Value, json};

use super::client::Client;
use super::server::{Server, http_client};

/// Members may read and send in rooms named after them; `loud` policies raise.
const POLICIES: &str = "
    create policy read_own on realtime.messages for select to authenticated
      using (realtime.topic() = 'room:' || (auth.jwt() ->> 'room'));
    create policy send_own on realtime.messages for insert to authenticated
      with check (extension = 'broadcast' and realtime.topic() = 'room:' || (auth.jwt() ->> 'room')
                  and coalesce(auth.jwt() ->> 'mute', '') <> 'yes');
    create policy track_own on realtime.messages for insert to authenticated
      with check (extension = 'presence' and realtime.topic() = 'room:1');
    create policy loud on realtime.messages for select to authenticated
      using (case when realtime.topic() = 'loud' then 1 / (length(topic) - length(topic)) = 1 else false end);
";

async fn server() -> Server {
    let server = Server::start().await;
    server.execute(POLICIES).await;
    server
}

async fn try_join(
    server: &Server,
    topic: &str,
    claims: Value,
    config: Value,
) -> (Client, String, Value) {
    let mut client = Client::anon(server).await;
    let token = server.token("authenticated", &claims);
    let mut config = config;
    config["private"] = json!(true);
    let payload = json!({"config": config, "access_token": token});
    let (join_ref, reply) = client.try_join(topic, payload).await;
    (client, join_ref, reply)
}

async fn member(server: &Server, topic: &str, room: &str, config: Value) -> (Client, String) {
    let (client, join_ref, reply) = try_join(server, topic, json!({"room": room}), config).await;
    assert_eq!(reply["status"], "ok", "{reply}");
    (client, join_ref)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn policies_decide_who_may_join() {
    let server = server().await;
    for (topic, room) in [("room:1", "2"), ("other", "1"), ("loud", "1")] {
        let wire = format!("realtime:{topic}");
        let (_, _, reply) = try_join(&server, &wire, json!({"room": room}), json!({})).await;
        assert_eq!(
            reply["response"]["reason"],
            format!(
                "Unauthorized: You do not have permissions to read from this Channel topic: {topic}"
            )
        );
    }
    let mut anon = Client::anon(&server).await;
    let (_, reply) = anon
        .try_join("realtime:room:1", json!({"config": {"private": true}}))
        .await;
    assert_eq!(reply["status"], "error");
    let mut service = Client::service(&server).await;
    service
        .join("realtime:anything", json!({"private": true}))
        .await;
    member(&server, "realtime:room:1", "1", json!({})).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_public_and_a_private_topic_of_one_name_are_two() {
    let server = server().await;
    let (mut private, private_ref) = member(&server, "realtime:room:1", "1", json!({})).await;
    let mut public = Client::anon(&server).await;
    let public_ref = public.join("realtime:room:1", json!({})).await;
    private
        .push(
            Some(&private_ref),
            "realtime:room:1",
            "broadcast",
            &json!({"event": "p"}),
        )
        .await;
    private.all().await;
    assert_eq!(public.all().await, []);
    public
        .push(
            Some(&public_ref),
            "realtime:room:1",
            "broadcast",
            &json!({"event": "q"}),
        )
        .await;
    public.all().await;
    assert_eq!(private.all().await, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sending_and_tracking_have_policies_of_their_own() {
    let server = server().await;
    let topic = "realtime:room:1";
    let config = json!({"broadcast": {"ack": true}, "presence": {"enabled": true, "key": "k"}});
    let (mut listener, _) = member(&server, topic, "1", json!({})).await;
    let claims = json!({"room": "1", "mute": "yes"});
    let (mut muted, join_ref, _) = try_join(&server, topic, claims, config.clone()).await;
    let reply = muted
        .ask(Some(&join_ref), topic, "broadcast", &json!({"event": "e"}))
        .await;
    assert_eq!(reply["status"], "error");
    let call = json!({"event": "track", "payload": {}});
    assert_eq!(
        muted.ask(Some(&join_ref), topic, "presence", &call).await["status"],
        "ok"
    );
    assert_eq!(
        listener.expect("presence_diff").await.payload["joins"]["k"]["metas"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    assert_eq!(listener.all().await, []);
    let (mut other, other_ref) = member(&server, "realtime:room:2", "2", config).await;
    let reply = other
        .ask(Some(&other_ref), "realtime:room:2", "presence", &call)
        .await;
    assert_eq!(reply, json!({"status": "error", "response": {}}));
    let reply = other
        .ask(
            Some(&other_ref),
            "realtime:room:2",
            "broadcast",
            &json!({"event": "e"}),
        )
        .await;
    assert_eq!(reply["status"], "ok");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_token_without_access_ends_the_channel() {
    let server = server().await;
    let topic = "realtime:room:1";
    let (mut client, join_ref) =
        member(&server, topic, "1", json!({"broadcast": {"ack": true}})).await;
    let mute = server.token("authenticated", &json!({"room": "1", "mute": "yes"}));
    client
        .push(
            Some(&join_ref),
            topic,
            "access_token",
            &json!({"access_token": mute}),
        )
        .await;
    // The refresh has no reply; it has come into force when sending is refused.
    loop {
        let reply = client
            .ask(Some(&join_ref), topic, "broadcast", &json!({"event": "e"}))
            .await;
        if reply["status"] == "error" {
            break;
        }
    }
    let elsewhere = server.token("authenticated", &json!({"room": "2"}));
    client
        .push(
            Some(&join_ref),
            topic,
            "access_token",
            &json!({"access_token": elsewhere}),
        )
        .await;
    assert_eq!(
        client.expect("system").await.payload["message"],
        "You no longer have permission to read from this Channel topic: room:1"
    );
    client.expect("phx_close").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sql_reaches_private_and_public_channels() {
    let server = server().await;
    let (mut private, _) = member(&server, "realtime:room:1", "1", json!({})).await;
    let mut public = Client::connect(&server, Version::V1, server.keys.anon_key()).await;
    public.join("realtime:room:1", json!({})).await;
    server
        .execute("select realtime.send('{\"a\": 1}', 'e', 'room:1')")
        .await;
    let received = private.expect("e").await;
    assert_eq!(received.payload["payload"]["a"], 1);
    assert_eq!(
        received.payload["payload"]["id"],
        received.payload["meta"]["id"]
    );
    server
        .execute("select realtime.send('{\"a\": 2, \"id\": 7}', 'f', 'room:1', false)")
        .await;
    let received = public.expect("broadcast").await;
    assert_eq!(received.payload["event"], "f");
    assert_eq!(received.payload["payload"], json!({"a": 2, "id": 7}));
    assert!(received.payload["meta"]["id"].is_string());
    server
        .execute("select realtime.send_binary('\\x0102ff', 'raw', 'room:1')")
        .await;
    assert_eq!(
        private.expect("raw").await.binary.as_deref(),
        Some(&[1, 2, 255][..])
    );
    server
        .execute("begin; select realtime.send('{}', 'gone', 'room:1'); rollback")
        .await;
    server
        .execute("insert into realtime.messages (topic, extension, event, payload, private) values ('room:1', 'broadcast', 'direct', '[1]', true)")
        .await;
    assert_eq!(
        private.expect("direct").await.payload["payload"],
        json!([1])
    );
    assert_eq!(private.all().await, [], "what was rolled back is not sent");
    assert_eq!(
        public.all().await,
        [],
        "raw bytes and private messages are not for it"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sending_in_sql_never_fails_the_statement_and_triggers_say_so_when_misused() {
    let server = server().await;
    server
        .execute(
            "create table public.orders (id int primary key, note text);
             create function public.tell() returns trigger language plpgsql security definer as $$
             begin
               perform realtime.broadcast_changes('room:1', tg_op, tg_op, tg_table_name, tg_table_schema, new, old);
               return null;
             end $$;
             create trigger tell after insert or update or delete on public.orders for each row execute function public.tell()",
        )
        .await;
    let (mut client, _) = member(&server, "realtime:room:1", "1", json!({})).await;
    server
        .execute("insert into public.orders values (1, 'a'); update public.orders set note = 'b'; delete from public.orders")
        .await;
    let inserted = client.expect("INSERT").await.payload["payload"].clone();
    assert_eq!(inserted["record"], json!({"id": 1, "note": "a"}));
    assert_eq!(inserted["old_record"], Value::Null);
    assert_eq!(
        (&inserted["table"], &inserted["schema"]),
        (&json!("orders"), &json!("public"))
    );
    let updated = client.expect("UPDATE").await.payload["payload"].clone();
    assert_eq!(updated["old_record"]["note"], "a");
    let deleted = client.expect("DELETE").await.payload["payload"].clone();
    assert_eq!(deleted["record"], Value::Null);
    // Not an object, and a role without a policy: a warning, and nothing is sent.
    server
        .execute("select realtime.send('[1]', 'e', 'room:1')")
        .await;
    server
        .execute("begin; set local role anon; select realtime.send('{}', 'e', 'room:1'); commit")
        .await;
    assert_eq!(client.all().await, []);
    for call in [
        "select realtime.broadcast_changes('t', 'e', 'TRUNCATE', 'a', 'b', null, null)",
        "select realtime.broadcast_changes('t', 'e', 'INSERT', 'a', 'b', null, null, 'STATEMENT')",
    ] {
        let error = server.sql.batch_execute(call).await.unwrap_err();
        let message = error.as_db_error().unwrap().message().to_owned();
        assert!(
            message.starts_with("Failed to process the row: "),
            "{message}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_obeys_the_same_policies() {
    let server = server().await;
    let (mut client, _) = member(&server, "realtime:room:1", "1", json!({})).await;
    let http = http_client();
    let url = format!("http://{}/realtime/v1/api/broadcast", server.address);
    let post = async |claims: Value, event: &str| {
        let token = server.token("authenticated", &claims);
        let one = http
            .post(format!("{url}/room%3A1/events/{event}?private=true"))
            .bearer_auth(&token)
            .body("{}")
            .send()
            .await
            .unwrap()
            .status()
            .as_u16();
        let message = json!({"topic": "room:1", "event": format!("batch-{event}"), "payload": {}, "private": true});
        let batch = http
            .post(&url)
            .bearer_auth(&token)
            .json(&json!({"messages": [message]}))
            .send()
            .await
            .unwrap()
            .status()
            .as_u16();
        (one, batch)
    };
    assert_eq!(post(json!({"room": "2"}), "denied").await, (403, 202));
    assert_eq!(post(json!({"room": "1"}), "allowed").await, (202, 202));
    client.expect("allowed").await;
    assert_eq!(
        client.expect("broadcast").await.payload["event"],
        "batch-allowed"
    );
    assert_eq!(client.all().await, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stored_messages_are_replayed_once() {
    let server = server().await;
    for n in 1..=4 {
        let sql = format!("select realtime.send('{{\"n\": {n}}}', 'e', 'room:1')");
        server.execute(&sql).await;
    }
    let replay = json!({"broadcast": {"replay": {"since": 0, "limit": 3}}});
    let (mut client, join_ref) = member(&server, "realtime:room:1", "1", replay).await;
    for n in 2..=4 {
        let received = client.expect("broadcast").await;
        assert_eq!(received.join_ref.as_deref(), Some(&*join_ref));
        assert_eq!(received.payload["payload"]["n"], n);
        assert_eq!(received.payload["meta"]["replayed"], true);
    }
    server
        .execute("select realtime.send('{\"n\": 5}', 'live', 'room:1')")
        .await;
    assert_eq!(client.expect("live").await.payload["payload"]["n"], 5);
    assert_eq!(client.all().await, []);
    let refused = async |private: bool, replay: Value| {
        let token = server.token("authenticated", &json!({"room": "1"}));
        let mut client = Client::anon(&server).await;
        let config = json!({"private": private, "broadcast": {"replay": replay}});
        let payload = json!({"config": config, "access_token": token});
        client.try_join("realtime:room:1", payload).await.1["response"]["reason"].clone()
    };
    assert_eq!(
        refused(true, json!({"since": "x"})).await,
        "UnableToReplayMessages: Replay params are not valid"
    );
    assert_eq!(
        refused(false, json!({"since": 1})).await,
        "UnableToReplayMessages: Replay is not allowed for public channels"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_is_told_when_messages_from_the_database_flow() {
    let server = server().await;
    let mut client = Client::anon(&server).await;
    client
        .join(
            "realtime:a",
            json!({"broadcast": {"replication_ready": true}}),
        )
        .await;
    let notice = client.expect("system").await;
    assert_eq!(
        notice.payload,
        json!({"extension": "system", "status": "ok", "message": "Replication connection established", "channel": "a"})
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_with_quotes_and_long_topics_are_harmless() {
    let server = server().await;
    let name = format!(
        "'; drop table realtime.messages; -- \"{}\"",
        "ž".repeat(200)
    );
    let topic = format!("realtime:{name}");
    let mut service = Client::service(&server).await;
    let join_ref = service
        .join(
            &topic,
            json!({"private": true, "broadcast": {"self": true}}),
        )
        .await;
    service
        .push(Some(&join_ref), &topic, "broadcast", &json!({"event": "e"}))
        .await;
    assert_eq!(service.expect("broadcast").await.topic, topic);
    let sent = server
        .sql
        .execute("select realtime.send('{}', 'long', $1)", &[&name])
        .await;
    sent.unwrap();
    assert_eq!(
        service.expect("broadcast").await.payload["event"],
        "long",
        "as text: the topic is too long"
    );
    let other = service
        .join(
            "realtime:short",
            json!({"private": true, "broadcast": {"self": true}}),
        )
        .await;
    service
        .push_binary(&other, "realtime:short", "e", Encoding::Json, b"{}")
        .await;
    service.expect("e").await;
}

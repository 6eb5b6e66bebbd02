//! Topics: role × room × verb.

use serde_json::json;

use super::super::client::{Client, Received};
use super::super::server::{Server, http_client};
use super::who::{WHO, Who, report};

/// Ann's own room, a room that people read and nobody writes, and one without policies, which is public.
const POLICIES: &str = "
    create policy look on realtime.messages for select to authenticated
      using (realtime.topic() in ('room:' || (auth.jwt() ->> 'sub'), 'news'));
    create policy speak on realtime.messages for insert to authenticated
      with check (realtime.topic() = 'room:' || (auth.jwt() ->> 'sub'));
";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Room {
    Ann,
    News,
    Lobby,
}

impl Room {
    fn name(self) -> &'static str {
        match self {
            Self::Ann => "room:ann",
            Self::News => "news",
            Self::Lobby => "lobby",
        }
    }

    fn is_private(self) -> bool {
        self != Self::Lobby
    }
}

/// Every way to take part in a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    /// Join and hear what is sent.
    Listen,
    /// Join the public topic of the same name and hear what is sent to the private one.
    Eavesdrop,
    /// Push over the joined channel.
    Send,
    /// Push without having joined.
    Intrude,
    /// The batch form of the HTTP API.
    HttpBatch,
    /// The form with one message.
    HttpOne,
    /// `realtime.send()` as the role, with its claims.
    Sql,
    Track,
}

const VERBS: [Verb; 8] = [
    Verb::Listen,
    Verb::Eavesdrop,
    Verb::Send,
    Verb::Intrude,
    Verb::HttpBatch,
    Verb::HttpOne,
    Verb::Sql,
    Verb::Track,
];

/// Whether it has an effect.
fn expected_effect(who: Who, room: Room, verb: Verb) -> bool {
    match (who, room, verb) {
        (_, _, Verb::Eavesdrop | Verb::Intrude) => false,
        (who, ..) if who.has_no_token() => false,
        // Writing into the table of messages takes a policy, also for public topics.
        (who, Room::Lobby, Verb::Sql) => who.is_service(),
        (_, Room::Lobby, _) => true,
        (who, ..) if who.is_service() => true,
        (Who::Ann, Room::Ann, _) | (Who::Ann | Who::Bob, Room::News, Verb::Listen) => true,
        _ => false,
    }
}

struct Topics {
    server: Server,
    http: reqwest::Client,
    marks: u32,
}

impl Topics {
    /// A mark nobody has sent yet.
    fn mark(&mut self) -> String {
        self.marks += 1;
        format!("mark{}", self.marks)
    }

    async fn listener(&self, room: Room) -> Client {
        let mut client = Client::service(&self.server).await;
        let topic = format!("realtime:{}", room.name());
        client
            .join(&topic, json!({"private": room.is_private()}))
            .await;
        client
    }

    async fn attempt(&mut self, who: Who, room: Room, verb: Verb) -> bool {
        match verb {
            Verb::Listen => self.listen(who, room, room.is_private()).await,
            Verb::Eavesdrop => self.listen(who, room, !room.is_private()).await,
            Verb::Send | Verb::Intrude | Verb::Track => self.push(who, room, verb).await,
            Verb::HttpBatch | Verb::HttpOne => self.post(who, room, verb).await,
            Verb::Sql => self.send_in_sql(who, room).await,
        }
    }

    /// Joins and waits for what is sent to the room.
    async fn listen(&mut self, who: Who, room: Room, joins_private: bool) -> bool {
        let topic = format!("realtime:{}", room.name());
        let mark = self.mark();
        let mut client = who.connect(&self.server).await;
        let config = json!({"private": joins_private});
        if who
            .join(&self.server, &mut client, &topic, config)
            .await
            .is_none()
        {
            return false;
        }
        // What comes later over the same way has come through all of it.
        self.server
            .execute(&format!(
                "select realtime.send('{{}}', '{mark}', '{name}', {});
                 select realtime.send('{{}}', 'after', '{name}', {joins_private})",
                room.is_private(),
                name = room.name(),
            ))
            .await;
        let mut heard = false;
        loop {
            let received = client.expect_where("the message after", |_| true).await;
            let event = if received.binary.is_some() {
                received.event
            } else {
                received.payload["event"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned()
            };
            heard |= event == mark;
            if event == "after" {
                return heard;
            }
        }
    }

    /// Sends or tracks over a channel, joined or not.
    async fn push(&mut self, who: Who, room: Room, verb: Verb) -> bool {
        let topic = format!("realtime:{}", room.name());
        let mark = self.mark();
        let mut listener = self.listener(room).await;
        let mut client = who.connect(&self.server).await;
        let mut join_ref = None;
        if verb != Verb::Intrude {
            let presence = json!({"key": mark, "enabled": true});
            let config = json!({"private": room.is_private(), "presence": presence});
            join_ref = who.join(&self.server, &mut client, &topic, config).await;
        }
        let (event, payload) = match verb {
            Verb::Track => ("presence", json!({"event": "track", "payload": {}})),
            _ => (
                "broadcast",
                json!({"type": "broadcast", "event": mark, "payload": {}}),
            ),
        };
        client
            .push(join_ref.as_deref(), &topic, event, &payload)
            .await;
        client.all().await;
        heard(&mut listener, &mark).await
    }

    async fn post(&mut self, who: Who, room: Room, verb: Verb) -> bool {
        let mark = self.mark();
        let private = room.is_private();
        let mut listener = self.listener(room).await;
        let url = format!("http://{}/realtime/v1/api/broadcast", self.server.address);
        let name = room.name().replace(':', "%3A");
        let request = if verb == Verb::HttpOne {
            self.http
                .post(format!("{url}/{name}/events/{mark}?private={private}"))
                .body("{}")
        } else {
            let message =
                json!({"topic": room.name(), "event": mark, "payload": {}, "private": private});
            self.http.post(&url).json(&json!({"messages": [message]}))
        };
        let token = who.token(&self.server);
        let request = if token.starts_with("sb_") {
            request.header("apikey", token)
        } else {
            request.bearer_auth(token)
        };
        let status = request.send().await.unwrap().status().as_u16();
        assert_eq!(
            status == 401,
            who.has_no_token(),
            "{who:?} {room:?} {verb:?}: {status}"
        );
        heard(&mut listener, &mark).await
    }

    async fn send_in_sql(&mut self, who: Who, room: Room) -> bool {
        if who.has_no_token() {
            // SQL knows no tokens: there is no role for one that does not count.
            return false;
        }
        let mark = self.mark();
        let mut listener = self.listener(room).await;
        let (role, claims) = match who {
            Who::Ann => ("authenticated", r#"{"role":"authenticated","sub":"ann"}"#),
            Who::Bob => ("authenticated", r#"{"role":"authenticated","sub":"bob"}"#),
            Who::Service | Who::Secret => ("service_role", r#"{"role":"service_role"}"#),
            _ => ("anon", r#"{"role":"anon"}"#),
        };
        self.server
            .execute(&format!(
                "begin; set local role {role}; select set_config('request.jwt.claims', '{claims}', true);
                 select realtime.send('{{}}', '{mark}', '{name}', {private}); commit;
                 select realtime.send('{{}}', 'after', '{name}', {private})",
                name = room.name(),
                private = room.is_private(),
            ))
            .await;
        // The mark may come first, and is kept.
        let is_after =
            |received: &Received| received.event == "after" || received.payload["event"] == "after";
        listener.expect_where("the message after", is_after).await;
        heard(&mut listener, &mark).await
    }
}

/// Whether anything with the mark has come so far.
async fn heard(listener: &mut Client, mark: &str) -> bool {
    let all = listener.all().await;
    all.iter()
        .any(|one| one.event == mark || one.payload.to_string().contains(&format!("\"{mark}\"")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_role_topic_and_verb_has_the_effect_it_should() {
    let server = Server::start().await;
    server.execute(POLICIES).await;
    let mut topics = Topics {
        server,
        http: http_client(),
        marks: 0,
    };
    let mut wrong = Vec::new();
    for room in [Room::Ann, Room::News, Room::Lobby] {
        for who in WHO {
            for verb in VERBS {
                let effect = topics.attempt(who, room, verb).await;
                if effect != expected_effect(who, room, verb) {
                    wrong.push(format!("{who:?} {room:?} {verb:?}: {effect}"));
                }
            }
        }
    }
    report(&wrong);
}

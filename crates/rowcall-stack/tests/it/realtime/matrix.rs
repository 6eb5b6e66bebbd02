//! Who may see, send and track what, over every way in: tables of expectations, every cell tried.
//!
//! `rest::matrix` does the same for REST.

use std::collections::BTreeMap;

use rowcall_realtime::Version;
use rowcall_stack::auth::Keys;
use serde_json::{Value, json};

use super::client::{Client, Received};
use super::server::{NOW, Server, http_client};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    Anon,
    Publishable,
    Ann,
    Bob,
    Service,
    Secret,
    Forged,
    Expired,
}

const WHO: [Who; 8] = [
    Who::Anon,
    Who::Publishable,
    Who::Ann,
    Who::Bob,
    Who::Service,
    Who::Secret,
    Who::Forged,
    Who::Expired,
];

impl Who {
    fn is_service(self) -> bool {
        matches!(self, Self::Service | Self::Secret)
    }

    fn has_no_token(self) -> bool {
        matches!(self, Self::Forged | Self::Expired)
    }

    /// What the socket is opened with, and what a join carries.
    fn credentials(self, server: &Server) -> (String, Option<String>) {
        let keys = &server.keys;
        let user = |name: &str| Some(server.token("authenticated", &json!({"sub": name})));
        match self {
            Self::Anon => (keys.anon_key().to_owned(), None),
            Self::Publishable => {
                let key = keys.publishable_key().to_owned();
                (key.clone(), Some(key))
            }
            Self::Ann => (keys.publishable_key().to_owned(), user("ann")),
            Self::Bob => (keys.anon_key().to_owned(), user("bob")),
            Self::Service => (keys.service_role_key().to_owned(), None),
            Self::Secret => (keys.secret_key().to_owned(), None),
            Self::Forged => {
                let stranger = Keys::generate(jiff::Timestamp::from_second(NOW).unwrap());
                let claims = json!({"role": "service_role", "sub": "ann", "exp": NOW + 3_600});
                (keys.anon_key().to_owned(), Some(stranger.sign(&claims)))
            }
            Self::Expired => {
                let token = server.token_until("service_role", NOW - 1, &json!({"sub": "ann"}));
                (keys.anon_key().to_owned(), Some(token))
            }
        }
    }

    async fn connect(self, server: &Server) -> Client {
        Client::connect(server, Version::V2, &self.credentials(server).0).await
    }

    /// Joins; the reference of the join when it was accepted.
    async fn join(
        self,
        server: &Server,
        client: &mut Client,
        topic: &str,
        config: Value,
    ) -> Option<String> {
        let token = self.credentials(server).1;
        let payload = json!({"config": config, "access_token": token});
        let (join_ref, reply) = client.try_join(topic, payload).await;
        (reply["status"] == "ok").then_some(join_ref)
    }

    /// What HTTP and SQL know a client by.
    fn token(self, server: &Server) -> String {
        let (key, token) = self.credentials(server);
        token.unwrap_or(key)
    }
}

/// Reports every cell that is not as expected, at once.
#[track_caller]
fn report(wrong: &[String]) {
    assert!(wrong.is_empty(), "{wrong:#?}");
}

const TABLES: &str = "
    create table public.m_open (id int primary key, owner text, body text);
    create table public.m_owned (id int primary key, owner text, body text);
    create table public.m_closed (id int primary key, owner text, body text);
    create table public.m_revoked (id int primary key, owner text, body text);
    create table public.m_column (id int primary key, owner text, body text);
    create table public.m_done (id int primary key);
    alter table public.m_open replica identity full;
    alter table public.m_owned replica identity full;
    alter table public.m_closed replica identity full;
    alter table public.m_revoked replica identity full;
    alter table public.m_column replica identity full;
    alter table public.m_owned enable row level security;
    alter table public.m_closed enable row level security;
    create policy own on public.m_owned to authenticated using (owner = auth.jwt() ->> 'sub');
    revoke all on public.m_revoked from anon, authenticated;
    revoke all on public.m_column from anon, authenticated;
    grant select (id, owner) on public.m_column to anon, authenticated;
    alter publication supabase_realtime add table public.m_open, public.m_owned, public.m_closed, public.m_revoked,
      public.m_column, public.m_done;
";
const NAMES: [&str; 5] = ["m_open", "m_owned", "m_closed", "m_revoked", "m_column"];

/// How much of a change a client is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sight {
    /// The row, old and new where there are both.
    Row,
    /// Its key and what else is no secret.
    Key,
    /// That something happened.
    Nothing,
    Unseen,
}

fn expected_sight(who: Who, table: &str, kind: &str) -> Sight {
    let guarded = matches!(table, "m_owned" | "m_closed");
    match (who, table, kind) {
        (who, ..) if who.has_no_token() => Sight::Unseen,
        // There is no row left that could be looked at: deletes tell the key, to everybody.
        (_, _, "DELETE") if guarded => Sight::Key,
        (who, ..) if who.is_service() => Sight::Row,
        (_, "m_open", _) | (Who::Ann, "m_owned", _) => Sight::Row,
        (_, "m_column", _) => Sight::Key,
        (_, "m_revoked", _) => Sight::Nothing,
        _ => Sight::Unseen,
    }
}

fn sight(data: &Value) -> Sight {
    let text = data.to_string();
    if text.contains("sesame") {
        Sight::Row
    } else if text.contains(r#""id":"#) {
        Sight::Key
    } else {
        Sight::Nothing
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_role_table_and_kind_of_change_is_told_what_it_should() {
    let server = Server::start().await;
    server.execute(TABLES).await;
    let names = NAMES.iter().copied().chain(["m_done"]);
    let bindings: Vec<Value> = names
        .map(|table| json!({"event": "*", "schema": "public", "table": table}))
        .collect();
    let mut clients = Vec::new();
    let mut wrong = Vec::new();
    for who in WHO {
        let mut client = who.connect(&server).await;
        let config = json!({"postgres_changes": bindings});
        let joined = who.join(&server, &mut client, "realtime:m", config).await;
        if joined.is_some() == who.has_no_token() {
            wrong.push(format!("{who:?} joins: {joined:?}"));
        }
        if joined.is_some() {
            clients.push((who, client));
        }
    }
    for table in NAMES {
        server
            .execute(&format!(
                "insert into {table} values (1, 'ann', 'sesame');
                 update {table} set body = 'sesame, again';
                 delete from {table}"
            ))
            .await;
        // Each row is looked up while it is there, as row level security judges by what is there now.
    }
    // Rows that are gone are seen by nobody, so those that must be seen stay.
    for table in NAMES {
        server
            .execute(&format!(
                "insert into {table} values (2, 'ann', 'sesame'); update {table} set body = 'sesame, again'"
            ))
            .await;
    }
    server.execute("insert into m_done values (1)").await;
    for (who, client) in &mut clients {
        let mut seen: BTreeMap<(String, String), Sight> = BTreeMap::new();
        loop {
            let data = client.change().await;
            let table = data["table"].as_str().unwrap().to_owned();
            if table == "m_done" {
                break;
            }
            let kind = data["type"].as_str().unwrap().to_owned();
            let row = &data[if kind == "DELETE" {
                "old_record"
            } else {
                "record"
            }];
            // The rows that were deleted at once may have been seen or not; they must not be seen better.
            let sight = sight(&data);
            let best = seen.entry((table, kind)).or_insert(sight);
            if row["id"] != 1 || sight == Sight::Row {
                *best = sight;
            }
        }
        for table in NAMES {
            for kind in ["INSERT", "UPDATE", "DELETE"] {
                let key = (table.to_owned(), kind.to_owned());
                let sight = seen.get(&key).copied().unwrap_or(Sight::Unseen);
                let expected = expected_sight(*who, table, kind);
                if sight != expected {
                    wrong.push(format!(
                        "{who:?} {table} {kind}: {sight:?}, not {expected:?}"
                    ));
                }
            }
        }
    }
    report(&wrong);
}

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forged_and_expired_tokens_open_no_socket() {
    let server = Server::without_changes().await;
    for who in [Who::Forged, Who::Expired] {
        let token = who.token(&server);
        let refused = Client::try_connect(&server, Version::V2, &token).await;
        let Err(tokio_tungstenite::tungstenite::Error::Http(answer)) = refused else {
            panic!("{who:?} is let in");
        };
        assert_eq!(answer.status().as_u16(), 401, "{who:?}");
    }
    // Unsigned, and signed with the secret by another algorithm's name.
    let (header, rest) = server.keys.anon_key().split_once('.').unwrap();
    let (claims, signature) = rest.split_once('.').unwrap();
    let none = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0";
    for token in [
        format!("{none}.{claims}."),
        format!("{none}.{claims}.{signature}"),
        format!("{header}.{claims}."),
        format!("{header}.{claims}"),
    ] {
        let refused = Client::try_connect(&server, Version::V2, &token).await;
        assert!(refused.is_err(), "{token}");
    }
}

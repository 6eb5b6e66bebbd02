//! A client that speaks the protocol frame by frame.

use std::collections::VecDeque;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use rowcall_realtime::binary::{Encoding, UserBroadcast, UserPush};
use rowcall_realtime::{Frame, Outgoing, Version};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use super::server::Server;

/// How long anything that is expected may take.
pub(super) const PATIENCE: Duration = Duration::from_mins(1);

/// What came in.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Received {
    pub(super) join_ref: Option<String>,
    pub(super) reference: Option<String>,
    pub(super) topic: String,
    pub(super) event: String,
    pub(super) payload: Value,
    /// The bytes of a binary broadcast, whose event is the user's.
    pub(super) binary: Option<Vec<u8>>,
}

pub(super) struct Client {
    pub(super) socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    version: Version,
    references: u64,
    received: VecDeque<Received>,
    /// Close code, once the server has closed.
    pub(super) closed: Option<u16>,
}

impl Client {
    pub(super) async fn connect(server: &Server, version: Version, key: &str) -> Self {
        Self::try_connect(server, version, key).await.unwrap()
    }

    /// A client of version 2 with the anon key.
    pub(super) async fn anon(server: &Server) -> Self {
        Self::connect(server, Version::V2, server.keys.anon_key()).await
    }

    pub(super) async fn service(server: &Server) -> Self {
        Self::connect(server, Version::V2, server.keys.service_role_key()).await
    }

    pub(super) async fn try_connect(
        server: &Server,
        version: Version,
        key: &str,
    ) -> Result<Self, tungstenite::Error> {
        let address = server.address;
        let vsn = version.as_str();
        let url = format!("ws://{address}/realtime/v1/websocket?apikey={key}&vsn={vsn}");
        let (socket, _) = tokio_tungstenite::connect_async(url).await?;
        Ok(Self {
            socket,
            version,
            references: 0,
            received: VecDeque::new(),
            closed: None,
        })
    }

    pub(super) async fn send_raw(&mut self, text: &str) {
        self.socket.send(Message::text(text)).await.unwrap();
    }

    /// Pushes an event and returns its reference.
    pub(super) async fn push(
        &mut self,
        join_ref: Option<&str>,
        topic: &str,
        event: &str,
        payload: &Value,
    ) -> String {
        self.references += 1;
        let reference = self.references.to_string();
        let payload = payload.to_string();
        let outgoing = Outgoing {
            join_ref,
            reference: Some(&reference),
            topic,
            event,
            payload: &payload,
        };
        let text = outgoing.encode_from_client(self.version);
        self.send_raw(&text).await;
        reference
    }

    /// Pushes a broadcast as JavaScript does in version 2.
    pub(super) async fn push_binary(
        &mut self,
        join_ref: &str,
        topic: &str,
        event: &str,
        encoding: Encoding,
        payload: &[u8],
    ) -> String {
        self.references += 1;
        let reference = self.references.to_string();
        let push = UserPush {
            join_ref,
            reference: &reference,
            topic,
            event,
            meta: "",
            encoding,
            payload,
        };
        let frame = push.encode().unwrap();
        self.socket.send(Message::binary(frame)).await.unwrap();
        reference
    }

    /// Pushes and returns the payload of the reply.
    pub(super) async fn ask(
        &mut self,
        join_ref: Option<&str>,
        topic: &str,
        event: &str,
        payload: &Value,
    ) -> Value {
        let reference = self.push(join_ref, topic, event, payload).await;
        self.reply_to(&reference).await.payload
    }

    pub(super) async fn reply_to(&mut self, reference: &str) -> Received {
        self.expect_where(&format!("a reply to {reference}"), |received| {
            received.event == "phx_reply" && received.reference.as_deref() == Some(reference)
        })
        .await
    }

    /// Joins and returns the reference of the join; panics when refused.
    pub(super) async fn join(&mut self, topic: &str, config: Value) -> String {
        let (join_ref, reply) = self.try_join(topic, json!({"config": config})).await;
        assert_eq!(reply["status"], "ok", "{reply}");
        join_ref
    }

    pub(super) async fn try_join(&mut self, topic: &str, payload: Value) -> (String, Value) {
        let join_ref = (self.references + 1).to_string();
        let reference = self
            .push(Some(&join_ref), topic, "phx_join", &payload)
            .await;
        (join_ref, self.reply_to(&reference).await.payload)
    }

    /// Joins a channel for changes and waits for the notice that it is subscribed.
    pub(super) async fn join_changes(&mut self, topic: &str, bindings: Value) -> String {
        let join_ref = self
            .join(topic, json!({"postgres_changes": bindings}))
            .await;
        let notice = self.expect("system").await;
        assert_eq!(
            notice.payload["message"], "Subscribed to PostgreSQL",
            "{notice:?}"
        );
        join_ref
    }

    /// The `data` of the next change.
    pub(super) async fn change(&mut self) -> Value {
        self.expect("postgres_changes").await.payload["data"].clone()
    }

    pub(super) async fn expect(&mut self, event: &str) -> Received {
        self.expect_where(event, |received| received.event == event)
            .await
    }

    /// The next message that fits; others are kept.
    pub(super) async fn expect_where(
        &mut self,
        what: &str,
        fits: impl Fn(&Received) -> bool,
    ) -> Received {
        if let Some(index) = self.received.iter().position(&fits) {
            return self.received.remove(index).unwrap();
        }
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            match tokio::time::timeout_at(deadline, self.next()).await {
                Ok(Some(received)) if fits(&received) => return received,
                Ok(Some(received)) => self.received.push_back(received),
                Ok(None) => panic!(
                    "closed with {:?} before {what}; got {:#?}",
                    self.closed, self.received
                ),
                Err(elapsed) => panic!("no {what}: {elapsed}; got {:#?}", self.received),
            }
        }
    }

    /// Everything that has come so far. A heartbeat goes round first, so whatever the server had queued is there.
    pub(super) async fn all(&mut self) -> Vec<Received> {
        let reply = self.ask(None, "phoenix", "heartbeat", &json!({})).await;
        assert_eq!(reply["status"], "ok");
        self.received.drain(..).collect()
    }

    /// Waits until the server closes the socket; the code.
    pub(super) async fn closed(&mut self) -> u16 {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while tokio::time::timeout_at(deadline, self.next())
            .await
            .expect("the server closes the socket")
            .is_some()
        {}
        self.closed.unwrap_or(1006)
    }

    /// The next message, or `None` when the socket is closed.
    pub(super) async fn next(&mut self) -> Option<Received> {
        loop {
            match self.socket.next().await? {
                Ok(Message::Text(text)) => return Some(self.decode(&text)),
                Ok(Message::Binary(bytes)) => return Some(decode_binary(&bytes)),
                Ok(Message::Close(frame)) => {
                    self.closed = frame.map(|frame| frame.code.into());
                    return None;
                }
                Ok(_) => {}
                Err(_) => return None,
            }
        }
    }

    fn decode(&self, text: &str) -> Received {
        if self.version == Version::V1 {
            // What the Python client's models demand.
            let object: Value = serde_json::from_str(text).unwrap();
            assert!(object.as_object().unwrap().contains_key("ref"), "{text}");
        }
        let frame = Frame::decode(self.version, text).unwrap();
        Received {
            join_ref: frame.join_ref,
            reference: frame.reference,
            topic: frame.topic.into_owned(),
            event: frame.event.into_owned(),
            payload: serde_json::from_str(frame.payload.get()).unwrap(),
            binary: None,
        }
    }
}

fn decode_binary(bytes: &[u8]) -> Received {
    let broadcast = UserBroadcast::decode(bytes).unwrap();
    let payload = match broadcast.encoding {
        Encoding::Json => serde_json::from_slice(broadcast.payload).unwrap(),
        Encoding::Binary => Value::Null,
    };
    Received {
        join_ref: None,
        reference: None,
        topic: broadcast.topic.to_owned(),
        event: broadcast.event.to_owned(),
        payload: json!({"payload": payload, "meta": serde_json::from_str::<Value>(broadcast.meta).unwrap_or_default()}),
        binary: Some(broadcast.payload.to_vec()),
    }
}

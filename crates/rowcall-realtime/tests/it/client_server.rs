//! A Realtime server in the test's own process, over pipes in memory: no sockets, so that paused time works.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use futures_util::{SinkExt, StreamExt};
use rowcall_realtime::{
    channel::{Cause, Event},
    client::{Client, Config, Dial, Driver, Io, Status, Subscription},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    sync::mpsc,
    task::JoinHandle,
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream, accept_hdr_async,
    tungstenite::{
        Message,
        handshake::server::{Request, Response},
    },
};

/// Longer than every waiting time of the client; virtual time, so it costs nothing.
pub(crate) const PATIENCE: Duration = Duration::from_mins(10);
/// What fits into the pipe before its writer has to wait.
const PIPE_BYTES: usize = 64 * 1024;

/// Connects the client to the test.
struct Pipes {
    dialled: mpsc::Sender<DuplexStream>,
    count: Arc<AtomicUsize>,
}

#[async_trait]
impl Dial for Pipes {
    async fn dial(&self, _: &str, _: u16) -> io::Result<Box<dyn Io>> {
        self.count.fetch_add(1, Ordering::Relaxed);
        let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
        self.dialled
            .send(theirs)
            .await
            .map_err(|_| io::ErrorKind::ConnectionRefused)?;
        Ok(Box::new(ours))
    }
}

pub(crate) struct Server {
    dialled: mpsc::Receiver<DuplexStream>,
    count: Arc<AtomicUsize>,
}

impl Server {
    /// A server and the configuration of a client for it, without jitter.
    pub(crate) fn new() -> (Self, Config) {
        let (sender, dialled) = mpsc::channel(16);
        let count = Arc::new(AtomicUsize::new(0));
        let pipes = Pipes {
            dialled: sender,
            count: Arc::clone(&count),
        };
        let config = Config::new("http://server.test", "the-key")
            .expect("the URL is valid")
            .jitter(Box::new(|| 0.0))
            .dial(Arc::new(pipes));
        (Self { dialled, count }, config)
    }

    /// A server and a running client.
    pub(crate) fn start() -> (Self, Client, JoinHandle<()>) {
        let (server, config) = Self::new();
        let (client, driver) = Client::new(config);
        (server, client, run(driver))
    }

    /// How often the client dialled.
    pub(crate) fn dialled(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// The next connection, before the handshake.
    pub(crate) async fn accept_raw(&mut self) -> DuplexStream {
        within(self.dialled.recv()).await.expect("the client dials")
    }

    /// The next connection, after the handshake.
    pub(crate) async fn accept(&mut self) -> Peer {
        let stream = self.accept_raw().await;
        let mut uri = String::new();
        #[expect(
            clippy::result_large_err,
            reason = "the signature of the library's callback"
        )]
        let note = |request: &Request, response: Response| {
            uri = request.uri().to_string();
            Ok(response)
        };
        let socket = accept_hdr_async(stream, note).await.expect("a handshake");
        Peer { socket, uri }
    }

    /// Refuses the next connection with an HTTP answer.
    pub(crate) async fn refuse(&mut self, head: &str, body: &str) {
        let mut stream = self.accept_raw().await;
        let mut request = [0; 4096];
        let read = stream.read(&mut request).await.expect("a request");
        assert!(request[..read].starts_with(b"GET "));
        let length = body.len();
        let answer = format!("HTTP/1.1 {head}\r\ncontent-length: {length}\r\n\r\n{body}");
        stream.write_all(answer.as_bytes()).await.expect("written");
    }
}

pub(crate) fn run(driver: Driver) -> JoinHandle<()> {
    tokio::spawn(driver.run())
}

/// The server's side of a socket.
pub(crate) struct Peer {
    pub(crate) socket: WebSocketStream<DuplexStream>,
    pub(crate) uri: String,
}

/// A frame of protocol 2.0.0 that the client sent.
#[derive(Debug)]
pub(crate) struct Heard {
    pub(crate) join_ref: Value,
    pub(crate) reference: Value,
    pub(crate) topic: String,
    pub(crate) event: String,
    pub(crate) payload: Value,
}

impl Peer {
    /// The next message other than pings.
    pub(crate) async fn message(&mut self) -> Option<Message> {
        within(self.socket.next()).await?.ok()
    }

    /// The next frame, heartbeats included.
    pub(crate) async fn any(&mut self) -> Heard {
        let message = self.message().await.expect("a frame");
        let text = message.into_text().expect("a text frame");
        let frame: [Value; 5] = serde_json::from_str(&text).expect("an array of five");
        let [join_ref, reference, topic, event, payload] = frame;
        let text = |value: Value| value.as_str().expect("text").to_owned();
        Heard {
            join_ref,
            reference,
            topic: text(topic),
            event: text(event),
            payload,
        }
    }

    /// The next frame that is no heartbeat; heartbeats are answered.
    pub(crate) async fn hear(&mut self) -> Heard {
        loop {
            let heard = self.any().await;
            if heard.event != "heartbeat" {
                return heard;
            }
            self.reply(&heard, "ok", json!({})).await;
        }
    }

    /// The next frame, which must be this event.
    pub(crate) async fn expect(&mut self, event: &str) -> Heard {
        let heard = self.hear().await;
        assert_eq!(heard.event, event, "{heard:?}");
        heard
    }

    pub(crate) async fn send_text(&mut self, text: impl Into<String>) {
        let message = Message::Text(text.into().into());
        within(self.socket.send(message)).await.expect("sent");
    }

    pub(crate) async fn send(&mut self, frame: Value) {
        self.send_text(frame.to_string()).await;
    }

    /// A push of the server without references.
    pub(crate) async fn push(&mut self, topic: &str, event: &str, payload: Value) {
        self.send(json!([null, null, topic, event, payload])).await;
    }

    pub(crate) async fn reply(&mut self, to: &Heard, status: &str, response: Value) {
        let payload = json!({"status": status, "response": response});
        let frame = json!([to.join_ref, to.reference, to.topic, "phx_reply", payload]);
        self.send(frame).await;
    }

    /// Waits for a join and grants it; ids count from 100.
    pub(crate) async fn grant(&mut self) -> Heard {
        let join = self.expect("phx_join").await;
        let asked = join.payload["config"]["postgres_changes"].clone();
        let mut bindings = asked.as_array().cloned().unwrap_or_default();
        for (index, binding) in bindings.iter_mut().enumerate() {
            binding["id"] = json!(100 + index);
        }
        let response = json!({"postgres_changes": bindings});
        self.reply(&join, "ok", response).await;
        join
    }

    /// Says that changes flow.
    pub(crate) async fn subscribed(&mut self, topic: &str) {
        let payload = json!({
            "extension": "postgres_changes", "status": "ok",
            "message": "Subscribed to PostgreSQL", "channel": topic,
        });
        self.push(topic, "system", payload).await;
    }

    /// Answers heartbeats until the client goes or `stop` is done.
    pub(crate) async fn serve_until(&mut self, stop: impl Future<Output = ()>) {
        tokio::pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => return,
                message = self.socket.next() => {
                    let Some(Ok(Message::Text(text))) = message else { return };
                    let frame: [Value; 5] = serde_json::from_str(&text).expect("a frame");
                    let [join_ref, reference, topic, event, _] = frame;
                    if event == "heartbeat" {
                        let ok = json!({"status": "ok", "response": {}});
                        self.send(json!([join_ref, reference, topic, "phx_reply", ok])).await;
                    }
                }
            }
        }
    }
}

/// A test that waits for something that never comes must fail, not hang.
#[track_caller]
pub(crate) fn within<T>(future: impl Future<Output = T>) -> impl Future<Output = T> {
    let caller = std::panic::Location::caller();
    async move {
        let outcome = timeout(PATIENCE, future).await;
        outcome.unwrap_or_else(|_| panic!("nothing happened, waited for at {caller}"))
    }
}

pub(crate) async fn next(subscription: &mut Subscription) -> Event {
    within(subscription.next()).await.expect("an event")
}

pub(crate) async fn up(subscription: &mut Subscription) {
    let event = next(subscription).await;
    assert!(matches!(event, Event::Up), "{event:?}");
}

pub(crate) async fn down(subscription: &mut Subscription) -> (Cause, String, Duration) {
    match next(subscription).await {
        Event::Down {
            cause,
            reason,
            retry_in,
        } => (cause, reason, retry_in),
        event => panic!("expected to be down, got {event:?}"),
    }
}

pub(crate) async fn status(client: &Client, wanted: impl FnMut(&Status) -> bool) -> Status {
    let mut status = client.status();
    within(status.wait_for(wanted))
        .await
        .expect("the driver runs")
        .clone()
}

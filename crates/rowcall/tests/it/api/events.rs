//! Events as they happen, and taken up again where they were left.

use futures_util::StreamExt as _;
use reqwest::{Method, Response};
use serde_json::{Value, json};

use super::world::{As, World};
use crate::support::PATIENCE;

/// Reads events from a stream until `enough`.
struct Reader {
    response: Response,
    waiting: String,
}

impl Reader {
    async fn open(world: &World, query: &str, last: Option<u64>) -> Self {
        let mut request = world.request(
            Method::GET,
            &format!("/rowcall/v1/events{query}"),
            As::Operator,
        );
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status().as_u16(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        assert_eq!(response.headers()["cache-control"], "no-store");
        Self {
            response,
            waiting: String::new(),
        }
    }

    /// The next event: its id, its name, its data.
    async fn next(&mut self) -> (u64, String, Value) {
        let read = async {
            loop {
                if let Some(end) = self.waiting.find("\n\n") {
                    let frame: String = self.waiting.drain(..end + 2).collect();
                    let field = |name: &str| {
                        frame
                            .lines()
                            .find_map(|line| line.strip_prefix(name))
                            .map(str::trim)
                    };
                    if let Some(data) = field("data:") {
                        let id = field("id:").and_then(|id| id.parse().ok()).unwrap_or(0);
                        let name = field("event:").unwrap_or_default().to_owned();
                        return (id, name, serde_json::from_str(data).unwrap());
                    }
                    continue;
                }
                let chunk = self
                    .response
                    .chunk()
                    .await
                    .unwrap()
                    .expect("the stream goes on");
                self.waiting.push_str(std::str::from_utf8(&chunk).unwrap());
            }
        };
        tokio::time::timeout(PATIENCE, read)
            .await
            .expect("an event comes")
    }

    async fn until(&mut self, wanted: &str) -> Vec<(u64, String, Value)> {
        let mut seen = Vec::new();
        loop {
            let event = self.next().await;
            let done = event.1 == wanted;
            seen.push(event);
            if done {
                return seen;
            }
        }
    }
}

fn start() -> Value {
    json!({ "raw_data": { "n": 1 }, "auto_run": true, "agent_name": "echo", "workspace_slug": "default" })
}

#[tokio::test]
async fn a_task_is_seen_from_claim_to_settlement_and_again_after_a_reconnect() {
    let world = World::start().await;
    let mut reader = Reader::open(&world, "", None).await;
    let task = world.trigger(&start()).await;
    let seen = reader.until("settled").await;
    let names: Vec<&str> = seen
        .iter()
        .filter(|one| one.2["task"]["id"] == task)
        .map(|one| one.1.as_str())
        .collect();
    assert!(
        names.contains(&"claimed") && names.contains(&"started") && names.contains(&"log"),
        "{names:?}"
    );
    assert!(
        seen.windows(2).all(|pair| pair[0].0 < pair[1].0),
        "ids grow"
    );
    let claimed = seen.iter().find(|one| one.1 == "claimed").unwrap().0;
    drop(reader);
    let mut again = Reader::open(&world, "", Some(claimed)).await;
    let replayed = again.until("settled").await;
    let after: Vec<u64> = seen
        .iter()
        .map(|one| one.0)
        .filter(|id| *id > claimed)
        .collect();
    let ids: Vec<u64> = replayed.iter().map(|one| one.0).collect();
    assert_eq!(ids, after, "nothing is missed and nothing comes twice");
    // A browser's EventSource cannot set the header the first time.
    let mut query = Reader::open(
        &world,
        &format!("?last_event_id={claimed}&task={task}&kind=settled"),
        None,
    )
    .await;
    let (_, name, data) = query.next().await;
    assert_eq!(
        (name.as_str(), &data["state"]),
        ("settled", &json!("completed"))
    );
    world.daemon.stop().await;
}

#[tokio::test]
async fn a_stop_ends_streams_at_once() {
    let world = World::start().await;
    let reader = Reader::open(&world, "", None).await;
    let mut stream = reader.response.bytes_stream();
    let (ended, ()) = tokio::join!(
        async {
            while let Some(Ok(_)) = stream.next().await {}
            tokio::time::Instant::now()
        },
        world.daemon.stop()
    );
    assert!(ended.elapsed() < PATIENCE);
}

//! Hostile input: whatever is sent, the answer is JSON, and never a server error of ours.

use reqwest::Method;
use rowcall::api::catalogue;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::world::{As, World, demo};
use crate::support::PATIENCE;

/// Bodies that break careless handlers.
fn bodies() -> Vec<String> {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let nested = format!("{}1{}", r#"{"payload":"#.repeat(200), "}".repeat(200));
    vec![
        String::new(),
        "null".into(),
        "[]".into(),
        "\"text\"".into(),
        "{".into(),
        "{\"a\":1e999}".into(),
        "{\"event\":{\"a\":[]},\"payload\":7,\"app_id\":[],\"permissions\":{},\"raw_data\":\"\\ud800\"}".into(),
        json!({ "event": "task.trigger", "event_id": "x".repeat(10_000), "payload": { "raw_data": [], "prompt": "p".repeat(100_000) } })
            .to_string(),
        json!({ "event": "task.progress", "payload": { "task_uuid": "\u{1}\u{202e}", "timestamp": 5, "attempt_id": -1 } }).to_string(),
        json!({ "raw_data": { "\u{0}": "\u{0}" }, "token": "a.b.c", "name": "\u{0}", "at": "never", "ids": ["x"], "action": "run" })
            .to_string(),
        json!({ "app_id": "00000000-0000-4000-8000-000000000000", "app_name": "\u{1b}[31m", "permission": "\n" }).to_string(),
        json!({ "decision": "granted", "agent": "../../etc/passwd", "limit": -1, "messages": [null], "input": [1], "vectors": "x" })
            .to_string(),
        deep,
        nested,
    ]
}

/// What stands in place of a path's parameters.
const SEGMENTS: [&str; 7] = [
    "%00",
    "%2F..%2F..",
    "%ff%fe",
    "'; drop table rtx_activities; --",
    "%",
    "🦀",
    "-1",
];

#[tokio::test]
async fn no_input_breaks_a_route() {
    let world = World::start_with(&demo(), &[("ROWCALL__API__PERMISSION_TIMEOUT", "50ms")]).await;
    let bodies = bodies();
    let mut broken = Vec::new();
    for route in catalogue() {
        // Streams that go on have no body to look at.
        if route.path == "/rowcall/v1/events" {
            continue;
        }
        let method: Method = route.method.parse().unwrap();
        let who = if route.path.starts_with("/rowcall/") {
            As::Operator
        } else {
            As::Key(&world.key)
        };
        let paths: Vec<String> = if route.path.contains('{') {
            SEGMENTS
                .iter()
                .map(|with| {
                    let parts = route
                        .path
                        .split('/')
                        .map(|part| if part.starts_with('{') { *with } else { part });
                    parts.collect::<Vec<_>>().join("/")
                })
                .collect()
        } else {
            vec![
                route.path.to_owned(),
                format!("{}?limit=x&offset=-1&state=%00&after=%ff&q=%00", route.path),
            ]
        };
        let bodies: &[String] = if method == Method::GET {
            &bodies[..1]
        } else {
            &bodies
        };
        for path in &paths {
            for body in bodies {
                let request = world.request(method.clone(), path, who).body(body.clone());
                let answer = request.send().await.expect("the daemon answers");
                let status = answer.status().as_u16();
                let text = answer.text().await.expect("an answer");
                let code = serde_json::from_str::<serde_json::Value>(&text)
                    .ok()
                    .and_then(|value| value["code"].as_str().map(str::to_owned))
                    .unwrap_or_default();
                let fine = status < 500
                    || matches!(
                        code.as_str(),
                        "PROVIDER_UNAVAILABLE" | "ACP_DISABLED" | "NOT_IMPLEMENTED"
                    );
                if !fine {
                    let body: String = body.chars().take(80).collect();
                    broken.push(format!("{method} {path} {body:?}: {status} {text}"));
                }
            }
        }
    }
    assert!(
        broken.is_empty(),
        "{}\n{}",
        broken.join("\n"),
        world.daemon.log()
    );
    let (status, _) = world.get("/sdk/ping", As::Key(&world.key)).await;
    assert_eq!(status, 200, "it still works");
    world.daemon.stop().await;
}

/// Speaks raw HTTP, as no client library would.
async fn raw(world: &World, request: &[u8]) -> String {
    let address = world.daemon.api().trim_start_matches("http://").to_owned();
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer));
    // A connection that is cut is an answer too.
    let _ = read.await.expect("it does not hang");
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn broken_requests_are_refused_and_nothing_hangs() {
    let world = World::start().await;
    for (request, status) in [
        (&b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n"[..], "403"),
        (b"GET /sdk/ping HTTP/1.0\r\nHost: localhost\r\n\r\n", "401"),
        (b"GET //sdk///ping HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", "401"),
        (b"GET http://example.com/sdk/ping HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", "401"),
        (b"GET /sdk/ping HTTP/1.1\r\nHost: localhost\r\nHost: example.com\r\nConnection: close\r\n\r\n", "403"),
        (b"POST /activities HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n0\r\n\r\n", "4"),
        (b"BREW /sdk/ping HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", "405"),
        (b"nonsense\r\n\r\n", "400"),
    ] {
        let answer = raw(&world, request).await;
        let line = answer.lines().next().unwrap_or_default();
        let shown = String::from_utf8_lossy(request);
        assert!(line.split(' ').nth(1).unwrap_or_default().starts_with(status), "{shown}: {answer}");
    }
    let huge = format!(
        "GET /{} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        "a".repeat(200_000)
    );
    assert!(raw(&world, huge.as_bytes()).await.starts_with("HTTP/1.1 4"));
    assert_eq!(world.get("/sdk/ping", As::Key(&world.key)).await.0, 200);
    world.daemon.stop().await;
}

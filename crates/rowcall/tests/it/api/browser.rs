//! Pages of others in a real browser: they can neither call a route nor read one.
//!
//! The page (`tests/clients/browser/attack.html`) tries every route in every way a page has. It is served from another site,
//! from another port of this machine in a browser that holds the operator's cookie, and from a name that leads to the daemon
//! once the page is loaded (DNS rebinding). That the page would notice, and that the routes would do it, is shown as well.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use axum::{
    Router,
    extract::Request,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::IntoResponse as _,
    routing::{get, post},
};
use parking_lot::Mutex;
use rowcall::api::catalogue;
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::mpsc};

use super::world::{As, World, demo};
use crate::support::{Browser, PATIENCE, clients};

/// Names that only this browser knows, all of this machine.
const NAMES: &str = "--host-resolver-rules=MAP *.test 127.0.0.1";

/// Newer browsers ask before a page may reach this machine at all. That is their protection, not ours.
const UNPROTECTED: &str =
    "--disable-features=LocalNetworkAccessChecks,BlockInsecurePrivateNetworkRequests";

/// Somebody's server, and what their page reported.
struct Attacker {
    address: SocketAddr,
    reports: mpsc::Receiver<String>,
    rebound: Arc<AtomicBool>,
}

impl Attacker {
    /// Serves the page with a plan; `cookie` is set in the browser when it opens the page.
    async fn start(mut plan: Value, cookie: Option<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        plan["report"] = json!(format!("http://attacker.test:{}/x/report", address.port()));
        let page = std::fs::read(clients().join("browser/attack.html")).unwrap();
        let (sender, reports) = mpsc::channel(1);
        let rebound = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&rebound);
        // No connection is kept: the next request finds where the name leads by then.
        let close = (header::CONNECTION, HeaderValue::from_static("close"));
        let routes = Router::new()
            .route(
                "/x/page",
                get({
                    let close = close.clone();
                    async move || {
                        let mut headers = HeaderMap::from_iter([close]);
                        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html"));
                        if let Some(cookie) = cookie {
                            headers.insert(header::SET_COOKIE, cookie.parse().unwrap());
                        }
                        (headers, page)
                    }
                }),
            )
            .route(
                "/x/plan",
                get({
                    let close = close.clone();
                    async move || ([close], axum::Json(plan))
                }),
            )
            .route(
                "/x/rebind",
                post(async move || {
                    flag.store(true, Ordering::SeqCst);
                    ([close], "done")
                }),
            )
            .route(
                "/x/report",
                post(async move |report: String| sender.send(report).await.unwrap()),
            );
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Self {
            address,
            reports,
            rebound,
        }
    }

    /// Opens the page under a name and gives what it managed.
    async fn attack(mut self, authority: &str) -> Vec<Attempt> {
        let browser = Browser::open(&format!("http://{authority}/x/page"), &[NAMES, UNPROTECTED]);
        let report = tokio::time::timeout(PATIENCE, self.reports.recv()).await;
        let report = report.unwrap_or_else(|_| panic!("the page says nothing:\n{}", browser.log()));
        let attempts: Vec<Value> = serde_json::from_str(&report.unwrap()).unwrap();
        attempts.into_iter().map(Attempt).collect()
    }
}

/// A listener that leads to the attacker, until it leads to the daemon: a name in the hands of an attacker.
async fn rebinding(attacker: &Attacker, daemon: SocketAddr) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (before, rebound) = (attacker.address, Arc::clone(&attacker.rebound));
    tokio::spawn(async move {
        while let Ok((mut from, _)) = listener.accept().await {
            let rebound = Arc::clone(&rebound);
            tokio::spawn(async move {
                // Browsers connect ahead of time: what counts is when the request comes.
                let _ = from.readable().await;
                let to = if rebound.load(Ordering::SeqCst) {
                    daemon
                } else {
                    before
                };
                let mut to = tokio::net::TcpStream::connect(to).await?;
                tokio::io::copy_bidirectional(&mut from, &mut to).await
            });
        }
    });
    port
}

/// One thing that the page tried.
struct Attempt(Value);

impl Attempt {
    fn how(&self) -> &str {
        self.0["how"].as_str().unwrap()
    }

    fn outcome(&self) -> &str {
        self.0["outcome"].as_str().unwrap()
    }
}

/// What an attacker who knows every name and number would ask for.
fn requests(task: &str, entry: &Value) -> Vec<Value> {
    let segment = |path: &str, segment: &str| match segment {
        "{id}" if path.contains("/calendar/") => entry.to_string(),
        "{id}" | "{uuid}" if path.contains("task") || path.contains("/activities/") => {
            task.to_owned()
        }
        "{name}" if path.contains("/keys/") => "dev".to_owned(),
        "{name}" | "{app}" => "demo".to_owned(),
        "{permission}" => "api.agents".to_owned(),
        "{slug}" => "default".to_owned(),
        "{thread}" => "general".to_owned(),
        other if other.starts_with('{') => "x".to_owned(),
        other => other.to_owned(),
    };
    catalogue()
        .iter()
        .map(|route| {
            let path: Vec<String> = route
                .path
                .split('/')
                .map(|part| segment(route.path, part))
                .collect();
            json!({ "method": route.method, "path": path.join("/") })
        })
        .collect()
}

/// One body for all of them: what is unknown is ignored.
fn body(app: &str, task: &str, entry: &Value) -> String {
    json!({
        "app_id": app, "app_name": "x", "permission": "api.agents", "permissions": ["api.agents"], "decision": "granted",
        "event": "task.completed", "payload": { "task_uuid": task, "result": {} }, "action": "completed",
        "data": { "result": {} }, "raw_data": {}, "status": "completed", "name": "evil", "at": "2020-01-01T00:00:00Z",
        "ids": [entry], "agent": "echo"
    })
    .to_string()
}

/// Everything that a successful attack would change.
async fn state(world: &World) -> Vec<Value> {
    let mut state = Vec::new();
    for path in [
        "apps",
        "keys",
        "permissions",
        "permissions/log",
        "tasks",
        "calendar",
        "workspaces",
        "workspaces/default/threads",
    ] {
        let (status, mut answer) = world
            .get(&format!("/rowcall/v1/{path}"), As::Operator)
            .await;
        assert_eq!(status, 200, "{answer}");
        if path == "keys" {
            // Written now and then, for what was used before.
            answer["keys"][0]["last_used_at"] = Value::Null;
        }
        state.push(answer);
    }
    state
}

/// How many requests the daemon has answered so far, by class.
async fn answered(world: &World, class: &str) -> u64 {
    let request = world.request(reqwest::Method::GET, "/rowcall/v1/metrics", As::Operator);
    let page = request.send().await.unwrap().text().await.unwrap();
    let line = page.lines().find(|line| {
        line.starts_with("rowcall_api_requests_total") && line.contains(&format!("\"{class}\""))
    });
    let line = line.unwrap_or_else(|| panic!("no {class} in {page}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn pages_of_others_can_neither_call_nor_read() {
    let weak = [
        ("ROWCALL__API__PERMISSION_TIMEOUT", "100ms"),
        // The most that an operator can open: still not for pages.
        ("ROWCALL__API__TOKENLESS_REPORTS", "any"),
    ];
    let world = World::start_with(&demo(), &weak).await;
    let task = world.trigger(&json!({ "raw_data": {} })).await;
    let (_, calendar) = world.get("/rowcall/v1/calendar", As::Operator).await;
    let entry = calendar["entries"][0]["id"].clone();
    let daemon: SocketAddr = world
        .daemon
        .api()
        .trim_start_matches("http://")
        .parse()
        .unwrap();
    let request = world.request(reqwest::Method::POST, "/rowcall/v1/session", As::Operator);
    let cookie = request.body("{}").send().await.unwrap().headers()["set-cookie"]
        .to_str()
        .unwrap()
        .to_owned();
    let plan = |target: String, rebind: bool| {
        json!({
            "target": target, "rebind": rebind, "app": world.app,
            "requests": requests(&task, &entry), "body": body(&world.app, &task, &entry)
        })
    };
    let before = state(&world).await;
    let port = daemon.port();

    for (whose, target, cookie) in [
        ("attacker.test", format!("http://127.0.0.1:{port}"), None),
        (
            "localhost",
            format!("http://localhost:{port}"),
            Some(cookie),
        ),
    ] {
        let (calls, refusals) = (answered(&world, "2xx").await, answered(&world, "4xx").await);
        let attacker = Attacker::start(plan(target.clone(), false), cookie).await;
        let authority = format!("{whose}:{}", attacker.address.port());
        let attempts = attacker.attack(&authority).await;
        assert!(attempts.len() > 400, "{}", attempts.len());
        for attempt in &attempts {
            let harmless = matches!(attempt.outcome(), "blocked" | "unread");
            assert!(harmless, "{authority} against {target}: {}", attempt.0);
        }
        // Both readings of the numbers, and nothing else, succeeded.
        assert_eq!(
            answered(&world, "2xx").await - calls,
            2,
            "{authority} against {target}"
        );
        assert!(
            answered(&world, "4xx").await - refusals > 400,
            "the browser did ask"
        );
        assert_eq!(state(&world).await, before, "{authority} against {target}");
    }

    // The page's own name leads to the daemon: everything can be read, and everything is a refusal.
    let attacker = Attacker::start(plan(String::new(), true), None).await;
    let port = rebinding(&attacker, daemon).await;
    let calls = answered(&world, "2xx").await;
    let attempts = attacker.attack(&format!("rebound.test:{port}")).await;
    assert!(attempts.len() > 400, "{}", attempts.len());
    for attempt in &attempts {
        let seen = &attempt.0;
        match attempt.outcome() {
            "read" => assert!(
                seen["text"].as_str().unwrap().contains("FOREIGN_HOST") || seen["text"] == "",
                "{seen}"
            ),
            outcome => assert!(matches!(outcome, "blocked" | "unread"), "{seen}"),
        }
    }
    let read = attempts
        .iter()
        .filter(|attempt| attempt.outcome() == "read")
        .count();
    assert!(read > 200, "the name did lead to the daemon: {read}");
    assert_eq!(answered(&world, "2xx").await - calls, 1);
    assert_eq!(state(&world).await, before);

    // Nothing but the browser's headers stood in the way: a program with the same body gets through.
    let request = world.request(reqwest::Method::POST, "/sdk/register", As::Nobody);
    let (status, answer) = world
        .send(request.body(body(&world.app, &task, &entry)))
        .await;
    assert_eq!(status, 200, "{answer}");
    assert_ne!(state(&world).await, before);
    world.daemon.stop().await;
}

/// A server that trusts every page, to see that the page's report can be believed.
#[tokio::test]
async fn the_page_gets_through_where_nobody_guards() {
    let seen = Arc::new(Mutex::new(BTreeSet::new()));
    let log = Arc::clone(&seen);
    let trusting = Router::new().fallback(async move |request: Request| {
        let headers = request.headers();
        let kind = headers
            .get(header::CONTENT_TYPE)
            .map_or("", |kind| kind.to_str().unwrap());
        log.lock().insert(format!(
            "{} {} {kind}",
            request.method(),
            request.uri().path()
        ));
        let mut answer = StatusCode::OK.into_response();
        let origin = headers
            .get(header::ORIGIN)
            .cloned()
            .unwrap_or(HeaderValue::from_static("null"));
        let more = answer.headers_mut();
        more.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        more.insert(
            header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
            HeaderValue::from_static("true"),
        );
        more.insert(
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            HeaderValue::from_static("content-type, x-app-id"),
        );
        *answer.body_mut() = "a secret".into();
        answer
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = format!("http://localhost:{}", listener.local_addr().unwrap().port());
    tokio::spawn(async move { axum::serve(listener, trusting).await });
    let requests = [
        json!({ "method": "GET", "path": "/read" }),
        json!({ "method": "POST", "path": "/change" }),
    ];
    let plan = json!({ "target": target, "requests": requests, "app": "x", "body": "{\"a\":1}" });
    let attacker = Attacker::start(plan, None).await;
    let authority = format!("attacker.test:{}", attacker.address.port());
    let attempts = attacker.attack(&authority).await;
    let read: BTreeSet<&str> = attempts
        .iter()
        .filter(|attempt| attempt.outcome() == "read" && attempt.0["text"] == "a secret")
        .map(Attempt::how)
        .collect();
    assert_eq!(
        read,
        BTreeSet::from(["a fetch", "a fetch as the app", "a sandboxed page"])
    );
    let seen = seen.lock();
    for request in [
        "GET /read ",
        "POST /change application/json",
        "POST /change text/plain;charset=UTF-8",
        // The form's.
        "POST /change text/plain",
        "GET /rowcall/v1/events ",
    ] {
        assert!(seen.contains(request), "{request}: {seen:?}");
    }
}

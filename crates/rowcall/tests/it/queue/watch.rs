//! E8: queues and workers, live: the local API, its events, and `rowcall queue watch`.

use std::process::Stdio;

use futures_util::TryStreamExt as _;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};

use super::{Place, realtime::project};
use crate::support::{Daemon, PATIENCE, command, http_client, until};

/// Reads lines until one fits.
async fn line<R: tokio::io::AsyncBufRead + Unpin>(
    lines: &mut tokio::io::Lines<R>,
    what: &str,
    wanted: impl Fn(&Value) -> bool,
) -> Value {
    let mut last = String::new();
    let found = async {
        loop {
            let line = lines.next_line().await.expect("lines").expect("it goes on");
            let json = line.strip_prefix("data: ").unwrap_or(&line);
            if let Ok(now) = serde_json::from_str::<Value>(json)
                && wanted(&now)
            {
                return now;
            }
            last = line;
        }
    };
    let found = tokio::time::timeout(PATIENCE, found).await;
    found.unwrap_or_else(|_| panic!("{what} did not happen; last seen: {last}"))
}

fn worker<'a>(now: &'a Value, name: &str) -> Option<&'a Value> {
    let workers = now["workers"].as_array()?;
    workers.iter().find(|one| one["name"] == name)
}

fn depth(now: &Value, name: &str) -> Option<u64> {
    let queues = now["queues"].as_array()?;
    queues.iter().find(|one| one["name"] == name)?["depth"].as_u64()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e8_watching_shows_workers_coming_working_and_going() {
    let place = Place::new().await;
    let (stack, keys) = project(&place).await;
    place.done(&["queue", "create", "jobs"]).await;
    let env = [
        ("SUPABASE_URL", stack.url()),
        ("SUPABASE_KEY", keys.service_role_key()),
        ("WORKER_NAME", "w1"),
        ("WORKER_IDLE_WAIT", "600.0"),
    ];
    let mut watching = command(place.dir.path())
        .args(["queue", "watch", "--json", "--every", "200ms"])
        .env("DATABASE_URL", place.db.url())
        .envs(env)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(watching.stdout.take().unwrap()).lines();
    let empty = line(&mut lines, "the queue is there", |now| {
        depth(now, "jobs") == Some(0)
    })
    .await;
    assert_eq!(
        (&empty["installed"], &empty["presence"]),
        (&true.into(), &true.into())
    );
    let script = format!(
        "while test ! -e {}; do sleep 0.05; done",
        place.path("go").display()
    );
    let args = [
        "worker", "--queue", "jobs", "--kind", "process", "--", "sh", "-c", &script, "handler",
    ];
    let process = place.worker_with(&args, &env).await;
    let idle = line(&mut lines, "the worker came", |now| {
        worker(now, "w1").is_some_and(|one| one["status"] == "idle")
    })
    .await;
    assert_eq!(worker(&idle, "w1").unwrap()["seen"], "presence");
    assert_eq!(idle["queues"][0]["workers"], serde_json::json!(["w1"]));
    let id = place.done(&["queue", "send", "jobs", "{}"]).await;
    let id: i64 = id.trim().parse().unwrap();
    let busy = line(&mut lines, "the worker works", |now| {
        worker(now, "w1").is_some_and(|one| one["status"] == "busy")
            && depth(now, "jobs") == Some(1)
    })
    .await;
    let one = worker(&busy, "w1").unwrap();
    assert_eq!(
        (&one["running"], &one["jobs"][0]["id"]),
        (&1.into(), &id.into())
    );
    assert!(one["jobs"][0]["since"].is_string(), "{one}");
    std::fs::write(place.path("go"), "").unwrap();
    line(&mut lines, "the queue is empty", |now| {
        depth(now, "jobs") == Some(0)
    })
    .await;
    process.stop().await;
    line(&mut lines, "the worker left", |now| {
        worker(now, "w1").is_none()
    })
    .await;
    // Ctrl-C is how it ends.
    let pid = watching.id().and_then(|id| i32::try_from(id).ok()).unwrap();
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(pid),
        nix::sys::signal::Signal::SIGINT,
    )
    .unwrap();
    let status = tokio::time::timeout(PATIENCE, watching.wait())
        .await
        .unwrap()
        .unwrap();
    assert!(status.success(), "{status}");
    stack.shutdown().await;
}

#[tokio::test]
async fn e8_the_local_api_lists_queues_and_workers_and_tells_of_changes() {
    let place = Place::new().await;
    // A daemon without queues of its own, and a worker beside it.
    let app = crate::support::shell_app("echo '{}'", 2);
    let daemon = Daemon::start_with("watching", &place.db.url(), &app, &[]).await;
    let token = std::fs::read_to_string(daemon.path().join("session-token")).unwrap();
    let get = async |path: &str| -> Value {
        let request = http_client()
            .get(format!("{}/rowcall/v1/{path}", daemon.api()))
            .bearer_auth(token.trim());
        let answer = request.send().await.expect("the daemon answers");
        assert_eq!(answer.status().as_u16(), 200, "{path}");
        answer.json().await.expect("JSON")
    };
    let before = get("queues").await;
    assert_eq!(
        before,
        serde_json::json!({ "queues": [], "installed": false })
    );
    let url = format!("{}/rowcall/v1/events?kind=queues", daemon.api());
    // The other clients of these tests give a whole answer a minute.
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let stream = client.get(url).bearer_auth(token.trim()).send();
    let bytes = stream.await.unwrap().bytes_stream();
    let bytes = Box::pin(bytes.map_err(std::io::Error::other));
    let mut events = BufReader::new(tokio_util::io::StreamReader::new(bytes)).lines();
    line(&mut events, "the first event", |now| {
        now["installed"] == false
    })
    .await;
    let process = place
        .worker(&["worker", "--queue", "jobs", "--name", "beside", "--", "cat"])
        .await;
    line(&mut events, "the worker came", |now| {
        depth(now, "jobs") == Some(0) && worker(now, "beside").is_some()
    })
    .await;
    let workers = get("queue-workers").await;
    assert_eq!(workers["presence"], false);
    let one = worker(&workers, "beside").expect("it listens");
    assert_eq!(
        (&one["seen"], &one["queues"]),
        (&"database".into(), &Value::Null)
    );
    place
        .done(&["queue", "send", "jobs", "{}", "--delay", "600"])
        .await;
    line(&mut events, "the message came", |now| {
        depth(now, "jobs") == Some(1)
    })
    .await;
    let queues = until("the answer is not older than a second", async || {
        let queues = get("queues").await;
        if depth(&queues, "jobs") == Some(1) {
            Ok(queues)
        } else {
            Err(queues)
        }
    })
    .await;
    let jobs = &queues["queues"][0];
    assert_eq!(
        (&jobs["visible"], &jobs["oldest_visible_age_seconds"]),
        (&0.into(), &Value::Null)
    );
    assert!(jobs["oldest_age_seconds"].as_f64() >= Some(0.0), "{jobs}");
    process.stop().await;
    line(&mut events, "the worker left", |now| {
        worker(now, "beside").is_none()
    })
    .await;
    drop(events);
    daemon.stop().await;
}

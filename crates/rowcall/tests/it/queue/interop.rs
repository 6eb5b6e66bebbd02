//! Other clients on the same queue at the same time: they send for us, we send for them, and nobody gets a message that
//! somebody else holds. Their scripts are in `tests/clients/queue`.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::Stdio,
};

use serde_json::{Value, json};
use tokio::process::Command;

use super::{Place, Worker, realtime::project};
use crate::support::{PATIENCE, until};

/// What every client sends, and what it takes of what is there.
const SEND: usize = 15;
const TAKE: usize = 8;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/clients")
}

/// The program and the arguments of a client.
fn client(kind: &str) -> (PathBuf, PathBuf) {
    let dir = folder();
    let (program, script, installed) = match kind {
        "pgmq-js" | "supabase-js" => (
            PathBuf::from("node"),
            dir.join("queue/client.mjs"),
            dir.join("node_modules/pgmq-js"),
        ),
        _ => {
            let python = dir.join("queue/.venv/bin/python");
            (python.clone(), dir.join("queue/client.py"), python)
        }
    };
    assert!(
        installed.exists(),
        "the clients are missing: run `cargo xtask clients`"
    );
    (program, script)
}

/// Runs one client beside our worker; says which messages it handled.
async fn handled(place: &Place, kind: &str, url: &str, key: &str) -> Vec<u64> {
    let (program, script) = client(kind);
    let mut command = Command::new(program);
    command
        .arg(script)
        .args([kind, "shared", &SEND.to_string(), &TAKE.to_string()])
        .env("DATABASE_URL", place.db.url())
        .env("SUPABASE_URL", url)
        .env("SUPABASE_KEY", key)
        .current_dir(place.dir.path())
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE, command.output())
        .await
        .unwrap_or_else(|_| panic!("{kind} does not end"))
        .expect("the client starts");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{kind}: {said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_str(said.lines().last().unwrap_or_default())
        .unwrap_or_else(|error| panic!("{kind}: {error}: {said}"))
}

/// Our worker, which holds what it has until `go` is there.
async fn ours(place: &Place) -> Worker {
    place
        .worker(&[
            "worker",
            "--queue",
            "shared",
            "--kind",
            "process",
            "--concurrency",
            "4",
            "--",
            "sh",
            "-c",
            "echo $TASK_UUID >> ours; while test ! -e go; do sleep 0.05; done",
            "handler",
        ])
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a1_c1_other_clients_send_for_us_and_take_from_us_at_the_same_time() {
    let place = Place::new().await;
    let (stack, keys) = project(&place).await;
    place.done(&["queue", "create", "shared"]).await;
    let batch = "select count(*) from pgmq.send_batch('shared', (select array_agg(jsonb_build_object('n', n)) from generate_series(1, 40) n))";
    place.client.query(batch, &[]).await.unwrap();
    let worker = ours(&place).await;
    let (url, key) = (stack.url().to_owned(), keys.service_role_key().to_owned());
    let (pgmq_js, supabase_js, pgmq, aimq) = tokio::join!(
        handled(&place, "pgmq-js", &url, &key),
        handled(&place, "supabase-js", &url, &key),
        handled(&place, "pgmq", &url, &key),
        handled(&place, "aimq", &url, &key),
    );
    std::fs::write(place.path("go"), "").unwrap();
    let all = i64::try_from(40 + 4 * SEND).unwrap();
    place.rows("pgmq.a_shared", all, &worker).await;
    let mut seen: Vec<u64> = [&pgmq_js, &supabase_js, &pgmq, &aimq]
        .into_iter()
        .inspect(|taken| assert!(taken.len() >= TAKE))
        .flatten()
        .copied()
        .collect();
    let log = place.read("ours");
    let own: Vec<u64> = log.lines().map(|line| line.parse().unwrap()).collect();
    assert!(own.len() > 40, "the rest was ours");
    seen.extend(own);
    let once: BTreeSet<u64> = seen.iter().copied().collect();
    assert_eq!(
        (once.len(), seen.len()),
        (usize::try_from(all).unwrap(), usize::try_from(all).unwrap()),
        "each message was handled once"
    );
    assert_eq!(place.count("pgmq.q_shared").await, 0);
    worker.stop().await;
    stack.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a1_delayed_and_batched_sends_of_aimq_reach_us() {
    let place = Place::new().await;
    let (stack, keys) = project(&place).await;
    let worker = place
        .worker(&[
            "worker",
            "--queue",
            "shared",
            "--kind",
            "process",
            "--idle-wait",
            "10m",
            "--",
            "true",
        ])
        .await;
    let (python, _) = client("aimq");
    let script = "from aimq.providers import SupabaseQueueProvider as P\n\
                  p = P(); print(p.send('shared', {'a': 1}, 1)); print(p.send_batch('shared', [{'b': 1}, {'b': 2}]))";
    let sent = Command::new(python)
        .args(["-c", script])
        .env("SUPABASE_URL", stack.url())
        .env("SUPABASE_KEY", keys.service_role_key())
        .output()
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&sent.stdout).into_owned();
    assert!(
        sent.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&sent.stderr)
    );
    assert_eq!(said, "1\n[2, 3]\n");
    place.rows("pgmq.a_shared", 3, &worker).await;
    let message = place
        .value("select message from pgmq.a_shared where msg_id = 1")
        .await;
    assert_eq!(message, json!({ "a": 1 }));
    // What AIMQ looks for in an error.
    let script = "from aimq.providers import SupabaseQueueProvider as P\n\
                  from aimq.providers.base import QueueNotFoundError\n\
                  try:\n    P().read('nope', 1, 1)\nexcept QueueNotFoundError as e:\n    print('not found')";
    let (python, _) = client("aimq");
    let missing = Command::new(python)
        .args(["-c", script])
        .env("SUPABASE_URL", stack.url())
        .env("SUPABASE_KEY", keys.service_role_key())
        .output()
        .await
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&missing.stdout), "not found\n");
    until("the queue is empty", async || {
        let left: Value = place.value("select count(*) from pgmq.q_shared").await;
        if left == json!(0) { Ok(()) } else { Err(left) }
    })
    .await;
    worker.stop().await;
    stack.shutdown().await;
}

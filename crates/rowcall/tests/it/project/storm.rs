//! Daemons that reach their project over bad wires, with tokens that expire: nothing is lost, nothing is settled twice.
//!
//! The small run is part of the tests; `cargo xtask chaos-proxy` runs the full one.

use std::{fmt::Write as _, time::Duration};

use rowcall_stack::testing::scratch_dir;
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt as _, time::Instant};

use super::wire::{Proxy, Weather};
use crate::{
    chaos::history,
    support::{BRIEF_LEASES, Daemon, Project, command, http_client, until},
};

/// The leases of the daemons.
const TTL: Duration = Duration::from_secs(3);

/// Set by `cargo xtask chaos-proxy`.
const FULL: &str = "ROWCALL_CHAOS_PROXY_FULL";

struct Size {
    tasks: u64,
    lasts: Duration,
    changes_every: Duration,
    tokens_live: Duration,
}

fn size() -> Size {
    if std::env::var_os(FULL).is_some() {
        Size {
            tasks: 5_000,
            lasts: Duration::from_mins(10),
            changes_every: Duration::from_secs(3),
            tokens_live: Duration::from_secs(40),
        }
    } else {
        Size {
            tasks: 240,
            lasts: Duration::from_secs(12),
            changes_every: Duration::from_millis(800),
            tokens_live: Duration::from_secs(4),
        }
    }
}

const DAEMONS: usize = 6;
const EMAIL: &str = "ada@example.com";
const PASSWORD: &str = "correct horse battery";

/// A warm worker that answers every task with who did it.
fn app() -> Value {
    let worker = r#"
import json, os, sys
print(json.dumps({"type": "ready", "protocol": 1}), flush=True)
for line in sys.stdin:
    message = json.loads(line)
    if message.get("type") == "task":
        print(json.dumps({"type": "result", "id": message["id"], "result": {"machine": os.environ.get("MACHINE_ID")}}), flush=True)
    elif message.get("type") == "shutdown":
        break
"#;
    json!({
        "name": "storm",
        "config": {
            "supabase": { "tables": ["public.rtx_activities"], "max_concurrent_tasks": 8 },
            "agentHandlers": [{ "tableName": "rtx_activities", "agentId": "worker", "eventTypes": ["INSERT"] }]
        },
        "agents": [{
            "id": "worker", "kind": "worker", "app_type": "python", "args": ["-c", worker],
            "concurrency": 8, "timeout_seconds": 30
        }]
    })
}

async fn sign_up(project: &Project) -> String {
    let answer = http_client()
        .post(format!("{}/auth/v1/signup", project.url()))
        .header("apikey", project.keys.anon_key())
        .json(&json!({ "email": EMAIL, "password": PASSWORD }))
        .send()
        .await
        .expect("the project answers");
    let user: Value = answer.json().await.expect("JSON");
    user["user"]["id"].as_str().expect("a user").to_owned()
}

/// A daemon that is signed in, behind a wire of its own.
async fn start(project: &Project, wire: &Proxy, name: &str) -> Daemon {
    let dir = scratch_dir();
    let config = format!(
        "[backend]\nurl = \"{}\"\nkey = \"{}\"\nrequest_timeout = \"2s\"\n",
        wire.url(),
        project.keys.publishable_key()
    );
    std::fs::write(dir.path().join("rowcall.toml"), config).expect("the configuration");
    let mut child = command(dir.path())
        .env("ROWCALL__SECRETS", "file")
        .args(["login", "--user", EMAIL])
        .stdin(std::process::Stdio::piped())
        .spawn()
        .expect("the program runs");
    let password = format!("{PASSWORD}\n");
    let mut stdin = child.stdin.take().expect("its input");
    stdin
        .write_all(password.as_bytes())
        .await
        .expect("it reads");
    drop(stdin);
    assert!(child.wait().await.expect("it ends").success());
    Daemon::on_project_in(dir, name, &app(), &BRIEF_LEASES).await
}

fn resident_kb(daemon: &Daemon) -> u64 {
    let pid = daemon.child.id().expect("it runs");
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok())
        .unwrap_or(0)
}

async fn completed(project: &Project) -> u64 {
    let sql = "select count(*) from public.rtx_activities where status = 'completed'";
    let count: i64 = project
        .client
        .query_one(sql, &[])
        .await
        .expect("a count")
        .get(0);
    u64::try_from(count).expect("not negative")
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_wires_and_expiring_tokens_lose_nothing() {
    let size = size();
    let project = Project::with_tokens_for(size.tokens_live).await;
    history::record(&project.client).await;
    let definer = "alter function public.record_history() security definer";
    project
        .client
        .batch_execute(definer)
        .await
        .expect("the recorder may write");
    let user = sign_up(&project).await;
    let (mut daemons, mut wires) = (Vec::new(), Vec::new());
    for number in 0..DAEMONS {
        let wire = Proxy::to(project.stack.addresses()[0]).await;
        daemons.push(start(&project, &wire, &format!("machine-{number}")).await);
        wires.push(wire);
    }
    let (mut seed, mut changes, mut inserted) = (11, 0, 0);
    let mut memory = Vec::new();
    let started = Instant::now();
    while started.elapsed() < size.lasts {
        for wire in &wires {
            wire.set(Weather::next(&mut seed));
        }
        changes += 1;
        let due = share(
            size.tasks,
            started.elapsed() + size.changes_every,
            size.lasts,
        );
        insert(&project, &user, due - inserted).await;
        inserted = due;
        if changes % 8 == 0 {
            memory.push(daemons.iter().map(resident_kb).max().unwrap_or(0));
        }
        tokio::time::sleep(size.changes_every).await;
    }
    insert(&project, &user, size.tasks - inserted).await;
    for wire in &wires {
        wire.set(Weather::Fine);
    }
    until("every task is completed", async || {
        let done = completed(&project).await;
        if done == size.tasks {
            return Ok(());
        }
        let mut open = format!("{done} of {}", size.tasks);
        let sql = "select status, locked_by, count(*) from public.rtx_activities where status <> 'completed' group by 1, 2";
        for row in project.client.query(sql, &[]).await.expect("the rest") {
            let (status, by, count): (String, Option<String>, i64) = (row.get(0), row.get(1), row.get(2));
            let _ = write!(open, ", {count} {status} by {by:?}");
        }
        Err(open)
    })
    .await;
    let seconds = started.elapsed().as_secs_f64();
    memory.push(daemons.iter().map(resident_kb).max().unwrap_or(0));
    let sockets: Vec<usize> = wires.iter().map(Proxy::sockets).collect();
    for daemon in daemons {
        let log = daemon.log();
        assert!(
            !log.contains(project.keys.publishable_key()),
            "a key is in the log"
        );
        daemon.stop().await;
    }
    let summary = history::check(&history::read(&project.client).await, TTL)
        .unwrap_or_else(|broken| panic!("{broken}"));
    assert_eq!(u64::try_from(summary.tasks).ok(), Some(size.tasks));
    // A change of the weather costs each daemon its socket; it may then try a few times, not in a storm.
    let allowed = changes * 4 + 20;
    assert!(
        sockets.iter().all(|count| *count <= allowed),
        "{sockets:?} sockets in {changes} changes"
    );
    let (first, last) = (memory[0], memory[memory.len() - 1]);
    assert!(last <= first * 2 + 32 * 1024, "memory grows: {memory:?} kB");
    eprintln!(
        "{DAEMONS} daemons, {changes} changes of weather, {seconds:.0} s, sockets {sockets:?}, memory {memory:?} kB: {summary:?}"
    );
}

/// How many of `all` are due after a part of the time.
fn share(all: u64, elapsed: Duration, lasts: Duration) -> u64 {
    let part = u64::try_from(elapsed.as_millis()).expect("not that long");
    let whole = u64::try_from(lasts.as_millis()).expect("not that long");
    (all * part / whole).min(all)
}

async fn insert(project: &Project, user: &str, tasks: u64) {
    let sql = "insert into public.rtx_activities (raw_data, user_id) \
               select jsonb_build_object('n', n), $2::text::uuid from generate_series(1, $1::bigint) n";
    let tasks = i64::try_from(tasks).expect("not that many");
    project
        .client
        .execute(sql, &[&tasks, &user])
        .await
        .expect("the tasks");
}

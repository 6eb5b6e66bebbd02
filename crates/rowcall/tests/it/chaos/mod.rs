//! Many daemons, killed and cut off at random, and not one task lost or done under two leases.
//!
//! The small run is part of the tests; `cargo xtask chaos` runs the full one.

pub(crate) mod history;

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use rowcall_stack::testing::{PrivateCluster, ServerEnd};
use serde_json::{Value, json};

use crate::support::{BRIEF_LEASES, Daemon, Database, until};

/// How long [`BRIEF_LEASES`] last.
const TTL: Duration = Duration::from_secs(3);

/// Set by `cargo xtask chaos`.
const FULL: &str = "ROWCALL_CHAOS_FULL";

struct Size {
    daemons: usize,
    tasks: i32,
    kills: usize,
}

fn size() -> Size {
    if std::env::var_os(FULL).is_some() {
        Size {
            daemons: 8,
            tasks: 10_000,
            kills: 2,
        }
    } else {
        Size {
            daemons: 3,
            tasks: 300,
            kills: 1,
        }
    }
}

/// A warm worker that answers every task with who did it.
fn app() -> Value {
    let worker = r#"
import json, os, sys
print(json.dumps({"type": "ready", "protocol": 1}), flush=True)
for line in sys.stdin:
    message = json.loads(line)
    if message.get("type") == "task":
        result = {"machine": os.environ.get("MACHINE_ID"), "attempt": message["task"].get("attempt")}
        print(json.dumps({"type": "result", "id": message["id"], "result": result}), flush=True)
    elif message.get("type") == "shutdown":
        break
"#;
    json!({
        "name": "chaos",
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

#[tokio::test(flavor = "multi_thread")]
async fn killed_daemons_and_a_restarted_database_lose_nothing() {
    let size = size();
    let server = PrivateCluster::start().await;
    let url = server.url_of("postgres");
    let db = Database::at(&url).await;
    history::record(&db.client).await;
    // Failures of a database that is away must not use up a task's attempts: the machines retry themselves.
    let mut daemons = Vec::new();
    for index in 0..size.daemons {
        daemons.push(
            Daemon::start_with(&format!("machine-{index}"), &url, &app(), &BRIEF_LEASES).await,
        );
    }
    let started = Instant::now();
    insert(&db, size.tasks).await;
    for kill in 1..=size.kills {
        let third = i64::from(size.tasks) * i64::try_from(kill).unwrap() / 4;
        wait_for_completed(&db, third).await;
        let victim = daemons.remove(0);
        victim.signal(Signal::SIGKILL);
        let again = victim.start_again(&url, &app()).await;
        daemons.push(again);
    }
    server.end(ServerEnd::Immediate).await;
    server.start_again().await;
    let db = Database::at(&url).await;
    wait_for_completed(&db, size.tasks.into()).await;
    let seconds = started.elapsed().as_secs_f64();
    for daemon in daemons {
        daemon.stop().await;
    }
    let summary = history::check(&history::read(&db.client).await, TTL)
        .unwrap_or_else(|broken| panic!("{broken}"));
    assert_eq!(i32::try_from(summary.tasks), Ok(size.tasks));
    eprintln!(
        "{} daemons, {} kills, 1 database crash, {seconds:.1} s: {summary:?}",
        size.daemons, size.kills
    );
}

async fn insert(db: &Database, tasks: i32) {
    let sql = "insert into public.rtx_activities (raw_data) select jsonb_build_object('n', n) from generate_series(1, $1) n";
    db.client.execute(sql, &[&tasks]).await.expect("the tasks");
}

async fn wait_for_completed(db: &Database, count: i64) {
    until("enough tasks are completed", async || {
        let sql = "select count(*) from public.rtx_activities where status = 'completed'";
        let done: i64 = db
            .client
            .query_one(sql, &[])
            .await
            .map_err(|error| error.to_string())?
            .get(0);
        if done >= count {
            Ok(())
        } else {
            Err(format!("{done} of {count}"))
        }
    })
    .await;
}

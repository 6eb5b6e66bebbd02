//! `demo --crash`: two daemons share the database, one is killed in the middle of its work, the other one finishes it.

use std::{path::Path, process::Stdio, time::Duration};

use anyhow::{Context as _, bail};
use rowcall_core::{App as Manifest, Clock as _};
use rowcall_engine::store::{Store, StoreOptions};
use serde_json::{Value, json};
use tokio::{
    process::{Child, Command},
    time::Instant,
};
use tokio_postgres::Client;
use uuid::Uuid;

use super::{daemon_dir, files, tickets};
use crate::{
    cli::Context,
    daemon::{Daemon, STORE_FILE},
    exit::Exit,
    output,
    system::SystemClock,
};

/// Tickets of the crash demo.
const TICKETS: usize = 6;

/// How long the agent thinks, so that there is a middle to be killed in.
const THINKING_SECONDS: u32 = 2;

/// Leases are this short here; the default is five minutes, as RealTimeX clients expect.
const LEASE: &str = "3s";

/// The heartbeat that goes with it.
const HEARTBEAT: &str = "1s";

/// How often the database is looked at for the display.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// When the demo gives up.
const PATIENCE: Duration = Duration::from_mins(1);

pub(super) async fn run(
    daemon: &Daemon,
    context: &Context,
    examples: &Path,
) -> anyhow::Result<Exit> {
    let client = crate::cli::connect(daemon.addresses().database()?).await?;
    // This process only has the database: an app of an earlier demo would take the tickets itself.
    let store = context.store()?;
    for app in store.apps()? {
        if let Ok(app) = app.parse() {
            store.remove_app(&app.name)?;
        }
    }
    daemon.engine().set_apps(&[]);
    output::note(format_args!(
        "starting two daemons, with leases of {LEASE} instead of five minutes"
    ));
    let mut a = spawn(daemon, context, examples, "a")?;
    let mut b = spawn(daemon, context, examples, "b")?;
    let result = watch(&client, &mut a).await;
    for child in [&mut a, &mut b] {
        // Dropping would do it as well; this waits for the end, so that no line comes after the table.
        let _ = child.kill().await;
    }
    result
}

async fn watch(client: &Client, a: &mut Child) -> anyhow::Result<Exit> {
    let mut ids = Vec::new();
    for ticket in files::tickets(TICKETS)? {
        ids.push(tickets::insert(client, &ticket).await?);
    }
    output::note(format_args!(
        "inserted {TICKETS} tickets; each takes an agent {THINKING_SECONDS} seconds"
    ));
    let held = until(client, &ids, |rows| {
        let both = ["demo-a", "demo-b"]
            .iter()
            .all(|name| rows.iter().any(|row| row.holds(name)));
        both.then(|| {
            rows.iter()
                .filter(|row| row.holds("demo-a"))
                .map(|row| row.ticket)
                .collect::<Vec<_>>()
        })
    })
    .await?;
    output::note(format_args!(
        "daemon a is at work on {} of them: kill -9",
        held.len()
    ));
    a.start_kill().context("cannot kill daemon a")?;
    a.wait().await?;
    let killed = Instant::now();
    let rows = until(client, &ids, |rows| {
        rows.iter()
            .all(|row| row.status == "completed")
            .then(|| rows.to_vec())
    })
    .await?;
    let seconds = killed.elapsed().as_secs_f64();
    let table: Vec<_> = rows
        .iter()
        .map(|row| {
            let story = if held.contains(&row.ticket) {
                "killed on a, finished on b"
            } else {
                ""
            };
            [
                output::shorten(&row.subject, 40),
                row.category.clone().unwrap_or_else(|| "-".to_owned()),
                row.status.clone(),
                row.locked_by.clone().unwrap_or_default(),
                row.attempt.to_string(),
                story.to_owned(),
            ]
        })
        .collect();
    output::table(
        ["TICKET", "CATEGORY", "TASK", "COMPLETED BY", "ATTEMPT", ""],
        &table,
    )?;
    let moved = rows
        .iter()
        .filter(|row| held.contains(&row.ticket))
        .all(|row| row.locked_by.as_deref() == Some("demo-b") && row.attempt == 2);
    output::line("")?;
    output::line(format_args!(
        "all {TICKETS} tickets are completed, the last one {seconds:.1} s after daemon a was killed"
    ))?;
    Ok(if moved { Exit::Success } else { Exit::Failure })
}

/// A daemon of its own, with its own data directory and machine id, on the demo's database.
fn spawn(daemon: &Daemon, context: &Context, examples: &Path, name: &str) -> anyhow::Result<Child> {
    let dir = daemon_dir(&context.config.data_dir()?, name);
    std::fs::create_dir_all(&dir)?;
    let mut env = serde_json::Map::new();
    if let Some(stack) = &daemon.addresses().stack {
        env.insert("SUPABASE_URL".to_owned(), Value::from(stack.url.as_str()));
        env.insert(
            "SUPABASE_KEY".to_owned(),
            Value::from(stack.own_key.as_str()),
        );
    }
    let mut app: Value = serde_json::from_str(&super::manifest(
        examples,
        "thoughtful",
        2,
        &Value::Object(env.clone()),
    )?)?;
    let script = format!(
        "sleep {THINKING_SECONDS}; if command -v python3 >/dev/null; then exec python3 agent.py \"$@\"; else exec node agent.mjs \"$@\"; fi"
    );
    app["agents"] = json!([{
        "id": "thoughtful", "app_type": "custom", "command": "sh", "args": ["-c", script, "agent"],
        "working_dir": examples, "env": env,
    }]);
    let app = app.to_string();
    let store = Store::open(&dir.join(STORE_FILE), StoreOptions::default())?;
    store.put_app(&Manifest::parse(&app, None)?.name, &app, SystemClock.now())?;
    drop(store);
    let log = std::fs::File::create(dir.join("daemon.log"))?;
    let child = Command::new(std::env::current_exe()?)
        .args([
            "up",
            "--api-port",
            "0",
            "--machine-id",
            &format!("demo-{name}"),
        ])
        .arg("--data-dir")
        .arg(&dir)
        .env("ROWCALL_DATABASE_URL", daemon.addresses().database()?)
        .env("ROWCALL__ENGINE__LEASE_TTL", LEASE)
        .env("ROWCALL__ENGINE__HEARTBEAT", HEARTBEAT)
        .env("ROWCALL__ENGINE__POLL", HEARTBEAT)
        .env("ROWCALL__ENGINE__SHUTDOWN_GRACE", HEARTBEAT)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .context("cannot start a second daemon")?;
    Ok(child)
}

#[derive(Clone, Debug)]
struct Row {
    ticket: Uuid,
    subject: String,
    category: Option<String>,
    status: String,
    locked_by: Option<String>,
    attempt: i32,
}

impl Row {
    fn holds(&self, machine: &str) -> bool {
        matches!(self.status.as_str(), "claimed" | "processing")
            && self.locked_by.as_deref() == Some(machine)
    }
}

/// Looks at the tickets' tasks until `enough` finds what it waits for.
async fn until<T>(
    client: &Client,
    ids: &[Uuid],
    mut enough: impl FnMut(&[Row]) -> Option<T>,
) -> anyhow::Result<T> {
    let deadline = Instant::now() + PATIENCE;
    let sql = "select t.id, t.subject, t.category, a.status, a.locked_by, a.attempt from public.support_tickets t \
               join public.rtx_activities a on a.source_table = 'public.support_tickets' and a.raw_data ->> 'id' = t.id::text \
               where t.id = any($1) order by t.created_at, t.id";
    loop {
        let rows = client.query(sql, &[&ids]).await?;
        let rows: Vec<Row> = rows
            .iter()
            .map(|row| Row {
                ticket: row.get(0),
                subject: row.get(1),
                category: row.get(2),
                status: row.get::<_, Option<String>>(3).unwrap_or_default(),
                locked_by: row.get(4),
                attempt: row.get(5),
            })
            .collect();
        if let Some(found) = enough(&rows) {
            return Ok(found);
        }
        if Instant::now() >= deadline {
            bail!(
                "the tickets were not handled within {} seconds: the daemons' logs are in the data directory",
                PATIENCE.as_secs()
            );
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

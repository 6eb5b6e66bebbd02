//! The official clients of npm and PyPI, unmodified, driven by the scripts in `tests/clients/realtime`.
//!
//! `cargo xtask test` sets the packages up.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::Command;

use super::server::Server;

/// How long one script may take.
const SCRIPT_TIMEOUT: Duration = Duration::from_mins(2);

const DATABASE: &str = "
    create table public.items (id int8 primary key, name text, list int[], at timestamp, amount numeric, data jsonb, flag bool);
    create table public.keyless (n int);
    create table public.notes (id int primary key, owner text);
    alter table public.notes enable row level security;
    create policy own on public.notes for select to authenticated using (owner = auth.jwt() ->> 'sub');
    alter publication supabase_realtime add table public.items, public.keyless, public.notes;
    create policy own on realtime.messages for select to authenticated
      using (realtime.topic() = 'room:' || (auth.jwt() ->> 'sub'));
";

fn clients() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/clients")
}

/// Runs a script and the SQL it asks for.
async fn drive(mut command: Command) {
    let server = Server::start().await;
    server.execute(DATABASE).await;
    let token = |name: &str| server.token("authenticated", &json!({"sub": name}));
    let mut child = command
        .current_dir(clients().join("realtime"))
        .env("URL", format!("http://{}", server.address))
        .env("ANON_KEY", server.keys.anon_key())
        .env("SERVICE_KEY", server.keys.service_role_key())
        .env("ANN_TOKEN", token("ann"))
        .env("BOB_TOKEN", token("bob"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let run = async {
        let mut done = Vec::new();
        while let Some(line) = lines.next_line().await.unwrap() {
            let Some(statement) = line.strip_prefix("sql ") else {
                done.push(line);
                continue;
            };
            let answer = match server.sql.batch_execute(statement).await {
                Ok(()) => "ok\n".to_owned(),
                Err(error) => format!("{error:?}\n"),
            };
            stdin.write_all(answer.as_bytes()).await.unwrap();
        }
        done
    };
    let done = tokio::time::timeout(SCRIPT_TIMEOUT, run).await;
    if done.is_err() {
        child.start_kill().unwrap();
    }
    let output = child.wait_with_output().await.unwrap();
    assert!(
        output.status.success(),
        "{:?} after {done:#?}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Node with the packages of npm.
fn node() -> Command {
    assert!(
        clients()
            .join("node_modules/@supabase/supabase-js")
            .is_dir(),
        "the npm clients are missing: run `cargo xtask clients`"
    );
    let mut node = Command::new("node");
    node.arg("supabase.mjs");
    node
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn supabase_js_with_protocol_two() {
    drive(node()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn supabase_js_with_protocol_one() {
    let mut node = node();
    node.env("VSN", "1.0.0");
    drive(node).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn supabase_for_python() {
    let python = clients().join(".venv/bin/python");
    assert!(
        python.is_file(),
        "the PyPI clients are missing: run `cargo xtask clients`"
    );
    let mut command = Command::new(python);
    command.arg("supabase_client.py");
    drive(command).await;
}

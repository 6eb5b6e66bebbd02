//! The official clients, unmodified, from npm and PyPI. Their scripts are in `tests/clients`.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use super::world::World;

/// How long one script may run.
const SCRIPT_TIMEOUT: Duration = Duration::from_secs(90);

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/clients")
}

/// Runs `script` against `world`; it says itself what failed.
async fn run(world: &World, program: &Path, script: &str) {
    let script = folder().join(script);
    let child = Command::new(program)
        .arg(&script)
        .env("SUPABASE_URL", world.stack.url())
        .env("ANON_KEY", world.keys.anon_key())
        .env("SERVICE_ROLE_KEY", world.keys.service_role_key())
        .env("PUBLISHABLE_KEY", world.keys.publishable_key())
        .env("SECRET_KEY", world.keys.secret_key())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("the program starts");
    let output = tokio::time::timeout(SCRIPT_TIMEOUT, child.wait_with_output())
        .await
        .expect("the script ends in time")
        .expect("its output");
    assert!(
        output.status.success(),
        "{}\n{}{}",
        script.display(),
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

async fn node(script: &str) {
    let modules = folder().join("node_modules/@supabase/supabase-js");
    assert!(
        modules.is_dir(),
        "the npm clients are missing: run `npm ci` in tests/clients (or `cargo xtask test`, which does)"
    );
    run(&real_time().await, Path::new("node"), script).await;
}

async fn python(script: &str) {
    let python = folder().join(".venv/bin/python");
    assert!(
        python.is_file(),
        "the PyPI clients are missing: run `python3 -m venv .venv && .venv/bin/pip install -r requirements.txt` in \
         tests/clients (or `cargo xtask test`, which does)"
    );
    run(&real_time().await, &python, script).await;
}

/// Clients look at their own clock, so this world's shows the real time.
async fn real_time() -> World {
    World::with(|config| {
        let clock = std::sync::Arc::new(SystemClock);
        config.keys = rowcall_stack::auth::Keys::generate(rowcall_core::Clock::now(&*clock));
        config.clock = clock;
    })
    .await
}

#[derive(Debug)]
struct SystemClock;

impl rowcall_core::Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "the clients this serves live in real time"
    )]
    fn now(&self) -> jiff::Timestamp {
        jiff::Timestamp::now()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn supabase_js_reads_writes_and_calls() {
    node("js/rest.mjs").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn supabase_js_signs_in() {
    node("js/auth.mjs").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn supabase_py_reads_writes_and_calls() {
    python("py/rest.py").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn supabase_py_signs_in() {
    python("py/auth.py").await;
}

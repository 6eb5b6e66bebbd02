//! The binary, run as its users run it.

use std::{
    path::{Path, PathBuf},
    process::{Output, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use rowcall_stack::testing::scratch_dir;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::{PATIENCE, until};

/// The built program with a clean environment.
pub(crate) fn command(data_dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rowcall"));
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", data_dir);
    command
        .current_dir(data_dir)
        .args(["--data-dir"])
        .arg(data_dir);
    command.stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// Runs a command of the program to its end.
pub(crate) async fn run(data_dir: &Path, args: &[&str]) -> Output {
    tokio::time::timeout(PATIENCE, command(data_dir).args(args).output())
        .await
        .unwrap_or_else(|_| panic!("rowcall {args:?} did not end"))
        .expect("the program runs")
}

/// For tests of leases that expire: three seconds, which a daemon on a busy machine may miss to renew. Tests of anything else
/// have leases that last.
pub(crate) const BRIEF_LEASES: [(&str, &str); 2] = [
    ("ROWCALL__ENGINE__LEASE_TTL", "3s"),
    ("ROWCALL__ENGINE__HEARTBEAT", "1s"),
];

/// A running daemon.
pub(crate) struct Daemon {
    pub(crate) child: Child,
    dir: TempDir,
    pub(crate) name: String,
    env: Vec<(String, String)>,
}

impl Daemon {
    /// Starts a daemon called `name` on a database, with the given app.
    pub(crate) async fn start(name: &str, url: &str, app: &Value) -> Self {
        Self::start_with(name, url, app, &[]).await
    }

    /// The same with configuration variables on top.
    pub(crate) async fn start_with(
        name: &str,
        url: &str,
        app: &Value,
        env: &[(&str, &str)],
    ) -> Self {
        let dir = scratch_dir();
        let daemon = Self::spawn(name, url, app, env, dir);
        daemon.ready().await;
        daemon
    }

    /// Starts a daemon on a Supabase project that it knows by `env` and by its configuration file.
    pub(crate) async fn on_project(
        name: &str,
        app: &Value,
        config: &str,
        env: &[(&str, &str)],
    ) -> Self {
        let dir = scratch_dir();
        std::fs::write(dir.path().join("rowcall.toml"), config).expect("the configuration");
        Self::on_project_in(dir, name, app, env).await
    }

    /// The same in a directory that has its configuration.
    pub(crate) async fn on_project_in(
        dir: TempDir,
        name: &str,
        app: &Value,
        env: &[(&str, &str)],
    ) -> Self {
        let env: Vec<_> = [("ROWCALL__SECRETS", "file")]
            .into_iter()
            .chain(env.iter().copied())
            .collect();
        let daemon = Self::spawn_in(name, None, app, &env, dir);
        daemon.ready().await;
        daemon
    }

    fn spawn(name: &str, url: &str, app: &Value, env: &[(&str, &str)], dir: TempDir) -> Self {
        Self::spawn_in(name, Some(url), app, env, dir)
    }

    fn spawn_in(
        name: &str,
        url: Option<&str>,
        app: &Value,
        env: &[(&str, &str)],
        dir: TempDir,
    ) -> Self {
        let manifest = dir.path().join("app.json");
        std::fs::write(&manifest, app.to_string()).expect("the manifest");
        let log = std::fs::File::create(dir.path().join("daemon.log")).expect("a log");
        let child = command(dir.path())
            .args(["up", "--api-port", "0", "--machine-id", name, "--app"])
            .arg(&manifest)
            .envs(url.map(|url| ("ROWCALL_DATABASE_URL", url)))
            .env("ROWCALL__ENGINE__LEASE_TTL", "30s")
            .env("ROWCALL__ENGINE__HEARTBEAT", "5s")
            .env("ROWCALL__ENGINE__POLL", "1s")
            .env("ROWCALL__ENGINE__POLL_WHILE_DOWN", "250ms")
            // These tests report from outside of the agents they start.
            .env("ROWCALL__API__TOKENLESS_REPORTS", "any")
            .envs(env.iter().copied())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the daemon starts");
        Self {
            child,
            dir,
            name: name.to_owned(),
            env: env
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
        }
    }

    /// Starts the same daemon again after its end: same data, same name, same variables.
    pub(crate) async fn start_again(self, url: &str, app: &Value) -> Self {
        let Self {
            mut child,
            dir,
            name,
            env,
        } = self;
        child.wait().await.expect("it has ended");
        let env: Vec<_> = env
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        let daemon = Self::spawn(&name, url, app, &env, dir);
        daemon.ready().await;
        daemon
    }

    /// [`Daemon::start_again`] on a project.
    pub(crate) async fn start_again_on_project(self, app: &Value, env: &[(&str, &str)]) -> Self {
        let Self {
            mut child,
            dir,
            name,
            ..
        } = self;
        child.wait().await.expect("it has ended");
        Self::on_project_in(dir, &name, app, env).await
    }

    async fn ready(&self) {
        until("the daemon is up", async || match self.run_file() {
            Some(file)
                if self.pid() == file["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok()) =>
            {
                let port = file["api_port"].as_u64().unwrap_or_default();
                let ping = http_client()
                    .get(format!("http://127.0.0.1:{port}/api/ping"))
                    .send()
                    .await;
                ping.map(drop)
                    .map_err(|error| format!("{error}: {}", self.log()))
            }
            _ => Err(self.log()),
        })
        .await;
    }

    fn run_file(&self) -> Option<Value> {
        let text = std::fs::read_to_string(self.path().join("daemon.json")).ok()?;
        serde_json::from_str(&text).ok()
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().to_path_buf()
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.path().join("daemon.log")).unwrap_or_default()
    }

    fn pid(&self) -> Option<i32> {
        self.child.id().and_then(|id| i32::try_from(id).ok())
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = self.pid().expect("it runs");
        kill(Pid::from_raw(pid), signal).expect("the signal is sent");
    }

    /// The local API's URL.
    pub(crate) fn api(&self) -> String {
        let file = self.run_file().expect("it is up");
        format!("http://127.0.0.1:{}", file["api_port"])
    }

    /// Posts JSON text to the webhook of a task.
    pub(crate) async fn report(
        &self,
        task: impl std::fmt::Display,
        body: impl Into<reqwest::Body>,
    ) -> (u16, Value) {
        let url = format!("{}/api/external-tasks/{task}/webhook", self.api());
        let answer = http_client()
            .post(url)
            .header("content-type", "application/json")
            .body(body)
            .send()
            .await
            .expect("the daemon answers");
        let status = answer.status().as_u16();
        (status, answer.json().await.expect("every answer is JSON"))
    }

    /// Stops it softly and waits.
    pub(crate) async fn stop(mut self) {
        self.signal(Signal::SIGTERM);
        let status = tokio::time::timeout(PATIENCE, self.child.wait())
            .await
            .expect("it stops")
            .expect("its status");
        assert!(status.success(), "{status}: {}", self.log());
    }
}

/// A client with limits; the server is on this machine.
pub(crate) fn http_client() -> reqwest::Client {
    // Only the first call of a process installs it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .timeout(PATIENCE)
        .no_proxy()
        .build()
        .expect("a client")
}

/// An app whose tasks a shell script handles: rows written into `rtx_activities` directly.
pub(crate) fn shell_app(script: &str, at_once: u32) -> Value {
    json!({
        "name": "test",
        "config": {
            "supabase": { "tables": ["public.rtx_activities"], "max_concurrent_tasks": at_once },
            "agentHandlers": [{ "tableName": "rtx_activities", "agentId": "script", "eventTypes": ["INSERT"] }]
        },
        "agents": [{ "id": "script", "command": "sh", "args": ["-c", script, "agent"], "timeout_seconds": 60 }]
    })
}

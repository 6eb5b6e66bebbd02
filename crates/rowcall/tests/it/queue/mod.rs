//! Queues with the built binary: `rowcall worker`, `rowcall queue`, and `[worker]` in a daemon. Named after the requirements of
//! `docs/queues.md` where they show one.

mod chaos;
mod commands;
mod daemon;
mod documented;
mod interop;
mod metrics;
mod project;
mod realtime;
mod retries;
mod soak;
mod watch;
mod worker;

use std::{
    path::{Path, PathBuf},
    process::{Output, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use rowcall_stack::testing::{TestDb, scratch_dir};
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Child;
use tokio_postgres::Client;

use crate::support::{PATIENCE, command, until};

/// A database without pgmq: the binary installs it.
struct Place {
    db: TestDb,
    client: Client,
    dir: TempDir,
}

impl Place {
    async fn new() -> Self {
        let db = TestDb::create().await;
        let client = db.connect().await;
        Self {
            db,
            client,
            dir: scratch_dir(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// Runs a command on this database.
    async fn run(&self, args: &[&str]) -> Output {
        self.run_with(args, &[]).await
    }

    async fn run_with(&self, args: &[&str], env: &[(&str, &str)]) -> Output {
        let mut command = command(self.dir.path());
        command
            .args(args)
            .env("DATABASE_URL", self.db.url())
            .envs(env.iter().copied());
        tokio::time::timeout(PATIENCE, command.output())
            .await
            .unwrap_or_else(|_| panic!("rowcall {args:?} did not end"))
            .expect("the program runs")
    }

    /// Runs a command that must work, and gives what it printed.
    async fn done(&self, args: &[&str]) -> String {
        let output = self.run(args).await;
        assert!(output.status.success(), "{args:?}: {}", stderr(&output));
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// The same, read as JSON.
    async fn json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.done(args).await).expect("JSON on standard output")
    }

    /// Starts a worker and waits until it reads.
    async fn worker(&self, args: &[&str]) -> Worker {
        self.worker_with(args, &[]).await
    }

    async fn worker_with(&self, args: &[&str], env: &[(&str, &str)]) -> Worker {
        let worker = self.spawn(args, env);
        until("the worker reads", async || {
            let log = worker.log();
            if log.contains(" reads ") {
                Ok(())
            } else {
                Err(log)
            }
        })
        .await;
        worker
    }

    fn spawn(&self, args: &[&str], env: &[(&str, &str)]) -> Worker {
        let log = tempfile::NamedTempFile::new().expect("a log");
        let child = command(self.dir.path())
            .args(args)
            .env("DATABASE_URL", self.db.url())
            .envs(env.iter().copied())
            .stdout(Stdio::null())
            .stderr(log.reopen().expect("the log"))
            .spawn()
            .expect("the worker starts");
        Worker { child, log }
    }

    async fn count(&self, table: &str) -> i64 {
        let sql = format!("select count(*) from {table}");
        self.client
            .query_one(&sql, &[])
            .await
            .map_or(0, |row| row.get(0))
    }

    async fn value(&self, sql: &str) -> Value {
        self.client
            .query_one(&format!("select to_jsonb(({sql}))"), &[])
            .await
            .expect(sql)
            .get(0)
    }

    /// Waits until a table has so many rows.
    async fn rows(&self, table: &str, wanted: i64, worker: &Worker) {
        until(table, async || {
            let count = self.count(table).await;
            if count == wanted {
                Ok(())
            } else {
                Err((count, worker.log()))
            }
        })
        .await;
    }
}

/// A worker as a process of its own.
struct Worker {
    child: Child,
    log: tempfile::NamedTempFile,
}

impl Worker {
    fn log(&self) -> String {
        std::fs::read_to_string(self.log.path()).unwrap_or_default()
    }

    fn signal(&self, signal: Signal) {
        let pid = self.child.id().and_then(|id| i32::try_from(id).ok());
        kill(Pid::from_raw(pid.expect("it runs")), signal).expect("the signal is sent");
    }

    async fn ended(&mut self) -> std::process::ExitStatus {
        tokio::time::timeout(PATIENCE, self.child.wait())
            .await
            .expect("it ends")
            .expect("its status")
    }

    async fn stop(mut self) {
        self.signal(Signal::SIGTERM);
        let status = self.ended().await;
        assert!(status.success(), "{status}: {}", self.log());
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The examples of the repository.
fn example(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    root.join(path).display().to_string()
}

//! The real `rowcall up`, as a process.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

use crate::{report::progress, server::Place};

/// What the daemon says when everything runs.
const READY: &str = "rowcall is up as";
/// How long it may take to be ready or to stop.
const LIMIT: Duration = Duration::from_mins(1);

/// An app for it, so that there is something to wait for.
const APP: &str = r#"{
  "name": "bench",
  "app_type": "custom",
  "agents": [{ "id": "bench", "command": "true" }],
  "config": {
    "supabase": { "tables": ["public.tickets"], "max_concurrent_tasks": 4 },
    "agentHandlers": [
      { "tableName": "public.tickets", "agentId": "bench", "eventTypes": ["INSERT"], "trigger": "auto" }
    ]
  }
}
"#;

/// Builds the daemon's release binary and says where it is.
pub(crate) async fn build() -> Result<PathBuf> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("the bench lies in the workspace")?;
    progress("building rowcall (cargo build --release -p rowcall)");
    let status = Command::new("cargo")
        .args(["build", "--quiet", "--release", "-p", "rowcall"])
        .current_dir(workspace)
        .stdin(Stdio::null())
        .status()
        .await
        .context("cannot run cargo")?;
    if !status.success() {
        bail!("rowcall could not be built");
    }
    // Where this program was built, the other one was.
    let own = std::env::current_exe()?;
    Ok(own.with_file_name("rowcall"))
}

/// A daemon that is ready.
pub(crate) struct Daemon {
    child: Child,
    /// From its start until it said that it is ready.
    pub(crate) took: Duration,
}

/// How it is started.
pub(crate) struct Start<'a> {
    /// The program.
    pub(crate) program: &'a Path,
    /// Its data directory.
    pub(crate) data_dir: &'a Path,
    /// A database instead of its own.
    pub(crate) database_url: Option<&'a str>,
    /// Whether it serves the Supabase-compatible API.
    pub(crate) stack: bool,
    /// The first port it tries for its own database.
    pub(crate) db_port: u16,
}

impl Daemon {
    /// Starts it with one app and waits until it is ready.
    pub(crate) async fn start(place: &Place, start: &Start<'_>) -> Result<Self> {
        let app = start.data_dir.with_extension("app.json");
        std::fs::write(&app, APP)?;
        let mut command = Command::new(start.program);
        command
            .arg("--data-dir")
            .arg(start.data_dir)
            .args(["up", "--api-port", "0", "--app"])
            .arg(&app)
            .args(["--db-port", &start.db_port.to_string()]);
        if !start.stack {
            command.arg("--no-stack");
        }
        // Not on the command line, where everybody could read the password.
        if let Some(url) = start.database_url {
            command.env("ROWCALL_DATABASE_URL", url);
        }
        if let Some(bin) = &place.pg_bin {
            let mut path = OsString::from(bin);
            path.push(":");
            path.push(std::env::var_os("PATH").unwrap_or_default());
            command.env("PATH", path);
        }
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let begun = Instant::now();
        let mut child = command
            .spawn()
            .with_context(|| format!("cannot start {}", start.program.display()))?;
        let stderr = child.stderr.take().context("stderr is piped")?;
        let mut lines = BufReader::new(stderr).lines();
        let mut said = Vec::new();
        let ready = async {
            while let Some(line) = lines.next_line().await? {
                if line.contains(READY) {
                    return Ok(());
                }
                said.push(line);
            }
            bail!("rowcall up ended:\n{}", said.join("\n"))
        };
        tokio::time::timeout(LIMIT, ready).await??;
        let took = begun.elapsed();
        // It must not wait for somebody to read what it says.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Ok(Self { child, took })
    }

    /// Its process.
    pub(crate) fn pid(&self) -> Result<u32> {
        self.child.id().context("rowcall up has ended")
    }

    /// Asks it to stop and waits until it has.
    pub(crate) async fn stop(mut self) -> Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.pid()?)?);
        kill(pid, Signal::SIGTERM)?;
        tokio::time::timeout(LIMIT, self.child.wait()).await??;
        Ok(())
    }
}

/// The database's URL of a running daemon.
pub(crate) async fn database_url(program: &Path, data_dir: &Path) -> Result<String> {
    let output = Command::new(program)
        .arg("--data-dir")
        .arg(data_dir)
        .args(["db", "url"])
        .stdin(Stdio::null())
        .output()
        .await?;
    let url = String::from_utf8(output.stdout)?.trim().to_owned();
    if !output.status.success() || url.is_empty() {
        bail!(
            "rowcall db url failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(url)
}

//! The peers graphile-worker (Node) and `graphile_worker` (Rust): each a process of its own that says on stdout how far it is.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context as _, Result, bail};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};

use super::window::{Measured, RUN_LIMIT, Window, until_finished};
use crate::{
    report::progress,
    server::{Server, connect},
    usage::Worker,
    workload::PAYLOAD,
};

const UNFINISHED: &str = "select exists (select from graphile_worker._private_jobs)";

/// Which program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Peer {
    /// npm's.
    Node,
    /// The crate.
    Rust,
}

/// A peer that is installed.
#[derive(Clone, Debug)]
pub(super) struct Installed {
    program: PathBuf,
    arguments: Vec<PathBuf>,
}

fn directory(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("peers")
        .join(name)
}

/// Installs a peer with its lock file, unless it is there.
pub(super) async fn install(peer: Peer) -> Result<Installed> {
    match peer {
        Peer::Node => {
            let directory = directory("graphile-worker");
            if !directory.join("node_modules/graphile-worker").exists() {
                progress("installing graphile-worker (npm ci)");
                let mut npm = Command::new("npm");
                npm.args(["ci", "--no-audit", "--no-fund"]);
                run(npm.current_dir(&directory)).await?;
            }
            Ok(Installed {
                program: "node".into(),
                arguments: vec![directory.join("worker.mjs")],
            })
        }
        Peer::Rust => {
            let directory = directory("graphile-worker-rs");
            progress("building graphile_worker (cargo build --release --locked)");
            let mut cargo = Command::new("cargo");
            cargo.args(["build", "--release", "--locked"]);
            run(cargo.current_dir(&directory)).await?;
            Ok(Installed {
                program: directory.join("target/release/peer-graphile-worker"),
                arguments: Vec::new(),
            })
        }
    }
}

async fn run(command: &mut Command) -> Result<()> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .await
        .with_context(|| format!("cannot run {}", command.as_std().get_program().display()))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        bail!("{:?} failed: {text}", command.as_std());
    }
    Ok(())
}

/// A peer that runs.
struct Running {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Running {
    fn start(peer: &Installed, mode: &str, url: &str, tasks: u32) -> Result<Self> {
        let mut child = Command::new(&peer.program)
            .args(&peer.arguments)
            .arg(mode)
            .arg(tasks.to_string())
            .env("DATABASE_URL", url)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {}", peer.program.display()))?;
        let stdout = child.stdout.take().context("stdout is piped")?;
        Ok(Self {
            child,
            lines: BufReader::new(stdout).lines(),
        })
    }

    /// Waits for a word of its own line.
    async fn says(&mut self, word: &str) -> Result<()> {
        let wait = async {
            while let Some(line) = self.lines.next_line().await? {
                if line == word {
                    return Ok(());
                }
            }
            bail!("the peer ended before it said {word}")
        };
        tokio::time::timeout(RUN_LIMIT, wait).await?
    }

    async fn go(&mut self) -> Result<()> {
        let stdin = self.child.stdin.as_mut().context("stdin is piped")?;
        stdin.write_all(b"go\n").await?;
        Ok(stdin.flush().await?)
    }
}

/// A new database with the peer's schema, made by the peer.
pub(super) async fn prepare(server: &Server, peer: &Installed) -> Result<String> {
    let name = server.create(None).await?;
    let mut running = Running::start(peer, "migrate", &server.url(&name), 0)?;
    running.says("migrated").await?;
    running.child.wait().await?;
    Ok(name)
}

/// Runs `tasks` jobs through. `mode` is `default` or `local-queue`.
pub(super) async fn jobs(
    server: &Server,
    database: &str,
    peer: &Installed,
    mode: &str,
    tasks: u32,
) -> Result<Measured> {
    let url = server.url(database);
    let client = connect(&url).await?;
    let add = format!(
        "select count(*) from graphile_worker.add_jobs((select array_agg(json_populate_record(null::graphile_worker.job_spec, \
         json_build_object('identifier', 'noop', 'payload', {PAYLOAD}))) from generate_series(1, {tasks}) n))"
    );
    client.batch_execute(&add).await?;
    client
        .batch_execute("vacuum analyze graphile_worker._private_jobs")
        .await?;
    server.checkpoint().await?;
    let mut running = Running::start(peer, mode, &url, tasks)?;
    let pid = running.child.id().context("the peer has ended")?;
    running.says("ready").await?;
    running.go().await?;
    running.says("first").await?;
    let window = Window::open(server, database, Worker::Process(pid)).await?;
    running.says("last").await?;
    let looks = until_finished(&client, UNFINISHED).await?;
    let measured = window.close(server, database, tasks, looks).await?;
    running.child.kill().await?;
    Ok(measured)
}

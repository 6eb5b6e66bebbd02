//! The peer AIMQ: its own worker from PyPI, over the Data API.

use std::{path::PathBuf, process::Stdio, time::Duration};

use anyhow::{Context as _, Result, bail};
use tokio::process::Command;

use super::project::Project;
use crate::{report::progress, server::connect};

/// How its row is called.
pub(super) const NAME: &str = "AIMQ 0.1.2, 1 worker";

/// A run that takes longer is broken.
const LIMIT: Duration = Duration::from_mins(3);

/// Times its loop from the first job to the last.
const SCRIPT: &str = "
import sys, time
from aimq.worker import Worker
jobs, seen, worker = int(sys.argv[1]), [], Worker(idle_wait=0.05)
@worker.task(queue='bench', timeout=300)
def handle(data):
    seen.append(time.perf_counter())
    if len(seen) >= jobs:
        worker.is_running.clear()
    return data
worker.start(block=False)
worker.thread.join()
print((len(seen) - 1) / (seen[-1] - seen[0]))
";

fn python() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/clients/queue/.venv/bin/python")
}

/// Jobs per second of one worker; `None` where it is not installed.
pub(super) async fn run(url: &str, jobs: u32) -> Result<Option<f64>> {
    let python = python();
    if !python.is_file() {
        progress("AIMQ is not installed (`cargo xtask clients` does it): left out");
        return Ok(None);
    }
    let project = Project::start(url).await?;
    let client = connect(url).await?;
    let fill = format!(
        "select pgmq.create('bench'); \
         select count(*) from pgmq.send_batch('bench', (select array_agg(jsonb_build_object('n', n)) from generate_series(1, {jobs}) n))"
    );
    client.batch_execute(&fill).await?;
    let mut command = Command::new(python);
    command
        .args(["-c", SCRIPT, &jobs.to_string()])
        .env("SUPABASE_URL", project.stack.url())
        .env("SUPABASE_KEY", project.keys.service_role_key())
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = tokio::time::timeout(LIMIT, command.output()).await??;
    project.stack.shutdown().await;
    let said = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        bail!(
            "AIMQ ended with {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    let per_second = said
        .lines()
        .last()
        .and_then(|line| line.parse().ok())
        .with_context(|| format!("AIMQ said {said:?}"))?;
    Ok(Some(per_second))
}

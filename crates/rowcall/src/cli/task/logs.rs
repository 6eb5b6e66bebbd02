//! `rowcall task logs`

use std::time::Duration;

use clap::Args;
use rowcall_core::{TaskId, ports::OutputStream};

use crate::{
    cli::Context,
    exit::{Exit, UserError},
    output,
};

/// How many lines are read at once.
const PAGE: u32 = 1_000;

/// How often a follower looks for more.
const FOLLOW_EVERY: Duration = Duration::from_millis(250);

/// Print what the agent of a task printed on this machine.
#[derive(Debug, Args)]
pub struct Logs {
    /// The task's id
    id: TaskId,
    /// Of this attempt instead of the last one
    #[arg(long)]
    attempt: Option<u32>,
    /// Go on until the attempt ends
    #[arg(long, short)]
    follow: bool,
    /// Print JSON, one line each
    #[arg(long)]
    json: bool,
}

impl Logs {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let store = context.store()?;
        let mut after = 0;
        let mut attempt = self.attempt;
        loop {
            let Some(page) = store.logs(&self.id, None, attempt, after, PAGE)? else {
                return Err(UserError::new(
                    Exit::NotFound,
                    format!("this machine has run no attempt of task {}", self.id),
                )
                .help("`rowcall task show` says which machine did; its logs are there")
                .into());
            };
            attempt = Some(page.attempt);
            for line in &page.lines {
                if let Some(cut) = page
                    .cut
                    .as_ref()
                    .filter(|cut| cut.after == after.max(line.seq - 1) && cut.lines > 0)
                {
                    output::note(format_args!(
                        "… {} lines ({} bytes) are not kept …",
                        cut.lines, cut.bytes
                    ));
                }
                after = line.seq;
                if self.json {
                    let line = serde_json::json!({ "at": line.at, "stream": line.stream, "line": line.line });
                    output::line(line)?;
                } else if line.stream == OutputStream::Stderr {
                    output::line(format_args!("! {}", line.line))?;
                } else {
                    output::line(format_args!("  {}", line.line))?;
                }
            }
            let more = page.lines.len() == PAGE as usize;
            if !more && (page.ended || !self.follow) {
                return Ok(Exit::Success);
            }
            if !more {
                tokio::time::sleep(FOLLOW_EVERY).await;
            }
        }
    }
}

//! `rowcall queue watch`: queues and workers, live.

use std::{
    io::{self, IsTerminal as _, Write as _},
    time::Duration,
};

use clap::Args;

use crate::{
    cli::Context,
    config::{Config, Span},
    daemon::{Database, QueueBoard, QueueState, Seen, Snapshot, WorkerState},
    exit::Exit,
    output,
};

/// How much of a name is shown.
const MAX_SHOWN: usize = 40;
/// Jobs of a worker that are named.
const MAX_JOBS: usize = 4;
/// The shortest pause between two looks.
const SHORTEST: Duration = Duration::from_millis(200);
/// Clears a terminal.
const CLEAR: &str = "\x1b[H\x1b[2J";

/// Show queues and workers live, until Ctrl-C
#[derive(Debug, Args)]
#[command(after_help = "\
Workers show themselves on the Realtime channel (SUPABASE_URL and SUPABASE_KEY), with the messages they handle. Without one, those that \
listen to the database are known by name.")]
pub struct Watch {
    /// How often to look
    #[arg(long, value_name = "SPAN", default_value = "2s")]
    every: Span,
    /// Print JSON: one line at first and one for every change
    #[arg(long)]
    json: bool,
}

impl Watch {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let database = Database::for_command(&context.config).await?;
        // Ctrl-C is how this ends, and must not leave a server without its command.
        let result = tokio::select! {
            result = self.watch(&context.config, &database.url) => result,
            signal = tokio::signal::ctrl_c() => signal.map_err(anyhow::Error::from),
        };
        database.close().await;
        result.map(|()| Exit::Success)
    }

    async fn watch(&self, config: &Config, url: &str) -> anyhow::Result<()> {
        let board = QueueBoard::observing(config, url).await?;
        let every = self.every.0.max(SHORTEST);
        let live = !self.json && io::stdout().is_terminal();
        let mut told: Option<Snapshot> = None;
        loop {
            let now = board.look(Duration::ZERO).await.map_err(super::user)?;
            // Ages grow all the time: only somebody who looks at a screen wants to see that.
            let news = told.as_ref().is_none_or(|told| !told.same(&now));
            if news || live {
                let text = match (self.json, live) {
                    (true, _) => serde_json::to_string(&now)? + "\n",
                    (false, true) => format!("{CLEAR}{}", page(&now)),
                    (false, false) => page(&now) + "\n",
                };
                if !write(&text)? {
                    return Ok(());
                }
            }
            told = Some(now);
            tokio::time::sleep(every).await;
        }
    }
}

/// Writes at once; `false` when nobody reads any more.
fn write(text: &str) -> io::Result<bool> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        other => other.map(|()| true),
    }
}

fn page(now: &Snapshot) -> String {
    if !now.installed {
        return "pgmq is not installed here: `rowcall queue create NAME` installs it\n".to_owned();
    }
    let queues: Vec<_> = now.queues.iter().map(queue).collect();
    let workers: Vec<_> = now.workers.iter().map(worker).collect();
    let mut text = output::render(["QUEUE", "DEPTH", "VISIBLE", "OLDEST", "WORKERS"], &queues);
    text.push('\n');
    text += &output::render(
        ["WORKER", "STATUS", "RUNNING", "READS", "MESSAGES"],
        &workers,
    );
    text
}

fn queue(one: &QueueState) -> [String; 5] {
    [
        output::shorten(&one.name, MAX_SHOWN),
        one.depth.to_string(),
        one.visible.to_string(),
        one.oldest_age_seconds
            .map_or_else(|| "-".to_owned(), |age| format!("{age:.0} s")),
        if one.workers.is_empty() {
            "-".to_owned()
        } else {
            one.workers.len().to_string()
        },
    ]
}

fn worker(one: &WorkerState) -> [String; 5] {
    let dash = || "-".to_owned();
    let mut jobs: Vec<String> = one
        .jobs
        .iter()
        .take(MAX_JOBS)
        .map(|job| job.id.to_string())
        .collect();
    if one.running.is_some_and(|running| running > jobs.len()) && !jobs.is_empty() {
        jobs.push("…".to_owned());
    }
    [
        output::shorten(&one.name, MAX_SHOWN),
        match (one.status, one.seen) {
            (Some(status), _) => status.to_owned(),
            (None, Seen::Database) => "listening".to_owned(),
            (None, _) => dash(),
        },
        one.running.map_or_else(dash, |running| running.to_string()),
        one.queues.as_ref().map_or_else(dash, |queues| {
            output::shorten(&queues.join(", "), 2 * MAX_SHOWN)
        }),
        if jobs.is_empty() {
            dash()
        } else {
            jobs.join(" ")
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::JobState;

    #[test]
    fn e8_the_page_shows_queues_and_workers() {
        let now = Snapshot {
            queues: vec![QueueState {
                name: "emails".into(),
                depth: 12,
                visible: 7,
                oldest_age_seconds: Some(61.4),
                oldest_visible_age_seconds: None,
                workers: vec!["a".into()],
            }],
            workers: vec![
                WorkerState {
                    name: "a".into(),
                    seen: Seen::Presence,
                    queues: Some(vec!["emails".into()]),
                    status: Some("busy"),
                    running: Some(2),
                    jobs: vec![JobState { id: 5, since: None }],
                },
                WorkerState {
                    name: "b\u{1b}".into(),
                    seen: Seen::Database,
                    queues: None,
                    status: None,
                    running: None,
                    jobs: Vec::new(),
                },
            ],
            installed: true,
            presence: true,
        };
        assert_eq!(
            page(&now),
            "QUEUE   DEPTH  VISIBLE  OLDEST  WORKERS\n\
             emails  12     7        61 s    1\n\
             \n\
             WORKER  STATUS     RUNNING  READS   MESSAGES\n\
             a       busy       2        emails  5 …\n\
             b       listening  -        -       -\n"
        );
        let mut later = now.clone();
        later.queues[0].oldest_age_seconds = Some(70.0);
        assert!(now.same(&later));
        later.queues[0].depth = 11;
        assert!(!now.same(&later));
    }
}

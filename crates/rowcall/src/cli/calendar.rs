//! `rowcall calendar`

use clap::Subcommand;
use jiff::{Timestamp, Zoned, civil::DateTime, tz::TimeZone};
use reqwest::Method;
use rowcall_core::{Clock as _, TaskId};
use rowcall_engine::store::{CalendarQuery, CalendarRow, CalendarState, Store};
use serde_json::json;

use super::{Context, client::Client};
use crate::{
    config::Span,
    exit::{Exit, UserError},
    output,
    system::SystemClock,
};

/// Tasks that wait for a person, and all this machine has seen.
#[derive(Debug, Subcommand)]
pub enum Calendar {
    /// List entries, the newest first; those that wait unless --all
    List {
        /// Everything, also what has run
        #[arg(long)]
        all: bool,
        /// Only this app
        #[arg(long)]
        app: Option<String>,
        /// At most this many
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Approve: run as soon as there is a place
    Run {
        /// Entries by number, or tasks by id
        #[arg(required = true)]
        entries: Vec<String>,
        /// Who shall do it, for a task that names nobody
        #[arg(long)]
        agent: Option<String>,
    },
    /// Approve for later
    Reschedule {
        /// An entry by number, or a task by id
        entry: String,
        /// When: 2026-11-21T15:00:00Z, 2026-11-21T15:00 (local time), or how long from now (2h, 30m)
        at: String,
    },
    /// Do not run; the task is called off
    Skip {
        /// Entries by number, or tasks by id
        #[arg(required = true)]
        entries: Vec<String>,
        /// Leave the task to other machines
        #[arg(long)]
        here_only: bool,
    },
    /// Print the address of the calendar for calendar programs
    Feed,
}

impl Calendar {
    pub(super) async fn run(self, context: Context) -> anyhow::Result<Exit> {
        let store = context.store()?;
        match self {
            Self::List {
                all,
                app,
                limit,
                json,
            } => list(&store, all, app, limit, json),
            Self::Run { entries, agent } => {
                let client = Client::new(&context)?;
                for entry in entries {
                    let id = find(&store, &entry)?;
                    let body = json!({ "agent": agent });
                    let said = client
                        .ask(Method::POST, &format!("/calendar/{id}/run"), Some(&body))
                        .await?;
                    output::note(format_args!(
                        "{entry}: {}",
                        said["message"].as_str().unwrap_or_default()
                    ));
                }
                Ok(Exit::Success)
            }
            Self::Reschedule { entry, at } => {
                let at = time(&at)?;
                let id = find(&store, &entry)?;
                let body = json!({ "at": at });
                let path = format!("/calendar/{id}/reschedule");
                Client::new(&context)?
                    .ask(Method::POST, &path, Some(&body))
                    .await?;
                output::note(format_args!("{entry} runs at {at}"));
                Ok(Exit::Success)
            }
            Self::Skip { entries, here_only } => {
                let client = Client::new(&context)?;
                for entry in entries {
                    let id = find(&store, &entry)?;
                    let body = json!({ "here_only": here_only });
                    client
                        .ask(Method::POST, &format!("/calendar/{id}/skip"), Some(&body))
                        .await?;
                    output::note(format_args!("{entry} is skipped"));
                }
                Ok(Exit::Success)
            }
            Self::Feed => {
                let said = Client::new(&context)?
                    .ask(Method::GET, "/calendar-feed", None)
                    .await?;
                output::line(said["url"].as_str().unwrap_or_default())?;
                output::note("whoever has this address can read the calendar");
                Ok(Exit::Success)
            }
        }
    }
}

fn list(
    store: &Store,
    all: bool,
    app: Option<String>,
    limit: u32,
    json: bool,
) -> anyhow::Result<Exit> {
    let state = (!all).then_some(CalendarState::Waiting);
    let rows = store.calendar(&CalendarQuery {
        state,
        app,
        task: None,
        limit,
        offset: 0,
    })?;
    if json {
        output::json(&rows)?;
        return Ok(Exit::Success);
    }
    let rows: Vec<_> = rows
        .iter()
        .map(|row| {
            [
                row.id.to_string(),
                row.state.as_str().to_owned(),
                output::shorten(&row.app, 30),
                output::shorten(
                    if row.agent.is_empty() {
                        "nobody yet"
                    } else {
                        &row.agent
                    },
                    30,
                ),
                output::shorten(&format!("{} {}", row.event, row.source_table), 50),
                row.task_id.clone(),
                row.scheduled_for
                    .map_or_else(String::new, |at| format!("{at:.0}")),
                output::shorten(row.error.as_deref().unwrap_or_default(), 50),
            ]
        })
        .collect();
    output::table(
        [
            "ENTRY", "STATE", "APP", "AGENT", "EVENT", "TASK", "RUNS AT", "ERROR",
        ],
        &rows,
    )?;
    Ok(Exit::Success)
}

/// An entry by its number or its task.
fn find(store: &Store, text: &str) -> anyhow::Result<i64> {
    let missing = || {
        UserError::new(Exit::NotFound, format!("there is no entry {text}"))
            .help("`rowcall calendar list` shows what waits")
    };
    if let Ok(id) = text.parse::<i64>() {
        return Ok(store.calendar_entry(id)?.ok_or_else(missing)?.id);
    }
    let task: TaskId = text.parse().map_err(|_| missing())?;
    let query = CalendarQuery {
        task: Some(task),
        limit: 1,
        ..CalendarQuery::default()
    };
    let found: Option<CalendarRow> = store.calendar(&query)?.pop();
    Ok(found.ok_or_else(missing)?.id)
}

/// A time with or without its zone, or a span from now.
fn time(text: &str) -> anyhow::Result<Timestamp> {
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(at);
    }
    if let Ok(at) = text.parse::<DateTime>() {
        let at: Zoned = at.to_zoned(TimeZone::system())?;
        return Ok(at.timestamp());
    }
    if let Ok(span) = text.parse::<Span>() {
        return Ok(SystemClock.now().checked_add(span.0)?);
    }
    Err(UserError::new(Exit::Usage, format!("{text:?} is no time"))
        .help("write 2026-11-21T15:00:00Z, 2026-11-21T15:00, or how long from now: 2h, 30m")
        .into())
}

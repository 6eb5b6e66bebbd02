//! `rowcall task`

use clap::{Args, Subcommand};
use rowcall_core::{
    EventKind, RetryPolicy, TableName, TaskId, TaskState,
    ports::{AdminOutcome, TaskAdmin, TaskQuery, TaskView},
};

use super::Context;
use crate::{
    daemon::{Backend, Tasks},
    exit::{Exit, UserError},
    output,
};

mod logs;

/// The most tasks one list shows.
const MAX_LISTED: u32 = 1_000;

/// The tasks.
#[derive(Debug, Subcommand)]
pub enum Task {
    /// List tasks, the newest first
    List(List),
    /// Show one task: its state, its attempts, its data
    Show {
        /// The task's id
        id: TaskId,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Try a failed or canceled task again, forgetting who tried it
    Retry {
        /// The task's id
        id: TaskId,
    },
    /// Take a task from its holder, whose result will then be refused
    Release {
        /// The task's id
        id: TaskId,
    },
    /// Call a task off; nobody claims it any more
    Cancel {
        /// The task's id
        id: TaskId,
        /// Why, for people
        #[arg(long, default_value = "canceled by a person")]
        reason: String,
    },
    /// Print what the agent of a task printed on this machine
    Logs(logs::Logs),
}

/// List tasks.
#[derive(Debug, Args)]
pub struct List {
    /// Only tasks in these states
    #[arg(long = "state", value_delimiter = ',')]
    states: Vec<TaskState>,
    /// Only tasks made by changes of this table
    #[arg(long)]
    table: Option<TableName>,
    /// Only tasks made by this event
    #[arg(long)]
    event: Option<EventKind>,
    /// Only tasks that failed too often and need a person
    #[arg(long)]
    attention: bool,
    /// At most this many
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_LISTED)))]
    limit: u32,
    /// Skip this many
    #[arg(long, default_value_t = 0)]
    offset: u32,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Task {
    pub(super) async fn run(self, context: Context) -> anyhow::Result<Exit> {
        if let Self::Logs(logs) = self {
            return logs.run(&context).await;
        }
        let retry = context
            .config
            .engine
            .retry(context.config.database.url.is_none() && !context.config.backend.is_project());
        let store = context.store()?;
        context
            .with_tasks(async |at| {
                let tasks = &at.tasks;
                match self {
                    Self::List(list) => list.run(&**tasks, &retry).await,
                    Self::Show { id, json } => show(at, &store, &id, json).await,
                    Self::Retry { id } => {
                        let task = at.find(&id).await?;
                        told(&id, "pending again", tasks.retry(&task).await?)
                    }
                    Self::Release { id } => {
                        let task = at.find(&id).await?;
                        let outcome = TaskAdmin::release(&**tasks, &task).await?;
                        told(&id, "given back: pending again", outcome)
                    }
                    Self::Cancel { id, reason } => {
                        let task = at.find(&id).await?;
                        told(&id, "canceled", tasks.cancel(&task, &reason).await?)
                    }
                    Self::Logs(_) => unreachable!("handled above"),
                }
            })
            .await
    }
}

fn told(id: &TaskId, done: &str, outcome: AdminOutcome) -> anyhow::Result<Exit> {
    match outcome {
        AdminOutcome::Done => {
            output::note(format_args!("{id} is {done}"));
            Ok(Exit::Success)
        }
        AdminOutcome::NotApplicable(state) => {
            Err(UserError::new(Exit::Failure, format!("{id} is {state}: nothing to do")).into())
        }
        AdminOutcome::NotFound => Err(missing(id).into()),
    }
}

fn missing(id: &TaskId) -> UserError {
    UserError::new(Exit::NotFound, format!("there is no task {id}"))
        .help("`rowcall task list` shows the newest ones")
}

impl List {
    async fn run(self, backend: &dyn Tasks, retry: &RetryPolicy) -> anyhow::Result<Exit> {
        let query = TaskQuery {
            states: self.states,
            source: self.table,
            event: self.event,
            needs_attention: self.attention,
            limit: self.limit,
            offset: self.offset,
        };
        let tasks = backend.list(&query, retry).await?;
        if self.json {
            output::json(&tasks)?;
            return Ok(Exit::Success);
        }
        let rows: Vec<_> = tasks.iter().map(row).collect();
        output::table(
            [
                "TASK", "SOURCE", "EVENT", "STATE", "ATTEMPT", "MACHINE", "CREATED", "ERROR",
            ],
            &rows,
        )?;
        Ok(Exit::Success)
    }
}

fn row(view: &TaskView) -> [String; 8] {
    let state = if view.needs_attention {
        format!("{} (needs attention)", view.status)
    } else {
        view.status.clone()
    };
    [
        view.task.task.id.to_string(),
        view.task.source.to_string(),
        view.task.event.to_string(),
        output::shorten(&state, 30),
        view.task.attempt.to_string(),
        output::shorten(
            view.locked_by
                .as_ref()
                .map_or("", |machine| machine.as_str()),
            32,
        ),
        format!("{:.0}", view.task.created_at),
        output::shorten(view.error_message.as_deref().unwrap_or_default(), 60),
    ]
}

async fn show(
    at: &Backend,
    store: &rowcall_engine::store::Store,
    id: &TaskId,
    json: bool,
) -> anyhow::Result<Exit> {
    let task = at.find(id).await?;
    let view = at.tasks.inspect(&task).await?.ok_or_else(|| missing(id))?;
    let attempts = store.attempts(id, None)?;
    if json {
        let mut value = serde_json::to_value(&view)?;
        value["attempts_here"] = serde_json::to_value(&attempts)?;
        output::json(&value)?;
        return Ok(Exit::Success);
    }
    let text = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    let mut rows = vec![
        ["task".to_owned(), view.task.task.id.to_string()],
        [
            "source".to_owned(),
            format!("{} {}", view.task.event, view.task.source),
        ],
        [
            "key".to_owned(),
            text(
                view.task
                    .key
                    .as_ref()
                    .map(|key| output::shorten(key.get(), 200)),
            ),
        ],
        ["state".to_owned(), row(&view)[3].clone()],
        [
            "machine".to_owned(),
            text(view.locked_by.as_ref().map(ToString::to_string)),
        ],
        [
            "locked".to_owned(),
            text(view.locked_at.map(|at| at.to_string())),
        ],
        ["attempt".to_owned(), view.task.attempt.to_string()],
        ["failures".to_owned(), view.task.retry_count.to_string()],
        ["created".to_owned(), view.task.created_at.to_string()],
        [
            "completed".to_owned(),
            text(view.completed_at.map(|at| at.to_string())),
        ],
        [
            "tried again".to_owned(),
            text(view.retry_at.map(|at| at.to_string())),
        ],
        [
            "error".to_owned(),
            text(
                view.error_message
                    .as_deref()
                    .map(|error| output::shorten(error, 500)),
            ),
        ],
        [
            "result".to_owned(),
            text(
                view.result
                    .as_ref()
                    .map(|result| output::shorten(result.get(), 500)),
            ),
        ],
        [
            "data".to_owned(),
            output::shorten(view.task.raw_data.get(), 500),
        ],
    ];
    for attempt in &attempts {
        let ended = attempt
            .outcome
            .map_or("running", |outcome| outcome.as_str());
        let error = attempt
            .error
            .as_deref()
            .map_or(String::new(), |error| format!(": {error}"));
        rows.push([
            format!("attempt {}", attempt.attempt),
            output::shorten(
                &format!(
                    "{ended} at {} by {}{error}",
                    attempt.started_at,
                    attempt.agent.as_deref().unwrap_or("?")
                ),
                200,
            ),
        ]);
    }
    output::table(["", ""], &rows)?;
    Ok(Exit::Success)
}

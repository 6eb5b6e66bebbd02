//! `rowcall agent`

use clap::Subcommand;
use rowcall_core::{AgentId, App as Manifest, AppId, Clock as _, agent::AgentKind};
use rowcall_engine::store::{AppRow, Store};
use serde_json::{Map, Value, json};

use super::Context;
use crate::{
    agents::{with_agent, without_agent},
    exit::{Exit, UserError},
    output,
    system::SystemClock,
};

/// The agents of apps: what handles tasks, and what clients start by name.
#[derive(Debug, Subcommand)]
pub enum Agent {
    /// List the agents of all apps
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Add an agent to an app, or replace the one of this id
    Add {
        /// The app
        app: AppId,
        /// The agent's id
        id: AgentId,
        /// Keep it running and give it tasks as JSON lines, so many at once, instead of starting it for each task
        #[arg(long, value_name = "COUNT")]
        warm: Option<u32>,
        /// The most seconds of one task
        #[arg(long, value_name = "SECONDS")]
        timeout: Option<u32>,
        /// The program and its arguments; it runs in the present directory
        #[arg(last = true, required = true, value_name = "COMMAND")]
        command: Vec<String>,
    },
    /// Remove an agent from its app; its tasks stay
    Remove {
        /// The app
        app: AppId,
        /// The agent's id
        id: AgentId,
    },
}

impl Agent {
    pub(super) fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let store = context.store()?;
        match self {
            Self::List { json } => return list(&store, json),
            Self::Add {
                app,
                id,
                warm,
                timeout,
                command,
            } => {
                let row = row(&store, &app)?;
                let described = describe(warm, timeout, &command)?;
                let (text, replaced) = with_agent(&row.manifest, &app, &id, described)
                    .map_err(|error| unusable(&error.to_string(), error.code()))?;
                store.put_app(&app, &text, SystemClock.now())?;
                let done = if replaced { "replaced" } else { "added" };
                output::note(format_args!(
                    "{done} {id} of {app}; a running daemon takes it up within a second"
                ));
            }
            Self::Remove { app, id } => {
                let row = row(&store, &app)?;
                let text = without_agent(&row.manifest, &app, &id)
                    .map_err(|error| unusable(&error.to_string(), error.code()))?
                    .ok_or_else(|| {
                        UserError::new(Exit::NotFound, format!("{app} has no agent {id}"))
                            .help("`rowcall agent list` shows them")
                    })?;
                store.put_app(&app, &text, SystemClock.now())?;
                output::note(format_args!("removed {id} of {app}"));
            }
        }
        Ok(Exit::Success)
    }
}

fn row(store: &Store, app: &AppId) -> anyhow::Result<AppRow> {
    store.app(app)?.ok_or_else(|| {
        UserError::new(Exit::NotFound, format!("there is no app {app}"))
            .help("`rowcall app list` shows them")
            .into()
    })
}

fn unusable(error: &str, code: &'static str) -> UserError {
    UserError::new(Exit::Usage, format!("this makes no usable agent: {error}")).code(code)
}

/// The agent as a manifest describes it.
fn describe(
    warm: Option<u32>,
    timeout: Option<u32>,
    command: &[String],
) -> anyhow::Result<Map<String, Value>> {
    let mut agent = Map::new();
    // Whatever the app's own type is, the command is taken as it stands.
    agent.insert("app_type".to_owned(), json!("custom"));
    if let [program, args @ ..] = command {
        agent.insert("command".to_owned(), json!(program));
        agent.insert("args".to_owned(), json!(args));
    }
    agent.insert("working_dir".to_owned(), json!(std::env::current_dir()?));
    if let Some(count) = warm {
        agent.insert("kind".to_owned(), json!("worker"));
        agent.insert("concurrency".to_owned(), json!(count));
    }
    if let Some(seconds) = timeout {
        agent.insert("timeout_seconds".to_owned(), json!(seconds));
    }
    Ok(agent)
}

fn list(store: &Store, as_json: bool) -> anyhow::Result<Exit> {
    let mut rows = Vec::new();
    let mut all = Vec::new();
    for row in store.apps()? {
        // What is wrong with a manifest is said by `rowcall app show`.
        let Ok(app) = Manifest::parse(&row.manifest, Some(&row.name)) else {
            continue;
        };
        for agent in &app.agents {
            let (kind, what) = match &agent.kind {
                AgentKind::Process(command) => ("process", command.program.clone()),
                AgentKind::Worker { command, .. } => ("worker", command.program.clone()),
                AgentKind::Http { .. } => ("http", None),
                AgentKind::InProcess => ("built in", None),
            };
            let seconds = agent.timeout.as_secs();
            all.push(json!({
                "app": app.name.as_str(), "id": agent.id.as_str(), "kind": kind, "program": what,
                "timeout_seconds": seconds, "enabled": row.enabled,
            }));
            rows.push([
                output::shorten(app.name.as_str(), 40),
                output::shorten(agent.id.as_str(), 40),
                kind.to_owned(),
                output::shorten(what.as_deref().unwrap_or_default(), 60),
                format!("{seconds} s"),
            ]);
        }
    }
    if as_json {
        output::json(&all)?;
    } else {
        output::table(["APP", "AGENT", "KIND", "PROGRAM", "LIMIT"], &rows)?;
    }
    Ok(Exit::Success)
}

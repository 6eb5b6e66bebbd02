//! `rowcall permissions`

use std::{
    collections::BTreeSet,
    io::{BufRead as _, IsTerminal as _, Write as _},
    time::Duration,
};

use clap::{Args, Subcommand};
use rowcall_core::{AppId, Clock as _};
use rowcall_engine::store::{Decision, PromptRow, Store};
use serde_json::json;

use super::Context;
use crate::{
    exit::{Exit, UserError},
    output,
    system::SystemClock,
};

/// How often the store is looked at for new questions.
const LOOK_EVERY: Duration = Duration::from_millis(300);

/// The name under which decisions of this command are logged.
const BY: &str = "cli";

/// What apps may do. Without a subcommand: answer their questions as they come.
#[derive(Debug, Args)]
pub struct Permissions {
    #[command(subcommand)]
    command: Option<Command>,
    /// Answer what waits now, then end
    #[arg(long)]
    once: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List questions that wait, decisions and uses
    List {
        /// Only this app
        #[arg(long)]
        app: Option<AppId>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Let an app do something
    Grant {
        /// The app's name
        app: AppId,
        /// The permissions, such as api.agents; `*` for all that wait
        #[arg(required = true)]
        permissions: Vec<String>,
    },
    /// Forbid an app something; it is not asked about again
    Deny {
        /// The app's name
        app: AppId,
        /// The permissions; `*` for all that wait
        #[arg(required = true)]
        permissions: Vec<String>,
    },
    /// Forget decisions: the app will be asked about again
    Reset {
        /// The app's name
        app: AppId,
        /// Only these permissions
        permissions: Vec<String>,
    },
    /// Show who asked and who decided
    Log {
        /// Only this app
        #[arg(long)]
        app: Option<AppId>,
        /// At most this many
        #[arg(long, default_value_t = 50)]
        limit: u32,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

impl Permissions {
    pub(super) async fn run(self, context: Context) -> anyhow::Result<Exit> {
        let store = context.store()?;
        match self.command {
            None => answer(&store, self.once).await,
            Some(Command::List { app, json }) => list(&store, app.as_ref(), json),
            Some(Command::Grant { app, permissions }) => {
                decide(&store, &app, &permissions, Decision::Granted)
            }
            Some(Command::Deny { app, permissions }) => {
                decide(&store, &app, &permissions, Decision::Denied)
            }
            Some(Command::Reset { app, permissions }) => reset(&store, &app, &permissions),
            Some(Command::Log { app, limit, json }) => log(&store, app.as_ref(), limit, json),
        }
    }
}

fn missing(app: &AppId) -> anyhow::Error {
    UserError::new(Exit::NotFound, format!("there is no app {app}"))
        .help("`rowcall app list` shows them")
        .into()
}

/// Asks the person at the terminal, one question at a time, for as long as they like.
async fn answer(store: &Store, once: bool) -> anyhow::Result<Exit> {
    if !std::io::stdin().is_terminal() {
        return Err(UserError::new(Exit::Usage, "there is no terminal to ask at")
            .help("use `rowcall permissions list`, `grant` and `deny`, or start the daemon with --approve POLICY.toml")
            .into());
    }
    let mut left_open = BTreeSet::new();
    let mut waiting = false;
    loop {
        let prompts = store.prompts()?;
        let next = prompts
            .iter()
            .find(|one| !left_open.contains(&(one.app.clone(), one.permission.clone())));
        match next {
            Some(prompt) => {
                waiting = false;
                if let Some(decision) = ask(prompt)? {
                    let app = AppId::new(&prompt.app)?;
                    store.decide(&app, &prompt.permission, decision, BY, SystemClock.now())?;
                } else {
                    left_open.insert((prompt.app.clone(), prompt.permission.clone()));
                }
            }
            None if once => return Ok(Exit::Success),
            None => {
                if !waiting {
                    output::note("waiting for questions; Ctrl-C ends this");
                    waiting = true;
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
    }
}

/// One question; `None` leaves it open.
fn ask(prompt: &PromptRow) -> anyhow::Result<Option<Decision>> {
    let app = output::shorten(&prompt.app, 60);
    let name = output::shorten(&prompt.asked_as, 60);
    let permission = output::shorten(&prompt.permission, 100);
    loop {
        output::note(format_args!(
            "\n{app} (it calls itself {name:?}) asks for {permission}"
        ));
        // Standard error, like everything that is for people.
        let mut err = std::io::stderr().lock();
        write!(err, "allow it? [y]es, [n]o, [l]ater: ")?;
        err.flush()?;
        drop(err);
        let mut line = String::new();
        if std::io::stdin().lock().read_line(&mut line)? == 0 {
            return Ok(None);
        }
        match line.trim().to_ascii_lowercase().as_str() {
            "y" | "yes" => return Ok(Some(Decision::Granted)),
            "n" | "no" => return Ok(Some(Decision::Denied)),
            "l" | "later" => return Ok(None),
            _ => {}
        }
    }
}

fn list(store: &Store, app: Option<&AppId>, as_json: bool) -> anyhow::Result<Exit> {
    let mut waiting = store.prompts()?;
    waiting.retain(|prompt| app.is_none_or(|app| prompt.app == app.as_str()));
    let decided = store.grants(app)?;
    let used = store.permission_uses(app)?;
    if as_json {
        output::json(&json!({ "waiting": waiting, "decided": decided, "used": used }))?;
        return Ok(Exit::Success);
    }
    let mut rows: Vec<[String; 5]> = Vec::new();
    for prompt in &waiting {
        rows.push([
            output::shorten(&prompt.app, 40),
            output::shorten(&prompt.permission, 60),
            "waits for an answer".to_owned(),
            format!("{:.0}", prompt.asked_at),
            String::new(),
        ]);
    }
    for grant in &decided {
        let uses = used
            .iter()
            .find(|one| one.app == grant.app && one.permission == grant.permission);
        rows.push([
            output::shorten(&grant.app, 40),
            output::shorten(&grant.permission, 60),
            format!(
                "{} by {}",
                grant.decision.as_str(),
                output::shorten(&grant.decided_by, 30)
            ),
            format!("{:.0}", grant.decided_at),
            uses.map_or_else(String::new, |uses| {
                format!("{} times, last {:.0}", uses.uses, uses.last_at)
            }),
        ]);
    }
    output::table(["APP", "PERMISSION", "STATE", "SINCE", "USED"], &rows)?;
    Ok(Exit::Success)
}

fn decide(
    store: &Store,
    app: &AppId,
    permissions: &[String],
    decision: Decision,
) -> anyhow::Result<Exit> {
    let mut names: BTreeSet<String> = BTreeSet::new();
    for permission in permissions {
        if permission == "*" {
            let waiting = store
                .prompts()?
                .into_iter()
                .filter(|prompt| prompt.app == app.as_str());
            names.extend(waiting.map(|prompt| prompt.permission));
        } else if permission.is_empty()
            || permission.len() > 100
            || permission.chars().any(char::is_control)
        {
            return Err(
                UserError::new(Exit::Usage, format!("{permission:?} is no permission")).into(),
            );
        } else {
            names.insert(permission.clone());
        }
    }
    if names.is_empty() {
        output::note(format_args!("{app} asks for nothing"));
    }
    for name in names {
        if !store.decide(app, &name, decision, BY, SystemClock.now())? {
            return Err(missing(app));
        }
        output::note(format_args!("{app}: {name} is {}", decision.as_str()));
    }
    Ok(Exit::Success)
}

fn reset(store: &Store, app: &AppId, permissions: &[String]) -> anyhow::Result<Exit> {
    if store.app(app)?.is_none() {
        return Err(missing(app));
    }
    let now = SystemClock.now();
    let mut forgotten = 0;
    if permissions.is_empty() {
        forgotten = store.reset_grants(app, None, BY, now)?;
    }
    for permission in permissions {
        forgotten += store.reset_grants(app, Some(permission), BY, now)?;
    }
    output::note(format_args!(
        "{app}: {forgotten} decisions forgotten; it will be asked about again"
    ));
    Ok(Exit::Success)
}

fn log(store: &Store, app: Option<&AppId>, limit: u32, as_json: bool) -> anyhow::Result<Exit> {
    let entries = store.permission_log(app, limit)?;
    if as_json {
        output::json(&entries)?;
        return Ok(Exit::Success);
    }
    let rows: Vec<_> = entries
        .iter()
        .map(|entry| {
            [
                format!("{:.0}", entry.at),
                output::shorten(&entry.app, 40),
                output::shorten(&entry.permission, 60),
                entry.what.clone(),
                output::shorten(&entry.decided_by, 40),
            ]
        })
        .collect();
    output::table(["AT", "APP", "PERMISSION", "WHAT", "BY"], &rows)?;
    Ok(Exit::Success)
}

//! `rowcall app`

mod anchor;
mod process;

use std::{collections::BTreeSet, path::PathBuf};

use clap::Subcommand;
use rowcall_core::{App as Manifest, AppId, TableName};
use rowcall_engine::store::AppRow;
use serde_json::json;

use super::{
    Context,
    context::{connect, read_file},
    setup,
};
use crate::{
    exit::{Exit, UserError},
    output,
    system::SystemClock,
};

/// The local apps.
#[derive(Debug, Subcommand)]
pub enum App {
    /// Add an app from its JSON configuration, or replace it
    Add {
        /// The file; - for standard input
        file: PathBuf,
        /// Its name, when the file has none
        #[arg(long)]
        name: Option<String>,
        /// Replace an app of this name
        #[arg(long)]
        replace: bool,
        /// Also install the capture triggers of its tables, as `rowcall setup` does
        #[arg(long)]
        setup: bool,
    },
    /// List the apps
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show one app, and what keeps it from working
    Show {
        /// Its name
        name: AppId,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove an app; its tasks stay in the database
    Remove {
        /// Its name
        name: AppId,
    },
    /// Switch an app on
    Enable {
        /// Its name
        name: AppId,
    },
    /// Switch an app off without removing it
    Disable {
        /// Its name
        name: AppId,
    },
    /// Start an app's own program
    Start {
        /// Its name
        name: AppId,
    },
    /// Stop an app's program and everything it started
    Stop {
        /// Its name
        name: AppId,
    },
    /// Stop an app's program if it runs, and start it with its present configuration
    Restart {
        /// Its name
        name: AppId,
    },
    /// Print what an app's program printed lately
    Logs {
        /// Its name
        name: AppId,
        /// How many lines
        #[arg(long, short = 'n', default_value_t = 200)]
        lines: usize,
        /// Go on with what it prints from now on
        #[arg(long, short)]
        follow: bool,
    },
    /// Open an app's pages in the browser
    Open {
        /// Its name
        name: AppId,
        /// Only print the address
        #[arg(long)]
        print: bool,
    },
}

impl App {
    pub(super) async fn run(self, context: Context) -> anyhow::Result<Exit> {
        match self {
            Self::Add {
                file,
                name,
                replace,
                setup,
            } => add(&context, &file, name.as_deref(), replace, setup).await,
            Self::List { json } => list(&context, json),
            Self::Show { name, json } => show(&context, &name, json),
            Self::Remove { name } => {
                changed(&name, context.store()?.remove_app(&name)?)?;
                output::note(format_args!("removed {name}"));
                Ok(Exit::Success)
            }
            Self::Enable { name } => switch(&context, &name, true),
            Self::Disable { name } => switch(&context, &name, false),
            Self::Start { name } => process::start(&context, &name, "start").await,
            Self::Stop { name } => process::stop(&context, &name).await,
            Self::Restart { name } => process::start(&context, &name, "restart").await,
            Self::Logs {
                name,
                lines,
                follow,
            } => process::logs(&context, &name, lines, follow).await,
            Self::Open { name, print } => process::open(&context, &name, print).await,
        }
    }
}

async fn add(
    context: &Context,
    file: &std::path::Path,
    name: Option<&str>,
    replace: bool,
    install: bool,
) -> anyhow::Result<Exit> {
    let text = anchored(file)?;
    let app = Manifest::parse(&text, name).map_err(|error| {
        UserError::new(
            Exit::Usage,
            format!("{} cannot be used: {error}", file.display()),
        )
        .code(error.code())
        .help("docs/guide.md lists the keys of an app")
    })?;
    let store = context.store()?;
    if !replace && store.app(&app.name)?.is_some() {
        return Err(UserError::new(
            Exit::Failure,
            format!("there is an app {} already", app.name),
        )
        .help("pass --replace to replace it, or --name for another name")
        .into());
    }
    if install {
        context
            .with_database(async |url| {
                let mut client = connect(url).await?;
                for table in captured_tables(&app) {
                    setup::install_for(&mut client, &app, &table).await?;
                }
                Ok(())
            })
            .await?;
    }
    store.put_app(&app.name, &text, rowcall_core::Clock::now(&SystemClock))?;
    for problem in problems(&app) {
        output::note(format_args!("note: {problem}"));
    }
    output::note(format_args!(
        "added {}; a running daemon takes it up within a second",
        app.name
    ));
    if !app.permissions.is_empty() {
        output::note(format_args!(
            "  it asks for {}: `rowcall permissions` decides",
            app.permissions.join(", ")
        ));
    }
    if !install {
        for table in captured_tables(&app) {
            output::note(format_args!(
                "  if not done yet: {}",
                setup::command_for(&app, &table)
            ));
        }
    }
    Ok(Exit::Success)
}

/// The tables whose changes need a capture trigger: all but the table of tasks itself.
pub(super) fn captured_tables(app: &Manifest) -> BTreeSet<TableName> {
    app.routes()
        .into_iter()
        .map(|route| route.selector.table)
        .filter(|table| *table != TableName::activities())
        .collect()
}

/// What is odd about an app, or keeps it from working.
pub(crate) fn problems(app: &Manifest) -> Vec<String> {
    let mut problems = app.notices.clone();
    for route in app.routes() {
        if app.agent(&route.agent).is_none() {
            problems.push(format!(
                "agent {} is not defined: tasks of {} wait until it is (add it under \"agents\")",
                route.agent, route.selector.table
            ));
        }
    }
    if app
        .subscription
        .as_ref()
        .is_some_and(|subscription| subscription.enabled)
        && app.routes().is_empty()
    {
        problems.push(
            "no handler handles any event of its tables: check agentHandlers and tableActions"
                .to_owned(),
        );
    }
    problems
}

fn list(context: &Context, json: bool) -> anyhow::Result<Exit> {
    let rows = context.store()?.apps()?;
    if json {
        let apps: Vec<_> = rows.iter().map(describe).collect();
        output::json(&apps)?;
        return Ok(Exit::Success);
    }
    let rows: Vec<_> = rows
        .iter()
        .map(|row| {
            let (tables, limit, state) = match row.parse() {
                Ok(app) => {
                    let tables: BTreeSet<String> = app
                        .routes()
                        .iter()
                        .map(|route| route.selector.table.to_string())
                        .collect();
                    let state = if !row.enabled {
                        "off".to_owned()
                    } else if problems(&app).is_empty() {
                        "on".to_owned()
                    } else {
                        "on, see `rowcall app show`".to_owned()
                    };
                    (
                        tables.into_iter().collect::<Vec<_>>().join(", "),
                        app.max_concurrent_tasks().to_string(),
                        state,
                    )
                }
                Err(error) => (String::new(), String::new(), format!("unreadable: {error}")),
            };
            [row.name.clone(), tables, limit, state]
        })
        .collect();
    output::table(["NAME", "TABLES", "AT ONCE", "STATE"], &rows)?;
    Ok(Exit::Success)
}

fn show(context: &Context, name: &AppId, json: bool) -> anyhow::Result<Exit> {
    let row = context.store()?.app(name)?.ok_or_else(|| missing(name))?;
    if json {
        output::json(&describe(&row))?;
    } else {
        output::line(row.manifest.trim_end())?;
    }
    match row.parse() {
        Ok(app) => problems(&app)
            .iter()
            .for_each(|problem| output::note(format_args!("note: {problem}"))),
        Err(error) => output::note(format_args!("note: the manifest cannot be read: {error}")),
    }
    Ok(Exit::Success)
}

fn describe(row: &AppRow) -> serde_json::Value {
    let manifest: serde_json::Value = serde_json::from_str(&row.manifest).unwrap_or_default();
    let problems = row
        .parse()
        .map_or_else(|error| vec![error.to_string()], |app| problems(&app));
    json!({
        "name": row.name, "enabled": row.enabled, "added_at": row.added_at, "problems": problems, "manifest": manifest,
    })
}

fn switch(context: &Context, name: &AppId, on: bool) -> anyhow::Result<Exit> {
    let now = rowcall_core::Clock::now(&SystemClock);
    changed(name, context.store()?.enable_app(name, on, now)?)?;
    output::note(format_args!("{name} is {}", if on { "on" } else { "off" }));
    Ok(Exit::Success)
}

fn changed(name: &AppId, changed: bool) -> anyhow::Result<()> {
    if changed {
        Ok(())
    } else {
        Err(missing(name).into())
    }
}

fn missing(name: &AppId) -> UserError {
    UserError::new(Exit::NotFound, format!("there is no app {name}"))
        .help("`rowcall app list` shows them")
}

/// Reads a manifest file, its relative directories made absolute.
pub(super) fn anchored(file: &std::path::Path) -> anyhow::Result<String> {
    anchor::below(&read_file(file)?, file)
}

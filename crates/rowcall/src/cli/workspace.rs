//! `rowcall workspace`

use clap::Subcommand;
use rowcall_core::Clock as _;
use rowcall_engine::store::Added;

use super::Context;
use crate::{
    exit::{Exit, UserError},
    output,
    system::SystemClock,
};

/// Workspaces and threads: names under which clients start agents.
#[derive(Debug, Subcommand)]
pub enum Workspace {
    /// List workspaces, or the threads of one
    List {
        /// Its slug
        slug: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Add a workspace, or with --thread a thread to it
    Add {
        /// Its slug
        slug: String,
        /// The name that people read
        #[arg(long)]
        name: Option<String>,
        /// The slug of a thread
        #[arg(long)]
        thread: Option<String>,
    },
    /// Remove a workspace with its threads, or with --thread one of them
    Remove {
        /// Its slug
        slug: String,
        /// The slug of a thread
        #[arg(long)]
        thread: Option<String>,
    },
}

impl Workspace {
    pub(super) fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let store = context.store()?;
        let now = SystemClock.now();
        match self {
            Self::List { slug: None, json } => {
                let rows = store.workspaces()?;
                if json {
                    output::json(&rows)?;
                    return Ok(Exit::Success);
                }
                let rows: Vec<_> = rows
                    .iter()
                    .map(|row| {
                        [
                            output::shorten(&row.slug, 40),
                            output::shorten(&row.name, 60),
                        ]
                    })
                    .collect();
                output::table(["SLUG", "NAME"], &rows)?;
            }
            Self::List {
                slug: Some(slug),
                json,
            } => {
                if store.workspace(&slug)?.is_none() {
                    return Err(missing("workspace", &slug));
                }
                let rows = store.threads(&slug)?;
                if json {
                    output::json(&rows)?;
                    return Ok(Exit::Success);
                }
                let rows: Vec<_> = rows
                    .iter()
                    .map(|row| {
                        [
                            output::shorten(&row.slug, 40),
                            output::shorten(&row.name, 60),
                        ]
                    })
                    .collect();
                output::table(["THREAD", "NAME"], &rows)?;
            }
            Self::Add { slug, name, thread } => {
                let wanted = thread.as_deref().unwrap_or(&slug);
                if wanted.is_empty() || wanted.len() > 200 || wanted.chars().any(char::is_control) {
                    return Err(UserError::new(
                        Exit::Usage,
                        "a slug must be 1 to 200 bytes without control characters",
                    )
                    .into());
                }
                let name = name.unwrap_or_else(|| wanted.to_owned());
                let added = match &thread {
                    None => store.add_workspace(&slug, &name, now)?,
                    Some(thread) => store.add_thread(&slug, thread, &name, now)?,
                };
                match added {
                    Added::Done => output::note(format_args!("added {wanted}")),
                    Added::NoWorkspace => return Err(missing("workspace", &slug)),
                    Added::Taken => {
                        return Err(UserError::new(
                            Exit::Failure,
                            format!("{wanted} is there already"),
                        )
                        .into());
                    }
                    Added::Full => {
                        return Err(UserError::new(
                            Exit::Failure,
                            "there are as many as there may be",
                        )
                        .into());
                    }
                }
            }
            Self::Remove { slug, thread } => {
                let removed = match &thread {
                    None => store.remove_workspace(&slug)?,
                    Some(thread) => store.remove_thread(&slug, thread)?,
                };
                if !removed {
                    return Err(match &thread {
                        None => missing("workspace", &slug),
                        Some(thread) => missing("thread", thread),
                    });
                }
                output::note(format_args!(
                    "removed {}",
                    thread.as_deref().unwrap_or(&slug)
                ));
            }
        }
        Ok(Exit::Success)
    }
}

fn missing(what: &str, slug: &str) -> anyhow::Error {
    UserError::new(Exit::NotFound, format!("there is no {what} {slug}"))
        .help("`rowcall workspace list` shows them")
        .into()
}

//! `rowcall db`

use clap::Subcommand;
use rowcall_backend::migrate::{self, FunctionState, MigrateOptions};
use serde_json::json;

use super::{Context, context::connect};
use crate::{
    exit::{Exit, UserError},
    output,
};

/// The database schema.
#[derive(Debug, Subcommand)]
pub enum Db {
    /// Bring the schema up to date; only adds
    Migrate {
        /// Also replace published functions that RealTimeX or somebody else made
        #[arg(long)]
        replace_functions: bool,
    },
    /// Show which migrations have run, and whose functions are installed
    Status {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Print the URL of the database, with its password
    Url,
}

impl Db {
    pub(super) async fn run(self, context: Context) -> anyhow::Result<Exit> {
        match self {
            Self::Migrate { replace_functions } => {
                context
                    .with_database(async |url| {
                        migrate_to(url, MigrateOptions { replace_functions }).await
                    })
                    .await
            }
            Self::Status { json } => {
                context
                    .with_database(async |url| status(url, json).await)
                    .await
            }
            Self::Url => {
                let database = crate::daemon::Database::for_command(&context.config).await?;
                if database.cluster.is_some() {
                    output::note("note: no daemon runs; the URL works while `rowcall up` runs");
                }
                output::line(&database.url)?;
                database.close().await;
                Ok(Exit::Success)
            }
        }
    }
}

async fn migrate_to(url: &str, options: MigrateOptions) -> anyhow::Result<Exit> {
    let mut client = connect(url).await?;
    let applied = migrate::apply(&mut client, options)
        .await
        .map_err(|error| UserError::of(Exit::Database, &error))?;
    for migration in &applied.migrations {
        output::note(format_args!("applied {migration}"));
    }
    for function in &applied.functions {
        if function.state == FunctionState::Foreign {
            output::note(format_args!(
                "left alone: {} was made by somebody else (--replace-functions installs ours)",
                function.signature
            ));
        }
    }
    for note in &applied.notes {
        output::note(note);
    }
    if applied.migrations.is_empty() {
        output::note("the schema is up to date");
    }
    Ok(Exit::Success)
}

async fn status(url: &str, as_json: bool) -> anyhow::Result<Exit> {
    let client = connect(url).await?;
    let status = migrate::status(&client)
        .await
        .map_err(|error| UserError::of(Exit::Database, &error))?;
    if as_json {
        let functions: Vec<_> = status
            .functions
            .iter()
            .map(|function| json!({ "name": function.signature, "state": format!("{:?}", function.state).to_lowercase() }))
            .collect();
        output::json(
            &json!({ "applied": status.applied, "pending": status.pending, "functions": functions }),
        )?;
    } else {
        let mut rows: Vec<[String; 2]> = Vec::new();
        rows.extend(
            status
                .applied
                .iter()
                .map(|name| [name.clone(), "applied".to_owned()]),
        );
        rows.extend(
            status
                .pending
                .iter()
                .map(|name| [name.clone(), "pending: run `rowcall db migrate`".to_owned()]),
        );
        rows.extend(status.functions.iter().map(|one| {
            [
                one.signature.to_owned(),
                format!("{:?}", one.state).to_lowercase(),
            ]
        }));
        output::table(["MIGRATION OR FUNCTION", "STATE"], &rows)?;
    }
    Ok(if status.is_current() {
        Exit::Success
    } else {
        Exit::Problems
    })
}

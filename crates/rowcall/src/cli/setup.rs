//! `rowcall setup`

mod project;

use clap::Args;
use rowcall_backend::{
    capture::{self, CaptureSpec, Change},
    migrate::{self, MigrateOptions},
};
use rowcall_core::{App as Manifest, EventKind, EventSet, Filter, TableName, filter::FilterError};
use tokio_postgres::Client;

use super::{Context, context::connect};
use crate::{
    exit::{Exit, UserError},
    output,
};

/// Make the changes of a table into tasks, or set up a Supabase project.
#[derive(Debug, Args)]
#[command(
    after_help = "Safe to run again: it brings the trigger to what is asked for.\n\n\
    With backend.url it sets up the Supabase project, through the account of `rowcall login`, with or without --table.\n\n\
    Example: rowcall setup --table public.orders --events insert,update --filter 'total=gt.100'"
)]
#[expect(clippy::struct_excessive_bools, reason = "options of a command line")]
pub struct Setup {
    /// The table; may be repeated
    #[arg(long = "table", value_name = "SCHEMA.TABLE")]
    tables: Vec<TableName>,
    /// Which changes become tasks
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "insert",
        value_name = "EVENT,…"
    )]
    events: Vec<EventKind>,
    /// Only rows that match, in PostgREST's syntax
    #[arg(long, value_parser = parse_filter, value_name = "FILTER")]
    filter: Option<Filter>,
    /// Take the trigger away; tasks already made stay
    #[arg(long, conflicts_with_all = ["events", "filter", "list"])]
    remove: bool,
    /// List the tables whose changes become tasks
    #[arg(long, conflicts_with_all = ["tables", "events", "filter"])]
    list: bool,
    /// Print JSON, with --list
    #[arg(long, requires = "list")]
    json: bool,
    /// Print the SQL that sets a project up, instead of running it
    #[arg(long, conflicts_with_all = ["remove", "list"])]
    print: bool,
    /// Also replace published functions that RealTimeX or somebody else made
    #[arg(long)]
    replace_functions: bool,
    /// Use this account of `rowcall login`
    #[arg(long, value_name = "NAME")]
    account: Option<String>,
    /// The project's name in Supabase's API, when its URL does not tell
    #[arg(long, value_name = "REF")]
    project_ref: Option<String>,
}

fn parse_filter(text: &str) -> Result<Filter, FilterError> {
    Filter::parse(text)
}

impl Setup {
    fn spec(&self, table: &TableName) -> CaptureSpec {
        CaptureSpec {
            table: table.clone(),
            events: self.events.iter().copied().collect(),
            filter: self.filter.clone(),
        }
    }

    fn specs(&self) -> Vec<CaptureSpec> {
        self.tables.iter().map(|table| self.spec(table)).collect()
    }

    pub(super) async fn run(self, context: Context) -> anyhow::Result<Exit> {
        let over_http =
            context.config.backend.is_project() && context.config.database.url.is_none();
        if self.print || (over_http && !self.list && !self.remove) {
            let wish = project::Wish {
                captures: self.specs(),
                account: self.account,
                project_ref: self.project_ref,
                replace_functions: self.replace_functions,
            };
            if !self.print {
                return wish.set_up(&context).await;
            }
            output::line(wish.sql(&context)?.trim_end())?;
            return Ok(Exit::Success);
        }
        if self.tables.is_empty() && !self.list {
            return Err(UserError::new(Exit::Usage, "which table?")
                .help("rowcall setup --table SCHEMA.TABLE, or --list to see what is captured; `rowcall setup --help` says more")
                .into());
        }
        context
            .with_database(async |url| {
                let mut client = connect(url).await?;
                prepare(&mut client).await?;
                if self.list {
                    return list(&client, self.json).await;
                }
                for table in &self.tables {
                    if self.remove {
                        let there = capture::remove(&mut client, table)
                            .await
                            .map_err(|error| refused(&error))?;
                        let done = if there {
                            "its changes no longer become tasks"
                        } else {
                            "it was not captured"
                        };
                        output::note(format_args!("{table}: {done}"));
                    } else {
                        let report = install(&mut client, &self.spec(table)).await?;
                        explain(&report);
                    }
                }
                Ok(Exit::Success)
            })
            .await
    }
}

/// The schema that triggers write into.
async fn prepare(client: &mut Client) -> anyhow::Result<()> {
    migrate::apply(client, MigrateOptions::default())
        .await
        .map_err(|error| UserError::of(Exit::Database, &error))?;
    Ok(())
}

/// Installs the trigger that an app needs on one of its tables: every event that one of its handlers handles, with the
/// app's filter.
pub(super) async fn install_for(
    client: &mut Client,
    app: &Manifest,
    table: &TableName,
) -> anyhow::Result<()> {
    prepare(client).await?;
    install(client, &spec_for(app, table)).await?;
    Ok(())
}

fn spec_for(app: &Manifest, table: &TableName) -> CaptureSpec {
    let routes = app.routes();
    let of_table = || routes.iter().filter(|route| route.selector.table == *table);
    let events: EventSet = of_table()
        .flat_map(|route| route.selector.events.iter())
        .collect();
    let filter = of_table().find_map(|route| route.selector.filter.clone());
    CaptureSpec {
        table: table.clone(),
        events,
        filter,
    }
}

/// The command that installs it.
pub(super) fn command_for(app: &Manifest, table: &TableName) -> String {
    let spec = spec_for(app, table);
    let events: Vec<String> = spec
        .events
        .iter()
        .map(|event| event.as_str().to_lowercase())
        .collect();
    let filter = spec.filter.map_or(String::new(), |filter| {
        format!(" --filter {}", quote(&filter.to_string()))
    });
    format!(
        "rowcall setup --table {} --events {}{filter}",
        quote(&table.to_string()),
        events.join(",")
    )
}

/// A word as a shell reads it.
fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/');
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

async fn install(client: &mut Client, spec: &CaptureSpec) -> anyhow::Result<capture::Report> {
    let report = capture::install(client, spec)
        .await
        .map_err(|error| refused(&error))?;
    let done = match report.change {
        Change::Installed => "its changes become tasks from now on",
        Change::Updated => "its triggers were brought up to date",
        Change::Unchanged => "its changes become tasks already",
    };
    let events: Vec<&str> = report.events.iter().map(|event| event.as_str()).collect();
    tracing::info!(table = %spec.table, events = events.join(","), "{done}");
    Ok(report)
}

/// Tells a person what was done.
fn explain(report: &capture::Report) {
    let events: Vec<String> = report
        .events
        .iter()
        .map(|event| event.as_str().to_lowercase())
        .collect();
    let filter = report
        .filter
        .as_ref()
        .map_or(String::new(), |filter| format!(" where {filter}"));
    let how = match report.change {
        Change::Installed => "become tasks from now on",
        Change::Updated => "become tasks from now on; the earlier triggers were replaced",
        Change::Unchanged => "become tasks already",
    };
    output::note(format_args!(
        "{}: {}{filter} {how}",
        report.table,
        events.join(", ")
    ));
    for note in &report.notes {
        output::note(format_args!("  note: {note}"));
    }
}

fn refused(error: &capture::CaptureError) -> anyhow::Error {
    UserError::of(Exit::Failure, error).into()
}

async fn list(client: &Client, as_json: bool) -> anyhow::Result<Exit> {
    let captures = capture::list(client)
        .await
        .map_err(|error| refused(&error))?;
    if as_json {
        output::json(&captures)?;
        return Ok(Exit::Success);
    }
    let rows: Vec<_> = captures
        .iter()
        .map(|one| {
            let state = match &one.table {
                None => "the table is gone",
                Some(now) if now.to_string() != one.source => "renamed: run setup again",
                Some(_) if !one.active => "disabled: run setup again",
                Some(_) => "on",
            };
            [
                one.table
                    .as_ref()
                    .map_or_else(|| one.source.clone(), ToString::to_string),
                one.events
                    .iter()
                    .map(|event| event.as_str())
                    .collect::<Vec<_>>()
                    .join(","),
                one.filter.clone().unwrap_or_else(|| "-".to_owned()),
                one.key.join(","),
                state.to_owned(),
            ]
        })
        .collect();
    output::table(["TABLE", "EVENTS", "FILTER", "KEY", "STATE"], &rows)?;
    Ok(Exit::Success)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_of_an_app_can_be_pasted() {
        let app = Manifest::parse(
            r#"{"name":"x","config":{"supabase":{"tables":["Odd Name"],"filter":"note=eq.it's"},
                "agentHandlers":[{"tableName":"Odd Name","agentId":"a","eventTypes":["INSERT","UPDATE"]}]}}"#,
            None,
        )
        .unwrap();
        let table = "Odd Name".parse().unwrap();
        let command = command_for(&app, &table);
        assert!(
            command.starts_with(
                "rowcall setup --table 'public.Odd Name' --events insert,update --filter 'note=eq."
            ),
            "{command}"
        );
        assert!(command.contains(r"'\''"), "{command}");
    }
}

//! `rowcall tables`

use std::collections::BTreeSet;

use clap::Args;
use rowcall_backend::supabase::Publication;
use rowcall_core::{App as Manifest, AppId, Clock as _, MachineId, TableName};
use serde_json::{Value, json};

use super::{Context, login::ask};
use crate::{
    exit::{Exit, UserError},
    output,
    system::SystemClock,
};

/// The publication that Realtime reads.
const REALTIME: &str = "supabase_realtime";

/// The tables that Realtime tells of, and which of them an app listens to.
#[derive(Debug, Args)]
#[command(after_help = "Example: rowcall tables --app orders --choose")]
pub struct Tables {
    /// Show which of them this app listens to
    #[arg(long)]
    app: Option<AppId>,
    /// Choose the tables of the app from the list
    #[arg(long, requires = "app")]
    choose: bool,
    /// Have the app listen to these
    #[arg(
        long,
        requires = "app",
        conflicts_with = "choose",
        value_delimiter = ',',
        value_name = "TABLE,…"
    )]
    set: Vec<TableName>,
    /// Print JSON
    #[arg(long, conflicts_with = "choose")]
    json: bool,
}

impl Tables {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let published = published(context).await?;
        let chosen = match &self.app {
            Some(app) => listened(context, app)?,
            None => BTreeSet::new(),
        };
        let all: BTreeSet<TableName> = published.iter().chain(&chosen).cloned().collect();
        let all: Vec<TableName> = all.into_iter().collect();
        let wanted: BTreeSet<TableName> = if self.choose {
            for (number, table) in all.iter().enumerate() {
                let mark = if chosen.contains(table) { "*" } else { " " };
                let note = if published.contains(table) {
                    ""
                } else {
                    "  (not published: Realtime does not tell of it)"
                };
                output::note(format_args!("{mark} {:>3}  {table}{note}", number + 1));
            }
            pick(&all, &ask("tables (numbers, separated by commas): ")?)?
        } else if self.set.is_empty() {
            return list(&all, &published, &chosen, self.json);
        } else {
            self.set.into_iter().collect()
        };
        let app = self.app.expect("clap requires it");
        for table in wanted.iter().filter(|table| !published.contains(table)) {
            output::note(format_args!(
                "{table} is not in the publication {REALTIME}; this adds it:\n{}",
                rowcall_backend::setup::publish_script(table)
            ));
        }
        set(context, &app, &wanted)?;
        output::note(format_args!("{app} listens to {} table(s)", wanted.len()));
        Ok(Exit::Success)
    }
}

/// The tables in the publication, as `get_publications_full()` tells.
async fn published(context: &Context) -> anyhow::Result<BTreeSet<TableName>> {
    let found: Option<Vec<Publication>> = if context.config.backend.is_project() {
        let (project, apps) = context.project().await?;
        let wanted = crate::daemon::wanted(&apps);
        let (backend, _) = project.backend(&MachineId::new("rowcall-cli")?, wanted)?;
        backend.publications().await?
    } else {
        context
            .with_database(async |url| {
                let client = super::connect(url).await?;
                let sql = "select public.get_publications_full()::text where to_regprocedure('public.get_publications_full()') is not null";
                let row = client.query_opt(sql, &[]).await;
                let text: Option<String> = row.ok().flatten().and_then(|row| row.get(0));
                Ok(text.map(|text| Publication::read_all(&text)))
            })
            .await?
    };
    let found = found.ok_or_else(|| {
        UserError::new(
            Exit::NotFound,
            "the project has no function get_publications_full(), which tells the published tables",
        )
        .help("`rowcall setup` makes it; `rowcall setup --print` prints its SQL")
    })?;
    let realtime = found.into_iter().find(|one| one.name == REALTIME);
    Ok(realtime.into_iter().flat_map(|one| one.tables).collect())
}

fn manifest(context: &Context, app: &AppId) -> anyhow::Result<(String, Manifest)> {
    let row = context.store()?.app(app)?.ok_or_else(|| {
        UserError::new(Exit::NotFound, format!("there is no app {app}"))
            .help("`rowcall app list` shows them")
    })?;
    let parsed = row.parse()?;
    Ok((row.manifest, parsed))
}

fn listened(context: &Context, app: &AppId) -> anyhow::Result<BTreeSet<TableName>> {
    let (_, app) = manifest(context, app)?;
    let tables = app.subscription.map(|subscription| subscription.tables);
    Ok(tables.unwrap_or_default().into_iter().collect())
}

/// Writes the tables into the app's manifest.
fn set(context: &Context, app: &AppId, tables: &BTreeSet<TableName>) -> anyhow::Result<()> {
    let (text, _) = manifest(context, app)?;
    let mut manifest: Value = serde_json::from_str(&text)?;
    let place = if manifest.get("config").is_some() {
        &mut manifest["config"]["supabase"]["tables"]
    } else {
        &mut manifest["supabase"]["tables"]
    };
    *place = json!(tables.iter().map(ToString::to_string).collect::<Vec<_>>());
    let text = serde_json::to_string_pretty(&manifest)?;
    Manifest::parse(&text, Some(app.as_str())).map_err(|error| {
        UserError::new(
            Exit::Usage,
            format!("the app cannot listen to these: {error}"),
        )
    })?;
    context.store()?.put_app(app, &text, SystemClock.now())?;
    Ok(())
}

fn pick(all: &[TableName], answer: &str) -> anyhow::Result<BTreeSet<TableName>> {
    let wrong = || {
        UserError::new(
            Exit::Usage,
            format!(
                "{:?} are no numbers of the list",
                output::shorten(answer, 60)
            ),
        )
        .help("such as: 1,3")
    };
    let numbers = answer.split([',', ' ']).filter(|part| !part.is_empty());
    let picked: BTreeSet<TableName> = numbers
        .map(|part| {
            let number: usize = part.parse().map_err(|_| wrong())?;
            let table = number.checked_sub(1).and_then(|index| all.get(index));
            table.cloned().ok_or_else(wrong)
        })
        .collect::<Result<_, UserError>>()?;
    if picked.is_empty() {
        return Err(wrong().into());
    }
    Ok(picked)
}

fn list(
    all: &[TableName],
    published: &BTreeSet<TableName>,
    chosen: &BTreeSet<TableName>,
    as_json: bool,
) -> anyhow::Result<Exit> {
    if as_json {
        let tables: Vec<_> = all
            .iter()
            .map(|table| json!({ "table": table, "published": published.contains(table), "chosen": chosen.contains(table) }))
            .collect();
        output::json(&tables)?;
        return Ok(Exit::Success);
    }
    let word = |yes: bool| if yes { "yes" } else { "" }.to_owned();
    let rows: Vec<_> = all
        .iter()
        .map(|table| {
            [
                table.to_string(),
                word(published.contains(table)),
                word(chosen.contains(table)),
            ]
        })
        .collect();
    output::table(["TABLE", "PUBLISHED", "CHOSEN"], &rows)?;
    Ok(Exit::Success)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_pick_tables_and_nothing_else_does() {
        let all: Vec<TableName> = ["public.a", "public.b", "public.c"]
            .map(|name| name.parse().unwrap())
            .into();
        let picked = pick(&all, "3, 1").unwrap();
        assert_eq!(picked, BTreeSet::from([all[0].clone(), all[2].clone()]));
        for wrong in ["", "0", "4", "x", "1,x", "-1"] {
            assert!(pick(&all, wrong).is_err(), "{wrong}");
        }
    }
}

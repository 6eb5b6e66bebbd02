//! `rowcall queue schema`: whether the Data API of a local Supabase project exposes queues.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use toml_edit::{Array, DocumentMut, Item, Table, Value, value};

use crate::{
    exit::{Exit, UserError},
    output,
};

/// The schema of queues.
const SCHEMA: &str = "pgmq_public";

/// What the Supabase CLI exposes when nothing is written.
const DEFAULT: [&str; 2] = ["public", "graphql_public"];

/// Where the Supabase CLI keeps its configuration.
pub(super) const CONFIG: &str = "supabase/config.toml";

/// The exposed schemas of a local project.
#[derive(Debug, Subcommand)]
pub enum Schema {
    /// Add `pgmq_public` to api.schemas of supabase/config.toml
    Enable(File),
    /// Take `pgmq_public` out of it
    Disable(File),
}

/// Which file.
#[derive(Debug, Args)]
pub struct File {
    /// The configuration of the local project
    #[arg(long, value_name = "FILE", default_value = CONFIG)]
    file: PathBuf,
}

impl Schema {
    pub(super) fn run(self) -> anyhow::Result<Exit> {
        let (file, on) = match &self {
            Self::Enable(file) => (&file.file, true),
            Self::Disable(file) => (&file.file, false),
        };
        let changed = set(file, on)?;
        let (state, file) = (if on { "exposed" } else { "hidden" }, file.display());
        if changed {
            output::note(format_args!(
                "{SCHEMA} is {state} in {file}: restart the project with `supabase stop && supabase start`"
            ));
        } else {
            output::note(format_args!("{SCHEMA} was {state} in {file} already"));
        }
        Ok(Exit::Success)
    }
}

/// Changes a file; says whether there was something to change.
pub(super) fn set(file: &Path, on: bool) -> anyhow::Result<bool> {
    let failed = |what: String| UserError::new(Exit::Failure, what);
    let text = std::fs::read_to_string(file).map_err(|error| {
        failed(format!("cannot read {}: {error}", file.display())).help(
            "run this in the folder of the project (`supabase init` makes the file), or name the file with --file",
        )
    })?;
    let changed = changed(&text, on)
        .map_err(|problem| failed(format!("{} cannot be changed: {problem}", file.display())))?;
    let Some(text) = changed else {
        return Ok(false);
    };
    std::fs::write(file, text)
        .map_err(|error| failed(format!("cannot write {}: {error}", file.display())))?;
    Ok(true)
}

/// The text with the schema in or out, everything else as it was; `None` when it is so already.
fn changed(text: &str, on: bool) -> Result<Option<String>, String> {
    let mut document: DocumentMut = text.parse().map_err(|error| format!("{error}"))?;
    let api = document.entry("api").or_insert_with(|| {
        let mut table = Table::new();
        table.set_implicit(!on);
        Item::Table(table)
    });
    let api = api
        .as_table_like_mut()
        .ok_or("`api` is not a table".to_owned())?;
    if api.get("schemas").is_none() {
        if !on {
            return Ok(None);
        }
        let all: Array = DEFAULT.into_iter().chain([SCHEMA]).collect();
        api.insert("schemas", value(all));
        return Ok(Some(document.to_string()));
    }
    let schemas = api.get_mut("schemas").and_then(Item::as_array_mut);
    let schemas = schemas.ok_or("`api.schemas` is not a list".to_owned())?;
    let at = schemas.iter().position(|one| one.as_str() == Some(SCHEMA));
    match (on, at) {
        (true, Some(_)) | (false, None) => return Ok(None),
        (true, None) => {
            let mut new = Value::from(SCHEMA);
            // As the one before it is written: on a line of its own, or behind a blank.
            if let Some(last) = schemas.iter().last() {
                let prefix = last.decor().prefix().cloned();
                let first = schemas.len() == 1;
                let lines = prefix.as_ref().and_then(|raw| raw.as_str());
                *new.decor_mut() = match lines {
                    Some(lines) if lines.contains('\n') => {
                        // Comments belong to the line they were written on.
                        let indent = lines.rsplit('\n').next().unwrap_or_default();
                        toml_edit::Decor::new(format!("\n{indent}"), "")
                    }
                    _ if first => toml_edit::Decor::new(" ", ""),
                    _ => toml_edit::Decor::new(
                        lines.filter(|text| !text.is_empty()).unwrap_or(" "),
                        "",
                    ),
                };
            }
            schemas.push_formatted(new);
        }
        (false, Some(at)) => {
            let gone = schemas.remove(at);
            if let (0, Some(first)) = (at, schemas.get_mut(0)) {
                let prefix = gone.decor().prefix().cloned().unwrap_or_default();
                first.decor_mut().set_prefix(prefix);
            }
        }
    }
    Ok(Some(document.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(text: &str) -> String {
        changed(text, true).unwrap().unwrap()
    }

    #[test]
    fn a12_a_schema_is_added_and_taken_out_and_nothing_else_changes() {
        let before = "# mine\n[api]\nport = 54321 # http\nschemas = [\"public\", \"graphql_public\"] # shown\n\n[db]\nport = 1\n";
        let after = on(before);
        assert_eq!(
            after,
            before.replace(
                "\"graphql_public\"]",
                "\"graphql_public\", \"pgmq_public\"]"
            )
        );
        assert_eq!(changed(&after, true).unwrap(), None);
        assert_eq!(changed(&after, false).unwrap().as_deref(), Some(before));
        assert_eq!(changed(before, false).unwrap(), None);
    }

    #[test]
    fn a12_lists_over_several_lines_stay_so() {
        let before = "[api]\nschemas = [\n  \"public\", # tables\n  \"storage\",\n]\n";
        let after = on(before);
        assert_eq!(
            after,
            "[api]\nschemas = [\n  \"public\", # tables\n  \"storage\",\n  \"pgmq_public\",\n]\n"
        );
        assert_eq!(changed(&after, false).unwrap().as_deref(), Some(before));
    }

    #[test]
    fn a12_odd_files_are_understood_or_refused() {
        assert_eq!(
            on(""),
            "[api]\nschemas = [\"public\", \"graphql_public\", \"pgmq_public\"]\n"
        );
        assert_eq!(
            on("[api]\nschemas = []\n"),
            "[api]\nschemas = [\"pgmq_public\"]\n"
        );
        assert_eq!(
            on("api = { port = 1 }\n"),
            "api = { port = 1 , schemas = [\"public\", \"graphql_public\", \"pgmq_public\"] }\n"
        );
        assert_eq!(
            changed("[api]\nschemas = [\"pgmq_public\", \"public\"]\n", false)
                .unwrap()
                .as_deref(),
            Some("[api]\nschemas = [\"public\"]\n")
        );
        assert_eq!(changed("", false).unwrap(), None);
        for bad in ["[api]\nschemas = \"public\"\n", "api = 1\n", "[api\n"] {
            assert!(changed(bad, true).is_err(), "{bad}");
        }
    }
}

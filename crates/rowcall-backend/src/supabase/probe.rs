//! What a project has and what it lacks, for `doctor` and for people who choose tables.

use std::collections::{BTreeMap, BTreeSet};

use jiff::SignedDuration;
use rowcall_core::{SourceError, TableName};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::json;
use uuid::Uuid;

use super::{
    Inner, SupabaseBackend,
    error::RestError,
    http::Call,
    plan::Capture,
    publications::{Publication, publications},
};
use crate::sql::qualified;

/// The publication that Realtime reads.
const REALTIME: &str = "supabase_realtime";

/// What a project has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts, read by name"
)]
pub struct Project {
    /// `rtx_activities` is there and visible.
    pub activities: bool,
    /// It has our columns.
    pub columns: bool,
    /// Our functions are there: several tasks per request, fenced by attempt.
    pub functions: bool,
    /// The published claim function is there and may be called.
    pub claim_function: bool,
    /// Whether row level security is on for `rtx_activities`; `None` where the project does not tell.
    pub row_security: Option<bool>,
    /// Whether we come as a signed-in user. With row level security on, and without a service key, nothing is seen otherwise.
    pub signed_in: bool,
    /// The publications; `None` when the project has no `get_publications_full()`.
    pub publications: Option<Vec<Publication>>,
    /// The tables that apps listen to.
    pub tables: BTreeMap<TableName, TablePlan>,
    /// How far the project's clock is ahead of ours, in whole seconds.
    pub clock_ahead: Option<i64>,
    /// What only the database can tell; `None` when the project has no `rowcall_examine()`.
    pub examined: Option<Examined>,
}

/// What the function `rowcall_examine` tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Examined {
    /// The database role that requests are made with.
    pub role: Option<String>,
    /// The longest statement that the role may run, as PostgreSQL writes it.
    pub statement_timeout: Option<String>,
    /// The tables that were asked for.
    pub tables: BTreeMap<String, ExaminedTable>,
}

/// A table, as its database and the role that asks see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts, read by name"
)]
pub struct ExaminedTable {
    /// There is such a table, and the role that asks may know of it.
    pub exists: bool,
    /// Realtime tells of its changes.
    pub published: bool,
    /// Old rows are told whole.
    #[serde(deserialize_with = "null_is_false")]
    pub replica_identity: bool,
    /// Row level security is on.
    #[serde(deserialize_with = "null_is_false")]
    pub row_security: bool,
    /// How many policies it has.
    pub policies: u32,
    /// The role may select.
    pub readable: bool,
    /// The role may update.
    pub writable: bool,
}

fn null_is_false<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(false))
}

impl Project {
    /// The database role that requests are made with, as far as it is known.
    pub fn role(&self) -> &str {
        let examined = self.examined.as_ref();
        let role = examined.and_then(|examined| examined.role.as_deref());
        role.unwrap_or("anon")
    }
}

impl Examined {
    /// What is known of a table.
    pub fn table(&self, table: &TableName) -> Option<&ExaminedTable> {
        self.tables.get(&qualified(table))
    }
}

/// How a table's changes become tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct TablePlan {
    /// How; `None` when they cannot.
    pub capture: Option<Capture>,
    /// Whether Realtime tells of its changes; `None` when that cannot be known.
    pub published: Option<bool>,
}

impl SupabaseBackend {
    /// Asks the project what it has. Changes nothing there.
    ///
    /// # Errors
    /// When the project cannot be reached, or refuses the key.
    pub async fn probe(&self) -> Result<Project, SourceError> {
        let project = self.0.probe().await;
        project.map_err(|error| self.0.explain(error, "examine the project"))
    }

    /// The published tables, for a chooser; `None` when the project has no `get_publications_full()`.
    ///
    /// # Errors
    /// As [`SupabaseBackend::probe`].
    pub async fn publications(&self) -> Result<Option<Vec<Publication>>, SourceError> {
        let found = publications(&self.0.rest).await;
        found.map_err(|error| self.0.explain(error, "list the published tables"))
    }
}

impl Inner {
    async fn probe(&self) -> Result<Project, RestError> {
        self.plans.forget();
        let plan = self.plans.get().await?;
        let publications = publications(&self.rest).await?;
        let is_published = |table: &TableName| {
            let all = publications.as_ref()?.iter();
            let realtime = all.into_iter().find(|one| one.name == REALTIME);
            Some(realtime.is_some_and(|one| one.tables.contains(table)))
        };
        let mut listened = self.plans.tables();
        if plan.activities.is_some() {
            listened.insert(TableName::activities());
        }
        let examined = self.examine(&listened).await?;
        let tables = listened
            .into_iter()
            .map(|table| {
                let capture = plan.capture(&table);
                let published = is_published(&table);
                (table, TablePlan { capture, published })
            })
            .collect();
        let clock_ahead = self.rest.clock().now().map(|there| {
            let ahead: SignedDuration = there.duration_since(self.config.clock.now());
            ahead.as_secs()
        });
        Ok(Project {
            activities: plan.activities.is_some(),
            columns: plan
                .activities
                .as_ref()
                .is_some_and(|table| table.has("attempt")),
            functions: plan.batch,
            row_security: plan.row_security,
            signed_in: self.session.is_signed_in(),
            claim_function: self.has_claim_function().await?,
            publications,
            tables,
            clock_ahead,
            examined,
        })
    }

    async fn examine(&self, tables: &BTreeSet<TableName>) -> Result<Option<Examined>, RestError> {
        let names: Vec<String> = tables.iter().map(qualified).collect();
        let call = Call::rpc("rowcall_examine", &json!({ "tables": names }));
        match self.rest.fetch::<Examined>(&call).await {
            Ok(examined) => Ok(Some(examined)),
            Err(error) if error.is_missing_function() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A claim of a task that does not exist is refused by the function, or by its absence.
    async fn has_claim_function(&self) -> Result<bool, RestError> {
        let arguments = json!({
            "target_task_id": Uuid::nil(), "machine_id": self.config.identity.machine,
        });
        match self
            .rest
            .fetch::<bool>(&Call::rpc("rtx_fn_claim_task", &arguments))
            .await
        {
            Ok(_) => Ok(true),
            Err(error) if error.is_missing_function() => Ok(false),
            // There, but not for us, or broken: either way it cannot be relied on.
            Err(RestError::Refused { status, .. }) if status.is_client_error() => Ok(false),
            Err(error) => Err(error),
        }
    }
}

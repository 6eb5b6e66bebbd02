//! The rows of `rtx_activities` as apps read and write them: with the daemon's rights, or with those of a user.

use rowcall_core::{SourceError, TableName};
use secrecy::SecretString;
use serde::Serialize;
use serde_json::{Value, json, value::RawValue};
use uuid::Uuid;

use super::{SupabaseBackend, error::RestError, http::Call};

/// What the published SDK shows of an activity.
const COLUMNS: &str = "id,user_id,raw_data,old_data,status,locked_by,locked_at,completed_at,error_message,attempted_by,\
                       retry_count,result,created_at";
const PATH: [&str; 3] = ["rest", "v1", "rtx_activities"];

/// The activities of a project, for one caller.
#[derive(Clone, Copy, Debug)]
pub struct ActivityRows<'a> {
    backend: &'a SupabaseBackend,
    /// The JWT of a user whose rights count; the daemon's own otherwise.
    user: Option<&'a SecretString>,
}

impl SupabaseBackend {
    /// The activities as a user may see and change them, or as the daemon may.
    pub fn activities<'a>(&'a self, user: Option<&'a SecretString>) -> ActivityRows<'a> {
        ActivityRows {
            backend: self,
            user,
        }
    }
}

impl ActivityRows<'_> {
    async fn rows(&self, call: Call, what: &str) -> Result<Vec<Box<RawValue>>, SourceError> {
        let inner = &self.backend.0;
        let rows = match self.user {
            Some(token) => match inner.transport.send(&call, Some(token)).await {
                Ok(answer) => answer.read(),
                Err(error) => Err(error),
            },
            None => inner.rest.fetch(&call).await,
        };
        rows.map_err(|error: RestError| inner.explain(error, what))
    }

    async fn write(&self, call: Call, what: &str) -> Result<Vec<Box<RawValue>>, SourceError> {
        let call = call
            .query("select", COLUMNS)
            .prefer("return=representation");
        self.rows(call, what).await
    }

    /// Adds an activity, and gives it back.
    ///
    /// # Errors
    /// When the project does not answer, or row level security refuses it.
    pub async fn insert(&self, raw_data: &RawValue) -> Result<Vec<Box<RawValue>>, SourceError> {
        #[derive(Serialize)]
        struct New<'a> {
            raw_data: &'a RawValue,
        }
        let call = Call::post(&PATH).json(&New { raw_data });
        self.write(call, "add an activity").await
    }

    /// Activities, the newest first.
    ///
    /// # Errors
    /// As [`ActivityRows::insert`].
    pub async fn list(
        &self,
        status: Option<&str>,
        limit: i64,
        offset: i64,
    ) -> Result<Vec<Box<RawValue>>, SourceError> {
        let mut call = Call::get(&PATH)
            .query("select", COLUMNS)
            .query("order", "created_at.desc,id.desc")
            .query("limit", &limit.to_string())
            .query("offset", &offset.to_string());
        call = match status {
            None => call,
            // A row without a status waits.
            Some("pending") => call.query("or", "(status.eq.pending,status.is.null)"),
            Some(status) => call.query("status", &format!("eq.{status}")),
        };
        self.rows(call, "list activities").await
    }

    /// One activity, or none.
    ///
    /// # Errors
    /// As [`ActivityRows::insert`].
    pub async fn get(&self, id: Uuid) -> Result<Vec<Box<RawValue>>, SourceError> {
        let call = Call::get(&PATH)
            .query("select", COLUMNS)
            .query("id", &format!("eq.{id}"));
        self.rows(call, "read an activity").await
    }

    /// Changes the columns that `changes`, a JSON object, names. Nothing when there is no such row, or it may not be changed.
    ///
    /// # Errors
    /// As [`ActivityRows::insert`].
    pub async fn update(
        &self,
        id: Uuid,
        changes: &RawValue,
    ) -> Result<Vec<Box<RawValue>>, SourceError> {
        let call = Call::patch(&PATH)
            .query("id", &format!("eq.{id}"))
            .json(&changes);
        self.write(call, "change an activity").await
    }

    /// Removes an activity, as [`ActivityRows::update`].
    ///
    /// # Errors
    /// As [`ActivityRows::insert`].
    pub async fn delete(&self, id: Uuid) -> Result<Vec<Box<RawValue>>, SourceError> {
        let call = Call::delete(&PATH).query("id", &format!("eq.{id}"));
        self.write(call, "remove an activity").await
    }

    /// Adds a task that names its agent; a repeat changes nothing.
    ///
    /// # Errors
    /// As [`ActivityRows::insert`], and when the project has not our columns.
    pub async fn start(
        &self,
        id: Uuid,
        raw_data: &RawValue,
        table: &str,
        key: &RawValue,
    ) -> Result<(), SourceError> {
        #[derive(Serialize)]
        struct New<'a> {
            id: Uuid,
            raw_data: &'a RawValue,
            source_table: &'a str,
            source_event: &'static str,
            source_key: &'a RawValue,
        }
        let call = Call::post(&PATH)
            .query("on_conflict", "id")
            .query("select", "id")
            .prefer("resolution=ignore-duplicates,return=representation")
            .json(&New {
                id,
                raw_data,
                source_table: table,
                source_event: "INSERT",
                source_key: key,
            });
        self.rows(call, "start a task").await.map(drop)
    }

    /// Hands a task that waits for a person to its agent; whether it still waited.
    ///
    /// # Errors
    /// As [`ActivityRows::start`].
    pub async fn assign(&self, id: Uuid, table: &TableName) -> Result<bool, SourceError> {
        let body: Value = json!({"source_table": table, "status": "pending"});
        let call = Call::patch(&PATH)
            .query("id", &format!("eq.{id}"))
            .query("or", "(status.eq.pending,status.is.null)")
            .query("source_table", "like.rowcall\\_named.*")
            .json(&body);
        let rows = self.write(call, "hand a task to its agent").await?;
        Ok(!rows.is_empty())
    }
}

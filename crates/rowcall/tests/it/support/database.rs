//! What the database says about tasks.

use rowcall_stack::testing::TestDb;
use serde_json::Value;
use tokio_postgres::Client;
use uuid::Uuid;

use super::until;

/// A prepared database of one test.
pub(crate) struct Database {
    pub(crate) client: Client,
    url: String,
    _db: Option<TestDb>,
}

/// A task as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    pub(crate) id: Uuid,
    pub(crate) status: String,
    pub(crate) locked_by: Option<String>,
    pub(crate) attempt: i32,
    pub(crate) retry_count: i32,
    pub(crate) error: Option<String>,
    pub(crate) result: Option<Value>,
}

impl Database {
    /// A database of its own on the shared test server, migrated.
    pub(crate) async fn create() -> Self {
        let db = TestDb::create().await;
        let client = db.connect().await;
        let url = db.url();
        Self::prepare(client, url, Some(db)).await
    }

    /// A database that somebody else runs.
    pub(crate) async fn at(url: &str) -> Self {
        let client = rowcall_backend::postgres::connect(url)
            .await
            .expect("the database answers");
        Self::prepare(client, url.to_owned(), None).await
    }

    async fn prepare(mut client: Client, url: String, db: Option<TestDb>) -> Self {
        rowcall_backend::migrate::apply(
            &mut client,
            rowcall_backend::migrate::MigrateOptions::default(),
        )
        .await
        .expect("the schema is prepared");
        Self {
            client,
            url,
            _db: db,
        }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// A row written directly into the table of tasks.
    pub(crate) async fn add_task(&self, raw_data: &Value) -> Uuid {
        let sql = "insert into public.rtx_activities (raw_data) values ($1) returning id";
        self.client
            .query_one(sql, &[raw_data])
            .await
            .expect("a task")
            .get(0)
    }

    pub(crate) async fn task(&self, id: Uuid) -> Row {
        self.tasks("where id = $1", &[&id])
            .await
            .pop()
            .expect("the task is there")
    }

    pub(crate) async fn all_tasks(&self) -> Vec<Row> {
        self.tasks("order by created_at, id", &[]).await
    }

    async fn tasks(
        &self,
        rest: &str,
        parameters: &[&(dyn tokio_postgres::types::ToSql + Sync)],
    ) -> Vec<Row> {
        let sql = format!(
            "select id, status, locked_by, attempt, retry_count, error_message, result from public.rtx_activities {rest}"
        );
        let rows = self.client.query(&sql, parameters).await.expect("tasks");
        rows.iter()
            .map(|row| Row {
                id: row.get(0),
                status: row.get(1),
                locked_by: row.get(2),
                attempt: row.get(3),
                retry_count: row.get(4),
                error: row.get(5),
                result: row.get(6),
            })
            .collect()
    }

    /// Waits until a task is in a state.
    #[track_caller]
    pub(crate) fn becomes(&self, id: Uuid, status: &str) -> impl Future<Output = Row> {
        until(status, move || async move {
            let row = self.task(id).await;
            if row.status == status {
                Ok(row)
            } else {
                Err(row)
            }
        })
    }
}

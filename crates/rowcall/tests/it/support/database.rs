//! What the database says about tasks.

use rowcall_stack::testing::TestDb;
use serde_json::Value;
use tokio_postgres::Client;
use uuid::Uuid;

use super::until;

/// A prepared database of one test.
pub struct Database {
    pub client: Client,
    url: String,
    _db: Option<TestDb>,
}

/// A task as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub id: Uuid,
    pub status: String,
    pub locked_by: Option<String>,
    pub attempt: i32,
    pub retry_count: i32,
    pub error: Option<String>,
    pub result: Option<Value>,
}

impl Database {
    /// A database of its own on the shared test server, migrated.
    pub async fn create() -> Self {
        let db = TestDb::create().await;
        let client = db.connect().await;
        let url = db.url();
        Self::prepare(client, url, Some(db)).await
    }

    /// A database that somebody else runs.
    pub async fn at(url: &str) -> Self {
        let client = rowcall_backend::postgres::connect(url).await.expect("the database answers");
        Self::prepare(client, url.to_owned(), None).await
    }

    async fn prepare(mut client: Client, url: String, db: Option<TestDb>) -> Self {
        rowcall_backend::migrate::apply(&mut client, Default::default()).await.expect("the schema is prepared");
        Self { client, url, _db: db }
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// A row written directly into the table of tasks.
    pub async fn add_task(&self, raw_data: &Value) -> Uuid {
        let sql = "insert into public.rtx_activities (raw_data) values ($1) returning id";
        self.client.query_one(sql, &[raw_data]).await.expect("a task").get(0)
    }

    pub async fn task(&self, id: Uuid) -> Row {
        self.tasks("where id = $1", &[&id]).await.pop().expect("the task is there")
    }

    pub async fn all_tasks(&self) -> Vec<Row> {
        self.tasks("order by created_at, id", &[]).await
    }

    async fn tasks(&self, rest: &str, parameters: &[&(dyn tokio_postgres::types::ToSql + Sync)]) -> Vec<Row> {
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
    pub fn becomes(&self, id: Uuid, status: &str) -> impl Future<Output = Row> {
        until(status, async move || {
            let row = self.task(id).await;
            if row.status == status { Ok(row) } else { Err(row) }
        })
    }
}

//! A migrated database of one test, and a backend on it.

use std::time::Duration;

use async_trait::async_trait;
use rowcall_backend::{
    NewTask, PostgresBackend, PostgresConfig,
    conformance::Fixture,
    migrate::{self, MigrateOptions},
};
use rowcall_core::{
    Payload, TableName, TaskId, TaskRef,
    ports::{Coordinator, TaskAdmin},
};
use rowcall_stack::testing::TestDb;
use tokio_postgres::{Client, NoTls, types::ToSql};
use uuid::Uuid;

/// A database, a plain client (somebody else's session), and a backend.
pub(super) struct Database {
    pub(super) backend: PostgresBackend,
    pub(super) client: Client,
    pub(super) db: TestDb,
}

/// A database that was migrated once and copied for this test.
pub(super) async fn migrated() -> TestDb {
    TestDb::from_template("rowcall", async |url: String| {
        let (mut client, connection) = tokio_postgres::connect(&url, NoTls).await?;
        let driver = tokio::spawn(connection);
        migrate::apply(&mut client, MigrateOptions::default()).await?;
        drop(client);
        driver.await??;
        anyhow::Ok(())
    })
    .await
}

pub(super) fn config(db: &TestDb, listener: &str) -> PostgresConfig {
    let mut config = PostgresConfig::new(&db.socket_url(), listener).unwrap();
    // A gate that a busy machine left closed too long would open by itself; tests of that set their own time.
    config.quiet_for = Duration::from_mins(1);
    config
}

pub(super) async fn database() -> Database {
    let db = migrated().await;
    let backend = PostgresBackend::connect(config(&db, "test")).await.unwrap();
    let client = db.connect().await;
    Database {
        backend,
        client,
        db,
    }
}

impl Database {
    async fn execute(&self, sql: &str, parameters: &[&(dyn ToSql + Sync)]) {
        let changed = self.client.execute(sql, parameters).await.unwrap();
        assert_eq!(changed, 1, "{sql}");
    }
}

fn id(task: &TaskRef) -> Uuid {
    task.id.as_uuid().unwrap()
}

fn value(payload: &Payload) -> serde_json::Value {
    serde_json::from_str(payload.get()).unwrap()
}

#[async_trait]
impl Fixture for Database {
    fn coordinator(&self) -> &dyn Coordinator {
        &self.backend
    }

    fn admin(&self) -> Option<&dyn TaskAdmin> {
        Some(&self.backend)
    }

    async fn insert(&self, task: NewTask) -> TaskRef {
        // As text, so that numbers keep every digit.
        let text = |payload: &Payload| payload.get().to_owned();
        let direct = task.source == TableName::activities();
        let sql = if direct {
            "insert into rtx_activities (raw_data) values ($1::text::jsonb) returning id"
        } else {
            "insert into rtx_activities (raw_data, old_data, source_table, source_event, source_key) \
             values ($1::text::jsonb, $2::text::jsonb, $3, $4, $5::text::jsonb) returning id"
        };
        let (raw, old, key) = (
            text(&task.raw_data),
            task.old_data.as_ref().map(text),
            task.key.as_ref().map(text),
        );
        let (source, event) = (task.source.to_string(), task.event.as_str());
        let row = if direct {
            self.client.query_one(sql, &[&raw]).await
        } else {
            self.client
                .query_one(sql, &[&raw, &old, &source, &event, &key])
                .await
        };
        assert!(value(&task.raw_data).is_object() || !direct);
        TaskRef {
            table: TableName::activities(),
            id: TaskId::Uuid(row.unwrap().get(0)),
        }
    }

    async fn age(&self, task: &TaskRef, by: Duration) {
        let sql = "update rtx_activities set locked_at = locked_at - make_interval(secs => $2), \
                   retry_at = retry_at - make_interval(secs => $2) where id = $1";
        self.execute(sql, &[&id(task), &by.as_secs_f64()]).await;
    }

    async fn set_status(&self, task: &TaskRef, status: Option<&str>) {
        self.execute(
            "update rtx_activities set status = $2 where id = $1",
            &[&id(task), &status],
        )
        .await;
    }

    async fn set_lock(&self, task: &TaskRef, by: Option<&str>, since: Option<Duration>) {
        let since = since.map(|since| since.as_secs_f64());
        let sql = "update rtx_activities set locked_by = $2, locked_at = now() - make_interval(secs => $3) where id = $1";
        self.execute(sql, &[&id(task), &by, &since]).await;
    }

    async fn set_nulls(&self, task: &TaskRef) {
        let sql = "update rtx_activities set status = null, attempted_by = null, retry_count = null where id = $1";
        self.execute(sql, &[&id(task)]).await;
    }
}

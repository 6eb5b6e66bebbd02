//! A project of one test: a database, the stack in front of it, a backend that knows only URL and key.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use jiff::Timestamp;
use rowcall_backend::{
    NewTask,
    conformance::Fixture,
    migrate::{self, MigrateOptions},
    supabase::{Identity, SupabaseBackend, SupabaseConfig, SupabaseDriver},
};
use rowcall_core::{
    Clock, IdSource, MachineId, TableName, TaskRef,
    ports::{Coordinator, TaskAdmin},
};
use rowcall_stack::realtime::{Limits, Slot};
use rowcall_stack::stack::{RealtimeSettings, Stack, StackConfig, loopback};
use rowcall_stack::{auth::Keys, bootstrap, testing::TestDb};
use tokio_postgres::{Client, NoTls, types::ToSql};
use uuid::Uuid;

/// The clock of the test process.
#[derive(Debug)]
pub(crate) struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        #[expect(clippy::disallowed_methods, reason = "the one edge of these tests")]
        Timestamp::now()
    }
}

/// Ids that no other test has: a project's replication slot is named by one.
#[derive(Debug)]
pub(crate) struct RandomIds;

impl IdSource for RandomIds {
    fn uuid(&self) -> Uuid {
        #[expect(clippy::disallowed_methods, reason = "the one edge of these tests")]
        Uuid::new_v4()
    }

    fn unit(&self) -> f64 {
        0.5
    }
}

/// What was set up in a project.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Setup {
    /// By `rowcall setup`: our columns and functions.
    Ours,
    /// By RealTimeX, with the defects of its functions.
    Published,
}

/// A project and somebody else's session in its database.
pub(crate) struct Project {
    pub(crate) stack: Stack,
    pub(crate) keys: Keys,
    pub(crate) client: Client,
    pub(crate) setup: Setup,
    /// Dropped last: the stack's connections go first.
    db: TestDb,
}

impl Project {
    pub(crate) async fn start(setup: Setup) -> Self {
        Self::start_with(setup, |_| {}).await
    }

    /// A project with Realtime.
    pub(crate) async fn start_live(setup: Setup) -> Self {
        Self::start_with(setup, |config| {
            config.realtime = Some(RealtimeSettings {
                ids: Arc::new(RandomIds),
                limits: Limits::default(),
                slot: Some(Slot::Temporary),
                private_only: false,
            });
        })
        .await
    }

    /// A project whose stack is changed before it starts.
    pub(crate) async fn start_with(setup: Setup, change: impl FnOnce(&mut StackConfig)) -> Self {
        let name = format!("supabase-{setup:?}");
        let db = TestDb::from_template(&name, async |url: String| prepare(&url, setup).await).await;
        let keys = Keys::generate(SystemClock.now());
        let mut config = StackConfig::new(db.url(), keys.clone(), Arc::new(SystemClock));
        config.bind = loopback(0);
        config.bootstrap = false;
        change(&mut config);
        let stack = Stack::start(config).await.expect("the stack starts");
        let client = db.connect().await;
        Self {
            stack,
            keys,
            client,
            setup,
            db,
        }
    }

    /// A configuration for a machine here, with the key that may do everything.
    pub(crate) fn config(&self, machine: &str) -> SupabaseConfig {
        self.config_with(machine, self.keys.service_role_key())
    }

    pub(crate) fn config_with(&self, machine: &str, key: &str) -> SupabaseConfig {
        config(self.stack.url(), machine, key)
    }

    pub(crate) fn backend(&self, machine: &str) -> (SupabaseBackend, SupabaseDriver) {
        SupabaseBackend::new(self.config(machine)).expect("the URL is valid")
    }

    pub(crate) async fn execute(&self, sql: &str, parameters: &[&(dyn ToSql + Sync)]) {
        let changed = self.client.execute(sql, parameters).await;
        assert_eq!(changed.expect(sql), 1, "{sql}");
    }

    /// Somebody else's session.
    pub(crate) async fn connect(&self) -> Client {
        self.db.connect().await
    }

    /// Moves the times of a task into the past.
    pub(crate) async fn age(&self, task: &TaskRef, by: Duration) {
        let retry = match self.setup {
            Setup::Ours => ", retry_at = retry_at - make_interval(secs => $2)",
            Setup::Published => "",
        };
        let sql = format!(
            "update rtx_activities set locked_at = locked_at - make_interval(secs => $2){retry} where id = $1"
        );
        self.execute(&sql, &[&id(task), &by.as_secs_f64()]).await;
    }

    pub(crate) async fn set_status(&self, task: &TaskRef, status: Option<&str>) {
        let sql = "update rtx_activities set status = $2 where id = $1";
        self.execute(sql, &[&id(task), &status]).await;
    }

    pub(crate) async fn set_lock(&self, task: &TaskRef, by: Option<&str>, since: Option<Duration>) {
        let since = since.map(|since| since.as_secs_f64());
        let sql = "update rtx_activities set locked_by = $2, locked_at = now() - make_interval(secs => $3) where id = $1";
        self.execute(sql, &[&id(task), &by, &since]).await;
    }

    pub(crate) async fn set_nulls(&self, task: &TaskRef) {
        let sql = "update rtx_activities set status = null, attempted_by = null, retry_count = null where id = $1";
        self.execute(sql, &[&id(task)]).await;
    }

    pub(crate) async fn insert(&self, task: &NewTask) -> TaskRef {
        // As text, so that numbers keep every digit.
        let text = |payload: &rowcall_core::Payload| payload.get().to_owned();
        let raw = text(&task.raw_data);
        let old = task.old_data.as_ref().map(text);
        let key = task.key.as_ref().map(text);
        let (source, event) = (task.source.to_string(), task.event.as_str());
        let direct = task.source == TableName::activities();
        let row = match self.setup {
            _ if direct => {
                let sql =
                    "insert into rtx_activities (raw_data) values ($1::text::jsonb) returning id";
                self.client.query_one(sql, &[&raw]).await
            }
            Setup::Ours => {
                let sql = "insert into rtx_activities (raw_data, old_data, source_table, source_event, source_key) \
                           values ($1::text::jsonb, $2::text::jsonb, $3, $4, $5::text::jsonb) returning id";
                self.client
                    .query_one(sql, &[&raw, &old, &source, &event, &key])
                    .await
            }
            // As a daemon captures where there are no columns for it.
            Setup::Published => {
                let sql = "insert into rtx_activities (raw_data, old_data) values (\
                             coalesce(nullif($1::text::jsonb, 'null'), '{}') || jsonb_build_object('rowcall_source', \
                               jsonb_build_object('table', $3::text, 'event', $4::text, 'key', $5::text::jsonb)), \
                             $2::text::jsonb) returning id";
                self.client
                    .query_one(sql, &[&raw, &old, &source, &event, &key])
                    .await
            }
        };
        TaskRef {
            table: TableName::activities(),
            id: row.expect("inserted").get::<_, Uuid>(0).into(),
        }
    }
}

/// A configuration for a machine of a project anywhere.
pub(crate) fn config(url: &str, machine: &str, key: &str) -> SupabaseConfig {
    let identity = Identity {
        machine: MachineId::new(machine).expect("a machine id"),
        user_email: Some("ada@example.com".to_owned()),
        hostname: "ada".to_owned(),
    };
    SupabaseConfig::new(url, key, identity, Arc::new(SystemClock))
}

async fn prepare(url: &str, setup: Setup) -> anyhow::Result<()> {
    let (mut client, connection) = tokio_postgres::connect(url, NoTls).await?;
    let driver = tokio::spawn(connection);
    bootstrap::apply(&client).await?;
    match setup {
        Setup::Ours => {
            migrate::apply(&mut client, MigrateOptions::default()).await?;
        }
        Setup::Published => {
            client
                .batch_execute(include_str!("../postgres/original.sql"))
                .await?;
            let publish = "alter publication supabase_realtime add table rtx_activities";
            client.batch_execute(publish).await?;
        }
    }
    drop(client);
    driver.await??;
    Ok(())
}

/// The fixture of the conformance suite.
pub(crate) struct Conforming {
    project: Project,
    backend: SupabaseBackend,
    /// What else must live as long.
    _beside: Box<dyn std::any::Any + Send + Sync>,
}

impl Conforming {
    pub(crate) fn with(
        project: Project,
        backend: SupabaseBackend,
        beside: impl Send + Sync + 'static,
    ) -> Self {
        Self {
            project,
            backend,
            _beside: Box::new(beside),
        }
    }
}

pub(crate) async fn conforming(setup: Setup) -> Conforming {
    let project = Project::start(setup).await;
    let (backend, _) = project.backend("test");
    Conforming::with(project, backend, ())
}

fn id(task: &TaskRef) -> Uuid {
    task.id.as_uuid().expect("a uuid")
}

#[async_trait]
impl Fixture for Conforming {
    fn coordinator(&self) -> &dyn Coordinator {
        &self.backend
    }

    fn admin(&self) -> Option<&dyn TaskAdmin> {
        Some(&self.backend)
    }

    async fn insert(&self, task: NewTask) -> TaskRef {
        self.project.insert(&task).await
    }

    async fn age(&self, task: &TaskRef, by: Duration) {
        self.project.age(task, by).await;
        self.backend.age(task, by);
    }

    async fn set_status(&self, task: &TaskRef, status: Option<&str>) {
        self.project.set_status(task, status).await;
    }

    async fn set_lock(&self, task: &TaskRef, by: Option<&str>, since: Option<Duration>) {
        self.project.set_lock(task, by, since).await;
    }

    async fn set_nulls(&self, task: &TaskRef) {
        self.project.set_nulls(task).await;
    }
}

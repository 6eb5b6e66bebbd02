//! The tasks that everybody gets, and the engines that handle them.

use std::{path::Path, sync::Arc};

use anyhow::Result;
use rowcall_backend::{
    migrate::{self, MigrateOptions},
    postgres::{PostgresBackend, PostgresConfig},
};
use rowcall_core::{App, Clock, MachineId, ports::AgentRunner};
use rowcall_engine::{
    Engine, EngineOptions, Source,
    store::{Store, StoreOptions, StoreWriter},
};
use tokio_postgres::Client;

use crate::{
    server::{Server, connect},
    system::{RandomIds, SystemClock},
};

/// The table whose changes the tasks of a run say they are.
pub(crate) const SOURCE_TABLE: &str = "public.tickets";

/// The agent of every run.
pub(crate) const AGENT: &str = "noop";

/// A new database with the schema of rowcall.
pub(crate) async fn migrated(server: &Server) -> Result<String> {
    let name = server.create(None).await?;
    let mut client = connect(&server.url(&name)).await?;
    migrate::apply(&mut client, MigrateOptions::default()).await?;
    Ok(name)
}

/// The payload of task `$n`, as an SQL expression: the same about 100 bytes for everybody.
pub(crate) const PAYLOAD: &str = "jsonb_build_object('id', n, 'subject', 'Cannot log in since the update', \
                                  'body', 'It says that my password is wrong.')";

/// Writes `tasks` pending activities, each a millisecond after the one before, and wakes nobody.
pub(crate) async fn enqueue(client: &Client, tasks: u32) -> Result<()> {
    let sql = format!(
        "set rowcall.quiet = 'on'; \
         insert into public.rtx_activities (raw_data, source_table, source_event, source_key, created_at) \
         select {PAYLOAD}, '{SOURCE_TABLE}', 'INSERT', jsonb_build_object('id', n), \
                now() - make_interval(secs => ({tasks} - n) * 0.001) \
           from generate_series(1, {tasks}) n; \
         vacuum analyze public.rtx_activities"
    );
    for statement in sql.split(';') {
        client.batch_execute(statement).await?;
    }
    Ok(())
}

/// An app that handles [`SOURCE_TABLE`] with [`AGENT`], so many tasks at once.
pub(crate) fn app(concurrency: u32) -> Result<App> {
    app_of(SOURCE_TABLE, concurrency)
}

/// The same for another table.
pub(crate) fn app_of(table: &str, concurrency: u32) -> Result<App> {
    let manifest = serde_json::json!({
        "name": "bench",
        "config": {
            "supabase": { "tables": [table], "max_concurrent_tasks": concurrency },
            "agentHandlers": [
                { "tableName": table, "agentId": AGENT, "eventTypes": ["INSERT"], "trigger": "auto" }
            ]
        }
    });
    Ok(App::parse(&manifest.to_string(), None)?)
}

/// A real engine on a database, without apps yet. `store` is the directory of its SQLite store, if it has one.
pub(crate) async fn engine(
    url: &str,
    name: &str,
    runner: Arc<dyn AgentRunner>,
    options: EngineOptions,
    store: Option<&Path>,
) -> Result<(Engine, PostgresBackend)> {
    let machine = MachineId::new(name)?;
    let backend = PostgresBackend::connect(PostgresConfig::new(url, name)?).await?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let mut builder = Engine::builder()
        .machine(machine)
        .clock(Arc::clone(&clock))
        .ids(Arc::new(RandomIds))
        .runner(runner)
        .agents([rowcall_core::AgentSpec {
            id: rowcall_core::AgentId::new(AGENT)?,
            kind: rowcall_core::agent::AgentKind::InProcess,
            timeout: rowcall_core::agent::DEFAULT_AGENT_TIMEOUT,
        }])
        .options(options)
        .source(Source::new(
            "database",
            Arc::new(backend.clone()),
            Arc::new(backend.clone()),
        ));
    if let Some(directory) = store {
        let store = Store::open(
            &directory.join(format!("{name}.db")),
            StoreOptions::default(),
        )?;
        builder = builder.store(Arc::new(StoreWriter::start(&store, clock)?));
    }
    Ok((builder.build()?, backend))
}

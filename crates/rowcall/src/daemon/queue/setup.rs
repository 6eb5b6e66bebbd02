//! Before the first read: pgmq, the queues and their wake-ups.

use rowcall_backend::queue::{
    Broadcast, Database, Install, Kind, QueueError, QueueName, QueueProject, QueueStore,
    WakeStatus,
    install::{self, Origin},
};

use super::plan::Plan;
use crate::exit::{Exit, UserError};

/// Installs what is missing and switches on the wake-ups of the plan's queues. Queues that broadcast already keep what they
/// broadcast. Without the right to do so the worker polls; only without pgmq it cannot work.
pub(super) async fn prepare(
    database: &Database,
    plan: &Plan,
    broadcast: Option<&Broadcast>,
) -> anyhow::Result<()> {
    match install::install(database, Install::default()).await {
        Ok(pgmq) => {
            let version = pgmq.version.as_deref().unwrap_or("of unknown version");
            let how = match pgmq.origin {
                Origin::Extension => "extension",
                Origin::Sql => "SQL",
            };
            tracing::debug!(version, how, "pgmq is there");
        }
        Err(error) => {
            let found = install::find(database)
                .await
                .map_err(|error| user(&error))?;
            if found.is_none() {
                return Err(user(&error));
            }
            tracing::warn!(%error, "the helpers for wake-ups cannot be installed, so queues are polled");
            return Ok(());
        }
    }
    let store = QueueStore::new(database.clone());
    for spec in &plan.specs {
        let dead = spec.dead_letters.as_ref();
        for queue in std::iter::once(&spec.name).chain(dead) {
            make(&store, queue).await.map_err(|error| user(&error))?;
        }
        if let Err(error) = wake(&store, &spec.name, broadcast).await {
            tracing::warn!(queue = %spec.name, %error, "wake-ups cannot be switched on, so the queue is polled");
        }
    }
    Ok(())
}

/// Makes the plan's queues in a project, with broadcasts. What the key may not do, or the project does not offer, somebody else
/// has to do: queues that are missing count as empty.
pub(super) async fn prepare_project(
    project: &QueueProject,
    plan: &Plan,
    broadcast: Option<&Broadcast>,
) {
    let listed = match project.list().await {
        Ok(listed) => listed,
        Err(error) => {
            tracing::info!(%error, "the queues of the project cannot be listed, so none is made");
            return;
        }
    };
    for spec in &plan.specs {
        let dead = spec.dead_letters.iter().map(|queue| (queue, None));
        for (queue, broadcast) in std::iter::once((&spec.name, broadcast)).chain(dead) {
            let there = listed.iter().find(|one| same(&one.queue_name, queue));
            let done = match (there, broadcast) {
                (None, _) => project.create(queue, broadcast).await,
                (Some(one), Some(_)) if !one.realtime_enabled => {
                    project.set_broadcast(queue, broadcast).await
                }
                (Some(_), _) => Ok(()),
            };
            match done {
                Ok(()) if there.is_none() => tracing::info!(%queue, "made the queue"),
                Ok(()) => {}
                Err(error) => tracing::warn!(%queue, %error, "the queue could not be set up"),
            }
        }
    }
}

/// Names that differ in case only are one queue.
fn same(listed: &str, queue: &QueueName) -> bool {
    QueueName::new(listed).is_ok_and(|name| name.table() == queue.table())
}

async fn make(store: &QueueStore, queue: &QueueName) -> Result<(), QueueError> {
    let there = store.list().await?.iter().any(|one| same(&one.name, queue));
    if !there {
        store.create(queue, Kind::default()).await?;
        tracing::info!(%queue, "made the queue");
    }
    Ok(())
}

async fn wake(
    store: &QueueStore,
    queue: &QueueName,
    broadcast: Option<&Broadcast>,
) -> Result<(), QueueError> {
    let status = status(store, queue).await?;
    if !status.as_ref().is_some_and(|status| status.direct) {
        store.enable_wake(queue).await?;
    }
    let Some(broadcast) = broadcast else {
        return Ok(());
    };
    let now = status.and_then(|status| status.broadcast);
    match now {
        None => store.enable_broadcast(queue, broadcast).await,
        Some(now) if now.channel != broadcast.channel || now.event != broadcast.event => {
            tracing::warn!(
                %queue, channel = now.channel, event = now.event,
                "the queue broadcasts elsewhere than this worker listens: set worker.realtime.channel and .event to that, \
                 or run `rowcall queue realtime enable {queue}`"
            );
            Ok(())
        }
        Some(_) => Ok(()),
    }
}

async fn status(store: &QueueStore, queue: &QueueName) -> Result<Option<WakeStatus>, QueueError> {
    let all = store.wake_status().await?;
    Ok(all.into_iter().find(|one| same(&one.queue_name, queue)))
}

fn user(error: &QueueError) -> anyhow::Error {
    UserError::of(Exit::Database, error)
        .help("give a role that may create schemas, or have somebody run `rowcall queue migration` once and set worker.setup = false")
        .into()
}

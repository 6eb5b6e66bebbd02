//! Where queues are: a database, or a Supabase project of which only the URL and a key are known.

use super::{
    database::Database, error::QueueError, layout::Layout, name::QueueName, project::QueueProject,
    spec::QueueSpec,
};

/// Where queues are. Cheap to clone.
#[derive(Clone, Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "a worker has one, for as long as it lives"
)]
pub(super) enum Place {
    Database(Database),
    Project(QueueProject),
}

impl Place {
    /// The database, for what only it can do.
    pub(super) fn database(&self, doing: &'static str) -> Result<&Database, QueueError> {
        match self {
            Self::Database(database) => Ok(database),
            Self::Project(_) => Err(QueueError::NeedsDatabase { doing }),
        }
    }

    /// Which of the queues are there.
    pub(super) async fn layout(&self, specs: &[QueueSpec]) -> Result<Layout, QueueError> {
        match self {
            Self::Database(database) => Layout::load(database, specs).await,
            Self::Project(project) => project.layout(specs).await,
        }
    }

    /// Whether leases are renewed, and fenced by the number of reads.
    pub(super) fn renews(&self) -> bool {
        match self {
            Self::Database(_) => true,
            Self::Project(project) => project.has_ours(),
        }
    }

    /// Whether a message has to be kept until it ends, because it can then not be asked for.
    pub(super) fn keeps(&self) -> bool {
        !self.renews()
    }

    /// Whether settling and claiming can be one transaction.
    pub(super) fn combines(&self) -> bool {
        self.renews()
    }

    /// Tells sleeping workers that messages of a queue came back, which no trigger sees.
    pub(super) async fn tell(&self, queue: &QueueName) -> Result<(), QueueError> {
        match self {
            Self::Database(database) => {
                let payload = serde_json::json!({ "queue": queue }).to_string();
                let client = database.get().await?;
                client
                    .execute("select pg_notify('rowcall_queue', $1::text)", &[&payload])
                    .await
                    .map_err(QueueError::doing("telling other workers"))?;
                Ok(())
            }
            Self::Project(project) => project.tell(queue).await,
        }
    }
}

//! Which of the configured queues exist, and which columns their tables have.

use super::{
    database::Database,
    error::QueueError,
    name::QueueName,
    spec::{Finish, QueueSpec, ReadOrder},
};

const LAYOUT: &str = include_str!("../../sql/queue/layout.sql");

/// The tables of one queue as they are in the database.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts, read by name"
)]
pub(super) struct Tables {
    /// Whether the queue exists.
    pub(super) queue: bool,
    /// Whether its archive exists.
    pub(super) archive: bool,
    /// Since pgmq 1.10.
    pub(super) last_read_at: bool,
    /// Since pgmq 1.5.
    pub(super) headers: bool,
    /// Whether the dead letter queue exists, where there is one.
    pub(super) dead_letters: bool,
}

impl Tables {
    /// The columns that a message takes along into the archive.
    pub(super) fn columns(&self) -> Vec<&'static str> {
        let mut columns = vec!["msg_id", "read_ct", "enqueued_at", "vt", "message"];
        columns.extend(self.last_read_at.then_some("last_read_at"));
        columns.extend(self.headers.then_some("headers"));
        columns
    }

    /// Whether messages of this queue can be given up: where they go must exist.
    pub(super) fn gives_up(&self, spec: &QueueSpec) -> bool {
        spec.max_attempts.is_some() && (spec.dead_letters.is_none() || self.dead_letters)
    }

    /// Whether a message that is given up also moves to the archive. Without a dead letter queue it always does: otherwise
    /// it would be gone without a trace.
    pub(super) fn archives_the_dead(spec: &QueueSpec) -> bool {
        spec.finish == Finish::Archive || spec.dead_letters.is_none()
    }
}

/// The tables of all configured queues, in the order of the specs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) tables: Vec<Tables>,
}

impl Layout {
    /// Reads the catalogue.
    pub(super) async fn load(database: &Database, specs: &[QueueSpec]) -> Result<Self, QueueError> {
        let letters: Vec<Option<&QueueName>> = specs
            .iter()
            .map(|spec| spec.dead_letters.as_ref())
            .collect();
        let names: Vec<&str> = specs
            .iter()
            .map(|spec| &spec.name)
            .chain(letters.iter().copied().flatten())
            .map(QueueName::as_str)
            .collect();
        let client = database.get().await?;
        let rows = client
            .query(LAYOUT, &[&names])
            .await
            .map_err(QueueError::doing("looking for the queues"))?;
        let (queues, dead) = rows.split_at(specs.len());
        let mut dead = dead.iter();
        let mut tables = Vec::with_capacity(specs.len());
        for ((spec, row), letters) in specs.iter().zip(queues).zip(letters) {
            let exists: bool = row.get("queue");
            check_order(spec, exists, |function| row.get(function))?;
            tables.push(Tables {
                queue: exists,
                archive: row.get("archive"),
                last_read_at: row.get("last_read_at"),
                headers: row.get("headers"),
                dead_letters: letters
                    .and_then(|_| dead.next())
                    .is_some_and(|row| row.get("queue")),
            });
        }
        Ok(Self { tables })
    }

    /// Whether something that was configured is not there (yet).
    pub(super) fn incomplete(&self, specs: &[QueueSpec]) -> bool {
        self.tables.iter().zip(specs).any(|(tables, spec)| {
            !tables.queue || (spec.dead_letters.is_some() && !tables.dead_letters)
        })
    }
}

pub(super) fn check_order(
    spec: &QueueSpec,
    exists: bool,
    has: impl Fn(&str) -> bool,
) -> Result<(), QueueError> {
    match spec.order.function() {
        Some(function) if exists && !has(function) => Err(QueueError::TooOld {
            queue: spec.name.clone(),
            order: match spec.order {
                ReadOrder::Oldest => "oldest",
                ReadOrder::Grouped => "grouped",
                ReadOrder::RoundRobin => "round_robin",
                ReadOrder::GroupHeads => "group_heads",
            },
            needed: spec.order.needs(),
        }),
        _ => Ok(()),
    }
}

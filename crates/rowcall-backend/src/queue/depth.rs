//! How deep queues are, all of them in one look.

use std::{fmt::Write as _, time::Duration};

use serde::Serialize;

use super::{error::QueueError, name::QueueName, store::QueueStore};

/// Queues in one statement.
const MAX_AT_ONCE: usize = 64;
/// Workers that are named.
const MAX_LISTENERS: i64 = 1_000;
/// What the connections on which workers listen are called, before the worker's name.
pub(super) const LISTENER: &str = "rowcall-worker ";

/// How deep a queue is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Depth {
    /// Which queue.
    pub queue: QueueName,
    /// Messages in it: waiting, delayed, or in work.
    pub length: u64,
    /// Messages that could be read now.
    pub visible: u64,
    /// Since when the oldest of all is there.
    pub oldest: Option<Duration>,
    /// Since when the oldest of those that could be read is there.
    pub oldest_visible: Option<Duration>,
}

impl QueueStore {
    /// How deep some queues are. Counts messages, as pgmq's own metrics do: the deeper, the longer it takes.
    ///
    /// # Errors
    /// [`QueueError::Missing`] when one of them is gone, besides what the database says.
    pub async fn depths(&self, queues: &[QueueName]) -> Result<Vec<Depth>, QueueError> {
        let mut depths = Vec::with_capacity(queues.len());
        for some in queues.chunks(MAX_AT_ONCE) {
            let rows = self
                .rows("measuring queues", &some[0], &depth_sql(some), &[])
                .await?;
            for row in rows {
                let index: i32 = row.get(0);
                let count = |column| u64::try_from(row.get::<_, i64>(column)).unwrap_or(0);
                let age = |column| {
                    let seconds: Option<f64> = row.get(column);
                    Duration::try_from_secs_f64(seconds?.max(0.0)).ok()
                };
                depths.push(Depth {
                    queue: some[usize::try_from(index).expect("our own number comes back")].clone(),
                    length: count(1),
                    visible: count(2),
                    oldest: age(3),
                    oldest_visible: age(4),
                });
            }
        }
        Ok(depths)
    }

    /// The names of workers that listen to this database for wake-ups, as far as this role may see them. Long names are cut.
    ///
    /// # Errors
    /// What the database says.
    pub async fn listeners(&self) -> Result<Vec<String>, QueueError> {
        let sql = include_str!("../../sql/queue/listeners.sql");
        let rows = self
            .query("looking who listens", sql, &[&LISTENER, &MAX_LISTENERS])
            .await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }
}

fn depth_sql(queues: &[QueueName]) -> String {
    let mut sql = String::new();
    for (index, queue) in queues.iter().enumerate() {
        if index > 0 {
            sql.push_str(" union all ");
        }
        // Writing to a text does not fail.
        let _ = write!(
            sql,
            "select {index}::int4, count(*), count(*) filter (where vt <= clock_timestamp()), \
             extract(epoch from clock_timestamp() - min(enqueued_at))::float8, \
             extract(epoch from clock_timestamp() - min(enqueued_at) filter (where vt <= clock_timestamp()))::float8 \
             from {}",
            queue.queue_sql()
        );
    }
    sql
}

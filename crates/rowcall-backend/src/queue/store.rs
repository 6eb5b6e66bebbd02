//! Queues as people and producers see them: create, list, drop, purge, send, read, metrics. Everything through pgmq's own
//! functions, and only those that 1.4.4 has.

use std::time::Duration;

use jiff::Timestamp;
use rowcall_core::Payload;
use serde::{Deserialize, Serialize};
use tokio_postgres::{Row, error::SqlState, types::ToSql};

use super::{
    database::Database,
    error::QueueError,
    name::{QueueName, QueueNameError},
    place::Place,
    project::QueueProject,
};

/// Messages of one [`QueueStore::send_batch`]; more are sent in several statements.
pub const MAX_SEND_BATCH: usize = 10_000;
/// Messages of one [`QueueStore::read`].
pub const MAX_READ: u32 = 1_000;

/// How a queue is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Survives crashes.
    #[default]
    Logged,
    /// Faster, and empty after a crash.
    Unlogged,
    /// In partitions; needs the extension `pg_partman`.
    Partitioned,
}

/// A queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Queue {
    /// Its name. A name that this crate would refuse is shown as it is.
    pub name: String,
    /// How it was made.
    pub kind: Kind,
    /// When.
    pub created_at: Timestamp,
}

/// A message as it is read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// Its id in the queue.
    pub msg_id: i64,
    /// How often it was read, this time included.
    pub read_ct: i32,
    /// When it was sent.
    pub enqueued_at: Timestamp,
    /// Until when it is invisible to others.
    pub vt: Timestamp,
    /// The message; `null` where a producer wrote SQL null.
    #[serde(default = "Payload::null")]
    pub message: Payload,
    /// Its headers, from pgmq 1.5 on.
    #[serde(default)]
    pub headers: Option<Payload>,
}

/// How full a queue is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Metrics {
    /// Which queue.
    pub queue_name: String,
    /// Messages in it, invisible ones included.
    pub queue_length: i64,
    /// Messages that could be read now.
    pub queue_visible_length: i64,
    /// Seconds since the newest was sent.
    pub newest_msg_age_sec: Option<i32>,
    /// Seconds since the oldest was sent.
    pub oldest_msg_age_sec: Option<i32>,
    /// Messages ever sent.
    pub total_messages: i64,
    /// When this was read, by the database's clock.
    pub scrape_time: Timestamp,
}

/// The queues of a database.
#[derive(Clone, Debug)]
pub struct QueueStore {
    place: Place,
}

impl QueueStore {
    /// The queues of this database.
    pub fn new(database: Database) -> Self {
        Self::at(Place::Database(database))
    }

    /// The queues of this project. What it does not offer over HTTP is an error: to drop, purge, measure or look without
    /// reading needs the database.
    pub fn of_project(project: QueueProject) -> Self {
        Self::at(Place::Project(project))
    }

    pub(super) fn at(place: Place) -> Self {
        Self { place }
    }

    /// Makes a queue; one that is there stays as it is.
    pub async fn create(&self, queue: &QueueName, kind: Kind) -> Result<(), QueueError> {
        if let (Place::Project(project), Kind::Logged) = (&self.place, kind) {
            return project.create(queue, None).await;
        }
        let function = match kind {
            Kind::Logged => "create",
            Kind::Unlogged => "create_unlogged",
            Kind::Partitioned => "create_partitioned",
        };
        let sql = format!("select pgmq.{function}($1::text)");
        self.rows("creating a queue", queue, &sql, &[&queue.as_str()])
            .await?;
        Ok(())
    }

    /// Every queue, by name.
    pub async fn list(&self) -> Result<Vec<Queue>, QueueError> {
        let sql = "select queue_name::text, is_partitioned, is_unlogged, created_at from pgmq.list_queues() order by 1";
        let rows = self.query("listing the queues", sql, &[]).await?;
        Ok(rows
            .iter()
            .map(|row| Queue {
                name: row.get(0),
                kind: match (row.get(1), row.get(2)) {
                    (true, _) => Kind::Partitioned,
                    (false, true) => Kind::Unlogged,
                    (false, false) => Kind::Logged,
                },
                created_at: row.get(3),
            })
            .collect())
    }

    /// Drops a queue with its archive; `false` when there was none.
    pub async fn drop(&self, queue: &QueueName) -> Result<bool, QueueError> {
        // Of several queues that differ in case only, pgmq knows one table; its own row is the one to delete.
        let known = "select queue_name::text from pgmq.list_queues() where lower(queue_name) = lower($1::text) \
                     order by queue_name = $1::text desc limit 1";
        let rows = self
            .query("dropping a queue", known, &[&queue.as_str()])
            .await?;
        let Some(name) = rows.first().map(|row| row.get::<_, String>(0)) else {
            return Ok(false);
        };
        let rows = self
            .query(
                "dropping a queue",
                "select pgmq.drop_queue($1::text)",
                &[&name],
            )
            .await?;
        Ok(rows.first().is_some_and(|row| row.get(0)))
    }

    /// Deletes every message of a queue, not its archive, and says how many there were.
    pub async fn purge(&self, queue: &QueueName) -> Result<i64, QueueError> {
        let rows = self
            .rows(
                "purging a queue",
                queue,
                "select pgmq.purge_queue($1::text)",
                &[&queue.as_str()],
            )
            .await?;
        Ok(rows.first().map_or(0, |row| row.get(0)))
    }

    /// Sends a message, visible after `delay` (whole seconds, rounded up), and says its id.
    pub async fn send(
        &self,
        queue: &QueueName,
        message: &Payload,
        delay: Duration,
    ) -> Result<i64, QueueError> {
        if let Place::Project(project) = &self.place {
            return project.send(queue, message, delay).await;
        }
        let sql = "select * from pgmq.send($1::text, $2::text::jsonb, $3::int)";
        let rows = self
            .rows(
                "sending a message",
                queue,
                sql,
                &[&queue.as_str(), &message.get(), &seconds(delay)],
            )
            .await?;
        Ok(rows.first().map_or(0, |row| row.get(0)))
    }

    /// Sends messages in order and says their ids; at most [`MAX_SEND_BATCH`] in one transaction.
    pub async fn send_batch(
        &self,
        queue: &QueueName,
        messages: &[Payload],
        delay: Duration,
    ) -> Result<Vec<i64>, QueueError> {
        if let Place::Project(project) = &self.place {
            return project.send_batch(queue, messages, delay).await;
        }
        let sql = "select * from pgmq.send_batch($1::text, $2::text[]::jsonb[], $3::int)";
        let mut ids = Vec::with_capacity(messages.len());
        for part in messages.chunks(MAX_SEND_BATCH) {
            let texts: Vec<&str> = part.iter().map(Payload::get).collect();
            let rows = self
                .rows(
                    "sending messages",
                    queue,
                    sql,
                    &[&queue.as_str(), &texts, &seconds(delay)],
                )
                .await?;
            ids.extend(rows.iter().map(|row| row.get::<_, i64>(0)));
        }
        Ok(ids)
    }

    /// Reads up to `limit` messages and hides them for `visibility` (whole seconds, rounded up). Each read counts as an
    /// attempt; to look without a trace use [`QueueStore::peek`].
    pub async fn read(
        &self,
        queue: &QueueName,
        visibility: Duration,
        limit: u32,
    ) -> Result<Vec<Message>, QueueError> {
        if let Place::Project(project) = &self.place {
            return project.read(queue, visibility, limit.min(MAX_READ)).await;
        }
        let sql = "select m.msg_id, m.read_ct, m.enqueued_at, m.vt, m.message::text, (to_jsonb(m) -> 'headers')::text \
                   from pgmq.read($1::text, $2::int, $3::int) m order by m.msg_id";
        let limit = i32::try_from(limit.min(MAX_READ)).expect("the limit is small");
        let rows = self
            .rows(
                "reading a queue",
                queue,
                sql,
                &[&queue.as_str(), &seconds(visibility), &limit],
            )
            .await?;
        Ok(rows.iter().map(message).collect())
    }

    /// Shows up to `limit` messages, the oldest first, invisible ones included, and changes nothing.
    pub async fn peek(&self, queue: &QueueName, limit: u32) -> Result<Vec<Message>, QueueError> {
        if let Place::Project(project) = &self.place {
            return project.peek(queue, limit.min(MAX_READ)).await;
        }
        let sql = format!(
            "select m.msg_id, m.read_ct, m.enqueued_at, m.vt, m.message::text, (to_jsonb(m) -> 'headers')::text \
             from {} m order by m.msg_id limit $1",
            queue.queue_sql()
        );
        let rows = self
            .rows(
                "looking into a queue",
                queue,
                &sql,
                &[&i64::from(limit.min(MAX_READ))],
            )
            .await?;
        Ok(rows.iter().map(message).collect())
    }

    /// How full a queue is.
    pub async fn metrics(&self, queue: &QueueName) -> Result<Metrics, QueueError> {
        // 1.4.4 does not count the visible ones.
        let sql = format!(
            "select m.queue_name::text, m.queue_length, (select count(*) from {} where vt <= clock_timestamp()), \
             m.newest_msg_age_sec, m.oldest_msg_age_sec, m.total_messages, m.scrape_time from pgmq.metrics($1::text) m",
            queue.queue_sql()
        );
        let rows = self
            .rows("measuring a queue", queue, &sql, &[&queue.as_str()])
            .await?;
        let row = rows
            .first()
            .ok_or_else(|| QueueError::Missing(queue.clone()))?;
        Ok(Metrics {
            queue_name: row.get(0),
            queue_length: row.get(1),
            queue_visible_length: row.get(2),
            newest_msg_age_sec: row.get(3),
            oldest_msg_age_sec: row.get(4),
            total_messages: row.get(5),
            scrape_time: row.get(6),
        })
    }

    /// How full every queue is. Queues whose names this crate refuses are left out.
    pub async fn metrics_all(&self) -> Result<Vec<Metrics>, QueueError> {
        let mut all = Vec::new();
        for queue in self.list().await? {
            let name: Result<QueueName, QueueNameError> = queue.name.parse();
            if let Ok(name) = name {
                all.push(self.metrics(&name).await?);
            }
        }
        Ok(all)
    }

    /// Moves a message to the archive; `false` when it was not in the queue.
    pub async fn archive(&self, queue: &QueueName, msg_id: i64) -> Result<bool, QueueError> {
        if let Place::Project(project) = &self.place {
            return project.archive(queue, msg_id).await;
        }
        self.one(
            "archiving a message",
            queue,
            "select pgmq.archive($1::text, $2::bigint)",
            msg_id,
        )
        .await
    }

    /// Deletes a message; `false` when it was not in the queue.
    pub async fn delete(&self, queue: &QueueName, msg_id: i64) -> Result<bool, QueueError> {
        if let Place::Project(project) = &self.place {
            return project.delete(queue, msg_id).await;
        }
        self.one(
            "deleting a message",
            queue,
            "select pgmq.delete($1::text, $2::bigint)",
            msg_id,
        )
        .await
    }

    async fn one(
        &self,
        doing: &'static str,
        queue: &QueueName,
        sql: &str,
        msg_id: i64,
    ) -> Result<bool, QueueError> {
        let rows = self
            .rows(doing, queue, sql, &[&queue.as_str(), &msg_id])
            .await?;
        Ok(rows.first().is_some_and(|row| row.get(0)))
    }

    /// Runs a statement on one queue: a missing table is that queue.
    pub(super) async fn rows(
        &self,
        doing: &'static str,
        queue: &QueueName,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, QueueError> {
        self.query(doing, sql, params)
            .await
            .map_err(|error| match error.sql_state() {
                Some(&SqlState::UNDEFINED_TABLE) => QueueError::Missing(queue.clone()),
                _ => error,
            })
    }

    pub(super) async fn query(
        &self,
        doing: &'static str,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, QueueError> {
        let Place::Database(database) = &self.place else {
            return Err(QueueError::NeedsDatabase { doing });
        };
        let client = database.get().await?;
        let statement = client.prepare_cached(sql).await.map_err(missing(doing))?;
        client
            .query(&statement, params)
            .await
            .map_err(missing(doing))
    }
}

/// A missing schema or function of pgmq means that there is no pgmq.
fn missing(doing: &'static str) -> impl Fn(tokio_postgres::Error) -> QueueError {
    move |source| match source.code() {
        Some(&SqlState::INVALID_SCHEMA_NAME | &SqlState::UNDEFINED_FUNCTION) => {
            QueueError::NotInstalled
        }
        _ => QueueError::Database { doing, source },
    }
}

/// pgmq counts in whole seconds.
pub(super) fn seconds(duration: Duration) -> i32 {
    let up = duration.as_secs() + u64::from(duration.subsec_nanos() > 0);
    i32::try_from(up).unwrap_or(i32::MAX)
}

fn message(row: &Row) -> Message {
    Message {
        msg_id: row.get(0),
        read_ct: row.get(1),
        enqueued_at: row.get(2),
        vt: row.get(3),
        message: payload(row.get(4)),
        headers: row
            .get::<_, Option<String>>(5)
            .filter(|headers| headers != "null")
            .map(|headers| payload(Some(headers))),
    }
}

/// JSON as the database printed it; SQL null is JSON null.
pub(super) fn payload(text: Option<String>) -> Payload {
    text.map_or_else(Payload::null, |text| {
        Payload::from_text(text).expect("the database prints valid JSON")
    })
}

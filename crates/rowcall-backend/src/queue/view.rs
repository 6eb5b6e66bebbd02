//! What people and sweeps see of messages, and the one look at what is due.

use std::{fmt::Write as _, time::Duration};

use jiff::Timestamp;
use rowcall_core::{
    EventKind, Task, TaskRef, TaskState,
    ports::{Maintenance, TaskView},
    route::Selector,
};
use tokio_postgres::{Row, types::ToSql};

use super::{
    backend::QueueBackend, claim::key, error::QueueError, layout::Tables, place::Place,
    store::payload,
};

/// Whether a queue has visible messages, and when the next one becomes visible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) queue: usize,
    /// Where the place cannot tell, it may be.
    pub(super) ready: bool,
    /// Whether the place can tell.
    pub(super) known: bool,
    pub(super) next: Option<Duration>,
}

/// One page of a list.
#[derive(Clone, Debug, Default)]
pub(super) struct Page {
    /// Below this message.
    pub(super) before: Option<(Timestamp, TaskRef)>,
    pub(super) limit: i64,
    pub(super) offset: i64,
    /// Only messages that could be read now.
    pub(super) visible_only: bool,
    /// Only messages that someone holds or that wait for their time.
    pub(super) hidden_only: bool,
}

impl QueueBackend {
    /// The statement behind [`QueueBackend::due`]: one row per queue, `queue, ready, seconds`. Reads two ends of an index.
    pub(super) fn due_sql(&self, queues: &[usize]) -> String {
        let one = |&queue: &usize| {
            let table = self.specs()[queue].name.queue_sql();
            format!(
                "select {queue}::int4, exists (select from {table} where vt <= statement_timestamp()), \
                 (select extract(epoch from min(vt) - clock_timestamp())::float8 from {table} \
                 where vt > statement_timestamp())"
            )
        };
        queues
            .iter()
            .map(one)
            .collect::<Vec<_>>()
            .join(" union all ")
    }

    pub(super) fn read_due(&self, row: &Row) -> Due {
        let seconds: Option<f64> = row.get(2);
        let next = seconds
            .map(|seconds| Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX));
        let queue = usize::try_from(row.get::<_, i32>(0)).expect("our own number comes back");
        self.unless_paused(Due {
            queue,
            ready: row.get(1),
            known: true,
            next,
        })
    }

    /// What is there has to wait for the end of a pause.
    pub(super) fn unless_paused(&self, due: Due) -> Due {
        let pause = self.pause_left(due.queue);
        if pause.is_zero() {
            return due;
        }
        let next = if due.ready {
            Some(pause)
        } else {
            due.next.map(|next| next.max(pause))
        };
        Due {
            ready: false,
            next,
            ..due
        }
    }

    /// Looks what is due in some queues.
    pub(super) async fn due(&self, queues: &[usize]) -> Result<Vec<Due>, QueueError> {
        if queues.is_empty() {
            return Ok(Vec::new());
        }
        let database = match &self.inner.place {
            Place::Database(database) => database,
            Place::Project(project) => return self.due_in_project(project, queues).await,
        };
        let client = database.get().await?;
        let doing = QueueError::doing("looking what is due");
        let statement = client
            .prepare_cached(&self.due_sql(queues))
            .await
            .map_err(&doing)?;
        let rows = client.query(&statement, &[]).await.map_err(&doing)?;
        Ok(rows.iter().map(|row| self.read_due(row)).collect())
    }

    /// The queues that exist, of all or of those that selectors name.
    pub(super) async fn maintenance(
        &self,
        selectors: &[Selector],
    ) -> Result<Maintenance, QueueError> {
        self.reload_if_incomplete().await?;
        let mut queues = self.queues(selectors)?;
        let due = match self.due(&queues).await {
            Err(error) if Self::is_stale(&error) => {
                self.reload().await?;
                queues = self.queues(selectors)?;
                self.due(&queues).await?
            }
            other => other?,
        };
        Ok(Maintenance {
            // Nothing to recover: a lease that ran out is a message that is visible again.
            recovered: Vec::new(),
            ready: due.iter().any(|due| due.ready),
            next_retry: due.iter().filter_map(|due| due.next).min(),
        })
    }

    /// One page of the messages in some queues, the newest first.
    pub(super) async fn list(
        &self,
        queues: &[usize],
        page: &Page,
    ) -> Result<Vec<TaskView>, QueueError> {
        let Place::Database(database) = &self.inner.place else {
            // Over HTTP nobody lists messages.
            return Ok(Vec::new());
        };
        if queues.is_empty() || page.limit <= 0 {
            return Ok(Vec::new());
        }
        let layout = self.layout();
        let (mut text, mut params) = (String::new(), Vec::<Box<dyn ToSql + Sync + Send>>::new());
        params.push(Box::new(page.limit));
        params.push(Box::new(page.offset));
        let mut filter = String::from("true");
        if page.visible_only {
            filter.push_str(" and vt <= clock_timestamp()");
        }
        if page.hidden_only {
            filter.push_str(" and vt > clock_timestamp()");
        }
        if let Some((at, _)) = &page.before {
            params.push(Box::new(*at));
        }
        for (i, &queue) in queues.iter().enumerate() {
            let mut filter = filter.clone();
            if let Some((_, task)) = &page.before {
                // Below (time, table, id): within the same instant, later tables are out and earlier ones are in.
                let table = self.specs()[queue].name.table();
                let tie = match table.cmp(&task.table) {
                    std::cmp::Ordering::Less => "enqueued_at <= $3".to_owned(),
                    std::cmp::Ordering::Greater => "enqueued_at < $3".to_owned(),
                    std::cmp::Ordering::Equal => {
                        let id = self.locate(task).map_or(i64::MAX, |(_, id)| id);
                        params.push(Box::new(id));
                        format!("(enqueued_at, msg_id) < ($3, ${}::bigint)", params.len())
                    }
                };
                let _ = write!(filter, " and {tie}");
            }
            let union = if i == 0 { "" } else { " union all " };
            let _ = write!(
                text,
                "{union}{}",
                self.select(queue, &layout.tables[queue], &filter)
            );
        }
        let text =
            format!("{text} order by enqueued_at desc, name desc, msg_id desc limit $1 offset $2");
        let client = database.get().await?;
        let params: Vec<&(dyn ToSql + Sync)> = params.iter().map(|param| &**param as _).collect();
        let rows = client
            .query(&text, &params)
            .await
            .map_err(QueueError::doing("listing messages"))?;
        Ok(rows.iter().map(|row| self.view(row)).collect())
    }

    /// One message, in the queue or in its archive.
    pub(super) async fn view_one(
        &self,
        queue: usize,
        id: i64,
    ) -> Result<Option<TaskView>, QueueError> {
        let layout = self.layout();
        let tables = &layout.tables[queue];
        let (Place::Database(database), true) = (&self.inner.place, tables.queue) else {
            return Ok(None);
        };
        let mut text = self.select(queue, tables, "msg_id = $1");
        if tables.archive {
            let headers = if tables.headers {
                "headers::text"
            } else {
                "null::text"
            };
            let _ = write!(
                text,
                " union all select {queue}::int4, null::text as name, msg_id, read_ct, enqueued_at, vt, message::text, \
                 {headers}, null::float8, archived_at from {} where msg_id = $1",
                self.specs()[queue].name.archive_sql()
            );
        }
        let client = database.get().await?;
        let row = client
            .query_opt(&text, &[&id])
            .await
            .map_err(QueueError::doing("looking at a message"))?;
        Ok(row.map(|row| self.view(&row)))
    }

    /// Messages of one queue. Columns: queue, name, `msg_id`, `read_ct`, `enqueued_at`, vt, message, headers, hidden (seconds until
    /// it is visible, null when it is), `archived_at`.
    fn select(&self, queue: usize, tables: &Tables, filter: &str) -> String {
        let name = &self.specs()[queue].name;
        let headers = if tables.headers {
            "headers::text"
        } else {
            "null::text"
        };
        let text = name.table().name().replace('\'', "''");
        format!(
            "select {queue}::int4 as queue, '{text}'::text collate \"C\" as name, msg_id, read_ct, enqueued_at, vt, \
             message::text, {headers} as headers, \
             case when vt > clock_timestamp() then extract(epoch from vt - clock_timestamp())::float8 end as hidden, \
             null::timestamptz as archived_at from {} where {filter}",
            name.queue_sql()
        )
    }

    fn view(&self, row: &Row) -> TaskView {
        let queue = usize::try_from(row.get::<_, i32>(0)).expect("our own number comes back");
        let (id, attempt): (i64, i32) = (row.get(2), row.get(3));
        let archived_at: Option<Timestamp> = row.get(9);
        let hidden: Option<f64> = row.get(8);
        let headers: Option<String> = row.get(7);
        let (state, status) = match (archived_at, hidden, attempt) {
            (Some(_), ..) => (TaskState::Completed, "archived"),
            (None, None, _) => (TaskState::Pending, "visible"),
            (None, Some(_), 0) => (TaskState::Pending, "delayed"),
            // Held by somebody, or failed and waiting for its time: the queue does not say which.
            (None, Some(_), _) => (TaskState::Claimed, "invisible"),
        };
        let task = self.task_ref(queue, id);
        let attempt = u32::try_from(attempt).unwrap_or_default();
        let name = &self.specs()[queue].name;
        TaskView {
            task: Task {
                source: task.table.clone(),
                task,
                event: EventKind::Insert,
                key: Some(key(
                    name.as_str(),
                    id,
                    headers.map(|text| payload(Some(text))).as_ref(),
                )),
                raw_data: payload(row.get(6)),
                old_data: None,
                row: None,
                attempt,
                retry_count: attempt.saturating_sub(1),
                attempted_by: Vec::new(),
                created_at: row.get(4),
            },
            state: Some(state),
            status: status.to_owned(),
            locked_by: None,
            locked_at: None,
            completed_at: archived_at,
            retry_at: hidden.map(|_| row.get(5)),
            error_message: None,
            result: None,
            needs_attention: archived_at.is_none() && self.specs()[queue].exhausted(attempt),
        }
    }
}

//! Tasks that clients started by name, and the answers to what was said about tasks.

use jiff::{SignedDuration, Timestamp};
use rowcall_core::{AgentId, AppId, TaskId, TaskRef};
use rusqlite::{Row, params};
use serde::Serialize;

use super::open::{Store, StoreError, time};

/// How long a repeated event is recognised.
const KEEP_RECEIPTS: SignedDuration = SignedDuration::from_hours(7 * 24);

/// How long it is remembered who started a task.
const KEEP_TRIGGERS: SignedDuration = SignedDuration::from_hours(30 * 24);

/// A task that a client started by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TriggerRow {
    /// The task.
    pub task_id: String,
    /// Whose event ids are meant: `app:<name>`, `key:<name>` or `operator`.
    pub caller: String,
    /// The id that the client gave its request.
    pub event_id: Option<String>,
    /// What the client calls the attempt.
    pub attempt_id: Option<String>,
    /// For people.
    pub title: String,
    /// Who started it: an app's uuid, or a text for other callers.
    pub source_app: String,
    /// The app of the agent.
    pub app: Option<String>,
    /// The agent.
    pub agent: Option<String>,
    /// The workspace it was started in.
    pub workspace_slug: Option<String>,
    /// The thread of it.
    pub thread_slug: Option<String>,
    /// What the client said to the agent.
    pub prompt: Option<String>,
    /// The capability that was invoked.
    pub capability_id: Option<String>,
    /// Whether it was started at once; otherwise a person decides.
    pub auto_run: bool,
    /// When.
    pub created_at: Timestamp,
}

fn read(row: &Row<'_>) -> rusqlite::Result<TriggerRow> {
    Ok(TriggerRow {
        task_id: row.get(0)?,
        caller: row.get(1)?,
        event_id: row.get(2)?,
        attempt_id: row.get(3)?,
        title: row.get(4)?,
        source_app: row.get(5)?,
        app: row.get(6)?,
        agent: row.get(7)?,
        workspace_slug: row.get(8)?,
        thread_slug: row.get(9)?,
        prompt: row.get(10)?,
        capability_id: row.get(11)?,
        auto_run: row.get(12)?,
        created_at: time(row.get(13)?),
    })
}

impl Store {
    /// Remembers a task started by name. A repeat of an event gives what was remembered first.
    pub fn add_trigger(&self, trigger: &TriggerRow) -> Result<TriggerRow, StoreError> {
        let now = trigger.created_at;
        let before = now.checked_sub(KEEP_TRIGGERS).unwrap_or(Timestamp::MIN);
        self.together(|connection| {
            connection
                .prepare_cached(include_str!("sql/trigger_prune.sql"))?
                .execute([before.as_millisecond()])?;
            connection
                .prepare_cached(include_str!("sql/trigger_add.sql"))?
                .execute(params![
                    trigger.task_id,
                    trigger.caller,
                    trigger.event_id,
                    trigger.attempt_id,
                    trigger.title,
                    trigger.source_app,
                    trigger.app,
                    trigger.agent,
                    trigger.workspace_slug,
                    trigger.thread_slug,
                    trigger.prompt,
                    trigger.capability_id,
                    trigger.auto_run,
                    now.as_millisecond(),
                ])?;
            let mut get = connection.prepare_cached(include_str!("sql/trigger_get.sql"))?;
            if trigger.event_id.is_some() {
                get.query_row(
                    params![None::<&str>, trigger.caller, trigger.event_id],
                    read,
                )
            } else {
                get.query_row(params![trigger.task_id, None::<&str>, None::<&str>], read)
            }
        })
    }

    /// The task started by name with this id.
    pub fn trigger(&self, task: &TaskId) -> Result<Option<TriggerRow>, StoreError> {
        self.first(
            include_str!("sql/trigger_get.sql"),
            params![task.to_string(), None::<&str>, None::<&str>],
            read,
        )
    }

    /// The task that an event started.
    pub fn trigger_of_event(
        &self,
        caller: &str,
        event_id: &str,
    ) -> Result<Option<TriggerRow>, StoreError> {
        self.first(
            include_str!("sql/trigger_get.sql"),
            params![None::<&str>, caller, event_id],
            read,
        )
    }

    /// A person chooses who handles a task started by name.
    pub fn assign_trigger(
        &self,
        task: &TaskId,
        app: &AppId,
        agent: &AgentId,
    ) -> Result<bool, StoreError> {
        self.change(
            include_str!("sql/trigger_assign.sql"),
            params![task.to_string(), app.as_str(), agent.as_str()],
        )
    }

    /// Forgets a task started by name that did not come to be.
    pub fn remove_trigger(&self, task: &TaskId) -> Result<bool, StoreError> {
        self.change(
            include_str!("sql/trigger_remove.sql"),
            params![task.to_string()],
        )
    }

    /// Lets the engine claim tasks that start this agent by name; whether that is new.
    pub fn name_agent(
        &self,
        app: &AppId,
        agent: &AgentId,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        self.change(
            include_str!("sql/named_agent_add.sql"),
            params![app.as_str(), agent.as_str(), now.as_millisecond()],
        )
    }

    /// The agents of an app that were started by name.
    pub fn named_agents(&self, app: &AppId) -> Result<Vec<AgentId>, StoreError> {
        let names: Vec<String> = self.rows(
            include_str!("sql/named_agent_list.sql"),
            params![app.as_str()],
            |row| row.get(0),
        )?;
        names
            .into_iter()
            .map(|name| {
                AgentId::new(&name).map_err(|_| StoreError::Unreadable {
                    what: "an agent's id",
                    value: name,
                })
            })
            .collect()
    }

    /// Puts a task that a client started into the calendar, to wait for a person.
    pub fn wait_in_calendar(
        &self,
        task: &TaskRef,
        source_table: &str,
        app: &str,
        agent: &str,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        self.change(
            include_str!("sql/calendar_wait.sql"),
            params![
                task.table.to_string(),
                task.id.to_string(),
                source_table,
                app,
                agent,
                now.as_millisecond()
            ],
        )
    }

    /// A person approved a task that is claimed by itself from now on.
    pub fn assign_in_calendar(
        &self,
        task: &TaskRef,
        source_table: &str,
        app: &AppId,
        agent: &AgentId,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        self.change(
            include_str!("sql/calendar_assign.sql"),
            params![
                task.table.to_string(),
                task.id.to_string(),
                app.as_str(),
                agent.as_str(),
                source_table,
                now.as_millisecond()
            ],
        )
    }

    /// The answer that was given to an event.
    pub fn receipt(&self, key: &str) -> Result<Option<String>, StoreError> {
        self.first(include_str!("sql/receipt_get.sql"), params![key], |row| {
            row.get(0)
        })
    }

    /// Remembers the answer to an event for a week.
    pub fn add_receipt(&self, key: &str, answer: &str, now: Timestamp) -> Result<(), StoreError> {
        let before = now.checked_sub(KEEP_RECEIPTS).unwrap_or(Timestamp::MIN);
        self.together(|connection| {
            connection
                .prepare_cached(include_str!("sql/receipt_prune.sql"))?
                .execute([before.as_millisecond()])?;
            connection
                .prepare_cached(include_str!("sql/receipt_add.sql"))?
                .execute(params![key, answer, now.as_millisecond()])?;
            Ok(())
        })
    }
}

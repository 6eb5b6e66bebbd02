//! What people decide about tasks that wait: run, run later, or not at all.

use jiff::Timestamp;
use rowcall_core::{
    TaskRef,
    ports::{AdminOutcome, Ineligible},
};
use rowcall_engine::{
    RunReply,
    store::{CalendarRow, CalendarState},
};

use super::{
    error::ApiError,
    sdk::{
        catalog::{ListedAgent, find_agent, listed_agents},
        webhook::named_review_table,
    },
    state::Api,
};

/// How many entries whose time has come are started at once.
const DUE_AT_ONCE: u32 = 100;

impl Api {
    /// An entry of the calendar.
    pub(super) async fn entry(&self, id: i64) -> Result<CalendarRow, ApiError> {
        self.store(move |store| store.calendar_entry(id))
            .await?
            .ok_or_else(|| ApiError::not_found("Calendar entry"))
    }

    /// Runs an entry's task as soon as there is a place for it. `agent` chooses who does, where nobody was named.
    pub(super) async fn approve(
        &self,
        entry: &CalendarRow,
        agent: Option<&str>,
    ) -> Result<String, ApiError> {
        if entry.state == CalendarState::Running {
            return Err(ApiError::conflict("The task runs already"));
        }
        let task = reference(entry)?;
        if entry.source_table == named_review_table().to_string() {
            return self.approve_named(&task, entry, agent).await;
        }
        self.run_now(&task, Some(entry)).await
    }

    /// A task that a client started: from now on it is claimed like every other task of its agent.
    async fn approve_named(
        &self,
        task: &TaskRef,
        entry: &CalendarRow,
        agent: Option<&str>,
    ) -> Result<String, ApiError> {
        let listed = self.store(listed_agents).await?;
        let wanted = match (agent, entry.app.as_str(), entry.agent.as_str()) {
            (Some(agent), ..) => agent.to_owned(),
            (None, _, "") => {
                return Err(ApiError::invalid(
                    "This task names no agent: say which one in \"agent\"",
                ));
            }
            (None, "", agent) => agent.to_owned(),
            (None, app, agent) => format!("{app}/{agent}"),
        };
        let Some(chosen) = find_agent(listed, &wanted) else {
            return Err(ApiError::not_found(&format!("Agent {wanted}")));
        };
        self.name_agent(&chosen).await?;
        let id = task
            .id
            .as_uuid()
            .ok_or_else(|| ApiError::not_found("Task"))?;
        let table = chosen.table.to_string();
        if !self.activities().assign(id, &table).await? {
            return self.run_now(task, Some(entry)).await;
        }
        let (task, now) = (task.clone(), self.now());
        let ListedAgent { app, agent, .. } = chosen;
        let said = format!("{agent} runs it as soon as there is a place");
        self.store(move |store| {
            store.assign_trigger(&task.id, &app, &agent)?;
            store.assign_in_calendar(&task, &table, &app, &agent, now)
        })
        .await?;
        Ok(said)
    }

    /// Starts a task by name. Without a place for it, an entry of the calendar is started as soon as there is one.
    pub(super) async fn run_now(
        &self,
        task: &TaskRef,
        entry: Option<&CalendarRow>,
    ) -> Result<String, ApiError> {
        let reply = self.engine().run_task(task).await?;
        match reply {
            RunReply::Started { attempt, .. } => Ok(format!("started, attempt {attempt}")),
            RunReply::AlreadyRunning => Err(ApiError::conflict("The task runs already")),
            RunReply::NoPlace { app } => {
                if entry.is_none() {
                    return Err(ApiError::conflict(format!(
                        "{app} runs as many tasks as it may: try again when one has ended"
                    )));
                }
                self.mark(task, CalendarState::Waiting, Some(self.now()))
                    .await?;
                Ok(format!(
                    "{app} runs as many tasks as it may: it starts as soon as there is a place"
                ))
            }
            RunReply::Held { by } => {
                let by = by.map_or_else(|| "another machine".to_owned(), |by| by.to_string());
                Err(ApiError::conflict(format!("{by} has the task already")))
            }
            RunReply::Ineligible { reason } => {
                if reason == Ineligible::Final {
                    // It was completed or called off elsewhere: it no longer waits.
                    self.mark(task, CalendarState::Canceled, None).await?;
                }
                Err(ApiError::conflict(match reason {
                    Ineligible::Final => "The task is completed or canceled",
                    Ineligible::AlreadyAttempted => {
                        "This machine failed the task before: `rowcall task retry` forgets that"
                    }
                    Ineligible::NeedsAttention => {
                        "The task failed too often: `rowcall task retry` forgets that"
                    }
                    Ineligible::UnknownState => {
                        "The task's status is a word that rowcall does not know"
                    }
                }))
            }
            RunReply::NoRoute => Err(ApiError::conflict(
                "No app handles such tasks: `rowcall app list` shows what is wrong",
            )),
            RunReply::Stopping => Err(ApiError::unavailable(
                "UNAVAILABLE",
                "The daemon is stopping",
            )),
            RunReply::NotFound => Err(ApiError::not_found("Task")),
        }
    }

    /// Approves an entry for later.
    pub(super) async fn reschedule(
        &self,
        entry: &CalendarRow,
        at: Timestamp,
    ) -> Result<(), ApiError> {
        if !matches!(
            entry.state,
            CalendarState::Waiting | CalendarState::Skipped | CalendarState::Failed
        ) {
            return Err(ApiError::conflict(format!(
                "The entry is {}: only what waits, failed or was skipped can be rescheduled",
                entry.state.as_str()
            )));
        }
        self.mark(&reference(entry)?, CalendarState::Waiting, Some(at))
            .await
    }

    /// Skips an entry: its task is called off, or left to other machines.
    pub(super) async fn skip(
        &self,
        entry: &CalendarRow,
        by: &str,
        here_only: bool,
    ) -> Result<(), ApiError> {
        let task = reference(entry)?;
        if !here_only {
            match self.call_off(&task, &format!("skipped by {by}")).await? {
                AdminOutcome::Done | AdminOutcome::NotFound => {}
                AdminOutcome::NotApplicable(state) => {
                    return Err(ApiError::conflict(format!(
                        "The task is {state}: nothing to skip"
                    )));
                }
            }
        }
        self.mark(&task, CalendarState::Skipped, None).await
    }

    async fn mark(
        &self,
        task: &TaskRef,
        state: CalendarState,
        at: Option<Timestamp>,
    ) -> Result<(), ApiError> {
        let (task, now) = (task.clone(), self.now());
        let marked = self
            .store(move |store| store.mark_calendar(&task, state, at, now))
            .await?;
        if marked {
            Ok(())
        } else {
            Err(ApiError::conflict("The task runs: stop it first"))
        }
    }

    /// Starts what was approved for now or earlier.
    pub(super) async fn start_due(&self) -> Result<(), ApiError> {
        let now = self.now();
        let due = self
            .store(move |store| store.calendar_due(now, DUE_AT_ONCE))
            .await?;
        for entry in due {
            match self.approve(&entry, None).await {
                Ok(said) => {
                    tracing::info!(task.id = entry.task_id, said, "an approved task is due");
                }
                Err(error) => {
                    tracing::warn!(
                        task.id = entry.task_id,
                        error = error.message(),
                        "an approved task cannot be started"
                    );
                    // Tried once: a person must look again. Trouble with the database is no reason to forget the wish.
                    if error.status().is_client_error()
                        && let Ok(task) = reference(&entry)
                    {
                        let _ = self.mark_unscheduled(&task).await;
                    }
                }
            }
        }
        Ok(())
    }

    async fn mark_unscheduled(&self, task: &TaskRef) -> Result<(), ApiError> {
        let reference = task.clone();
        let entry = self
            .store(move |store| store.calendar_of(&reference))
            .await?;
        match entry {
            Some(entry) if entry.state == CalendarState::Waiting => {
                self.mark(task, CalendarState::Waiting, None).await
            }
            _ => Ok(()),
        }
    }
}

fn reference(entry: &CalendarRow) -> Result<TaskRef, ApiError> {
    Ok(TaskRef {
        table: entry.task_table.parse().map_err(ApiError::internal)?,
        id: entry.task_id.parse().map_err(ApiError::internal)?,
    })
}

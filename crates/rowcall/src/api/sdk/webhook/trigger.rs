//! `task.trigger`: an app starts an agent by its name, or leaves a task for a person.
//!
//! The task is a row of `rtx_activities` whose `source_table` names app and agent, so the engine claims it like every
//! other: with permits, retries and leases, also after a restart. A task for review names nobody until a person approves
//! it. The answer comes as soon as the row is there; the agent runs afterwards.

use axum::{
    Json,
    response::{IntoResponse as _, Response},
};
use rowcall_core::{TableName, TaskId, manifest::NAMED_SCHEMA};
use rowcall_engine::store::{Added, TriggerRow};
use serde_json::{Value, json, value::to_raw_value};
use uuid::Uuid;

use super::{Envelope, MAX_NAME, VERSION};
use crate::api::{
    error::ApiError,
    identity::Caller,
    rules::Trigger,
    sdk::catalog::{ListedAgent, find_agent, listed_agents},
    state::Api,
};

/// The longest prompt, in bytes.
const MAX_PROMPT: usize = 64 * 1024;

/// The thread of a workspace when a request names none.
const DEFAULT_THREAD: &str = "general";

/// The word that asks for a thread of its own.
const NEW_THREAD: &str = "create_new";

/// How much of a prompt becomes the name of a new thread.
const THREAD_NAME_CHARS: usize = 60;

/// The table of tasks that wait for a person.
pub(in crate::api) fn named_review_table() -> TableName {
    TableName::new(NAMED_SCHEMA, "review").expect("both parts are short")
}

/// The calendar entry of a task, as clients name it.
pub(in crate::api) fn calendar_uuid(task: &str) -> Uuid {
    Uuid::new_v5(
        &Uuid::NAMESPACE_URL,
        format!("rowcall:calendar/{task}").as_bytes(),
    )
}

/// A task that a client wants to start.
#[derive(Clone, Debug, Default)]
pub(in crate::api) struct Start {
    pub(in crate::api) raw_data: Value,
    pub(in crate::api) auto_run: bool,
    pub(in crate::api) agent: Option<String>,
    pub(in crate::api) workspace: Option<String>,
    pub(in crate::api) thread: Option<String>,
    pub(in crate::api) prompt: Option<String>,
    /// What the client calls itself.
    pub(in crate::api) app_name: Option<String>,
    pub(in crate::api) event_id: Option<String>,
    pub(in crate::api) attempt_id: Option<String>,
}

pub(super) async fn trigger(
    api: &Api,
    caller: &Caller,
    mut envelope: Envelope,
) -> Result<Response, ApiError> {
    api.permit::<Trigger>(caller).await?;
    let payload = &mut envelope.payload;
    let raw_data = payload.take("raw_data").unwrap_or_else(|| json!({}));
    let start = Start {
        raw_data,
        auto_run: payload.flag("auto_run")?,
        agent: payload.text("agent_name", MAX_NAME)?.map(str::to_owned),
        workspace: payload.text("workspace_slug", MAX_NAME)?.map(str::to_owned),
        thread: payload.text("thread_slug", MAX_NAME)?.map(str::to_owned),
        prompt: payload.prose("prompt", MAX_PROMPT)?.map(str::to_owned),
        app_name: envelope.app_name,
        event_id: envelope.event_id,
        attempt_id: envelope.attempt_id,
    };
    let started = api
        .start_task(&caller.tag(), &caller.source_app(), start)
        .await?;
    Ok(answer(&started).into_response())
}

fn answer(trigger: &TriggerRow) -> Json<Value> {
    let mut body = json!({
        "success": true,
        "task_uuid": trigger.task_id,
        "task_id": trigger.task_id,
        "calendar_event_uuid": calendar_uuid(&trigger.task_id),
        "auto_run": trigger.auto_run,
        "event_id": trigger.event_id,
        "attempt_id": trigger.attempt_id,
        "event_type": "task.trigger",
        "contract_version": VERSION,
        "message": if trigger.auto_run { "Agent triggered" } else { "Calendar event created" },
    });
    if let Some(capability) = &trigger.capability_id {
        body["capability_id"] = Value::from(capability.clone());
    }
    Json(body)
}

impl Api {
    /// Makes a task that names its agent. A repeat of an event gives the task of the first.
    pub(in crate::api) async fn start_task(
        &self,
        caller: &str,
        source_app: &str,
        start: Start,
    ) -> Result<TriggerRow, ApiError> {
        let raw_data = to_raw_value(&start.raw_data).map_err(ApiError::internal)?;
        if let Some(first) = self.first_of_event(caller, &start).await? {
            // The row may be missing when the daemon ended in between.
            self.write_task(&first, raw_data.get()).await?;
            return Ok(first);
        }
        if start.auto_run && (start.agent.is_none() || start.workspace.is_none()) {
            return Err(ApiError::invalid(
                "auto_run needs agent_name and workspace_slug",
            ));
        }
        let agent = self.agent_of(&start).await?;
        let id = self.uuid();
        let thread = self.thread_of(&start, id).await?;
        let now = self.now();
        let name = start.app_name.as_deref().unwrap_or("Local App");
        let capability_id = start
            .raw_data
            .get("capability")
            .and_then(Value::as_str)
            .filter(|id| !id.is_empty() && id.len() <= MAX_NAME)
            .map(str::to_owned);
        let trigger = TriggerRow {
            task_id: id.to_string(),
            caller: caller.to_owned(),
            event_id: start.event_id,
            attempt_id: start.attempt_id,
            title: format!(
                "[{name}] {}",
                capability_id.as_deref().unwrap_or("New Activity")
            ),
            source_app: source_app.to_owned(),
            app: agent.as_ref().map(|agent| agent.app.to_string()),
            agent: agent
                .as_ref()
                .map(|agent| agent.agent.to_string())
                .or(start.agent),
            workspace_slug: start.workspace,
            thread_slug: thread,
            prompt: start.prompt,
            capability_id,
            auto_run: start.auto_run,
            created_at: now,
        };
        if let Some(agent) = agent.filter(|_| start.auto_run) {
            self.name_agent(&agent).await?;
        }
        let stored = self.store(move |store| store.add_trigger(&trigger)).await?;
        if let Err(error) = self.write_task(&stored, raw_data.get()).await {
            // A refused request must leave nothing behind: the client's repeat has another event id.
            if let Ok(id) = stored.task_id.parse::<TaskId>() {
                self.store(move |store| store.remove_trigger(&id)).await?;
            }
            return Err(error);
        }
        Ok(stored)
    }

    async fn first_of_event(
        &self,
        caller: &str,
        start: &Start,
    ) -> Result<Option<TriggerRow>, ApiError> {
        let Some(event_id) = start.event_id.clone() else {
            return Ok(None);
        };
        let caller = caller.to_owned();
        self.store(move |store| store.trigger_of_event(&caller, &event_id))
            .await
    }

    /// The agent that is named. For a task that waits for a person the name may be one that nobody knows yet.
    async fn agent_of(&self, start: &Start) -> Result<Option<ListedAgent>, ApiError> {
        let Some(name) = &start.agent else {
            return Ok(None);
        };
        let listed = self.store(listed_agents).await?;
        match find_agent(listed, name) {
            None if start.auto_run => Err(ApiError::not_found("Agent")),
            found => Ok(found),
        }
    }

    /// The thread that is named, made when a new one is asked for.
    async fn thread_of(&self, start: &Start, task: Uuid) -> Result<Option<String>, ApiError> {
        let Some(workspace) = start.workspace.clone() else {
            return Ok(None);
        };
        let wanted = start.thread.clone();
        let name = start.prompt.as_deref().unwrap_or("New thread");
        let name: String = name
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .take(THREAD_NAME_CHARS)
            .collect();
        let now = self.now();
        self.store(move |store| {
            if store.workspace(&workspace)?.is_none() {
                return Ok(Err(ApiError::not_found("Workspace")));
            }
            match wanted.as_deref() {
                None => Ok(Ok(Some(DEFAULT_THREAD.to_owned()))),
                Some(NEW_THREAD) => {
                    let slug = format!("task-{}", &task.simple().to_string()[..12]);
                    Ok(match store.add_thread(&workspace, &slug, &name, now)? {
                        Added::Full => Err(ApiError::conflict(
                            "This workspace has as many threads as it may have",
                        )),
                        Added::Done | Added::Taken | Added::NoWorkspace => Ok(Some(slug)),
                    })
                }
                Some(slug) => {
                    let known = store
                        .threads(&workspace)?
                        .iter()
                        .any(|thread| thread.slug == slug);
                    Ok(if known || slug == DEFAULT_THREAD {
                        Ok(Some(slug.to_owned()))
                    } else {
                        Err(ApiError::not_found("Thread"))
                    })
                }
            }
        })
        .await?
    }

    /// Lets the engine claim the tasks of an agent that is started by name, from now on.
    pub(in crate::api) async fn name_agent(&self, agent: &ListedAgent) -> Result<(), ApiError> {
        let (app, id, now) = (agent.app.clone(), agent.agent.clone(), self.now());
        let apps = self
            .store(move |store| {
                Ok(if store.name_agent(&app, &id, now)? {
                    Some(crate::daemon::load_apps(store)?)
                } else {
                    None
                })
            })
            .await?;
        if let Some(apps) = apps {
            self.engine().set_apps(&apps);
        }
        Ok(())
    }

    /// Writes the task's row, and the calendar's when it waits for a person.
    async fn write_task(&self, trigger: &TriggerRow, raw_data: &str) -> Result<(), ApiError> {
        let id = Uuid::try_parse(&trigger.task_id).map_err(ApiError::internal)?;
        let table = match (&trigger.app, &trigger.agent) {
            (Some(app), Some(agent)) if trigger.auto_run => {
                TableName::new(NAMED_SCHEMA, &format!("{app}/{agent}"))
                    .map_err(|error| ApiError::invalid(error.to_string()))?
            }
            _ => named_review_table(),
        };
        let key = json!({
            "source_app": trigger.source_app,
            "agent": trigger.agent,
            "workspace_slug": trigger.workspace_slug,
            "thread_slug": trigger.thread_slug,
            "prompt": trigger.prompt,
        });
        self.activities()
            .start(id, raw_data, &table.to_string(), &key.to_string())
            .await?;
        if !trigger.auto_run {
            let task = Self::activity_ref(TaskId::Uuid(id));
            let (app, agent) = (
                trigger.app.clone().unwrap_or_default(),
                trigger.agent.clone().unwrap_or_default(),
            );
            let now = self.now();
            self.store(move |store| {
                store.wait_in_calendar(&task, &table.to_string(), &app, &agent, now)
            })
            .await?;
        }
        Ok(())
    }
}

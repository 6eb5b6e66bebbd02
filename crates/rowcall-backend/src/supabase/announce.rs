//! Telling other machines that a task is up for another try, and hearing it from them.

use rowcall_core::{AppId, MachineId, Signal, TableName, TaskRef};
use rowcall_realtime::channel::Broadcast;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Inner, error::RestError, http::Call};

/// The event of the published protocol.
const AVAILABLE: &str = "task-available";
/// Messages sent in one request.
const MAX_MESSAGES: usize = 100;

/// The channel of an app on which failed tasks are told.
pub(super) fn channel(app: &AppId) -> String {
    format!("task-retry-{app}")
}

/// The published payload.
#[derive(Serialize, Deserialize)]
struct Available {
    task_id: String,
    #[serde(default)]
    table_name: Option<String>,
    #[serde(default)]
    failed_by: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    retry_count: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    recovery_reason: Option<String>,
}

/// Reads a broadcast; nothing when it is none of ours to obey.
pub(super) fn heard(broadcast: &Broadcast, me: &MachineId) -> Option<Signal> {
    if !broadcast.event.eq_ignore_ascii_case(AVAILABLE) {
        return None;
    }
    let said: Available = broadcast.payload.read().ok()?;
    let failed_by = said.failed_by.and_then(|id| MachineId::new(id).ok());
    if failed_by.as_ref() == Some(me) {
        return None;
    }
    let table = match said.table_name {
        Some(name) => name.parse().ok()?,
        None => TableName::activities(),
    };
    let id = said.task_id.parse().ok()?;
    Some(Signal::Available {
        task: TaskRef { table, id },
        failed_by,
    })
}

/// The name as the published examples write it: without the schema `public`.
fn published_name(table: &TableName) -> String {
    if table.schema() == "public" {
        table.name().to_owned()
    } else {
        table.to_string()
    }
}

impl Inner {
    /// Tells the machines of every app here. Over HTTP, so that it works without a socket too.
    pub(super) async fn announce(&self, tasks: &[TaskRef]) -> Result<(), RestError> {
        let me = &self.config.identity.machine;
        let wanted = self.wanted();
        let apps = &wanted.apps;
        let messages: Vec<serde_json::Value> = tasks
            .iter()
            .flat_map(|task| {
                let given_up = self.memory.given_up(task);
                let stale = given_up.as_ref().is_some_and(|known| known.stale);
                let retry_count = given_up.as_ref().and_then(|known| known.retry_count);
                let by = given_up.map_or_else(|| Some(me.clone()), |known| known.by);
                let payload = json!(Available {
                    task_id: task.id.to_string(),
                    table_name: Some(published_name(&task.table)),
                    failed_by: by.map(String::from),
                    retry_count,
                    recovery_reason: stale.then(|| "stale_lock".to_owned()),
                });
                apps.iter().map(move |app| {
                    json!({
                        "topic": channel(app), "event": AVAILABLE, "payload": payload, "private": false,
                    })
                })
            })
            .collect();
        for messages in messages.chunks(MAX_MESSAGES) {
            let call = Call::post(&["realtime", "v1", "api", "broadcast"])
                .json(&json!({"messages": messages}));
            self.rest.send(&call).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use rowcall_realtime::channel::Said;
    use serde_json::value::RawValue;

    use super::*;

    fn broadcast(event: &str, payload: &str) -> Broadcast {
        Broadcast {
            event: event.to_owned(),
            payload: Said::Json(RawValue::from_string(payload.to_owned()).unwrap()),
            meta: None,
        }
    }

    #[test]
    fn the_published_broadcast_is_obeyed_by_others() {
        let me = MachineId::new("me").unwrap();
        let said = r#"{"task_id":"7f0b9c1e-0b53-4a8a-9d0e-0f4d0a3a2b11","table_name":"rtx_activities","failed_by":"other","retry_count":1}"#;
        let Some(Signal::Available { task, failed_by }) =
            heard(&broadcast("task-available", said), &me)
        else {
            panic!("it was not understood");
        };
        assert_eq!(task.table, TableName::activities());
        assert_eq!(failed_by.unwrap().as_str(), "other");
        let mine = said.replace("other", "me");
        assert_eq!(heard(&broadcast("task-available", &mine), &me), None);
        for (event, payload) in [
            ("other", said),
            ("task-available", "7"),
            ("task-available", r#"{"task_id":""}"#),
            ("task-available", r#"{"task_id":"x","table_name":"a.b.c"}"#),
        ] {
            assert_eq!(heard(&broadcast(event, payload), &me), None, "{payload}");
        }
    }
}

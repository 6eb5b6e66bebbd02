//! Telling handlers what counts of what their jobs ask for: model, system prompt, temperature.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use rowcall_core::{
    AgentError, AgentErrorKind, AgentOutput, Payload, TableName,
    overrides::{Effective, OverrideRules},
    ports::{AgentRunner, RunContext},
};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

/// Checks jobs of queues with rules before they are handled, and puts what counts into the handler's `key`, as `config`.
pub(super) struct Overriding {
    inner: Arc<dyn AgentRunner>,
    rules: Arc<BTreeMap<TableName, OverrideRules>>,
}

impl Overriding {
    pub(super) fn new(
        inner: Arc<dyn AgentRunner>,
        rules: Arc<BTreeMap<TableName, OverrideRules>>,
    ) -> Self {
        Self { inner, rules }
    }
}

#[async_trait]
impl AgentRunner for Overriding {
    async fn run(
        &self,
        mut context: RunContext,
        stop: CancellationToken,
    ) -> Result<AgentOutput, AgentError> {
        if let Some(rules) = self.rules.get(&context.task.task.table) {
            let job = serde_json::from_str(context.task.raw_data.get()).unwrap_or(Value::Null);
            let effective = rules.effective(&job);
            let effective = effective
                .map_err(|refused| AgentError::new(AgentErrorKind::Failed, refused.to_string()))?;
            let mut task = (*context.task).clone();
            task.key = Some(with_config(task.key.as_ref(), &effective));
            context.task = Arc::new(task);
        }
        self.inner.run(context, stop).await
    }
}

/// The key of a message, with what counts for its job.
fn with_config(key: Option<&Payload>, effective: &Effective) -> Payload {
    let key = key.and_then(|key| serde_json::from_str(key.get()).ok());
    let mut key: serde_json::Map<String, Value> = key.unwrap_or_default();
    let config = serde_json::to_value(effective).expect("plain data serialises");
    key.insert("config".to_owned(), config);
    Payload::from_value(&key).expect("plain data serialises")
}

//! Agents that are functions of this process: for library users, tests and benchmarks.

use std::{collections::BTreeMap, fmt, future::Future, sync::Arc};

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use rowcall_core::{
    AgentError, AgentErrorKind, AgentId, AgentOutput,
    agent::{AgentKind, AgentSpec, DEFAULT_AGENT_TIMEOUT},
    ports::{AgentRunner, RunContext},
};
use tokio_util::sync::CancellationToken;

/// One async function that runs every task it is given. When the task is stopped, the function's future is dropped at
/// its next await point.
///
/// ```
/// use rowcall_core::{AgentOutput, Payload};
/// let runner = rowcall_engine::FnRunner::new(|context| async move {
///     let result = Payload::from_value(&context.task.attempt).expect("numbers are JSON");
///     Ok(AgentOutput { result })
/// });
/// # let _: std::sync::Arc<dyn rowcall_core::ports::AgentRunner> = std::sync::Arc::new(runner);
/// ```
pub struct FnRunner<F>(F);

impl<F> fmt::Debug for FnRunner<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FnRunner")
    }
}

impl<F, R> FnRunner<F>
where
    F: Fn(RunContext) -> R + Send + Sync,
    R: Future<Output = Result<AgentOutput, AgentError>> + Send,
{
    /// Wraps a function.
    pub fn new(function: F) -> Self {
        Self(function)
    }
}

#[async_trait]
impl<F, R> AgentRunner for FnRunner<F>
where
    F: Fn(RunContext) -> R + Send + Sync,
    R: Future<Output = Result<AgentOutput, AgentError>> + Send,
{
    async fn run(
        &self,
        context: RunContext,
        stop: CancellationToken,
    ) -> Result<AgentOutput, AgentError> {
        // Cancel-safe: the losing branch is dropped for good.
        tokio::select! {
            biased;
            output = (self.0)(context) => output,
            () = stop.cancelled() => Err(AgentError::new(
                AgentErrorKind::Canceled,
                "stopped before it was done",
            )),
        }
    }
}

type Function = Box<
    dyn Fn(RunContext, CancellationToken) -> BoxFuture<'static, Result<AgentOutput, AgentError>>
        + Send
        + Sync,
>;

/// Functions by agent id, and another runner for all other agents.
#[derive(Default)]
pub struct InProcessRunner {
    functions: BTreeMap<AgentId, Function>,
    otherwise: Option<Arc<dyn AgentRunner>>,
}

impl fmt::Debug for InProcessRunner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InProcessRunner")
            .field("agents", &self.functions.keys())
            .finish_non_exhaustive()
    }
}

impl InProcessRunner {
    /// No agents yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an agent. The function is given the stop token: when it is canceled it should end soon, with
    /// [`AgentErrorKind::Canceled`] unless it finished all the same.
    #[must_use]
    pub fn agent<F, R>(mut self, id: AgentId, function: F) -> Self
    where
        F: Fn(RunContext, CancellationToken) -> R + Send + Sync + 'static,
        R: Future<Output = Result<AgentOutput, AgentError>> + Send + 'static,
    {
        let function: Function = Box::new(move |context, stop| Box::pin(function(context, stop)));
        self.functions.insert(id, function);
        self
    }

    /// Who runs the agents that are no functions.
    #[must_use]
    pub fn otherwise(mut self, runner: Arc<dyn AgentRunner>) -> Self {
        self.otherwise = Some(runner);
        self
    }

    /// The agents, for [`crate::EngineBuilder::agents`].
    pub fn specs(&self) -> Vec<AgentSpec> {
        self.functions
            .keys()
            .map(|id| AgentSpec {
                id: id.clone(),
                kind: AgentKind::InProcess,
                timeout: DEFAULT_AGENT_TIMEOUT,
            })
            .collect()
    }
}

#[async_trait]
impl AgentRunner for InProcessRunner {
    async fn run(
        &self,
        context: RunContext,
        stop: CancellationToken,
    ) -> Result<AgentOutput, AgentError> {
        if let AgentKind::InProcess = context.agent.kind
            && let Some(function) = self.functions.get(&context.agent.id)
        {
            return function(context, stop).await;
        }
        match &self.otherwise {
            Some(runner) => runner.run(context, stop).await,
            None => Err(AgentError::new(
                AgentErrorKind::NotStarted,
                format!("agent {} has no function in this process", context.agent.id),
            )),
        }
    }
}

//! One runner for every kind of agent.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use rowcall_core::{
    AgentError, AgentKind, AgentOutput,
    ports::{AgentRunner, RunContext},
};
use tokio_util::sync::CancellationToken;

use crate::{ProcessRunner, Supervisor, WorkerRunner};

/// Dispatches on [`AgentKind`]: programs and warm workers are run here, everything else by the fallback.
#[derive(Clone)]
pub struct Runners {
    supervisor: Supervisor,
    process: ProcessRunner,
    worker: WorkerRunner,
    fallback: Arc<dyn AgentRunner>,
}

impl Runners {
    /// `fallback` runs the kinds that are no programs.
    pub fn new(supervisor: Supervisor, fallback: Arc<dyn AgentRunner>) -> Self {
        Self {
            process: ProcessRunner::new(supervisor.clone()),
            worker: WorkerRunner::new(supervisor.clone()),
            supervisor,
            fallback,
        }
    }

    /// Ends all workers and then everything that still runs. Runs in flight should have been stopped before: they are
    /// waited for only as long as the graces say.
    pub async fn shutdown(&self) {
        self.worker.shutdown().await;
        self.supervisor.shutdown().await;
    }

    /// What starts the programs.
    pub fn supervisor(&self) -> &Supervisor {
        &self.supervisor
    }
}

impl fmt::Debug for Runners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runners")
            .field("supervisor", &self.supervisor)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl AgentRunner for Runners {
    async fn run(
        &self,
        context: RunContext,
        stop: CancellationToken,
    ) -> Result<AgentOutput, AgentError> {
        match &context.agent.kind {
            AgentKind::Process(_) => self.process.run(context, stop).await,
            AgentKind::Worker { .. } => self.worker.run(context, stop).await,
            AgentKind::Http { .. } | AgentKind::InProcess => self.fallback.run(context, stop).await,
        }
    }
}

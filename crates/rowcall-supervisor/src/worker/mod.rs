//! Warm workers: long-lived programs that take tasks as lines of JSON.

mod connection;
mod keeper;
mod protocol;
mod slot;

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;
use parking_lot::Mutex;
use rowcall_core::{
    AgentError, AgentErrorKind, AgentId, AgentKind, AgentOutput, AppId, Command, MachineId,
    ports::{AgentRunner, RunContext},
};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use self::protocol::PROTOCOL_VERSION;
use self::{
    keeper::{Assignment, Keeper, Request},
    slot::Slot,
};
use crate::{activity, process::stopped, supervisor::Supervisor};

/// Requests of one task at most: assign, cancel, kill.
const REQUESTS_PER_TASK: usize = 3;

/// Runs agents of [`AgentKind::Worker`]. There is one process for each agent of an app; it is started by the first task,
/// restarted after a crash with growing delays, and shut down when it has been idle.
///
/// A task waits for a free slot of its worker without a limit of its own (its `stop` token ends the wait). Callers hold no
/// more tasks than the worker's `concurrency`; the engine takes that into account before it claims.
#[derive(Clone, Debug)]
pub struct WorkerRunner(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    supervisor: Supervisor,
    workers: Mutex<HashMap<(AppId, AgentId), Arc<Worker>>>,
    keepers: TaskTracker,
    closing: CancellationToken,
}

/// What a worker is started as; another configuration is another worker.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Spec {
    app: AppId,
    agent: AgentId,
    machine: MachineId,
    command: Command,
    concurrency: u32,
}

/// The way to one worker's keeper. When the last of these is dropped, the keeper shuts its process down.
#[derive(Debug)]
struct Worker {
    spec: Spec,
    slots: Arc<Semaphore>,
    requests: mpsc::Sender<Request>,
}

impl WorkerRunner {
    /// A runner that starts workers through `supervisor`.
    pub fn new(supervisor: Supervisor) -> Self {
        Self(Arc::new(Inner {
            supervisor,
            workers: Mutex::default(),
            keepers: TaskTracker::new(),
            closing: CancellationToken::new(),
        }))
    }

    /// Takes no more tasks, shuts all workers down and waits for their end: at most the shutdown and terminate graces.
    /// Tasks in flight end with [`AgentErrorKind::Canceled`].
    pub async fn shutdown(&self) {
        self.0.closing.cancel();
        self.0.workers.lock().clear();
        self.0.keepers.close();
        self.0.keepers.wait().await;
    }

    fn worker(&self, context: &RunContext, command: &Command, concurrency: u32) -> Arc<Worker> {
        let spec = Spec {
            app: context.app.clone(),
            agent: context.agent.id.clone(),
            machine: context.lease.machine.clone(),
            command: command.clone(),
            concurrency: concurrency.max(1),
        };
        let mut workers = self.0.workers.lock();
        let key = (spec.app.clone(), spec.agent.clone());
        if let Some(worker) = workers.get(&key)
            && worker.spec == spec
        {
            return worker.clone();
        }
        let slots = spec.concurrency as usize;
        let (requests, receiver) = mpsc::channel(slots * REQUESTS_PER_TASK);
        let keeper = Keeper::new(
            self.0.supervisor.clone(),
            spec.clone(),
            receiver,
            self.0.closing.clone(),
        );
        self.0.keepers.spawn(keeper.run());
        let worker = Arc::new(Worker {
            spec,
            slots: Arc::new(Semaphore::new(slots)),
            requests,
        });
        // A worker of an older configuration ends when its last task has.
        workers.insert(key, worker.clone());
        worker
    }
}

#[async_trait]
impl AgentRunner for WorkerRunner {
    async fn run(
        &self,
        context: RunContext,
        stop: CancellationToken,
    ) -> Result<AgentOutput, AgentError> {
        let AgentKind::Worker {
            command,
            concurrency,
        } = &context.agent.kind
        else {
            return Err(AgentError::new(
                AgentErrorKind::NotStarted,
                "this agent is no warm worker",
            ));
        };
        if self.0.closing.is_cancelled() {
            return Err(stopped());
        }
        let worker = self.worker(&context, command, *concurrency);
        let permit = tokio::select! {
            biased;
            () = stop.cancelled() => return Err(stopped()),
            () = self.0.closing.cancelled() => return Err(stopped()),
            permit = worker.slots.clone().acquire_owned() => {
                permit.expect("the semaphore is never closed")
            }
        };
        let (reply, answer) = oneshot::channel();
        let (sent, started) = oneshot::channel();
        let id = self.0.supervisor.number();
        let assignment = Assignment {
            id,
            task: activity::json(&context),
            log: context.log.clone(),
            sent: Some(sent),
            reply,
            again: false,
        };
        let slot = Slot::new(id, worker.requests.clone(), answer, permit);
        if worker
            .requests
            .send(Request::Assign(assignment))
            .await
            .is_err()
        {
            return Err(stopped());
        }
        slot.follow(
            &context,
            &stop,
            started,
            &self.0.supervisor.options().worker,
        )
        .await
    }
}

//! The ports: what the engine needs from the world, and nothing about how it is done.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use jiff::Timestamp;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::{
    agent::{AgentError, AgentOutput, AgentSpec},
    error::SourceError,
    event::{EventKind, Signal},
    id::{AppId, MachineId, TaskRef},
    lease::{Lease, LeaseKey, LeasePolicy},
    retry::RetryPolicy,
    route::Selector,
    table::TableName,
    task::{Payload, Task, TaskState},
};

/// Hints that work may be there.
#[async_trait]
pub trait SignalSource: Send + Sync {
    /// A stream that never ends by itself: it reconnects, says [`Signal::Down`] and [`Signal::Up`], and is dropped by
    /// whoever no longer listens.
    fn signals(&self) -> BoxStream<'static, Signal>;

    /// Tells a gated source that the engine is busy anyway (`true`: it polls by itself, wake-ups may be held back) or
    /// waits for wake-ups again (`false`). Sources without a gate do nothing.
    async fn set_busy(&self, _busy: bool) -> Result<(), SourceError> {
        Ok(())
    }

    /// Whether a gate may hold wake-ups back, so that the engine must look again by itself for a while after activity.
    /// Sources that tell of every change while they are up say `false`, and cost nothing then.
    fn is_gated(&self) -> bool {
        true
    }
}

/// Who claims, and under which rules.
#[derive(Clone, Debug)]
pub struct ClaimRules {
    /// The claiming machine.
    pub machine: MachineId,
    /// When other machines' leases are stale.
    pub lease: LeasePolicy,
    /// When failed tasks may be tried again.
    pub retry: RetryPolicy,
}

/// Which end of the queue is taken first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClaimOrder {
    /// First in, first out.
    #[default]
    OldestFirst,
    /// For the start-up sweep, whose first page is the newest tasks.
    NewestFirst,
}

/// Asks for up to `limit` tasks of one app.
#[derive(Clone, Debug)]
pub struct ClaimBatch {
    /// For which app, for logs only.
    pub app: AppId,
    /// Which tasks; any of them.
    pub selectors: Arc<[Selector]>,
    /// How many at most: as many as there are permits.
    pub limit: u32,
    /// Also failed tasks that may be tried again; otherwise only pending ones.
    pub retryable: bool,
    /// Which first.
    pub order: ClaimOrder,
    /// The tasks that signals named since the last claim, if those are all that calls for this one; at most `limit`. A backend
    /// that shares tasks out between machines claims these alone, because others were told of the others. Everyone else
    /// ignores them.
    pub hints: Arc<[TaskRef]>,
}

/// A task with the right to run it.
#[derive(Debug)]
pub struct Claimed {
    /// The right.
    pub lease: Lease,
    /// The task, `attempt` counting this claim.
    pub task: Task,
}

/// The answer to a claim of one named task. Losing is an outcome, not an error.
#[derive(Debug)]
pub enum ClaimOutcome {
    /// It is ours.
    Won(Box<Claimed>),
    /// Another lease is alive.
    Held {
        /// The holder.
        by: Option<MachineId>,
    },
    /// It exists but may not be claimed by us now.
    Ineligible(Ineligible),
    /// There is no such task, or we may not see it.
    Gone,
}

/// Why a task may not be claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ineligible {
    /// It is completed or canceled.
    Final,
    /// This machine failed it before, or must wait before it tries again.
    AlreadyAttempted,
    /// It failed too often and needs a person.
    NeedsAttention,
    /// Its status is a word we do not know.
    UnknownState,
}

/// How an attempt ends.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// With a result.
    Completed(Payload),
    /// With an error; `retry_in` is set when this machine may try again after a while.
    Failed {
        /// Written to `error_message`.
        error: String,
        /// The delay before the same machine may claim it again.
        retry_in: Option<Duration>,
    },
    /// Called off by the agent or a client.
    Canceled {
        /// Written to `error_message`.
        reason: String,
    },
}

impl Verdict {
    /// The state this verdict leads to.
    pub fn state(&self) -> TaskState {
        match self {
            Self::Completed(_) => TaskState::Completed,
            Self::Failed { .. } => TaskState::Failed,
            Self::Canceled { .. } => TaskState::Canceled,
        }
    }
}

/// A verdict on a lease.
#[derive(Clone, Debug, PartialEq)]
pub struct Settlement {
    /// Which lease; the write is fenced by it.
    pub lease: LeaseKey,
    /// What to write.
    pub verdict: Verdict,
}

/// What became of a settlement, a renewal or a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fence {
    /// Written: the lease was still ours.
    Held,
    /// Not written: the lease is no longer ours.
    Lost,
}

/// What a sweep or the task list shows of a task.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TaskView {
    /// The task; `attempt` counts claims so far.
    #[serde(flatten)]
    pub task: Task,
    /// Its state; `None` for a status word we do not know.
    pub state: Option<TaskState>,
    /// The status word as stored.
    pub status: String,
    /// Who holds or held it.
    pub locked_by: Option<MachineId>,
    /// When the lease was taken or last renewed.
    pub locked_at: Option<Timestamp>,
    /// When it was completed.
    pub completed_at: Option<Timestamp>,
    /// When this machine may try a failed task again.
    pub retry_at: Option<Timestamp>,
    /// The last error.
    pub error_message: Option<String>,
    /// The agent's result.
    pub result: Option<Payload>,
    /// Failed so often that nobody claims it any more.
    pub needs_attention: bool,
}

/// What a regular look at the source found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Maintenance {
    /// Leases that had expired and were returned to `pending`.
    pub recovered: Vec<TaskRef>,
    /// Whether anything is claimable by these selectors now.
    pub ready: bool,
    /// How long until the next failed task may be tried again by this machine.
    pub next_retry: Option<Duration>,
}

/// What a coordinator can do, for `doctor` and for the engine's choices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts, read by name"
)]
pub struct Capabilities {
    /// Several tasks per statement.
    pub batches: bool,
    /// Leases can be renewed.
    pub renew: bool,
    /// Missed tasks can be found by a query.
    pub sweep: bool,
    /// Stale leases can be recovered by us.
    pub recover: bool,
    /// Settlements are fenced by attempt, not only by machine.
    pub fenced_by_attempt: bool,
}

/// Where tasks are claimed and settled. One conformance suite holds every implementation to the same behaviour.
#[async_trait]
pub trait Coordinator: Send + Sync {
    /// What this one can do.
    fn capabilities(&self) -> Capabilities;

    /// Claims one named task.
    async fn claim(&self, rules: &ClaimRules, task: &TaskRef) -> Result<ClaimOutcome, SourceError>;

    /// Claims up to `batch.limit` tasks, each at most once among all machines.
    async fn claim_next(
        &self,
        rules: &ClaimRules,
        batch: &ClaimBatch,
    ) -> Result<Vec<Claimed>, SourceError>;

    /// Renews leases; the answers are in the order asked.
    async fn renew(&self, leases: &[LeaseKey]) -> Result<Vec<Fence>, SourceError>;

    /// Says that agents run: `claimed` becomes `processing`. Only tasks that take a while are marked.
    async fn mark_processing(&self, leases: &[LeaseKey]) -> Result<Vec<Fence>, SourceError>;

    /// Writes verdicts, each only if its lease is still ours; the answers are in the order given.
    async fn settle(&self, settlements: &[Settlement]) -> Result<Vec<Fence>, SourceError>;

    /// Settles and claims in one round trip where the backend can.
    async fn settle_and_claim(
        &self,
        rules: &ClaimRules,
        settlements: &[Settlement],
        batch: &ClaimBatch,
    ) -> Result<(Vec<Fence>, Vec<Claimed>), SourceError> {
        let fences = self.settle(settlements).await?;
        // The settlements are written: a failed claim must not make the caller write them again.
        let claimed = self.claim_next(rules, batch).await.unwrap_or_default();
        Ok((fences, claimed))
    }

    /// Gives tasks back unrun: `pending`, without counting a failure.
    async fn release(&self, leases: &[LeaseKey]) -> Result<Vec<Fence>, SourceError>;

    /// Lists pending and failed tasks, the newest first, below `before` (the last task of the previous page).
    async fn sweep(
        &self,
        selectors: &[Selector],
        before: Option<(Timestamp, TaskRef)>,
        limit: u32,
    ) -> Result<Vec<TaskView>, SourceError>;

    /// One look at everything that is due: recovers stale leases, says whether work is ready. One statement where the
    /// backend can, because an idle daemon does this every minute for ever.
    async fn maintain(
        &self,
        rules: &ClaimRules,
        selectors: &[Selector],
    ) -> Result<Maintenance, SourceError>;

    /// Tells other machines that a task may be tried again.
    async fn announce_retry(&self, tasks: &[TaskRef]) -> Result<(), SourceError>;

    /// One task as it is now.
    async fn inspect(&self, task: &TaskRef) -> Result<Option<TaskView>, SourceError>;
}

/// Which tasks a list shows.
#[derive(Clone, Debug, Default)]
pub struct TaskQuery {
    /// Only these states; all when empty.
    pub states: Vec<TaskState>,
    /// Only tasks made by changes of this table.
    pub source: Option<TableName>,
    /// Only this event.
    pub event: Option<EventKind>,
    /// Only those that failed too often.
    pub needs_attention: bool,
    /// At most this many.
    pub limit: u32,
    /// Skip this many.
    pub offset: u32,
}

/// What became of a person's request about a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AdminOutcome {
    /// Done.
    Done,
    /// The task is in a state where this makes no sense.
    NotApplicable(TaskState),
    /// There is no such task.
    NotFound,
}

/// What people do with tasks, whoever holds them.
#[async_trait]
pub trait TaskAdmin: Send + Sync {
    /// Lists tasks, the newest first.
    async fn list(
        &self,
        query: &TaskQuery,
        retry: &RetryPolicy,
    ) -> Result<Vec<TaskView>, SourceError>;
    /// Makes a failed or canceled task pending again, forgetting who tried it.
    async fn retry(&self, task: &TaskRef) -> Result<AdminOutcome, SourceError>;
    /// Takes a task from its holder: pending again. The holder is fenced.
    async fn release(&self, task: &TaskRef) -> Result<AdminOutcome, SourceError>;
    /// Calls a task off. A running holder is fenced and stops at its next heartbeat.
    async fn cancel(&self, task: &TaskRef, reason: &str) -> Result<AdminOutcome, SourceError>;
}

/// Which output a line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum OutputStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Where an agent's output goes while it runs.
pub trait RunLog: Send + Sync {
    /// One line, without its end, already cut to the runner's line limit and made valid UTF-8.
    fn line(&self, stream: OutputStream, line: &str);
}

/// Everything an agent is given.
#[derive(Clone)]
pub struct RunContext {
    /// The task.
    pub task: Arc<Task>,
    /// The lease it runs under.
    pub lease: LeaseKey,
    /// The app whose route matched.
    pub app: AppId,
    /// The agent.
    pub agent: Arc<AgentSpec>,
    /// Canceled when a report for this run has been accepted from outside (webhook): what the runner returns no longer
    /// counts, it only waits for the program to end.
    pub reported: CancellationToken,
    /// Where output lines go.
    pub log: Arc<dyn RunLog>,
}

impl std::fmt::Debug for RunContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RunContext")
            .field("task", &self.task.task)
            .field("agent", &self.agent.id)
            .finish_non_exhaustive()
    }
}

/// Runs agents.
#[async_trait]
pub trait AgentRunner: Send + Sync {
    /// Runs one attempt to its end. When `stop` is canceled the agent must end soon: the runner asks, waits its grace
    /// period, then kills, and returns [`crate::AgentErrorKind::Canceled`]. Nothing of the agent is left when this
    /// returns.
    async fn run(
        &self,
        context: RunContext,
        stop: CancellationToken,
    ) -> Result<AgentOutput, AgentError>;
}

//! A coordinator that keeps a log of its calls and fails as it is told, over the in-memory model.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use futures_util::{StreamExt as _, stream::BoxStream};
use jiff::Timestamp;
use parking_lot::Mutex;
use rowcall_backend::MemoryCoordinator;
use rowcall_core::{
    ErrorClass, LeaseKey, Selector, Signal, SourceError, TaskRef,
    ports::{
        Capabilities, ClaimBatch, ClaimOutcome, ClaimRules, Claimed, Coordinator, Fence,
        Maintenance, Settlement, SignalSource, TaskView,
    },
};
use tokio::{
    sync::{Notify, broadcast},
    time::Instant,
};

/// Which call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Op {
    Claim,
    ClaimNext,
    Renew,
    Mark,
    Settle,
    Release,
    Sweep,
    Maintain,
    Announce,
    Inspect,
}

/// What goes wrong with one call.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// It is refused before anything happens.
    Reject(ErrorClass),
    /// It happens, and the answer is lost.
    LoseAnswer,
    /// It never answers, and nothing happens.
    Hang,
    /// It happens late.
    Delay(Duration),
    /// It happens, and the answer waits for the notification.
    Hold(Arc<Notify>),
    /// The adapter panics.
    Panic,
}

/// One call, as it was sent.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) op: Op,
    pub(crate) at: Instant,
    /// How many tasks it names or asks for.
    pub(crate) size: usize,
    pub(crate) detail: String,
}

#[derive(Default)]
struct State {
    calls: Vec<Call>,
    faults: BTreeMap<Op, VecDeque<Fault>>,
    /// While set, every call is rejected.
    down: bool,
    /// A settlement whose result holds this is refused for good.
    poison: Option<String>,
}

/// The model with a log, faults and signals of its own.
#[derive(Clone)]
pub(crate) struct Double {
    pub(crate) model: MemoryCoordinator,
    state: Arc<Mutex<State>>,
    signals: broadcast::Sender<Signal>,
    busy: Arc<Mutex<Vec<bool>>>,
    /// Whether the model's own signals are passed on.
    pub(crate) loud: bool,
    /// Whether leases can be renewed.
    pub(crate) renew: bool,
}

impl Double {
    pub(crate) fn new(model: MemoryCoordinator, loud: bool) -> Self {
        Self {
            model,
            state: Arc::default(),
            signals: broadcast::channel(1_024).0,
            busy: Arc::default(),
            loud,
            renew: true,
        }
    }

    pub(crate) fn fault(&self, op: Op, fault: Fault) {
        let mut state = self.state.lock();
        state.faults.entry(op).or_default().push_back(fault);
    }

    pub(crate) fn set_down(&self, down: bool) {
        self.state.lock().down = down;
    }

    pub(crate) fn set_poison(&self, text: &str) {
        self.state.lock().poison = Some(text.to_owned());
    }

    pub(crate) fn send(&self, signal: Signal) {
        // Nobody listens before the engine runs.
        let _ = self.signals.send(signal);
    }

    pub(crate) fn calls(&self, op: Op) -> Vec<Call> {
        let state = self.state.lock();
        state
            .calls
            .iter()
            .filter(|call| call.op == op)
            .cloned()
            .collect()
    }

    pub(crate) fn all_calls(&self) -> Vec<Call> {
        self.state.lock().calls.clone()
    }

    pub(crate) fn forget_calls(&self) {
        self.state.lock().calls.clear();
    }

    pub(crate) fn told_busy(&self) -> Vec<bool> {
        self.busy.lock().clone()
    }

    async fn call<T>(
        &self,
        ops: &[Op],
        size: usize,
        detail: String,
        work: impl Future<Output = Result<T, SourceError>> + Send,
    ) -> Result<T, SourceError> {
        let fault = {
            let mut state = self.state.lock();
            for op in ops {
                state.calls.push(Call {
                    op: *op,
                    at: Instant::now(),
                    size,
                    detail: detail.clone(),
                });
            }
            if state.down {
                Some(Fault::Reject(ErrorClass::Retryable))
            } else {
                let queue = ops
                    .iter()
                    .find(|op| state.faults.get(op).is_some_and(|queue| !queue.is_empty()));
                queue.and_then(|op| state.faults.get_mut(op).and_then(VecDeque::pop_front))
            }
        };
        let error = |class| SourceError::new(class, format!("scripted failure of {ops:?}"));
        match fault {
            None => work.await,
            Some(Fault::Reject(class)) => Err(error(class)),
            Some(Fault::LoseAnswer) => {
                work.await?;
                Err(error(ErrorClass::Retryable))
            }
            Some(Fault::Hang) => std::future::pending().await,
            Some(Fault::Delay(by)) => {
                tokio::time::sleep(by).await;
                work.await
            }
            Some(Fault::Hold(until)) => {
                let answer = work.await;
                until.notified().await;
                answer
            }
            Some(Fault::Panic) => panic!("scripted panic"),
        }
    }

    fn refused(&self, settlements: &[Settlement]) -> Result<(), SourceError> {
        let state = self.state.lock();
        let Some(poison) = &state.poison else {
            return Ok(());
        };
        let poisoned = settlements.iter().any(|one| match &one.verdict {
            rowcall_core::ports::Verdict::Completed(result) => result.get().contains(poison),
            _ => false,
        });
        if poisoned {
            return Err(SourceError::new(
                ErrorClass::Permanent,
                "unsupported Unicode escape",
            ));
        }
        Ok(())
    }
}

fn wanted(batch: &ClaimBatch) -> String {
    format!(
        "{} {:?} retryable={}",
        batch.app, batch.order, batch.retryable
    )
}

#[async_trait]
impl Coordinator for Double {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            renew: self.renew,
            ..self.model.capabilities()
        }
    }

    async fn claim(&self, rules: &ClaimRules, task: &TaskRef) -> Result<ClaimOutcome, SourceError> {
        let work = self.model.claim(rules, task);
        self.call(&[Op::Claim], 1, task.to_string(), work).await
    }

    async fn claim_next(
        &self,
        rules: &ClaimRules,
        batch: &ClaimBatch,
    ) -> Result<Vec<Claimed>, SourceError> {
        let work = self.model.claim_next(rules, batch);
        self.call(&[Op::ClaimNext], batch.limit as usize, wanted(batch), work)
            .await
    }

    async fn renew(&self, leases: &[LeaseKey]) -> Result<Vec<Fence>, SourceError> {
        let work = self.model.renew(leases);
        self.call(&[Op::Renew], leases.len(), String::new(), work)
            .await
    }

    async fn mark_processing(&self, leases: &[LeaseKey]) -> Result<Vec<Fence>, SourceError> {
        let work = self.model.mark_processing(leases);
        self.call(&[Op::Mark], leases.len(), String::new(), work)
            .await
    }

    async fn settle(&self, settlements: &[Settlement]) -> Result<Vec<Fence>, SourceError> {
        let work = async {
            self.refused(settlements)?;
            self.model.settle(settlements).await
        };
        self.call(&[Op::Settle], settlements.len(), String::new(), work)
            .await
    }

    async fn settle_and_claim(
        &self,
        rules: &ClaimRules,
        settlements: &[Settlement],
        batch: &ClaimBatch,
    ) -> Result<(Vec<Fence>, Vec<Claimed>), SourceError> {
        let work = async {
            self.refused(settlements)?;
            self.model.settle_and_claim(rules, settlements, batch).await
        };
        let size = settlements.len().max(batch.limit as usize);
        self.call(&[Op::Settle, Op::ClaimNext], size, wanted(batch), work)
            .await
    }

    async fn release(&self, leases: &[LeaseKey]) -> Result<Vec<Fence>, SourceError> {
        let work = self.model.release(leases);
        self.call(&[Op::Release], leases.len(), String::new(), work)
            .await
    }

    async fn sweep(
        &self,
        selectors: &[Selector],
        before: Option<(Timestamp, TaskRef)>,
        limit: u32,
    ) -> Result<Vec<TaskView>, SourceError> {
        let work = self.model.sweep(selectors, before, limit);
        self.call(&[Op::Sweep], limit as usize, String::new(), work)
            .await
    }

    async fn maintain(
        &self,
        rules: &ClaimRules,
        selectors: &[Selector],
    ) -> Result<Maintenance, SourceError> {
        let work = self.model.maintain(rules, selectors);
        self.call(&[Op::Maintain], 0, String::new(), work).await
    }

    async fn announce_retry(&self, tasks: &[TaskRef]) -> Result<(), SourceError> {
        let work = self.model.announce_retry(tasks);
        self.call(&[Op::Announce], tasks.len(), String::new(), work)
            .await
    }

    async fn inspect(&self, task: &TaskRef) -> Result<Option<TaskView>, SourceError> {
        let work = self.model.inspect(task);
        self.call(&[Op::Inspect], 1, task.to_string(), work).await
    }
}

#[async_trait]
impl SignalSource for Double {
    fn signals(&self) -> BoxStream<'static, Signal> {
        let own = tokio_stream::wrappers::BroadcastStream::new(self.signals.subscribe())
            .filter_map(|signal| async move { signal.ok() });
        if self.loud {
            futures_util::stream::select(own, self.model.signals()).boxed()
        } else {
            own.chain(futures_util::stream::pending()).boxed()
        }
    }

    async fn set_busy(&self, busy: bool) -> Result<(), SourceError> {
        self.busy.lock().push(busy);
        Ok(())
    }
}

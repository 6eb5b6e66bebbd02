//! One of the two that are compared.

use rowcall_backend::{NewTask, conformance::Fixture};
use rowcall_core::{
    AppId, Backoff, EventSet, LeaseKey, LeasePolicy, MachineId, Payload, RetryPolicy, Selector,
    TableName, TaskRef,
    ports::{
        ClaimBatch, ClaimOrder, ClaimOutcome, ClaimRules, Fence, Settlement, TaskAdmin, TaskView,
        Verdict,
    },
};

use super::step::{Step, TASKS};

/// The same fixture twice: tasks by their place, whatever their ids.
pub(super) struct Side<'a> {
    fixture: &'a dyn Fixture,
    tasks: Vec<TaskRef>,
    /// In the order they were won.
    leases: Vec<LeaseKey>,
}

fn rules(machine: usize) -> ClaimRules {
    ClaimRules {
        machine: MachineId::new(format!("m{machine}")).unwrap(),
        lease: LeasePolicy::default(),
        retry: RetryPolicy {
            max_attempts: 3,
            // One of the machines tries again by itself.
            same_machine: (machine == 0).then(Backoff::default),
        },
    }
}

fn batch(limit: u32, retryable: bool, newest: bool) -> ClaimBatch {
    let selector = Selector {
        table: TableName::activities(),
        events: EventSet::ALL,
        filter: None,
    };
    ClaimBatch {
        app: AppId::new("model").unwrap(),
        selectors: [selector].into(),
        limit,
        retryable,
        order: if newest {
            ClaimOrder::NewestFirst
        } else {
            ClaimOrder::OldestFirst
        },
        hints: std::sync::Arc::default(),
    }
}

impl Side<'_> {
    pub(super) async fn new(fixture: &dyn Fixture) -> Side<'_> {
        let mut tasks = Vec::new();
        for _ in 0..TASKS {
            tasks.push(
                fixture
                    .insert(NewTask::direct(Payload::empty_object()))
                    .await,
            );
        }
        Side {
            fixture,
            tasks,
            leases: Vec::new(),
        }
    }

    fn place(&self, task: &TaskRef) -> usize {
        self.tasks.iter().position(|known| known == task).unwrap()
    }

    fn win(&mut self, lease: &LeaseKey) -> String {
        self.leases.push(lease.clone());
        format!("{}#{}", self.place(&lease.task), lease.attempt)
    }

    /// Does one step and says what came of it.
    pub(super) async fn take(&mut self, step: &Step) -> String {
        let coordinator = self.fixture.coordinator();
        let admin: &dyn TaskAdmin = self.fixture.admin().unwrap();
        let fences = |fences: Vec<Fence>| format!("{fences:?}");
        let lease = |number: usize| {
            self.leases
                .iter()
                .rev()
                .nth(number)
                .cloned()
                .into_iter()
                .collect::<Vec<_>>()
        };
        match step {
            Step::Claim { machine, task } => match coordinator
                .claim(&rules(*machine), &self.tasks[*task])
                .await
                .unwrap()
            {
                ClaimOutcome::Won(claimed) => format!("won {}", self.win(claimed.lease.key())),
                other => format!("{other:?}"),
            },
            Step::ClaimNext {
                machine,
                limit,
                retryable,
                newest,
            } => {
                let claimed = coordinator
                    .claim_next(&rules(*machine), &batch(*limit, *retryable, *newest))
                    .await
                    .unwrap();
                claimed
                    .iter()
                    .map(|one| self.win(one.lease.key()))
                    .collect::<Vec<_>>()
                    .join(" ")
            }
            Step::Renew(number) => fences(coordinator.renew(&lease(*number)).await.unwrap()),
            Step::Mark(number) => {
                fences(coordinator.mark_processing(&lease(*number)).await.unwrap())
            }
            Step::Release(number) => fences(coordinator.release(&lease(*number)).await.unwrap()),
            Step::Settle {
                lease: number,
                verdict,
            } => {
                let settlement = |lease| Settlement {
                    lease,
                    verdict: verdict.clone(),
                };
                let settlements: Vec<Settlement> =
                    lease(*number).into_iter().map(settlement).collect();
                fences(coordinator.settle(&settlements).await.unwrap())
            }
            Step::SettleAndClaim { leases, limit } => {
                let leases = leases.iter().flat_map(|number| lease(*number)).collect();
                self.settle_and_claim(leases, *limit).await
            }
            Step::Maintain(machine) => {
                let batch = batch(1, true, false);
                let found = coordinator
                    .maintain(&rules(*machine), &batch.selectors)
                    .await
                    .unwrap();
                let mut recovered: Vec<usize> = found
                    .recovered
                    .iter()
                    .map(|task| self.place(task))
                    .collect();
                recovered.sort_unstable();
                format!(
                    "{recovered:?} {} {}",
                    found.ready,
                    found.next_retry.is_some()
                )
            }
            Step::Age { task, by } => {
                self.fixture.age(&self.tasks[*task], *by).await;
                String::new()
            }
            Step::Status { task, status } => {
                self.fixture.set_status(&self.tasks[*task], *status).await;
                String::new()
            }
            Step::Retry(task) => format!("{:?}", admin.retry(&self.tasks[*task]).await.unwrap()),
            Step::Take(task) => format!("{:?}", admin.release(&self.tasks[*task]).await.unwrap()),
            Step::Cancel(task) => {
                format!("{:?}", admin.cancel(&self.tasks[*task], "z").await.unwrap())
            }
        }
    }

    async fn settle_and_claim(&mut self, leases: Vec<LeaseKey>, limit: u32) -> String {
        let machine = leases.first().map_or(0, |lease| {
            usize::from(lease.machine.as_str().as_bytes()[1] - b'0')
        });
        let settlements: Vec<Settlement> = leases
            .into_iter()
            .map(|lease| Settlement {
                lease,
                verdict: Verdict::Completed(Payload::empty_object()),
            })
            .collect();
        let both = self
            .fixture
            .coordinator()
            .settle_and_claim(&rules(machine), &settlements, &batch(limit, true, false))
            .await;
        let (settled, claimed) = both.unwrap();
        let claimed: Vec<String> = claimed
            .iter()
            .map(|one| self.win(one.lease.key()))
            .collect();
        format!("{settled:?} {}", claimed.join(" "))
    }

    pub(super) async fn rows(&self) -> Vec<String> {
        let mut rows = Vec::new();
        for task in &self.tasks {
            let view = self
                .fixture
                .coordinator()
                .inspect(task)
                .await
                .unwrap()
                .unwrap();
            rows.push(shown(&view));
        }
        rows
    }
}

/// Everything but ids and times.
fn shown(view: &TaskView) -> String {
    format!(
        "{} by {:?} since {} attempt {} failed {} {:?} retry {} done {} {:?} {:?} {}",
        view.status,
        view.locked_by,
        view.locked_at.is_some(),
        view.task.attempt,
        view.task.retry_count,
        view.task.attempted_by,
        view.retry_at.is_some(),
        view.completed_at.is_some(),
        view.error_message,
        view.result.as_ref().map(Payload::get),
        view.needs_attention
    )
}

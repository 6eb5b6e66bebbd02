//! One suite that every coordinator passes (feature `testing`).
//!
//! A backend implements [`Fixture`] and invokes [`conformance!`](crate::conformance!) in its tests: each case becomes a test of its own.
//! The reference model passes it too, so the suite says what a coordinator is, and the model shows it.

pub mod admin;
pub mod batch;
pub mod claim;
pub mod concurrency;
pub mod foreign;
pub mod retry;
pub mod settle;
pub mod stale;
pub mod sweep;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use rowcall_core::{
    AppId, EventSet, Filter, LeaseKey, LeasePolicy, MachineId, Payload, RetryPolicy, Selector,
    TableName, TaskRef,
    ports::{
        ClaimBatch, ClaimOrder, ClaimOutcome, ClaimRules, Claimed, Coordinator, Fence, Settlement,
        TaskAdmin, TaskView, Verdict,
    },
};

use crate::memory::NewTask;

/// What the suite needs from a backend besides its coordinator. Nothing in here may be shared with another case.
#[async_trait]
pub trait Fixture: Send + Sync {
    /// The coordinator under test.
    fn coordinator(&self) -> &dyn Coordinator;
    /// Its administration, when it has one.
    fn admin(&self) -> Option<&dyn TaskAdmin> {
        None
    }
    /// Puts a pending task in, as a writer would. Later ones are younger.
    async fn insert(&self, task: NewTask) -> TaskRef;
    /// Moves the times of a task into the past, as if it had been left alone for so long: its lease and its retry delay.
    async fn age(&self, task: &TaskRef, by: Duration);
    /// Overwrites the status word as a foreign client would; `None` is null. The lock stays.
    async fn set_status(&self, task: &TaskRef, status: Option<&str>);
    /// Overwrites the lock as a foreign client would; `None` is null. The time is counted back from now.
    async fn set_lock(&self, task: &TaskRef, by: Option<&str>, since: Option<Duration>);
    /// Makes every column null that may be null and that the protocol reads: status, `attempted_by`, `retry_count`.
    async fn set_nulls(&self, task: &TaskRef);
}

/// Longer than the lease of [`rules`].
const STALE: Duration = Duration::from_secs(301);
/// Not yet as long.
const FRESH: Duration = Duration::from_secs(290);

fn machine(name: &str) -> MachineId {
    MachineId::new(name).expect("a valid machine id")
}

/// The published rules: five minutes, three attempts, other machines only.
fn rules(name: &str) -> ClaimRules {
    ClaimRules {
        machine: machine(name),
        lease: LeasePolicy::default(),
        retry: RetryPolicy::default(),
    }
}

/// The same with retries by the same machine.
fn same_machine(name: &str) -> ClaimRules {
    let mut rules = rules(name);
    rules.retry.same_machine = Some(rowcall_core::Backoff::default());
    rules
}

fn selector(table: &str, filter: Option<&str>) -> Selector {
    Selector {
        table: table.parse().expect("a table name"),
        events: EventSet::ALL,
        filter: filter.map(|text| Filter::parse(text).expect("a filter")),
    }
}

/// Up to `limit` pending activities.
fn batch(limit: u32) -> ClaimBatch {
    batch_of(vec![selector("public.rtx_activities", None)], limit)
}

fn batch_of(selectors: Vec<Selector>, limit: u32) -> ClaimBatch {
    ClaimBatch {
        app: AppId::new("conformance").expect("an app name"),
        selectors: Arc::from(selectors),
        limit,
        retryable: false,
        order: ClaimOrder::OldestFirst,
        hints: std::sync::Arc::default(),
    }
}

fn retryable(limit: u32) -> ClaimBatch {
    ClaimBatch {
        retryable: true,
        ..batch(limit)
    }
}

fn json(text: &str) -> Payload {
    Payload::from_text(text.to_owned()).expect("JSON")
}

/// An activity whose data is `{"n": n}`.
fn numbered(n: usize) -> NewTask {
    NewTask::direct(json(&format!("{{\"n\": {n}}}")))
}

fn completed(lease: &LeaseKey) -> Settlement {
    Settlement {
        lease: lease.clone(),
        verdict: Verdict::Completed(json("{\"ok\": true}")),
    }
}

fn failed(lease: &LeaseKey, retry_in: Option<Duration>) -> Settlement {
    Settlement {
        lease: lease.clone(),
        verdict: Verdict::Failed {
            error: "it broke".into(),
            retry_in,
        },
    }
}

fn canceled(lease: &LeaseKey) -> Settlement {
    Settlement {
        lease: lease.clone(),
        verdict: Verdict::Canceled {
            reason: "not wanted".into(),
        },
    }
}

/// Claims one named task and expects to win. The lease is dropped: the case settles by its key.
async fn win(fixture: &dyn Fixture, rules: &ClaimRules, task: &TaskRef) -> Claimed {
    match claim(fixture, rules, task).await {
        ClaimOutcome::Won(claimed) => *claimed,
        other => panic!("{} should win {task}, but {other:?}", rules.machine),
    }
}

async fn claim(fixture: &dyn Fixture, rules: &ClaimRules, task: &TaskRef) -> ClaimOutcome {
    fixture
        .coordinator()
        .claim(rules, task)
        .await
        .expect("claiming works")
}

async fn claim_next(fixture: &dyn Fixture, rules: &ClaimRules, batch: &ClaimBatch) -> Vec<Claimed> {
    fixture
        .coordinator()
        .claim_next(rules, batch)
        .await
        .expect("claiming works")
}

async fn settle_one(fixture: &dyn Fixture, settlement: Settlement) -> Fence {
    let fences = fixture
        .coordinator()
        .settle(&[settlement])
        .await
        .expect("settling works");
    assert_eq!(fences.len(), 1);
    fences[0]
}

async fn read(fixture: &dyn Fixture, task: &TaskRef) -> TaskView {
    let view = fixture
        .coordinator()
        .inspect(task)
        .await
        .expect("inspecting works");
    view.expect("the task is there")
}

/// The refs of claimed tasks, whose leases are dropped.
fn refs(claimed: &[Claimed]) -> Vec<TaskRef> {
    claimed.iter().map(|one| one.task.task.clone()).collect()
}

fn activities() -> TableName {
    TableName::activities()
}

/// Makes a test of every case for a fixture: `conformance!(my_fixture().await);`. The expression is evaluated in each test, in an
/// async context.
#[macro_export]
macro_rules! conformance {
    ($fixture:expr) => {
        $crate::conformance_cases! { $fixture;
            claim: claiming_leases_a_task, losing_names_the_holder, final_tasks_are_not_claimed, unknown_tasks_are_gone,
                attempts_count_claims, a_claim_carries_the_task;
            batch: takes_the_oldest_first, takes_the_newest_first_when_asked, never_more_than_asked, nothing_selected_is_nothing,
                selects_by_table, selects_by_event, selects_by_filter, several_tables_share_a_batch,
                filters_on_activities_see_them_as_new, failed_tasks_only_when_asked;
            settle: completing_writes_the_result, failing_clears_the_lock_and_names_the_machine, canceling_is_final,
                a_repeated_settlement_stands, a_second_verdict_is_lost, settles_many_in_order, duplicates_in_one_call,
                renewing_keeps_a_lease_alive, processing_is_marked_and_still_ours, releasing_counts_no_failure,
                strangers_are_fenced, an_old_attempt_is_fenced, settles_and_claims_at_once, settle_and_claim_fences_too,
                odd_values_do_not_spoil_a_batch, two_attempts_in_one_call;
            stale: a_fresh_lease_is_held, a_stale_lease_is_claimed, a_zombie_is_fenced, recovery_returns_stale_leases,
                recovery_leaves_fresh_leases, a_holder_takes_its_own_stale_lease;
            retry: another_machine_tries_again, the_same_machine_does_not, the_same_machine_waits_its_turn, the_limit_needs_attention,
                the_next_retry_is_known, a_recovered_task_keeps_its_history, machines_are_listed_once, ready_says_what_a_claim_would_find;
            sweep: lists_pending_and_failed_newest_first, pages_do_not_overlap, sweeps_only_what_is_selected;
            foreign: nulls_are_what_they_mean, unknown_words_are_left_alone, a_foreign_completion_fences_us, a_lock_without_time_is_stale;
            concurrency: every_task_is_claimed_once, claims_by_name_have_one_winner, settling_claimers_lose_nothing;
            admin: retrying_forgets_the_past, releasing_fences_the_holder, canceling_fences_the_holder, what_makes_no_sense_is_refused,
                lists_what_is_asked;
        }
    };
}

/// The inside of [`conformance!`](crate::conformance!).
#[doc(hidden)]
#[macro_export]
macro_rules! conformance_cases {
    ($fixture:expr; $($file:ident: $($case:ident),+;)+) => {
        $(mod $file {
            #[allow(unused_imports, clippy::allow_attributes, clippy::wildcard_imports, reason = "the fixture's expression may need what stands around the invocation")]
            use super::*;
            $(#[tokio::test]
            async fn $case() {
                let fixture = $fixture;
                $crate::conformance::$file::$case(&fixture).await;
            })+
        })+
    };
}

//! What may be done to tasks.

use std::time::Duration;

use proptest::prelude::*;
use rowcall_core::{Payload, ports::Verdict};

pub(super) const TASKS: usize = 4;
const MACHINES: usize = 3;

/// What may be done to a row. Numbers name tasks and leases; leases that do not exist yet are passed over.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Claim {
        machine: usize,
        task: usize,
    },
    ClaimNext {
        machine: usize,
        limit: u32,
        retryable: bool,
        newest: bool,
    },
    Renew(usize),
    Mark(usize),
    Release(usize),
    Settle {
        lease: usize,
        verdict: Verdict,
    },
    SettleAndClaim {
        leases: Vec<usize>,
        limit: u32,
    },
    Maintain(usize),
    Age {
        task: usize,
        by: Duration,
    },
    Status {
        task: usize,
        status: Option<&'static str>,
    },
    Retry(usize),
    Take(usize),
    Cancel(usize),
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    let machine = || 0..MACHINES;
    let task = || 0..TASKS;
    let lease = || 0usize..12;
    let verdict = prop_oneof![
        Just(Verdict::Completed(Payload::empty_object())),
        prop::option::of(Just(Duration::from_mins(1))).prop_map(|retry_in| Verdict::Failed {
            error: "x".into(),
            retry_in
        }),
        Just(Verdict::Canceled { reason: "y".into() }),
    ];
    let age = prop::sample::select(vec![61, 200, 301]).prop_map(Duration::from_secs);
    let status = prop::sample::select(
        &[
            Some("pending"),
            Some("failed"),
            Some("claimed"),
            Some("odd"),
            None,
        ][..],
    );
    prop_oneof![
        3 => (machine(), task()).prop_map(|(machine, task)| Step::Claim { machine, task }),
        4 => (machine(), 1u32..4, any::<bool>(), any::<bool>())
            .prop_map(|(machine, limit, retryable, newest)| Step::ClaimNext { machine, limit, retryable, newest }),
        1 => lease().prop_map(Step::Renew),
        1 => lease().prop_map(Step::Mark),
        1 => lease().prop_map(Step::Release),
        5 => (lease(), verdict).prop_map(|(lease, verdict)| Step::Settle { lease, verdict }),
        1 => (prop::collection::vec(lease(), 1..4), 0u32..3).prop_map(|(leases, limit)| Step::SettleAndClaim { leases, limit }),
        2 => machine().prop_map(Step::Maintain),
        2 => (task(), age).prop_map(|(task, by)| Step::Age { task, by }),
        1 => (task(), status).prop_map(|(task, status)| Step::Status { task, status }),
        1 => task().prop_map(Step::Retry),
        1 => task().prop_map(Step::Take),
        1 => task().prop_map(Step::Cancel),
    ]
}

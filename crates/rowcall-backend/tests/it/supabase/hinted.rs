//! Claims of what this machine was told of, and of nothing else.

use rowcall_backend::NewTask;
use rowcall_core::{
    AppId, EventSet, Filter, LeasePolicy, MachineId, Payload, RetryPolicy, Selector, TaskRef,
    ports::{ClaimBatch, ClaimOrder, ClaimRules, Claimed, Coordinator, Settlement, Verdict},
};

use super::project::{Project, Setup};

fn rules(machine: &str) -> ClaimRules {
    ClaimRules {
        machine: MachineId::new(machine).expect("an id"),
        lease: LeasePolicy::default(),
        retry: RetryPolicy::default(),
    }
}

fn batch(hints: &[&TaskRef], filter: Option<&str>) -> ClaimBatch {
    let selector = Selector {
        table: "public.rtx_activities".parse().expect("a table"),
        events: EventSet::ALL,
        filter: filter.map(|text| Filter::parse(text).expect("a filter")),
    };
    ClaimBatch {
        app: AppId::new("test").expect("an id"),
        selectors: vec![selector].into(),
        limit: 5,
        retryable: false,
        order: ClaimOrder::OldestFirst,
        hints: hints.iter().map(|task| (*task).clone()).collect(),
    }
}

async fn insert(project: &Project, n: usize) -> TaskRef {
    let data = Payload::from_text(format!("{{\"n\": {n}}}")).expect("JSON");
    project.insert(&NewTask::direct(data)).await
}

fn tasks(claimed: &[Claimed]) -> Vec<&TaskRef> {
    claimed.iter().map(|one| &one.task.task).collect()
}

#[tokio::test]
async fn only_what_is_hinted_is_claimed() {
    for setup in [Setup::Ours, Setup::Published] {
        let project = Project::start(setup).await;
        let (one, _) = project.backend("one");
        let (two, _) = project.backend("two");
        let (a, b, c) = (
            insert(&project, 1).await,
            insert(&project, 2).await,
            insert(&project, 3).await,
        );
        let won = one.claim_next(&rules("one"), &batch(&[&b], None)).await;
        let won = won.expect("a claim");
        assert_eq!(tasks(&won), [&b], "{setup:?}");
        // Somebody else has it, and the others are not this machine's.
        let lost = two.claim_next(&rules("two"), &batch(&[&b], None)).await;
        assert!(lost.expect("a claim").is_empty(), "{setup:?}");
        // A filter is kept to.
        let filtered = batch(&[&a, &c], Some("raw_data->n=eq.3"));
        let won = two.claim_next(&rules("two"), &filtered).await;
        assert_eq!(tasks(&won.expect("a claim")), [&c], "{setup:?}");
        // Without hints it is whatever is next.
        let won = two.claim_next(&rules("two"), &batch(&[], None)).await;
        assert_eq!(tasks(&won.expect("a claim")), [&a], "{setup:?}");
    }
}

#[tokio::test]
async fn failed_tasks_are_hinted_for_those_who_may_try_again() {
    for setup in [Setup::Ours, Setup::Published] {
        let project = Project::start(setup).await;
        let (one, _) = project.backend("one");
        let (two, _) = project.backend("two");
        let task = insert(&project, 1).await;
        let hinted = batch(&[&task], None);
        let mut won = one
            .claim_next(&rules("one"), &hinted)
            .await
            .expect("a claim");
        let verdict = Verdict::Failed {
            error: "it did not work".to_owned(),
            retry_in: None,
        };
        let settlement = Settlement {
            lease: won.remove(0).lease.into_key(),
            verdict,
        };
        one.settle(&[settlement]).await.expect("settled");
        let not_retryable = two.claim_next(&rules("two"), &hinted).await;
        assert!(not_retryable.expect("a claim").is_empty(), "{setup:?}");
        let retryable = ClaimBatch {
            retryable: true,
            ..hinted
        };
        let again = one.claim_next(&rules("one"), &retryable).await;
        assert!(
            again.expect("a claim").is_empty(),
            "{setup:?}: it failed it"
        );
        let won = two.claim_next(&rules("two"), &retryable).await;
        assert_eq!(tasks(&won.expect("a claim")), [&task], "{setup:?}");
    }
}

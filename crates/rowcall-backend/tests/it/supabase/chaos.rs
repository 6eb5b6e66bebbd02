//! Machines that work over bad wires: nothing is lost, nothing is done twice.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use rowcall_backend::{NewTask, supabase::SupabaseBackend};
use rowcall_core::{
    AppId, EventSet, LeasePolicy, MachineId, Payload, RetryPolicy, Selector, TableName, TaskRef,
    ports::{
        ClaimBatch, ClaimOrder, ClaimOutcome, ClaimRules, Coordinator, Fence, Settlement, Verdict,
    },
};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, timeout},
};

use super::{
    project::{Project, Setup},
    proxy::{Proxy, Wire},
};

const MACHINES: usize = 4;
const TASKS: usize = 150;
/// How long the wires are bad.
const TROUBLE: Duration = Duration::from_secs(6);
/// How long the machines may take to finish when the wires are good again.
const PATIENCE: Duration = Duration::from_mins(1);

fn rules(name: &str) -> ClaimRules {
    ClaimRules {
        machine: MachineId::new(name).unwrap(),
        lease: LeasePolicy::default(),
        retry: RetryPolicy::default(),
    }
}

fn selectors() -> Arc<[Selector]> {
    vec![Selector {
        table: TableName::activities(),
        events: EventSet::ALL,
        filter: None,
    }]
    .into()
}

fn batch(limit: u32) -> ClaimBatch {
    ClaimBatch {
        app: AppId::new("chaos").unwrap(),
        selectors: selectors(),
        limit,
        retryable: true,
        order: ClaimOrder::OldestFirst,
        hints: std::sync::Arc::default(),
    }
}

fn numbered(n: usize) -> NewTask {
    NewTask::direct(Payload::from_text(format!("{{\"n\": {n}}}")).unwrap())
}

fn through(project: &Project, proxy: &Proxy, name: &str) -> SupabaseBackend {
    let mut config = project.config(name);
    config.url = proxy.url();
    config.request_timeout = Duration::from_millis(500);
    SupabaseBackend::new(config).unwrap().0
}

/// Claims, runs and settles until it is stopped; tells what it was allowed to write.
async fn work(backend: SupabaseBackend, name: String, done: mpsc::UnboundedSender<(TaskRef, u32)>) {
    let rules = rules(&name);
    let mut pause = tokio::time::interval(Duration::from_millis(50));
    loop {
        pause.tick().await;
        // Errors are the weather here.
        let _ = backend.maintain(&rules, &selectors()).await;
        let Ok(claimed) = backend.claim_next(&rules, &batch(5)).await else {
            continue;
        };
        let settlements: Vec<Settlement> = claimed
            .into_iter()
            .map(|claimed| Settlement {
                lease: claimed.lease.into_key(),
                verdict: Verdict::Completed(Payload::from_value(&name).unwrap()),
            })
            .collect();
        if settlements.is_empty() {
            continue;
        }
        // A result is kept until the project has it.
        let fences = loop {
            match backend.settle(&settlements).await {
                Ok(fences) => break fences,
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        };
        for (settlement, fence) in settlements.into_iter().zip(fences) {
            if fence == Fence::Held {
                done.send((settlement.lease.task, settlement.lease.attempt))
                    .unwrap();
            }
        }
    }
}

/// The same weather in every run.
fn weather(seed: &mut u32) -> Wire {
    *seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
    [
        Wire::Open,
        Wire::Cut,
        Wire::Swallowing,
        Wire::Open,
        Wire::HalfOpen,
        Wire::Garbage,
        Wire::Swallowing,
        Wire::Failing,
        Wire::Limiting,
    ][(*seed >> 16) as usize % 9]
}

async fn survive(setup: Setup) {
    let project = Project::start(setup).await;
    let mut tasks = BTreeSet::new();
    let mut wires = Vec::new();
    let mut machines = JoinSet::new();
    let (sender, mut settled) = mpsc::unbounded_channel();
    for number in 0..MACHINES {
        let proxy = Proxy::to(project.stack.addresses()[0]).await;
        let name = format!("m-{number}");
        let backend = through(&project, &proxy, &name);
        machines.spawn(work(backend, name, sender.clone()));
        wires.push(proxy);
    }
    let (mut seed, end) = (7, Instant::now() + TROUBLE);
    while Instant::now() < end {
        for wire in &wires {
            wire.set(weather(&mut seed));
        }
        for n in 0..TASKS / 40 {
            if tasks.len() < TASKS {
                tasks.insert(project.insert(&numbered(n)).await);
            }
        }
        tokio::time::sleep(Duration::from_millis(120)).await;
    }
    while tasks.len() < TASKS {
        tasks.insert(project.insert(&numbered(0)).await);
    }
    for wire in &wires {
        wire.set(Wire::Open);
    }
    let mut done: BTreeMap<TaskRef, u32> = BTreeMap::new();
    while done.len() < TASKS {
        let next = timeout(PATIENCE, settled.recv()).await;
        let Ok(Some((task, attempt))) = next else {
            let open = "select status, locked_by, locked_at::text from rtx_activities where status <> 'completed'";
            let open = project.client.query(open, &[]).await.unwrap();
            panic!("{} of {TASKS} done, left: {open:?}", done.len());
        };
        assert_eq!(done.insert(task, attempt), None, "a task was settled twice");
    }
    assert!(done.keys().eq(tasks.iter()));
    let count = "select count(*) from rtx_activities where status = 'completed'";
    let completed: i64 = project.client.query_one(count, &[]).await.unwrap().get(0);
    assert_eq!(usize::try_from(completed).unwrap(), TASKS);
    machines.abort_all();
}

#[tokio::test]
async fn bad_wires_lose_nothing_with_our_functions() {
    survive(Setup::Ours).await;
}

#[tokio::test]
async fn bad_wires_lose_nothing_with_the_published_functions() {
    survive(Setup::Published).await;
}

/// The project granted the claim, the answer was lost: the task is not left to nobody.
#[tokio::test]
async fn a_claim_whose_answer_was_lost_is_given_back() {
    for setup in [Setup::Ours, Setup::Published] {
        let project = Project::start(setup).await;
        let proxy = Proxy::to(project.stack.addresses()[0]).await;
        let backend = through(&project, &proxy, "m1");
        let rules = rules("m1");
        let kept = project.insert(&numbered(1)).await;
        let ClaimOutcome::Won(running) = backend.claim(&rules, &kept).await.unwrap() else {
            panic!("the claim should be won");
        };
        let lost = project.insert(&numbered(2)).await;
        // The published way takes two requests; the first one is let through by reading the row beforehand.
        proxy.set(Wire::Swallowing);
        let mut tries = 0;
        while backend.inspect(&lost).await.is_ok() {
            tries += 1;
            assert!(tries < 50, "the wire should be bad");
        }
        let sql = "select public.rtx_fn_claim_task($1, 'm1')";
        backend.claim(&rules, &lost).await.unwrap_err();
        if setup == Setup::Published {
            // What the claim would have done, had its first request been answered.
            project
                .client
                .query_one(sql, &[&lost.id.as_uuid().unwrap()])
                .await
                .unwrap();
        }
        let holder = "select locked_by from rtx_activities where id = $1";
        let id = lost.id.as_uuid().unwrap();
        let held: Option<String> = project
            .client
            .query_one(holder, &[&id])
            .await
            .unwrap()
            .get(0);
        assert_eq!(held.as_deref(), Some("m1"));
        proxy.set(Wire::Open);
        let found = backend.maintain(&rules, &selectors()).await.unwrap();
        assert_eq!(found.recovered, std::slice::from_ref(&lost));
        assert!(found.ready);
        assert!(matches!(
            backend.claim(&rules, &lost).await.unwrap(),
            ClaimOutcome::Won(_)
        ));
        let renewed = backend.renew(&[running.lease.into_key()]).await.unwrap();
        assert_eq!(renewed, [Fence::Held], "what runs is not given back");
    }
}

//! Machines that know of each other.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::StreamExt;
use rowcall_backend::supabase::Load;
use rowcall_core::{
    Dispersal, Signal,
    ports::{ClaimOutcome, Coordinator},
};
use tokio::{sync::mpsc, task::JoinSet, time::timeout};

use super::{Machine, PATIENCE, configure, machine, numbered, project, rules};
use crate::supabase::project::Setup;

#[tokio::test]
async fn machines_know_each_other() {
    let project = project(Setup::Ours).await;
    let (one, two) = (machine(&project, "one"), machine(&project, "two"));
    one.sees(2).await;
    let known = one.backend.machines().borrow().clone();
    let ids: Vec<&str> = known.iter().map(|one| one.machine_id.as_str()).collect();
    assert_eq!(ids, ["one", "two"]);
    assert_eq!(known[1].user_email.as_deref(), Some("ada@example.com"));
    assert_eq!(known[1].app_name.as_deref(), Some("support"));
    assert_eq!(known[1].status.as_deref(), Some("idle"));
    two.backend.set_load(Load {
        running: 3,
        capacity: 3,
    });
    let mut machines = one.backend.machines();
    let busy = machines.wait_for(|all| {
        all.iter()
            .any(|one| one.status.as_deref() == Some("busy") && one.running == Some(3))
    });
    timeout(PATIENCE, busy).await.unwrap().unwrap();
    drop(two);
    one.sees(1).await;
}

/// Twenty machines on one table: with presence, hardly a claim is wasted.
#[tokio::test]
async fn few_claims_are_wasted() {
    const MACHINES: usize = 20;
    const TASKS: usize = 60;
    let project = project(Setup::Ours).await;
    let mut machines = Vec::new();
    for number in 0..MACHINES {
        let mut config = configure(&project, &format!("m-{number}"));
        // Long steps, so that a busy machine does not turn waiting into claiming.
        config.dispersal = Dispersal {
            step: Duration::from_secs(30),
            cap: Duration::from_mins(5),
        };
        machines.push(Machine::start(config));
    }
    for machine in &mut machines {
        machine.up().await;
    }
    for machine in &machines {
        machine.sees(MACHINES).await;
    }
    let (sender, mut claims) = mpsc::unbounded_channel();
    let mut tasks = JoinSet::new();
    for (number, mut machine) in machines.into_iter().enumerate() {
        let sender = sender.clone();
        tasks.spawn(async move {
            // The whole machine moves in here, its driver too.
            let machine = &mut machine;
            let rules = rules(&format!("m-{number}"));
            while let Some(signal) = machine.signals.next().await {
                if let Signal::Dirty {
                    task: Some(task), ..
                } = signal
                {
                    let outcome = machine.backend.claim(&rules, &task).await.unwrap();
                    let won = matches!(outcome, ClaimOutcome::Won(_));
                    sender.send((task, won)).unwrap();
                }
            }
        });
    }
    let mut inserted = BTreeSet::new();
    for n in 0..TASKS {
        inserted.insert(project.insert(&numbered(n)).await);
    }
    let (mut won, mut made) = (BTreeSet::new(), 0);
    while won.len() < TASKS {
        let next = timeout(PATIENCE, claims.recv()).await;
        let Ok(Some((task, is_won))) = next else {
            panic!("{made} claims, {} won of {TASKS}", won.len());
        };
        made += 1;
        if is_won {
            assert!(won.insert(task), "a task was won twice");
        }
    }
    assert_eq!(won, inserted);
    assert!(made * 10 <= TASKS * 12, "{made} claims for {TASKS} tasks");
}

/// A machine that comes first and does nothing holds nothing up.
#[tokio::test]
async fn a_machine_that_does_not_claim_is_passed_over() {
    let project = project(Setup::Ours).await;
    let mut machines = Vec::new();
    for name in ["lazy", "busy"] {
        let mut config = configure(&project, name);
        config.dispersal = Dispersal {
            step: Duration::from_millis(200),
            cap: Duration::from_secs(1),
        };
        let mut machine = Machine::start(config);
        machine.up().await;
        machines.push(machine);
    }
    let mut busy = machines.pop().unwrap();
    busy.sees(2).await;
    let mut inserted = BTreeSet::new();
    for n in 0..10 {
        inserted.insert(project.insert(&numbered(n)).await);
    }
    let mut won = BTreeSet::new();
    while won.len() < inserted.len() {
        if let Signal::Dirty {
            task: Some(task), ..
        } = busy.next().await
        {
            let outcome = busy.backend.claim(&rules("busy"), &task).await.unwrap();
            assert!(matches!(outcome, ClaimOutcome::Won(_)), "{outcome:?}");
            won.insert(task);
        }
    }
    assert_eq!(won, inserted);
}

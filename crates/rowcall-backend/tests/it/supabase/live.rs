//! Signals through Realtime.

use std::{collections::BTreeSet, time::Duration};

use futures_util::{StreamExt, future::join_all, stream::BoxStream};
use rowcall_backend::{
    NewTask,
    supabase::{Load, RealtimeOptions, SupabaseBackend, SupabaseConfig},
};
use rowcall_core::{
    AppId, Dispersal, EventSet, LeasePolicy, MachineId, Payload, RetryPolicy, Selector, Signal,
    TableName, TaskRef,
    ports::{
        ClaimOutcome, ClaimRules, Coordinator, Fence, Settlement, SignalSource, TaskAdmin,
        TaskQuery, Verdict,
    },
};
use rowcall_realtime::channel::Timing;
use tokio::{sync::mpsc, task::JoinSet, time::timeout};

use super::{
    project::{Project, Setup},
    proxy::{Proxy, Wire},
};

/// How long anything that is expected may take.
const PATIENCE: Duration = Duration::from_mins(1);

async fn project(setup: Setup) -> Project {
    Project::start_live(setup).await
}

/// A machine that is running.
struct Machine {
    backend: SupabaseBackend,
    signals: BoxStream<'static, Signal>,
    _driver: JoinSet<()>,
}

impl Machine {
    fn start(config: SupabaseConfig) -> Self {
        let (backend, driver) = SupabaseBackend::new(config).expect("the URL is valid");
        let mut tasks = JoinSet::new();
        tasks.spawn(driver.run());
        Self {
            signals: backend.signals(),
            backend,
            _driver: tasks,
        }
    }

    async fn next(&mut self) -> Signal {
        let next = timeout(PATIENCE, self.signals.next()).await;
        next.expect("a signal in time").expect("signals do not end")
    }

    async fn wait_for(&mut self, wanted: impl Fn(&Signal) -> bool) -> Signal {
        loop {
            let signal = self.next().await;
            if wanted(&signal) {
                return signal;
            }
        }
    }

    async fn up(&mut self) {
        self.wait_for(|signal| *signal == Signal::Up).await;
    }

    async fn sees(&self, machines: usize) {
        let mut present = self.backend.machines();
        let enough = present.wait_for(|present| present.len() == machines);
        timeout(PATIENCE, enough)
            .await
            .expect("in time")
            .expect("it runs");
    }
}

fn selector(table: &str) -> Selector {
    Selector {
        table: table.parse().expect("a table"),
        events: EventSet::ALL,
        filter: None,
    }
}

fn configure(project: &Project, name: &str) -> SupabaseConfig {
    let mut config = project.config(name);
    config.selectors = vec![selector("public.rtx_activities")];
    config.apps = vec![AppId::new("support").expect("a name")];
    // Nobody is made to wait where a test does not ask for it.
    config.dispersal = Dispersal {
        step: Duration::ZERO,
        cap: Duration::ZERO,
    };
    config.realtime = RealtimeOptions {
        timing: Some(quick()),
    };
    config
}

/// Shorter waits after trouble than people would want.
fn quick() -> Timing {
    Timing {
        backoff_base: Duration::from_millis(100),
        backoff_cap: Duration::from_millis(500),
        pause_after_limit: Duration::from_millis(300),
        presence_every: Duration::from_millis(100),
        ..Timing::default()
    }
}

fn machine(project: &Project, name: &str) -> Machine {
    Machine::start(configure(project, name))
}

fn rules(name: &str) -> ClaimRules {
    ClaimRules {
        machine: MachineId::new(name).expect("a machine"),
        lease: LeasePolicy::default(),
        retry: RetryPolicy::default(),
    }
}

fn numbered(n: usize) -> NewTask {
    NewTask::direct(Payload::from_text(format!("{{\"n\": {n}}}")).expect("JSON"))
}

fn dirty(task: &TaskRef) -> Signal {
    Signal::Dirty {
        table: task.table.clone(),
        task: Some(task.clone()),
    }
}

#[tokio::test]
async fn an_insert_is_signalled_and_work_on_it_is_not() {
    for setup in [Setup::Ours, Setup::Published] {
        let project = project(setup).await;
        let mut one = machine(&project, "one");
        one.up().await;
        let task = project.insert(&numbered(1)).await;
        assert_eq!(one.next().await, dirty(&task));
        let ClaimOutcome::Won(claimed) = one.backend.claim(&rules("one"), &task).await.unwrap()
        else {
            panic!("the claim should be won");
        };
        let key = claimed.lease.into_key();
        one.backend
            .mark_processing(std::slice::from_ref(&key))
            .await
            .unwrap();
        one.backend.renew(std::slice::from_ref(&key)).await.unwrap();
        let verdict = Verdict::Completed(Payload::empty_object());
        let settlement = Settlement {
            lease: key,
            verdict,
        };
        assert_eq!(
            one.backend.settle(&[settlement]).await.unwrap(),
            [Fence::Held]
        );
        // The next signal is the next task: none of the updates in between was one.
        let next = project.insert(&numbered(2)).await;
        assert_eq!(one.next().await, dirty(&next));
    }
}

#[tokio::test]
async fn a_failure_is_a_signal_for_others_only() {
    let project = project(Setup::Ours).await;
    let (mut one, mut two) = (machine(&project, "one"), machine(&project, "two"));
    one.up().await;
    two.up().await;
    let task = project.insert(&numbered(1)).await;
    for machine in [&mut one, &mut two] {
        assert_eq!(machine.next().await, dirty(&task));
    }
    let ClaimOutcome::Won(claimed) = one.backend.claim(&rules("one"), &task).await.unwrap() else {
        panic!("the claim should be won");
    };
    let verdict = Verdict::Failed {
        error: "network".to_owned(),
        retry_in: None,
    };
    let settlement = Settlement {
        lease: claimed.lease.into_key(),
        verdict,
    };
    assert_eq!(
        one.backend.settle(&[settlement]).await.unwrap(),
        [Fence::Held]
    );
    one.backend
        .announce_retry(std::slice::from_ref(&task))
        .await
        .unwrap();
    // Two hears of it twice, from the row and from the broadcast; each alone would do.
    let available = Signal::Available {
        task: task.clone(),
        failed_by: Some(MachineId::new("one").unwrap()),
    };
    let mut heard = vec![two.next().await, two.next().await];
    heard.sort_by_key(|signal| *signal != available);
    assert_eq!(heard, [available, dirty(&task)]);
    let next = project.insert(&numbered(2)).await;
    assert_eq!(
        one.next().await,
        dirty(&next),
        "one heard of its own failure"
    );
}

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

#[tokio::test]
async fn a_cut_wire_is_down_and_comes_up_again() {
    let project = project(Setup::Ours).await;
    let proxy = Proxy::to(project.stack.addresses()[0]).await;
    let mut config = configure(&project, "one");
    config.url = proxy.url();
    let mut one = Machine::start(config);
    one.up().await;
    proxy.set(Wire::Cut);
    let down = one
        .wait_for(|signal| matches!(signal, Signal::Down { .. }))
        .await;
    let missed = project.insert(&numbered(1)).await;
    proxy.set(Wire::Open);
    one.up().await;
    assert!(matches!(down, Signal::Down { reason, .. } if reason.contains("rtx_activities")));
    // What happened while the wire was cut is found by looking, whether or not the server tells of it again.
    let found = one
        .backend
        .sweep(&[selector("public.rtx_activities")], None, 50)
        .await
        .unwrap();
    assert_eq!(found[0].task.task, missed);
}

#[tokio::test]
async fn one_table_that_is_not_published_does_not_silence_the_others() {
    let project = project(Setup::Ours).await;
    let make = "create table hidden (id int primary key, status text, locked_by text, locked_at timestamptz);
                grant all on hidden to service_role; notify pgrst, 'reload schema'";
    project.client.batch_execute(make).await.unwrap();
    let mut config = configure(&project, "one");
    config.selectors.push(selector("public.hidden"));
    let mut one = Machine::start(config);
    let down = one
        .wait_for(|signal| matches!(signal, Signal::Down { reason, .. } if reason.contains("public.hidden")))
        .await;
    assert!(matches!(down, Signal::Down { reason, .. } if reason.contains("Unable to subscribe")));
    let task = project.insert(&numbered(1)).await;
    one.wait_for(|signal| *signal == dirty(&task)).await;
    let publish = "alter publication supabase_realtime add table hidden";
    project.client.batch_execute(publish).await.unwrap();
    // Up, and not down again at once: the last channel that was down has come up.
    loop {
        one.up().await;
        if timeout(Duration::from_millis(50), one.signals.next())
            .await
            .is_err()
        {
            break;
        }
    }
}

#[tokio::test]
async fn tables_with_lock_columns_are_claimed_in_place() {
    let project = project(Setup::Published).await;
    let make = "create schema shop; grant usage on schema shop to service_role;
        create table public.orders (id bigint generated always as identity primary key, item text, status text default 'pending',
          locked_by text, locked_at timestamptz);
        grant all on public.orders to service_role; alter table public.orders replica identity full;
        alter publication supabase_realtime add table public.orders; notify pgrst, 'reload schema'";
    project.client.batch_execute(make).await.unwrap();
    let mut config = configure(&project, "one");
    config.selectors.push(selector("public.orders"));
    let mut one = Machine::start(config);
    one.up().await;
    one.up().await;
    let insert = "insert into orders (item) values ('tea') returning id";
    let id: i64 = project.client.query_one(insert, &[]).await.unwrap().get(0);
    let task = TaskRef {
        table: "public.orders".parse().unwrap(),
        id: id.to_string().parse().unwrap(),
    };
    assert_eq!(one.next().await, dirty(&task));
    let ClaimOutcome::Won(claimed) = one.backend.claim(&rules("one"), &task).await.unwrap() else {
        panic!("the claim should be won");
    };
    assert_eq!(claimed.task.source, task.table);
    assert!(claimed.task.raw_data.get().contains("\"tea\""));
    let other = one.backend.claim(&rules("two"), &task).await.unwrap();
    assert!(matches!(other, ClaimOutcome::Held { .. }), "{other:?}");
    let lease = claimed.lease.into_key();
    let failed = Verdict::Failed {
        error: "out of tea".to_owned(),
        retry_in: None,
    };
    let settlement = Settlement {
        lease,
        verdict: failed,
    };
    assert_eq!(
        one.backend.settle(&[settlement]).await.unwrap(),
        [Fence::Held]
    );
    let view = one.backend.inspect(&task).await.unwrap().unwrap();
    assert_eq!((view.status.as_str(), view.locked_by), ("failed", None));
    let old = "update orders set status = 'claimed', locked_by = 'gone', locked_at = now() - interval '10 minutes'";
    project.execute(old, &[]).await;
    let found = one
        .backend
        .maintain(&rules("one"), &[selector("public.orders")])
        .await
        .unwrap();
    assert_eq!(found.recovered, [task]);
    assert!(found.ready);
}

/// Daemons write activities themselves where no trigger does, and together they write each once.
#[tokio::test]
async fn changes_are_captured_once_without_a_trigger() {
    for setup in [Setup::Ours, Setup::Published] {
        let project = project(setup).await;
        let make = "create table public.notes (id int primary key, text text);
            grant all on public.notes to service_role; alter table public.notes replica identity full;
            alter publication supabase_realtime add table public.notes; notify pgrst, 'reload schema'";
        project.client.batch_execute(make).await.unwrap();
        let mut machines = Vec::new();
        for name in ["one", "two", "three"] {
            let mut config = configure(&project, name);
            config.selectors.push(selector("public.notes"));
            let mut machine = Machine::start(config);
            machine.up().await;
            machine.up().await;
            machines.push(machine);
        }
        let change = "insert into notes select n, 'new' from generate_series(1, 5) n; update notes set text = 'old' where id <= 2;
                      delete from notes where id = 3";
        project.client.batch_execute(change).await.unwrap();
        let mut tasks = BTreeSet::new();
        for machine in &mut machines {
            let mut seen = BTreeSet::new();
            while seen.len() < 8 {
                if let Signal::Dirty {
                    task: Some(task), ..
                } = machine.next().await
                {
                    seen.insert(task);
                }
            }
            tasks.extend(seen);
        }
        assert_eq!(tasks.len(), 8, "every machine saw the same");
        let notes: TableName = "public.notes".parse().unwrap();
        let query = TaskQuery {
            source: Some(notes.clone()),
            limit: 100,
            ..TaskQuery::default()
        };
        let backend = &machines[0].backend;
        let views = backend.list(&query, &RetryPolicy::default()).await.unwrap();
        let mut events: Vec<&str> = views.iter().map(|view| view.task.event.as_str()).collect();
        events.sort_unstable();
        assert_eq!(
            events,
            [
                "DELETE", "INSERT", "INSERT", "INSERT", "INSERT", "INSERT", "UPDATE", "UPDATE"
            ]
        );
        let update = views
            .iter()
            .find(|view| view.task.event.as_str() == "UPDATE")
            .unwrap();
        assert!(
            update.task.raw_data.get().contains("\"old\""),
            "{}",
            update.task.raw_data.get()
        );
        assert!(!update.task.raw_data.get().contains("rowcall_source"));
        assert!(update.task.key.is_some());
        let claims = join_all(machines.iter().enumerate().map(async |(number, machine)| {
            let rules = rules(&format!("m{number}"));
            machine
                .backend
                .claim(&rules, &views[0].task.task)
                .await
                .unwrap()
        }));
        let won = claims
            .await
            .into_iter()
            .filter(|one| matches!(one, ClaimOutcome::Won(_)));
        assert_eq!(won.count(), 1);
    }
}

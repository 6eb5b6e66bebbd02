//! Tables of the user's own.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use rowcall_core::{
    RetryPolicy, Signal, TableName, TaskRef,
    ports::{ClaimOutcome, Coordinator, Fence, Settlement, TaskAdmin, TaskQuery, Verdict},
};

use super::{Machine, configure, dirty, project, rules, selector};
use crate::supabase::project::Setup;

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

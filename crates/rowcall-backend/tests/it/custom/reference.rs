//! The reference app of `examples/custom-mode`, as it is shipped.

use std::{process::Stdio, time::Duration};

use futures_util::StreamExt;
use rowcall_backend::{CustomConfig, SupabaseBackend};
use rowcall_core::{
    AppId, EventSet, LeasePolicy, MachineId, Payload, RetryPolicy, Selector, Signal, TaskId,
    TaskRef,
    ports::{
        ClaimOutcome, ClaimRules, Claimed, Coordinator, Fence, Settlement, SignalSource, TaskAdmin,
        TaskQuery, Verdict,
    },
};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    task::JoinSet,
    time::timeout,
};
use uuid::Uuid;

use crate::supabase::project::{Project, Setup};

const PATIENCE: Duration = Duration::from_mins(1);

/// The app, and what it needs to know.
async fn start(project: &Project) -> (Child, String) {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../examples/custom-mode/app.py"
    );
    let mut app = Command::new("python3")
        .arg(path)
        .env("SUPABASE_URL", project.stack.url())
        .env("SUPABASE_KEY", project.keys.secret_key())
        .env("RTX_APP_NAME", "orders")
        .env("RTX_PORT", "0")
        .env("RECOVER_EVERY_SECONDS", "0.2")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("python3 starts");
    let mut lines = BufReader::new(app.stdout.take().expect("piped")).lines();
    let first = timeout(PATIENCE, lines.next_line()).await.expect("in time");
    let line = first.expect("readable").expect("a line");
    let url = line.split_whitespace().last().expect("a URL").to_owned();
    (app, url)
}

async fn project() -> Project {
    let project = Project::start_live(Setup::Published).await;
    let schema = include_str!("../../../../../examples/custom-mode/schema.sql");
    for _ in 0..2 {
        project
            .client
            .batch_execute(schema)
            .await
            .expect("the schema fits, twice");
    }
    project
}

fn machine(project: &Project, app: &str, name: &str) -> (SupabaseBackend, JoinSet<()>) {
    let mut config = project.config(name);
    config.apps = vec![AppId::new("orders").unwrap()];
    config.selectors = vec![Selector {
        table: "public.orders".parse().unwrap(),
        events: EventSet::ALL,
        filter: None,
    }];
    let (backend, driver) = SupabaseBackend::custom(config, &CustomConfig::new(app)).unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(driver.run());
    (backend, tasks)
}

fn rules(name: &str) -> ClaimRules {
    ClaimRules {
        machine: MachineId::new(name).unwrap(),
        lease: LeasePolicy::default(),
        retry: RetryPolicy::default(),
    }
}

async fn order(project: &Project, item: &str) -> TaskRef {
    let insert = "insert into orders (customer, item) values ('Ada', $1) returning id";
    let id: Uuid = project
        .client
        .query_one(insert, &[&item])
        .await
        .unwrap()
        .get(0);
    TaskRef {
        table: "public.orders".parse().unwrap(),
        id: TaskId::Uuid(id),
    }
}

async fn win(backend: &SupabaseBackend, name: &str, task: &TaskRef) -> Claimed {
    match backend.claim(&rules(name), task).await.unwrap() {
        ClaimOutcome::Won(claimed) => *claimed,
        other => panic!("{name} should win, but {other:?}"),
    }
}

async fn settle(backend: &SupabaseBackend, claimed: Claimed, verdict: Verdict) -> Fence {
    let lease = claimed.lease.into_key();
    backend
        .settle(&[Settlement { lease, verdict }])
        .await
        .unwrap()[0]
}

#[test]
fn its_manifest_is_one_of_custom_mode() {
    let manifest = include_str!("../../../../../examples/custom-mode/app.json");
    let app = rowcall_core::App::parse(manifest, None).unwrap();
    assert_eq!(app.name.as_str(), "orders");
    let subscription = app.subscription.as_ref().unwrap();
    assert_eq!(subscription.mode, rowcall_core::manifest::Mode::Custom);
    assert_eq!(app.routes()[0].selector.table.to_string(), "public.orders");
}

#[tokio::test]
async fn an_order_is_handled_from_event_to_result() {
    let project = project().await;
    let (_app, url) = start(&project).await;
    let (one, _one) = machine(&project, &url, "one");
    let (two, _two) = machine(&project, &url, "two");
    let mut signals = (one.signals(), two.signals());
    for stream in [&mut signals.0, &mut signals.1] {
        while timeout(PATIENCE, stream.next()).await.unwrap() != Some(Signal::Up) {}
    }
    let task = order(&project, "tea").await;
    let heard = timeout(PATIENCE, signals.0.next()).await.unwrap().unwrap();
    assert!(matches!(heard, Signal::Dirty { task: Some(heard), .. } if heard == task));
    let claimed = win(&one, "one", &task).await;
    assert!(claimed.task.raw_data.get().contains("\"tea\""));
    let held = two.claim(&rules("two"), &task).await.unwrap();
    assert!(matches!(held, ClaimOutcome::Held { by: Some(by) } if by.as_str() == "one"));
    assert_eq!(
        one.renew(std::slice::from_ref(claimed.lease.key()))
            .await
            .unwrap(),
        [Fence::Held]
    );
    let failed = Verdict::Failed {
        error: "no tea".to_owned(),
        retry_in: None,
    };
    assert_eq!(settle(&one, claimed, failed).await, Fence::Held);
    // The app tells the others, and the row does too.
    let available = |signal: &Signal| matches!(signal, Signal::Available { failed_by: Some(by), .. } if by.as_str() == "one");
    while !available(&timeout(PATIENCE, signals.1.next()).await.unwrap().unwrap()) {}
    let again = one.claim(&rules("one"), &task).await.unwrap();
    assert!(matches!(again, ClaimOutcome::Ineligible(_)), "{again:?}");
    let claimed = win(&two, "two", &task).await;
    let result = Payload::from_text("{\"shipped\": true}".to_owned()).unwrap();
    assert_eq!(
        settle(&two, claimed, Verdict::Completed(result)).await,
        Fence::Held
    );
    let query = TaskQuery {
        limit: 5,
        ..TaskQuery::default()
    };
    let views = two.list(&query, &RetryPolicy::default()).await.unwrap();
    assert_eq!(views[0].status, "completed");
    assert_eq!(
        views[0].result.as_ref().unwrap().get(),
        "{\"shipped\": true}"
    );
    assert_eq!(views[0].task.attempted_by[0].as_str(), "one");
}

#[tokio::test]
async fn locks_are_exclusive_and_fenced_by_the_app() {
    let project = project().await;
    let (_app, url) = start(&project).await;
    let (backend, _driver) = machine(&project, &url, "one");
    for n in 0..10 {
        let task = &order(&project, &format!("item {n}")).await;
        let claims = (0..6).map(|number| {
            let backend = backend.clone();
            async move {
                let name = format!("m{number}");
                backend.claim(&rules(&name), task).await.unwrap()
            }
        });
        let outcomes = futures_util::future::join_all(claims).await;
        let won = outcomes
            .iter()
            .filter(|one| matches!(one, ClaimOutcome::Won(_)));
        assert_eq!(won.count(), 1, "{outcomes:?}");
    }
    let task = order(&project, "slow").await;
    let claimed = win(&backend, "one", &task).await;
    // The app returns what its machine left behind, and the late result is dropped.
    project
        .execute(
            "update orders set locked_at = now() - interval '6 minutes' where id = $1",
            &[&task.id.as_uuid().unwrap()],
        )
        .await;
    let mut view = backend.inspect(&task).await.unwrap().unwrap();
    for _ in 0..1_200 {
        if view.status == "pending" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        view = backend.inspect(&task).await.unwrap().unwrap();
    }
    assert_eq!(view.status, "pending");
    let late = Verdict::Completed(Payload::empty_object());
    assert_eq!(settle(&backend, claimed, late).await, Fence::Lost);
}

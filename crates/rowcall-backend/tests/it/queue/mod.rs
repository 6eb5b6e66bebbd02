//! Queues against real databases. Tests are named after the requirements of `docs/queues.md` they hold: A (what AIMQ does),
//! B (wake-ups), C (triggers).

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod broadcast;
mod claim;
mod crash;
mod data_api;
mod install;
mod look;
mod order;
mod project;
mod retry;
mod settle;
mod stack;
mod store;
mod trigger;
mod wake;
mod worker;

use std::time::Duration;

use rowcall_backend::queue::{
    Database, Install, QueueBackend, QueueName, QueueOptions, QueueSpec, QueueStore,
};
use rowcall_core::{
    AppId, LeaseKey, MachineId, Payload, RetryPolicy, TaskId,
    ports::{ClaimBatch, ClaimOrder, ClaimRules, Claimed, Coordinator as _, Settlement, Verdict},
};
use rowcall_stack::testing::TestDb;
use tokio_postgres::Client;

/// What waiting for a condition may take on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

/// A wake-up takes milliseconds and the fallbacks of these tests minutes: this is neither, even on a busy machine. How fast
/// wake-ups are is measured by `rowcall-bench queue latency`.
const SOON: Duration = Duration::from_secs(15);

/// The versions of pgmq that must work: what Supabase ships on older and newer projects, and the newest.
const VERSIONS: [&str; 3] = ["1.4.4", "1.5.1", "1.13.0"];

/// A database with pgmq of a version, and our helpers.
async fn database(version: &'static str) -> TestDb {
    TestDb::from_template(&format!("queue {version}"), |url| async move {
        let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await?;
        let driver = tokio::spawn(connection);
        if version == "1.13.0" {
            drop(client);
        } else {
            as_extension(&client, version).await?;
            drop(client);
        }
        driver.await??;
        rowcall_backend::queue::install(&Database::new(&url, 1)?, Install::default()).await?;
        anyhow::Ok(())
    })
    .await
}

/// Old versions work as extensions only. Creating one needs files on the server, so its row is written by hand; its id must be
/// above those of initdb, which are never recorded as dependencies.
async fn as_extension(client: &Client, version: &str) -> anyhow::Result<()> {
    let sql = match version {
        "1.4.4" => include_str!("pgmq/1.4.4.sql"),
        "1.5.1" => include_str!("pgmq/1.5.1.sql"),
        other => anyhow::bail!("there is no SQL of pgmq {other}"),
    };
    client
        .batch_execute(&format!(
            "set allow_system_table_mods = on; \
             insert into pg_extension (oid, extname, extowner, extnamespace, extrelocatable, extversion) \
             values (4000000000, 'pgmq', 10, 'public'::regnamespace, false, '{version}'); \
             reset allow_system_table_mods; set check_function_bodies = off; {sql}"
        ))
        .await?;
    Ok(())
}

fn name(text: &str) -> QueueName {
    QueueName::new(text).expect("a usable name")
}

fn json(value: impl serde::Serialize) -> Payload {
    Payload::from_value(&value).expect("plain data")
}

fn value(payload: &Payload) -> serde_json::Value {
    serde_json::from_str(payload.get()).expect("JSON")
}

fn store(db: &TestDb) -> QueueStore {
    QueueStore::new(Database::new(&db.url(), 2).expect("a usable URL"))
}

fn creating() -> QueueOptions {
    QueueOptions {
        create_missing: true,
        ..QueueOptions::default()
    }
}

/// A backend whose queues are made as needed.
async fn backend(db: &TestDb, specs: impl IntoIterator<Item = QueueSpec>) -> QueueBackend {
    QueueBackend::connect(&db.url(), specs.into_iter().collect(), creating())
        .await
        .expect("connects")
}

fn rules(machine: &str) -> ClaimRules {
    ClaimRules {
        machine: MachineId::new(machine).expect("a usable name"),
        lease: rowcall_core::LeasePolicy::default(),
        retry: RetryPolicy::default(),
    }
}

fn batch(backend: &QueueBackend, limit: u32) -> ClaimBatch {
    ClaimBatch {
        app: AppId::new("test").expect("a usable name"),
        selectors: backend.selectors(),
        limit,
        retryable: true,
        order: ClaimOrder::OldestFirst,
        hints: std::sync::Arc::default(),
    }
}

/// Claims up to `limit` messages.
async fn claim(backend: &QueueBackend, limit: u32) -> Vec<Claimed> {
    backend
        .claim_next(&rules("m1"), &batch(backend, limit))
        .await
        .expect("claims")
}

/// Claims messages until there is one.
async fn claim_soon(backend: &QueueBackend) -> Claimed {
    eventually("a message is claimed", || async {
        claim(backend, 1).await.pop()
    })
    .await
}

async fn send(store: &QueueStore, queue: &str, count: usize) -> Vec<i64> {
    let messages: Vec<Payload> = (0..count)
        .map(|n| json(serde_json::json!({ "n": n })))
        .collect();
    store
        .send_batch(&name(queue), &messages, Duration::ZERO)
        .await
        .expect("sends")
}

/// The id of a claimed message in its queue.
fn id(claimed: &Claimed) -> i64 {
    match &claimed.task.task.id {
        TaskId::Key(key) => key.parse().expect("a message id"),
        TaskId::Uuid(_) => panic!("messages have no uuid"),
    }
}

fn completed(lease: LeaseKey) -> Settlement {
    let verdict = Verdict::Completed(Payload::empty_object());
    Settlement { lease, verdict }
}

fn failed(lease: LeaseKey, error: &str) -> Settlement {
    let verdict = Verdict::Failed {
        error: error.to_owned(),
        retry_in: Some(Duration::ZERO),
    };
    Settlement { lease, verdict }
}

async fn count(client: &Client, table: &str) -> i64 {
    client
        .query_one(&format!("select count(*) from {table}"), &[])
        .await
        .expect("counts")
        .get(0)
}

/// Waits for a condition that must become true.
async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut look: impl FnMut() -> F,
) -> T {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(
            tokio::time::Instant::now() < deadline,
            "waited {PATIENCE:?} until {what}"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

//! Under a running engine.

use super::*;
use crate::world::{World, app, app_with, options};

#[tokio::test]
async fn an_engine_writes_its_history() {
    let dir = Dir::new();
    let (store, writer) = dir.open_with(StoreOptions::default());
    let writer = Arc::new(writer);
    let mut world = World::new();
    let swept = world.insert("letters");
    let good = world.insert("orders");
    let bad = world.insert("tickets");
    let apps = vec![
        app("shop", "orders", "clerk", 1),
        app("desk", "tickets", "failing", 1),
        app_with("ink", "letters", "clerk", 1, "review"),
    ];
    let mut node = world.start_as("m1", apps, options(), Some(writer.clone()));
    node.settled_count(2).await;
    node.handle.shutdown();
    world.stopped().await;
    let mut entries = calendar(&store);
    entries.sort_by_key(|(id, _)| id.to_string());
    assert_eq!(
        entries,
        [
            (swept.id, CalendarState::Waiting),
            (good.id.clone(), CalendarState::Completed),
            (bad.id.clone(), CalendarState::Failed),
        ]
    );
    let attempt = &store.attempts(&bad.id, None).unwrap()[0];
    assert_eq!(
        (attempt.outcome, attempt.error.as_deref()),
        (Some(Outcome::Failed), Some("it never works"))
    );
    assert_eq!(
        store.attempts(&good.id, None).unwrap()[0].outcome,
        Some(Outcome::Completed)
    );
}

/// A store that is full until it is told otherwise.
#[derive(Default)]
struct FullStore {
    open: tokio::sync::watch::Sender<bool>,
    taken: std::sync::atomic::AtomicUsize,
}

#[async_trait::async_trait]
impl TaskStore for FullStore {
    fn enabled(&self) -> bool {
        true
    }

    fn write(&self, records: &mut Vec<Record>) {
        if *self.open.borrow() {
            let taken = records.drain(..).count();
            self.taken
                .fetch_add(taken, std::sync::atomic::Ordering::SeqCst);
        }
    }

    async fn room(&self) {
        // The sender lives as long as this store.
        let _ = self.open.subscribe().wait_for(|open| *open).await;
    }

    async fn flush(&self) {}

    fn take_trouble(&self) -> Option<String> {
        None
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_cannot_keep_up_slows_claims_and_loses_nothing() {
    let mut world = World::new();
    for _ in 0..12_000 {
        world.insert("orders");
    }
    let store = Arc::new(FullStore::default());
    let options = rowcall_engine::EngineOptions {
        event_ring: 100_000,
        ..options()
    };
    let mut node = world.start_as(
        "m1",
        vec![app("shop", "orders", "clerk", 1_000)],
        options,
        Some(store.clone()),
    );
    crate::world::pass(Duration::from_secs(30)).await;
    let begun = world.agents.started.lock().len();
    assert!(
        (2_000..9_000).contains(&begun),
        "{begun} tasks were started"
    );
    store.open.send_replace(true);
    node.settled_count(12_000).await;
    node.handle.shutdown();
    world.stopped().await;
    let taken = store.taken.load(std::sync::atomic::Ordering::SeqCst);
    assert!(taken >= 24_000, "{taken} records");
}

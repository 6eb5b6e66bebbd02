//! Claims of whatever is next.

use std::sync::Arc;

use rowcall_core::{
    EventKind, Selector,
    ports::{ClaimBatch, ClaimOrder},
};

use super::{
    Fixture, batch, batch_of, claim_next, failed, json, numbered, refs, retryable, rules, selector,
    settle_one, win,
};
use crate::memory::NewTask;

/// First in, first out.
pub async fn takes_the_oldest_first(fixture: &dyn Fixture) {
    let mut inserted = Vec::new();
    for n in 0..5 {
        inserted.push(fixture.insert(numbered(n)).await);
    }
    let first = claim_next(fixture, &rules("m1"), &batch(2)).await;
    assert_eq!(refs(&first), inserted[..2]);
    let rest = claim_next(fixture, &rules("m2"), &batch(10)).await;
    assert_eq!(refs(&rest), inserted[2..]);
}

/// The start-up sweep takes the newest first.
pub async fn takes_the_newest_first_when_asked(fixture: &dyn Fixture) {
    let mut inserted = Vec::new();
    for n in 0..4 {
        inserted.push(fixture.insert(numbered(n)).await);
    }
    let newest = ClaimBatch {
        order: ClaimOrder::NewestFirst,
        ..batch(3)
    };
    inserted.reverse();
    let claimed = claim_next(fixture, &rules("m1"), &newest).await;
    assert_eq!(refs(&claimed), inserted[..3]);
}

/// The limit is the number of permits.
pub async fn never_more_than_asked(fixture: &dyn Fixture) {
    for n in 0..3 {
        fixture.insert(numbered(n)).await;
    }
    assert!(
        claim_next(fixture, &rules("m1"), &batch(0))
            .await
            .is_empty()
    );
    assert_eq!(claim_next(fixture, &rules("m1"), &batch(1)).await.len(), 1);
    assert_eq!(
        claim_next(fixture, &rules("m1"), &batch(100)).await.len(),
        2
    );
    assert!(
        claim_next(fixture, &rules("m1"), &batch(100))
            .await
            .is_empty()
    );
}

/// No selectors, or selectors without events, select nothing.
pub async fn nothing_selected_is_nothing(fixture: &dyn Fixture) {
    fixture.insert(numbered(1)).await;
    let none = Selector {
        events: rowcall_core::EventSet::default(),
        ..selector("public.rtx_activities", None)
    };
    for selectors in [vec![], vec![none]] {
        assert!(
            claim_next(fixture, &rules("m1"), &batch_of(selectors, 10))
                .await
                .is_empty()
        );
    }
}

/// Tables count with their schema, case and odd characters.
pub async fn selects_by_table(fixture: &dyn Fixture) {
    let names = [
        "shop.orders",
        "shop.Orders",
        "public.orders",
        "\"my.shop\".\"or'de\\rs\"",
    ];
    let mut inserted = Vec::new();
    for name in names {
        let table = name.parse().expect("a table");
        inserted.push(fixture.insert(NewTask::captured(table, json("{}"))).await);
    }
    for (name, task) in names.iter().zip(&inserted) {
        let only = batch_of(vec![selector(name, None)], 10);
        assert_eq!(
            refs(&claim_next(fixture, &rules("m1"), &only).await),
            std::slice::from_ref(task),
            "{name}"
        );
    }
}

/// Events are selected one by one.
pub async fn selects_by_event(fixture: &dyn Fixture) {
    let mut inserted = Vec::new();
    for event in EventKind::ALL {
        let mut task =
            NewTask::captured("shop.orders".parse().expect("a table"), json("{\"id\": 1}"));
        task.event = event;
        task.old_data = (event != EventKind::Insert).then(|| json("{\"id\": 1}"));
        inserted.push(fixture.insert(task).await);
    }
    let changes = Selector {
        events: [EventKind::Update, EventKind::Delete].into_iter().collect(),
        ..selector("shop.orders", None)
    };
    let claimed = claim_next(fixture, &rules("m1"), &batch_of(vec![changes], 10)).await;
    assert_eq!(refs(&claimed), inserted[1..]);
}

/// Filters see the new row, and the old one of a DELETE.
pub async fn selects_by_filter(fixture: &dyn Fixture) {
    let table = || "shop.orders".parse().expect("a table");
    let high = fixture
        .insert(NewTask::captured(
            table(),
            json("{\"priority\": \"high\", \"n\": 2}"),
        ))
        .await;
    fixture
        .insert(NewTask::captured(
            table(),
            json("{\"priority\": \"low\", \"n\": 2}"),
        ))
        .await;
    fixture
        .insert(NewTask::captured(table(), json("{\"priority\": null}")))
        .await;
    let mut gone = NewTask::captured(table(), json("null"));
    gone.event = EventKind::Delete;
    gone.old_data = Some(json("{\"priority\": \"high\", \"n\": 10}"));
    let gone = fixture.insert(gone).await;
    let filter = selector("shop.orders", Some("priority=eq.high&n=gt.1"));
    let claimed = claim_next(fixture, &rules("m1"), &batch_of(vec![filter], 10)).await;
    assert_eq!(refs(&claimed), [high, gone]);
}

/// A batch over several tables takes from all of them, each by its own conditions, and finds all there is.
pub async fn several_tables_share_a_batch(fixture: &dyn Fixture) {
    let insert = async |table: &str, row: &str| {
        let task = NewTask::captured(table.parse().expect("a table"), json(row));
        fixture.insert(task).await
    };
    let mut wanted = Vec::new();
    for n in 0..3 {
        wanted.push(insert("shop.orders", "{\"kind\": \"a\"}").await);
        insert("shop.orders", "{\"kind\": \"b\"}").await;
        wanted.push(insert("shop.items", &format!("{{\"n\": {n}}}")).await);
        insert("shop.other", "{}").await;
    }
    let selectors = vec![
        selector("shop.orders", Some("kind=eq.a")),
        selector("shop.items", None),
    ];
    let mut found = Vec::new();
    loop {
        let some = claim_next(fixture, &rules("m1"), &batch_of(selectors.clone(), 2)).await;
        if some.is_empty() {
            break;
        }
        assert!(some.len() <= 2);
        found.extend(refs(&some));
    }
    found.sort();
    wanted.sort();
    assert_eq!(found, wanted);
}

/// A filter on `rtx_activities` sees the columns of the activity as they were when it was new, so that work on it does not
/// change whether it matches; the claimed task carries that row for the routes.
pub async fn filters_on_activities_see_them_as_new(fixture: &dyn Fixture) {
    let urgent = fixture
        .insert(NewTask::direct(json("{\"kind\": \"urgent\"}")))
        .await;
    fixture
        .insert(NewTask::direct(json("{\"kind\": \"other\"}")))
        .await;
    let filter = "status=eq.pending&raw_data->>kind=eq.urgent&locked_by=is.null&retry_count=lt.1";
    let selectors = vec![selector("public.rtx_activities", Some(filter))];
    let first = claim_next(fixture, &rules("m1"), &batch_of(selectors.clone(), 10)).await;
    assert_eq!(refs(&first), std::slice::from_ref(&urgent));
    settle_one(fixture, failed(first[0].lease.key(), None)).await;
    let again = ClaimBatch {
        retryable: true,
        ..batch_of(selectors.clone(), 10)
    };
    let second = claim_next(fixture, &rules("m2"), &again).await;
    assert_eq!(refs(&second), [urgent]);
    let task = &second[0].task;
    assert!(
        selectors[0].matches(&task.source, task.event, task.filter_row()),
        "{}",
        task.filter_row().get()
    );
}

/// Failed tasks are another question than pending ones; they go first, and the limit holds for both together.
pub async fn failed_tasks_only_when_asked(fixture: &dyn Fixture) {
    let broken = fixture.insert(numbered(1)).await;
    let lease = win(fixture, &rules("m1"), &broken).await.lease.into_key();
    settle_one(fixture, failed(&lease, None)).await;
    let mut pending = Vec::new();
    for n in 0..3 {
        pending.push(fixture.insert(numbered(n)).await);
    }
    let only_pending = claim_next(fixture, &rules("m2"), &batch(1)).await;
    assert_eq!(refs(&only_pending), pending[..1]);
    let both = claim_next(fixture, &rules("m2"), &retryable(2)).await;
    assert_eq!(refs(&both), [broken, pending[1].clone()]);
    let shared: Arc<[Selector]> = retryable(5).selectors;
    assert_eq!(shared.len(), 1);
    assert_eq!(
        claim_next(fixture, &rules("m2"), &retryable(5)).await.len(),
        1
    );
}

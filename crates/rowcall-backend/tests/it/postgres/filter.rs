//! Filters mean the same in SQL as in memory, for random filters over random rows.

use std::collections::BTreeSet;

use proptest::{prelude::*, strategy::ValueTree, test_runner::TestRunner};
use rowcall_backend::NewTask;
use rowcall_backend::conformance::Fixture;
use rowcall_core::{EventSet, Filter, Payload, Selector, TableName, TaskRef, ports::Coordinator};

use super::database::{Database, database};

const ROWS: usize = 120;
const FILTERS: usize = 400;

/// JSON values whose comparison has been got wrong by somebody, somewhere.
const VALUES: [&str; 44] = [
    "null",
    "true",
    "false",
    "0",
    "-0.0",
    "1",
    "1.0",
    "1.50",
    "-5",
    "10",
    "1e3",
    "1E-2",
    "9007199254740993",
    "9007199254740992",
    "0.10000000000000000001",
    "123456789012345678901234567890.5",
    "\"\"",
    "\"a\"",
    "\"A\"",
    "\"b\"",
    "\"é\"",
    "\"É\"",
    "\"Z\"",
    "\"10\"",
    "\"9\"",
    "\"true\"",
    "\"null\"",
    "\"a%b\"",
    "\"a_b\"",
    "\"a*b\"",
    "\"a\\\\b\"",
    "\"it's\"",
    "\"x,y)\"",
    "\"say \\\"hi\\\"\"",
    "\"2024-01-15\"",
    "\"2024-01-15T10:00:00Z\"",
    "\"2024-01-15T12:00:00+02:00\"",
    "\"2024-01-15 10:00\"",
    "\"2024-02-30\"",
    "\"2024-01-15T10:00:00.5\"",
    "[]",
    "{}",
    "[1,\"a\"]",
    "\"日本\"",
];

/// What stands in filters, beyond the texts of the values above.
const TEXTS: [&str; 26] = [
    "1",
    "1.5",
    "10",
    "-5",
    "+1",
    "1e3",
    "0.01",
    "9007199254740993",
    "abc",
    "a",
    "A",
    "B",
    "é",
    "t",
    "TRUE",
    "no",
    "",
    "it's",
    "a\\b",
    "2024-01-15",
    "2024-01-15T10:00:00",
    "2024-01-15T11:00:00+01:00",
    "2024-01-15T10:00:00.500000Z",
    "x,y)",
    "日",
    "null",
];
const PATTERNS: [&str; 14] = [
    "*",
    "a*",
    "*b",
    "a_b",
    "a%b",
    "a\\\\%b",
    "a\\\\_b",
    "a\\\\*b",
    "*'*",
    "A*",
    "_",
    "日*",
    "é",
    "*\\\\\\\\*",
];
const PATHS: [&str; 12] = [
    "a",
    "b",
    "c",
    "missing",
    "c->x",
    "c->>y",
    "c->x->z",
    "d->0",
    "d->>-1",
    "d->+1",
    "\"odd. \\\"name\\\"\"",
    "c->\"k y\"",
];

fn row() -> impl Strategy<Value = String> {
    let value = || prop::sample::select(&VALUES[..]);
    let object = (value(), value(), value())
        .prop_map(|(x, y, k)| format!("{{\"x\": {x}, \"y\": {y}, \"k y\": {k}}}"));
    let array = (value(), value()).prop_map(|(first, last)| format!("[{first}, {last}]"));
    let inner = prop_oneof![3 => object, 1 => value().prop_map(str::to_owned)];
    let list = prop_oneof![3 => array, 1 => value().prop_map(str::to_owned)];
    (value(), value(), inner, list, value()).prop_map(|(a, b, c, d, odd)| {
        format!("{{\"a\": {a}, \"b\": {b}, \"c\": {c}, \"d\": {d}, \"odd. \\\"name\\\"\": {odd}}}")
    })
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

fn condition() -> impl Strategy<Value = String> {
    let value = || prop::sample::select(&TEXTS[..]).prop_map(quoted);
    let test = prop_oneof![
        6 => (prop::sample::select(&["eq", "neq", "gt", "gte", "lt", "lte"][..]), value()).prop_map(|(op, text)| format!("{op}.{text}")),
        2 => prop::collection::vec(value(), 0..5).prop_map(|list| format!("in.({})", list.join(","))),
        2 => prop::sample::select(&["null", "not_null", "true", "false", "unknown"][..]).prop_map(|word| format!("is.{word}")),
        3 => (prop::sample::select(&["like", "ilike"][..]), prop::sample::select(&PATTERNS[..]))
            .prop_map(|(op, pattern)| format!("{op}.\"{pattern}\"")),
    ];
    (prop::sample::select(&PATHS[..]), any::<bool>(), test)
        .prop_map(|(path, not, test)| format!("{path}.{}{test}", if not { "not." } else { "" }))
}

fn filter() -> impl Strategy<Value = String> {
    let group = |inner: BoxedStrategy<String>| {
        (
            prop::sample::select(&["and", "or", "not.and", "not.or"][..]),
            prop::collection::vec(inner, 1..4),
        )
            .prop_map(|(word, all)| format!("{word}({})", all.join(",")))
    };
    condition().prop_recursive(2, 8, 3, move |inner| group(inner.boxed()))
}

fn generate<T>(runner: &mut TestRunner, strategy: &impl Strategy<Value = T>) -> T {
    strategy.new_tree(runner).unwrap().current()
}

async fn selected(database: &Database, table: &TableName, filter: &Filter) -> BTreeSet<TaskRef> {
    let selector = Selector {
        table: table.clone(),
        events: EventSet::ALL,
        filter: Some(filter.clone()),
    };
    let found = database
        .backend
        .sweep(&[selector], None, u32::try_from(ROWS).unwrap())
        .await;
    let found = found.unwrap_or_else(|error| panic!("{filter}: {error}"));
    found.into_iter().map(|view| view.task.task).collect()
}

#[tokio::test]
async fn sql_and_memory_select_the_same_rows() {
    let database = database().await;
    let mut runner = TestRunner::deterministic();
    let table: TableName = "shop.orders".parse().unwrap();
    let mut rows = Vec::new();
    for _ in 0..ROWS {
        let text = generate(&mut runner, &row());
        let payload = Payload::from_text(text).unwrap();
        let task = database
            .insert(NewTask::captured(table.clone(), payload.clone()))
            .await;
        rows.push((task, payload));
    }
    let (mut matched, mut all) = (0, 0);
    for _ in 0..FILTERS {
        let text = generate(&mut runner, &filter());
        let filter = Filter::parse(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
        let in_sql = selected(&database, &table, &filter).await;
        for (task, payload) in &rows {
            assert_eq!(
                in_sql.contains(task),
                filter.matches(payload),
                "{filter} on {}: SQL says the first, memory the second",
                payload.get()
            );
        }
        matched += in_sql.len();
        all += rows.len();
    }
    assert!(
        matched * 10 > all && matched * 10 < all * 9,
        "{matched} of {all}: the filters decide something"
    );
}

#[tokio::test]
async fn sql_reads_the_same_instants() {
    let database = database().await;
    let texts: Vec<String> = {
        let mut runner = TestRunner::deterministic();
        let near = "[0-9]{3,5}-[01][0-9]-[0-3][0-9]([T ][0-2][0-9]:[0-6][0-9](:[0-6][0-9](\\.[0-9]{1,10})?)?(Z|[+-][01][0-9](:?[0-6][0-9])?)?)?";
        let strategy = near.prop_map(|text: String| text).boxed();
        (0..3000)
            .map(|_| generate(&mut runner, &strategy))
            .collect()
    };
    let rows = database
        .client
        .query(
            "select t, rowcall.iso_instant(t) from unnest($1::text[]) t",
            &[&texts],
        )
        .await
        .unwrap();
    let mut instants = 0;
    for row in rows {
        let (text, micros): (String, Option<i64>) = (row.get(0), row.get(1));
        assert_eq!(
            micros,
            rowcall_core::filter::Literal::new(text.clone()).instant_micros(),
            "{text}"
        );
        instants += usize::from(micros.is_some());
    }
    assert!(instants > 300, "{instants} are instants");
}

/// Filters on activities themselves: the columns of a new row, and those that an application added.
#[tokio::test]
async fn activities_are_filtered_as_they_were_when_new() {
    let database = database().await;
    database
        .client
        .batch_execute("alter table rtx_activities add column urgency integer")
        .await
        .unwrap();
    let insert = "insert into rtx_activities (raw_data, urgency, user_id, status) values \
                  ('{\"kind\": \"a\"}', 5, '00000000-0000-0000-0000-000000000001', 'failed'), ('{\"kind\": \"a\"}', 1, null, 'pending')";
    database.client.batch_execute(insert).await.unwrap();
    let table = TableName::activities();
    for (text, count) in [
        ("urgency=gt.3", 1),
        ("user_id=eq.00000000-0000-0000-0000-000000000001", 1),
        ("user_id=is.null", 1),
        ("status=eq.pending", 2),
        (
            "raw_data->>kind=eq.a&attempted_by=is.not_null&retry_count=eq.0",
            2,
        ),
        ("raw_data->kind=eq.b", 0),
        ("attempt=is.null&source_table=is.null", 2),
        ("created_at=gt.2020-01-01", 2),
        ("nothing=is.null", 2),
    ] {
        let filter = Filter::parse(text).unwrap();
        assert_eq!(
            selected(&database, &table, &filter).await.len(),
            count,
            "{text}"
        );
        let selector = Selector {
            table: table.clone(),
            events: EventSet::ALL,
            filter: Some(filter.clone()),
        };
        for view in database.backend.sweep(&[selector], None, 10).await.unwrap() {
            assert!(
                filter.matches(view.task.filter_row()),
                "{text} on {}",
                view.task.filter_row().get()
            );
        }
    }
}

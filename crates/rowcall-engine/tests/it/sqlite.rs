//! The local store on disk, alone and under a running engine. Real time: its writer is a thread.

use std::{path::PathBuf, sync::Arc, time::Duration};

use jiff::Timestamp;
use rowcall_core::{
    AgentId, AppId, EventKind, FixedClock, MachineId, TableName, TaskId, TaskRef, Trigger,
    ports::OutputStream,
};
use rowcall_engine::store::{
    CalendarQuery, CalendarState, Ended, LogRecord, Outcome, Record, Seen, Started, Store,
    StoreError, StoreOptions, StoreWriter, TaskStore,
};

use crate::world::{World, app, app_with, options};

struct Dir {
    dir: tempfile::TempDir,
    clock: FixedClock,
}

fn now() -> Timestamp {
    "2026-11-21T10:00:00Z".parse().unwrap()
}

impl Dir {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            clock: FixedClock::at(now()),
        }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("rowcall.db")
    }

    fn open(&self) -> Store {
        Store::open(&self.path(), StoreOptions::default()).unwrap()
    }

    fn open_with(&self, options: StoreOptions) -> (Store, StoreWriter) {
        let store = Store::open(&self.path(), options).unwrap();
        let writer = StoreWriter::start(&store, Arc::new(self.clock.clone())).unwrap();
        (store, writer)
    }
}

fn task(number: u128) -> TaskRef {
    TaskRef {
        table: TableName::activities(),
        id: TaskId::Uuid(uuid::Uuid::from_u128(number)),
    }
}

fn seen(number: u128, trigger: Trigger) -> Seen {
    Seen {
        task: task(number),
        source: "orders".parse().unwrap(),
        event: EventKind::Insert,
        app: AppId::new("shop").unwrap(),
        agent: AgentId::new("clerk").unwrap(),
        trigger,
        at: now(),
    }
}

fn started(number: u128, attempt: u32) -> Record {
    Record::Started(Box::new(Started {
        seen: seen(number, Trigger::Auto),
        attempt,
        machine: MachineId::new("m1").unwrap(),
    }))
}

fn ended(number: u128, attempt: u32, outcome: Outcome) -> Record {
    Record::Ended(Box::new(Ended {
        task: task(number),
        attempt,
        at: now(),
        outcome,
        error: (outcome == Outcome::Failed).then(|| "it broke".to_owned()),
    }))
}

fn line(number: u128, text: &str) -> Record {
    Record::Log(Box::new(LogRecord {
        task: task(number),
        attempt: 1,
        at: now(),
        stream: OutputStream::Stdout,
        line: text.to_owned(),
    }))
}

async fn write(writer: &StoreWriter, mut records: Vec<Record>) {
    while !records.is_empty() {
        writer.write(&mut records);
        writer.room().await;
    }
    writer.flush().await;
    assert_eq!(writer.take_trouble(), None);
}

fn calendar(store: &Store) -> Vec<(TaskId, CalendarState)> {
    let query = CalendarQuery {
        limit: 100,
        ..CalendarQuery::default()
    };
    let rows = store.calendar(&query).unwrap();
    rows.into_iter()
        .map(|row| (row.task_id.parse().unwrap(), row.state))
        .collect()
}

#[tokio::test]
async fn a_task_is_in_the_calendar_once() {
    let dir = Dir::new();
    let (store, writer) = dir.open_with(StoreOptions::default());
    let again = || Record::Seen(Box::new(seen(1, Trigger::Auto)));
    write(&writer, vec![again(), again()]).await;
    write(&writer, vec![again()]).await;
    assert_eq!(calendar(&store), [(task(1).id, CalendarState::Seen)]);
    write(&writer, vec![started(1, 1), again()]).await;
    assert_eq!(calendar(&store), [(task(1).id, CalendarState::Running)]);
    write(&writer, vec![ended(1, 1, Outcome::Failed), again()]).await;
    assert_eq!(calendar(&store), [(task(1).id, CalendarState::Failed)]);
}

#[tokio::test]
async fn attempts_are_kept_whether_or_not_they_fit_in_one_batch() {
    let dir = Dir::new();
    let (store, writer) = dir.open_with(StoreOptions::default());
    write(&writer, vec![started(1, 1)]).await;
    write(
        &writer,
        vec![
            ended(1, 1, Outcome::Failed),
            started(1, 2),
            ended(1, 2, Outcome::Completed),
        ],
    )
    .await;
    let attempts = store.attempts(&task(1).id, None).unwrap();
    let told: Vec<_> = attempts
        .iter()
        .map(|row| (row.attempt, row.outcome, row.error.as_deref()))
        .collect();
    assert_eq!(
        told,
        [
            (1, Some(Outcome::Failed), Some("it broke")),
            (2, Some(Outcome::Completed), None)
        ]
    );
    assert_eq!(attempts[1].ended_at, Some(now()));
    assert_eq!(attempts[0].machine.as_deref(), Some("m1"));
    assert!(store.attempts(&task(2).id, None).unwrap().is_empty());
}

#[tokio::test]
async fn a_review_task_waits_again_after_a_release() {
    let dir = Dir::new();
    let (store, writer) = dir.open_with(StoreOptions::default());
    write(
        &writer,
        vec![Record::Seen(Box::new(seen(1, Trigger::Review)))],
    )
    .await;
    assert_eq!(calendar(&store), [(task(1).id, CalendarState::Waiting)]);
    write(&writer, vec![started(1, 1)]).await;
    write(&writer, vec![ended(1, 1, Outcome::Released)]).await;
    assert_eq!(calendar(&store), [(task(1).id, CalendarState::Waiting)]);
    assert!(
        store
            .mark_calendar(&task(1), CalendarState::Skipped, None, now())
            .unwrap()
    );
    assert_eq!(calendar(&store), [(task(1).id, CalendarState::Skipped)]);
}

#[tokio::test]
async fn what_a_killed_daemon_left_open_is_interrupted() {
    let dir = Dir::new();
    {
        let (_store, writer) = dir.open_with(StoreOptions::default());
        write(&writer, vec![started(1, 1)]).await;
    }
    let (store, _writer) = dir.open_with(StoreOptions::default());
    let attempts = store.attempts(&task(1).id, None).unwrap();
    assert_eq!(attempts[0].outcome, Some(Outcome::Interrupted));
    assert_eq!(calendar(&store), [(task(1).id, CalendarState::Seen)]);
}

#[tokio::test]
async fn logs_keep_the_first_and_the_last_lines() {
    let dir = Dir::new();
    let small = StoreOptions {
        log_head: 100,
        log_tail: 200,
        ..StoreOptions::default()
    };
    let (store, writer) = dir.open_with(small);
    // In several batches, each line 10 bytes with its end.
    for batch in 0..10 {
        let lines = (0..100).map(|n| line(1, &format!("{:09}", batch * 100 + n)));
        write(&writer, lines.collect()).await;
    }
    let page = store
        .logs(&task(1).id, None, None, 0, 1_000)
        .unwrap()
        .unwrap();
    let texts: Vec<i64> = page
        .lines
        .iter()
        .map(|line| line.line.parse().unwrap())
        .collect();
    let expected: Vec<i64> = (0..10).chain(980..1_000).collect();
    assert_eq!(texts, expected);
    let cut = page.cut.unwrap();
    assert_eq!((cut.after, cut.lines, cut.bytes), (10, 970, 9_700));
    let attempt = &store.attempts(&task(1).id, None).unwrap()[0];
    assert_eq!(
        (attempt.log_lines, attempt.log_bytes, attempt.cut_lines),
        (1_000, 300, 970)
    );
}

#[tokio::test]
async fn a_follower_reads_on_from_its_cursor() {
    let dir = Dir::new();
    let (store, writer) = dir.open_with(StoreOptions::default());
    assert_eq!(store.logs(&task(1).id, None, None, 0, 10).unwrap(), None);
    write(&writer, vec![started(1, 1), line(1, "a"), line(1, "b")]).await;
    let first = store
        .logs(&task(1).id, None, Some(1), 0, 10)
        .unwrap()
        .unwrap();
    assert_eq!((first.lines.len(), first.ended), (2, false));
    let cursor = first.lines.last().unwrap().seq;
    write(&writer, vec![line(1, "c"), ended(1, 1, Outcome::Completed)]).await;
    let next = store
        .logs(&task(1).id, None, Some(1), cursor, 10)
        .unwrap()
        .unwrap();
    assert_eq!((next.lines[0].line.as_str(), next.ended), ("c", true));
}

#[tokio::test]
async fn a_line_that_comes_before_its_attempt_is_kept() {
    let dir = Dir::new();
    let (store, writer) = dir.open_with(StoreOptions::default());
    write(&writer, vec![line(1, "early")]).await;
    write(&writer, vec![started(1, 1)]).await;
    let page = store.logs(&task(1).id, None, None, 0, 10).unwrap().unwrap();
    assert_eq!(page.lines[0].line, "early");
    let attempt = &store.attempts(&task(1).id, None).unwrap()[0];
    assert_eq!(
        (attempt.app.as_deref(), attempt.log_lines),
        (Some("shop"), 1)
    );
}

#[tokio::test]
async fn old_history_is_forgotten_and_open_entries_are_not() {
    let dir = Dir::new();
    let short = StoreOptions {
        keep: Duration::from_hours(1),
        ..StoreOptions::default()
    };
    {
        let (_store, writer) = dir.open_with(short);
        let waiting = Record::Seen(Box::new(seen(2, Trigger::Review)));
        write(
            &writer,
            vec![
                started(1, 1),
                line(1, "x"),
                ended(1, 1, Outcome::Completed),
                waiting,
            ],
        )
        .await;
    }
    dir.clock.advance(Duration::from_hours(2));
    let (store, writer) = dir.open_with(short);
    write(&writer, vec![line(3, "wakes the writer")]).await;
    assert_eq!(calendar(&store), [(task(2).id, CalendarState::Waiting)]);
    assert!(store.attempts(&task(1).id, None).unwrap().is_empty());
}

#[tokio::test]
async fn lines_are_bounded_in_total_and_the_oldest_go_first() {
    let dir = Dir::new();
    let small = StoreOptions {
        log_total: 2_500,
        ..StoreOptions::default()
    };
    {
        let (_store, writer) = dir.open_with(StoreOptions::default());
        for number in 1..=5 {
            let text = "x".repeat(999);
            write(
                &writer,
                vec![
                    started(number, 1),
                    line(number, &text),
                    ended(number, 1, Outcome::Completed),
                ],
            )
            .await;
        }
    }
    let (store, writer) = dir.open_with(small);
    write(&writer, vec![started(9, 1)]).await;
    let kept: Vec<usize> = (1..=5)
        .map(|n| {
            store
                .logs(&task(n).id, None, None, 0, 10)
                .unwrap()
                .unwrap()
                .lines
                .len()
        })
        .collect();
    assert_eq!(kept, [0, 0, 0, 1, 1]);
    assert_eq!(store.attempts(&task(1).id, None).unwrap()[0].cut_lines, 1);
}

#[test]
fn apps_are_kept_as_given_and_other_connections_notice() {
    let dir = Dir::new();
    let (daemon, cli) = (dir.open(), dir.open());
    let mut watch = daemon.watch_apps().unwrap();
    let name = AppId::new("shop").unwrap();
    let manifest = r#"{"name": "shop",  "display_name": "Shop"}"#;
    assert!(!watch.changed().unwrap());
    cli.put_app(&name, manifest, now()).unwrap();
    assert!(watch.changed().unwrap());
    assert!(!watch.changed().unwrap());
    let app = daemon.app(&name).unwrap().unwrap();
    assert_eq!((app.manifest.as_str(), app.enabled), (manifest, true));
    assert_eq!(app.parse().unwrap().display_name.as_deref(), Some("Shop"));
    assert!(cli.enable_app(&name, false, now()).unwrap());
    assert!(watch.changed().unwrap());
    // A new manifest does not switch it on again.
    cli.put_app(&name, manifest, now()).unwrap();
    assert!(!daemon.apps().unwrap()[0].enabled);
    assert!(cli.remove_app(&name).unwrap() && !cli.remove_app(&name).unwrap());
    assert_eq!(daemon.apps().unwrap(), []);
}

#[tokio::test]
async fn history_is_no_change_of_the_apps() {
    let dir = Dir::new();
    let (store, writer) = dir.open_with(StoreOptions::default());
    let mut watch = store.watch_apps().unwrap();
    write(&writer, vec![started(1, 1)]).await;
    assert!(!watch.changed().unwrap());
}

#[test]
fn a_newer_store_is_refused_unchanged() {
    let dir = Dir::new();
    drop(dir.open());
    let raw = rusqlite::Connection::open(dir.path()).unwrap();
    raw.pragma_update(None, "user_version", 99).unwrap();
    drop(raw);
    let before = std::fs::read(dir.path()).unwrap();
    let error = Store::open(&dir.path(), StoreOptions::default()).unwrap_err();
    assert!(
        matches!(error, StoreError::Newer { found: 99, .. }),
        "{error}"
    );
    assert!(error.to_string().contains("newer rowcall"));
    assert_eq!(std::fs::read(dir.path()).unwrap(), before);
}

#[test]
fn a_damaged_store_is_refused_unchanged() {
    let dir = Dir::new();
    let store = dir.open();
    for number in 0..200 {
        let name = AppId::new(format!("app{number}")).unwrap();
        store.put_app(&name, &"x".repeat(500), now()).unwrap();
    }
    drop(store);
    let mut bytes = std::fs::read(dir.path()).unwrap();
    // The first page stays; everything behind it is noise.
    for byte in &mut bytes[4_096..] {
        *byte = 0x5a;
    }
    std::fs::write(dir.path(), &bytes).unwrap();
    let failure = match Store::open(&dir.path(), StoreOptions::default()) {
        Ok(store) => store.apps().unwrap_err(),
        Err(error) => error,
    };
    assert!(matches!(failure, StoreError::Corrupt { .. }), "{failure}");
    assert!(failure.to_string().contains("move it away"));

    std::fs::write(
        dir.path(),
        b"this is no database, but it is long enough to be looked at",
    )
    .unwrap();
    let error = Store::open(&dir.path(), StoreOptions::default()).unwrap_err();
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
    assert!(
        std::fs::read(dir.path())
            .unwrap()
            .starts_with(b"this is no database")
    );
}

#[test]
fn a_database_of_another_program_is_refused_unchanged() {
    let dir = Dir::new();
    let raw = rusqlite::Connection::open(dir.path()).unwrap();
    raw.execute_batch("create table bookmarks (url text)")
        .unwrap();
    drop(raw);
    let error = Store::open(&dir.path(), StoreOptions::default()).unwrap_err();
    assert!(matches!(error, StoreError::Foreign { .. }), "{error}");
}

#[test]
fn a_locked_store_says_so() {
    let dir = Dir::new();
    drop(dir.open());
    let raw = rusqlite::Connection::open(dir.path()).unwrap();
    raw.execute_batch("begin immediate").unwrap();
    let patient = StoreOptions {
        busy_timeout: Duration::from_millis(20),
        ..StoreOptions::default()
    };
    let store = Store::open(&dir.path(), patient).unwrap();
    let error = store
        .put_app(&AppId::new("a").unwrap(), "{}", now())
        .unwrap_err();
    assert!(matches!(error, StoreError::Locked { .. }), "{error}");
    raw.execute_batch("rollback").unwrap();
    store
        .put_app(&AppId::new("a").unwrap(), "{}", now())
        .unwrap();
}

#[test]
fn a_store_that_cannot_be_reached_says_where() {
    let dir = Dir::new();
    let path = dir.dir.path().join("missing").join("rowcall.db");
    let error = Store::open(&path, StoreOptions::default()).unwrap_err();
    assert!(matches!(error, StoreError::Inaccessible { .. }), "{error}");
    assert!(error.to_string().contains("missing"));
}

#[cfg(unix)]
#[test]
fn the_file_belongs_to_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = Dir::new();
    drop(dir.open());
    let mode = std::fs::metadata(dir.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn two_processes_may_open_a_new_store_at_once() {
    let dir = Dir::new();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| dir.open().apps().unwrap());
        }
    });
}

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

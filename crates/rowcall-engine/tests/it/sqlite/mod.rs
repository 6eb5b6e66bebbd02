//! The local store on disk, alone and under a running engine. Real time: its writer is a thread.

mod engine;
mod files;
mod history;
mod limits;

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

//! Where an agent's lines go: to the store and to whoever watches.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use rowcall_core::{
    TaskRef,
    ports::{OutputStream, RunLog},
};

use crate::{
    bus::{What, cut},
    shared::Shared,
    store::{LogRecord, Record},
};

/// How many lines of one attempt become events. A chatty agent must not push everything else out of the ring; the store
/// has the rest.
const MAX_EVENT_LINES: u32 = 1_000;

pub(crate) struct UnitLog {
    pub(crate) shared: Arc<Shared>,
    pub(crate) source: Arc<str>,
    pub(crate) task: TaskRef,
    pub(crate) attempt: u32,
    pub(crate) events: AtomicU32,
}

impl RunLog for UnitLog {
    fn line(&self, stream: OutputStream, line: &str) {
        let at = self.shared.clock.now();
        if self.events.load(Ordering::Relaxed) < MAX_EVENT_LINES {
            self.events.fetch_add(1, Ordering::Relaxed);
            let what = What::Log {
                task: self.task.clone(),
                attempt: self.attempt,
                stream,
                line: cut(line),
            };
            self.shared.bus.publish(at, &self.source, [what]);
        }
        if self.shared.store.enabled() {
            let mut records = vec![Record::Log(Box::new(LogRecord {
                task: self.task.clone(),
                attempt: self.attempt,
                at,
                stream,
                line: line.to_owned(),
            }))];
            self.shared.store.write(&mut records);
            if !records.is_empty() {
                self.shared.counters.log_lines_dropped.add(1);
            }
        }
    }
}

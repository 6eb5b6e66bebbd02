//! What agents printed, bounded per attempt: the first lines, the last lines, and a note of what was cut between them.

use std::collections::{HashMap, VecDeque};

use jiff::Timestamp;
use rowcall_core::{TableName, TaskId, TaskRef, ports::OutputStream};
use rusqlite::{Connection, OptionalExtension as _, params};
use serde::Serialize;

use super::{
    open::{Store, StoreError, StoreOptions, time},
    record::LogRecord,
};

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LogLine {
    /// Its number within the attempt, from 1: the cursor for what follows.
    pub seq: i64,
    /// When.
    pub at: Timestamp,
    /// On which output.
    pub stream: OutputStream,
    /// The line without its end.
    pub line: String,
}

/// What was thrown away between the first and the last lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Cut {
    /// It stood after this line; 0 for the beginning.
    pub after: i64,
    /// How many lines.
    pub lines: i64,
    /// How many bytes.
    pub bytes: i64,
}

/// A part of an attempt's output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LogPage {
    /// Which attempt it is of.
    pub attempt: u32,
    /// Whether the attempt has ended, so that a follower may stop once a page comes back empty.
    pub ended: bool,
    /// The lines.
    pub lines: Vec<LogLine>,
    /// What is missing.
    pub cut: Option<Cut>,
}

impl Store {
    /// Lines of an attempt (the last one when `attempt` is `None`) after a cursor (0 for the beginning). `None` when this
    /// machine knows no such attempt.
    pub fn logs(
        &self,
        task: &TaskId,
        table: Option<&TableName>,
        attempt: Option<u32>,
        after: i64,
        limit: u32,
    ) -> Result<Option<LogPage>, StoreError> {
        let connection = self.lock();
        page(&connection, task, table, attempt, after, limit).map_err(|error| self.error(error))
    }
}

fn page(
    connection: &Connection,
    task: &TaskId,
    table: Option<&TableName>,
    attempt: Option<u32>,
    after: i64,
    limit: u32,
) -> rusqlite::Result<Option<LogPage>> {
    let found = connection
        .prepare_cached(include_str!("sql/log_attempt.sql"))?
        .query_row(
            params![task.to_string(), table.map(ToString::to_string), attempt],
            |row| {
                let lines: i64 = row.get(4)?;
                let cut = (lines > 0).then_some(Cut {
                    after: row.get::<_, Option<i64>>(3)?.unwrap_or(0),
                    lines,
                    bytes: row.get(5)?,
                });
                Ok((row.get::<_, i64>(0)?, row.get(1)?, row.get(2)?, cut))
            },
        )
        .optional()?;
    let Some((id, attempt, ended, cut)) = found else {
        return Ok(None);
    };
    let lines = connection
        .prepare_cached(include_str!("sql/log_page.sql"))?
        .query_map(params![id, after, limit], |row| {
            Ok(LogLine {
                seq: row.get(0)?,
                at: time(row.get(1)?),
                stream: match row.get::<_, i64>(2)? {
                    1 => OutputStream::Stdout,
                    _ => OutputStream::Stderr,
                },
                line: row.get(3)?,
            })
        })?
        .collect::<rusqlite::Result<_>>()?;
    Ok(Some(LogPage {
        attempt,
        ended,
        lines,
        cut,
    }))
}

/// How many attempts' line counts are held in memory.
const MAX_OPEN_LOGS: usize = 4_096;

/// The lines of one attempt while it prints.
#[derive(Debug)]
struct OpenLog {
    row: i64,
    seq: i64,
    head_bytes: usize,
    /// The last line of the head, once it is full.
    head_end: Option<i64>,
    tail: VecDeque<(i64, usize)>,
    tail_bytes: usize,
    cut_lines: i64,
    cut_bytes: i64,
    /// Not written yet.
    fresh: Vec<(i64, i64, i64, String)>,
    used: u64,
}

/// All attempts that print, as the writer knows them.
#[derive(Debug, Default)]
pub(super) struct OpenLogs {
    open: HashMap<(TaskRef, u32), OpenLog>,
    touched: Vec<(TaskRef, u32)>,
    clock: u64,
}

impl OpenLogs {
    /// Takes a line; [`Self::write`] writes it.
    pub(super) fn add(
        &mut self,
        connection: &Connection,
        options: &StoreOptions,
        record: LogRecord,
    ) -> rusqlite::Result<()> {
        let key = (record.task, record.attempt);
        self.clock += 1;
        if !self.open.contains_key(&key) {
            self.make_room();
            let log = open_log(connection, options, &key, record.at)?;
            self.open.insert(key.clone(), log);
        }
        let log = self.open.get_mut(&key).expect("it was just put in");
        log.used = self.clock;
        if log.fresh.is_empty() {
            self.touched.push(key);
        }
        let mut line = record.line;
        line.truncate(line.floor_char_boundary(options.log_tail.max(1)));
        log.push(options, record.at.as_millisecond(), record.stream, line);
        Ok(())
    }

    fn make_room(&mut self) {
        if self.open.len() < MAX_OPEN_LOGS {
            return;
        }
        // The least recently used half; those with unwritten lines were used just now.
        let mut ages: Vec<u64> = self.open.values().map(|log| log.used).collect();
        let (_, middle, _) = ages.select_nth_unstable(MAX_OPEN_LOGS / 2);
        let middle = *middle;
        self.open
            .retain(|_, log| log.used > middle || !log.fresh.is_empty());
    }

    /// Writes what was added since the last time.
    pub(super) fn write(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        for key in self.touched.drain(..) {
            if let Some(log) = self.open.get_mut(&key) {
                log.write(connection)?;
            }
        }
        Ok(())
    }

    /// After a failed transaction nothing is certain: the next line reads the attempt anew.
    pub(super) fn forget(&mut self) {
        self.open.clear();
        self.touched.clear();
    }
}

fn open_log(
    connection: &Connection,
    options: &StoreOptions,
    key: &(TaskRef, u32),
    at: Timestamp,
) -> rusqlite::Result<OpenLog> {
    let (row, seq): (i64, i64) = connection
        .prepare_cached(include_str!("sql/attempt_open.sql"))?
        .query_row(
            params![
                key.0.table.to_string(),
                key.0.id.to_string(),
                key.1,
                at.as_millisecond()
            ],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?;
    Ok(OpenLog {
        row,
        seq,
        // Lines from before this process remembered the attempt count as its head.
        head_bytes: if seq > 0 { options.log_head } else { 0 },
        head_end: (seq > 0).then_some(seq),
        tail: VecDeque::new(),
        tail_bytes: 0,
        cut_lines: 0,
        cut_bytes: 0,
        fresh: Vec::new(),
        used: 0,
    })
}

impl OpenLog {
    fn push(&mut self, options: &StoreOptions, at: i64, stream: OutputStream, line: String) {
        self.seq += 1;
        let bytes = line.len() + 1;
        if self.head_end.is_none() && self.head_bytes + bytes <= options.log_head {
            self.head_bytes += bytes;
        } else {
            self.head_end.get_or_insert(self.seq - 1);
            self.tail.push_back((self.seq, bytes));
            self.tail_bytes += bytes;
            while self.tail_bytes > options.log_tail && self.tail.len() > 1 {
                let Some((_, bytes)) = self.tail.pop_front() else {
                    break;
                };
                self.tail_bytes -= bytes;
                self.cut_lines += 1;
                self.cut_bytes += i64::try_from(bytes).unwrap_or(i64::MAX);
            }
        }
        let stream = match stream {
            OutputStream::Stdout => 1,
            OutputStream::Stderr => 2,
        };
        self.fresh.push((self.seq, at, stream, line));
        // A flood within one batch: what was cut already need not wait in memory.
        if self.fresh.len() > 2 * (self.tail.len() + 64) {
            let (head_end, tail_start) = self.bounds();
            self.fresh
                .retain(|(seq, ..)| *seq <= head_end || *seq >= tail_start);
        }
    }

    /// The last line of the head and the first of the tail.
    fn bounds(&self) -> (i64, i64) {
        (
            self.head_end.unwrap_or(self.seq),
            self.tail.front().map_or(self.seq + 1, |(seq, _)| *seq),
        )
    }

    fn write(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        let (head_end, tail_start) = self.bounds();
        let mut add = connection.prepare_cached(include_str!("sql/log_add.sql"))?;
        for (seq, at, stream, line) in self.fresh.drain(..) {
            if seq <= head_end || seq >= tail_start {
                add.execute(params![self.row, seq, at, stream, line])?;
            }
        }
        if self.cut_lines > 0 {
            connection
                .prepare_cached(include_str!("sql/log_cut.sql"))?
                .execute(params![self.row, head_end + 1, tail_start - 1])?;
        }
        connection
            .prepare_cached(include_str!("sql/log_sizes.sql"))?
            .execute(params![
                self.row,
                self.seq,
                i64::try_from(self.head_bytes + self.tail_bytes).unwrap_or(i64::MAX),
                self.head_end,
                self.cut_lines,
                self.cut_bytes,
            ])?;
        Ok(())
    }
}

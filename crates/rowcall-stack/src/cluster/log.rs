//! The server's log: a bounded file, and the last lines in memory.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::thread;

use parking_lot::Mutex;

use super::error::says_disk_full;

/// The file is replaced when it has grown to this size; one older file is kept.
const FILE_LIMIT: u64 = 10 * 1024 * 1024;
/// Lines kept in memory.
const RING_LINES: usize = 400;
/// A longer line is cut into several.
const LINE_LIMIT: u64 = 8 * 1024;
/// Lines shown in an error.
const EXCERPT_LINES: usize = 15;

/// Log of the server, over all its restarts.
#[derive(Debug)]
pub(crate) struct ServerLog {
    path: PathBuf,
    file_limit: u64,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    file: Option<File>,
    size: u64,
    ring: VecDeque<String>,
    /// Lines ever seen.
    count: u64,
}

/// A place in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark(u64);

impl ServerLog {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self {
            path,
            file_limit: FILE_LIMIT,
            inner: Mutex::default(),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The end of the log so far.
    pub(crate) fn mark(&self) -> Mark {
        Mark(self.inner.lock().count)
    }

    /// Lines after `mark`, as many as memory holds.
    pub(crate) fn since(&self, mark: Mark) -> Vec<String> {
        let inner = self.inner.lock();
        let new = usize::try_from(inner.count - mark.0).unwrap_or(usize::MAX);
        let skip = inner.ring.len().saturating_sub(new);
        inner.ring.iter().skip(skip).cloned().collect()
    }

    /// The last lines.
    pub(crate) fn tail(&self, lines: usize) -> Vec<String> {
        let inner = self.inner.lock();
        let skip = inner.ring.len().saturating_sub(lines);
        inner.ring.iter().skip(skip).cloned().collect()
    }

    /// The end of what was logged after `mark`, for an error.
    pub(crate) fn excerpt(&self, mark: Mark) -> String {
        let lines = self.since(mark);
        if lines.is_empty() {
            return "  (nothing was logged)".to_owned();
        }
        let skip = lines.len().saturating_sub(EXCERPT_LINES);
        let indented: Vec<String> = lines[skip..]
            .iter()
            .map(|line| format!("  {line}"))
            .collect();
        indented.join("\n")
    }

    /// The line after `mark` that says that the server ended because the disk is full. A statement
    /// that failed for that reason is only an `ERROR`.
    pub(crate) fn disk_full(&self, mark: Mark) -> Option<String> {
        let ends_server = |line: &str| line.contains("PANIC: ") || line.contains("FATAL: ");
        self.since(mark)
            .into_iter()
            .find(|line| ends_server(line) && says_disk_full(line))
    }

    /// Whether the server could not listen on one of its addresses. With two addresses that is only
    /// a warning, and our URL would lead to somebody else's server.
    pub(crate) fn port_taken(&self, mark: Mark) -> bool {
        self.since(mark).iter().any(|line| {
            line.contains("could not create listen socket for")
                || line.contains("could not create any TCP/IP sockets")
                || (line.contains("could not bind IPv") && line.contains("in use"))
        })
    }

    /// Copies a stream into the log until it ends, on a thread of its own.
    pub(crate) fn follow(
        self: &std::sync::Arc<Self>,
        stream: impl Read + Send + 'static,
    ) -> thread::JoinHandle<()> {
        let log = std::sync::Arc::clone(self);
        thread::spawn(move || {
            let mut reader = BufReader::new(stream);
            let mut line = Vec::new();
            loop {
                line.clear();
                match reader
                    .by_ref()
                    .take(LINE_LIMIT)
                    .read_until(b'\n', &mut line)
                {
                    Ok(0) | Err(_) => return,
                    Ok(_) => log.append(&String::from_utf8_lossy(&line)),
                }
            }
        })
    }

    fn append(&self, line: &str) {
        let line = line.trim_end_matches('\n');
        tracing::trace!(target: "rowcall::postgres", "{line}");
        let mut inner = self.inner.lock();
        inner.count += 1;
        if inner.ring.len() == RING_LINES {
            inner.ring.pop_front();
        }
        inner.ring.push_back(line.to_owned());
        // On a full disk the lines in memory are all there is.
        if let Err(error) = self.write(&mut inner, line) {
            tracing::debug!(%error, path = %self.path.display(), "could not write the server's log");
        }
    }

    fn write(&self, inner: &mut Inner, line: &str) -> std::io::Result<()> {
        if inner.size >= self.file_limit {
            inner.file = None;
            fs::rename(&self.path, self.path.with_extension("log.1"))?;
        }
        if inner.file.is_none() {
            let file = OpenOptions::new()
                .create(true)
                .append(true)
                .mode(0o600)
                .open(&self.path)?;
            inner.size = file.metadata()?.len();
            inner.file = Some(file);
        }
        let file = inner.file.as_mut().expect("opened above");
        writeln!(file, "{line}")?;
        inner.size += line.len() as u64 + 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::sync::Arc;

    fn log() -> (tempfile::TempDir, ServerLog) {
        let top = tempfile::tempdir().expect("a temporary directory");
        let log = ServerLog::new(top.path().join("postgres.log"));
        (top, log)
    }

    #[test]
    fn keeps_the_file_and_the_memory_bounded() {
        let (top, mut log) = log();
        log.file_limit = 1000;
        for number in 0..1000 {
            log.append(&format!("line {number}"));
        }
        let size = |name: &str| fs::metadata(top.path().join(name)).expect(name).len();
        assert!(size("postgres.log") < 1100);
        assert!(size("postgres.log.1") < 1100);
        assert_eq!(fs::read_dir(top.path()).expect("listed").count(), 2);
        assert_eq!(log.tail(2), ["line 998", "line 999"]);
        assert_eq!(log.tail(usize::MAX).len(), RING_LINES);
    }

    #[test]
    fn reads_a_stream_with_endless_lines() {
        let (_top, log) = log();
        let log = Arc::new(log);
        log.append("before");
        let mark = log.mark();
        let mut stream = vec![b'x'; 20_000];
        stream.extend_from_slice(b"\nlast \xff\n");
        let reader = log.follow(std::io::Cursor::new(stream));
        reader.join().expect("the reader");
        let lines = log.since(mark);
        assert_eq!(lines.len(), 4);
        assert_eq!(lines.iter().take(3).map(String::len).sum::<usize>(), 20_000);
        assert_eq!(lines[3], "last \u{fffd}");
    }

    #[test]
    fn finds_what_went_wrong_after_the_mark_only() {
        let (_top, log) = log();
        let full = "PANIC:  could not write to file \"pg_wal/x\": No space left on device";
        log.append(full);
        let mark = log.mark();
        assert_eq!(log.disk_full(mark), None);
        assert!(!log.port_taken(mark));
        assert_eq!(log.excerpt(mark), "  (nothing was logged)");
        log.append("ERROR:  could not extend file: No space left on device");
        assert_eq!(log.disk_full(mark), None);
        log.append("WARNING:  could not create listen socket for \"127.0.0.1\"");
        log.append(full);
        assert!(log.port_taken(mark));
        assert_eq!(log.disk_full(mark).as_deref(), Some(full));
    }
}

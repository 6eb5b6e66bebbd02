//! What is kept of a stream: its beginning in the log, and its end.

use std::sync::Arc;

use rowcall_core::ports::{OutputStream, RunLog};

use super::line::{Line, readable};
use crate::options::Limits;

/// How much of a stream's end is kept for error messages and for the end of a cut log.
const TAIL_BYTES: usize = 16 * 1024;

/// The end of a stream.
#[derive(Debug, Default)]
pub(crate) struct Tail(Vec<u8>);

impl Tail {
    pub(crate) fn push(&mut self, chunk: &[u8]) {
        let chunk = &chunk[chunk.len().saturating_sub(TAIL_BYTES)..];
        // Moving the buffer down once for each `TAIL_BYTES` keeps a flood of short chunks cheap.
        if self.0.len() + chunk.len() > 2 * TAIL_BYTES {
            let surplus = self.0.len().saturating_sub(TAIL_BYTES - chunk.len());
            self.0.drain(..surplus);
        }
        self.0.extend_from_slice(chunk);
    }

    /// The last whole lines that fit into `limit` bytes, or the end of the last line when it alone is longer.
    pub(crate) fn text(&self, limit: usize) -> String {
        let bytes = self.0.trim_ascii_end();
        let end = &bytes[bytes.len().saturating_sub(limit)..];
        let end = if end.len() == bytes.len() {
            end
        } else {
            match end.iter().position(|byte| *byte == b'\n') {
                Some(at) if at + 1 < end.len() => &end[at + 1..],
                _ => end,
            }
        };
        readable(end).trim_start_matches('\u{fffd}').to_owned()
    }
}

/// A log that takes so much and no more.
pub(crate) struct BoundedLog {
    log: Arc<dyn RunLog>,
    stream: OutputStream,
    line_bytes: usize,
    left: u64,
    limit: u64,
    dropped_lines: u64,
    dropped_bytes: u64,
}

impl BoundedLog {
    pub(crate) fn new(log: Arc<dyn RunLog>, stream: OutputStream, limits: &Limits) -> Self {
        Self {
            log,
            stream,
            line_bytes: limits.line_bytes,
            left: limits.log_bytes,
            limit: limits.log_bytes,
            dropped_lines: 0,
            dropped_bytes: 0,
        }
    }

    pub(crate) fn line(&mut self, line: Line<'_>) {
        let cost = line.total.min(self.line_bytes as u64) + 1;
        if self.dropped_lines == 0 && cost <= self.left {
            self.left -= cost;
            self.log.line(self.stream, &line.text(self.line_bytes));
            return;
        }
        if self.dropped_lines == 0 {
            let note = format!(
                "[rowcall: more than {} bytes of output; what follows is dropped, except for its end]",
                self.limit
            );
            self.log.line(self.stream, &note);
        }
        self.dropped_lines += 1;
        self.dropped_bytes += line.total + 1;
    }

    pub(crate) fn note(&mut self, text: &str) {
        self.line(Line::new(text.as_bytes(), text.len() as u64));
    }

    /// The stream has ended: says what was dropped, and shows the end of it.
    pub(crate) fn finish(&mut self, tail: &Tail) {
        if self.dropped_lines == 0 {
            return;
        }
        let lines = std::mem::take(&mut self.dropped_lines);
        let note = format!(
            "[rowcall: {lines} lines ({} bytes) dropped; the end of them:]",
            self.dropped_bytes
        );
        self.log.line(self.stream, &note);
        let shown = usize::try_from(self.dropped_bytes)
            .unwrap_or(TAIL_BYTES)
            .min(TAIL_BYTES);
        for line in tail.text(shown).lines() {
            self.log.line(self.stream, line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_is_whole_lines() {
        let mut tail = Tail::default();
        for number in 0..100_000 {
            tail.push(format!("line {number}\n").as_bytes());
        }
        assert!(tail.0.len() <= 2 * TAIL_BYTES);
        assert_eq!(tail.text(25), "line 99998\nline 99999");
        assert_eq!(tail.text(4), "9999");
        let mut long = Tail::default();
        long.push(&vec![b'x'; 10 * TAIL_BYTES]);
        assert_eq!(long.text(10), "x".repeat(10));
    }
}

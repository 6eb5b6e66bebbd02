//! What an app's program printed lately, for reading and following.

use std::collections::VecDeque;

use jiff::Timestamp;
use parking_lot::Mutex;
use rowcall_core::ports::OutputStream;
use serde::Serialize;
use tokio::sync::watch;

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AppLine {
    /// Grows with every line: the cursor for what follows.
    pub seq: u64,
    /// When.
    pub at: Timestamp,
    /// On which output.
    pub stream: OutputStream,
    /// The line without its end.
    pub line: String,
}

/// A part of the output.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct AppLines {
    /// The lines.
    pub lines: Vec<AppLine>,
    /// How many lines before them are gone.
    pub missed: u64,
}

/// The last lines, bounded in number and bytes.
#[derive(Debug)]
pub(super) struct LogRing {
    ring: Mutex<Ring>,
    latest: watch::Sender<u64>,
    max_lines: usize,
    max_bytes: usize,
}

#[derive(Debug, Default)]
struct Ring {
    lines: VecDeque<AppLine>,
    bytes: usize,
    next: u64,
}

impl LogRing {
    pub(super) fn new(max_lines: usize, max_bytes: usize) -> Self {
        Self {
            ring: Mutex::default(),
            latest: watch::Sender::new(0),
            max_lines,
            max_bytes,
        }
    }

    pub(super) fn push(&self, at: Timestamp, stream: OutputStream, line: String) {
        let mut ring = self.ring.lock();
        ring.next += 1;
        let seq = ring.next;
        ring.bytes += line.len();
        ring.lines.push_back(AppLine {
            seq,
            at,
            stream,
            line,
        });
        while ring.lines.len() > self.max_lines
            || (ring.bytes > self.max_bytes && ring.lines.len() > 1)
        {
            let Some(old) = ring.lines.pop_front() else {
                break;
            };
            ring.bytes -= old.line.len();
        }
        drop(ring);
        self.latest.send_replace(seq);
    }

    pub(super) fn read(&self, after: u64, limit: usize) -> AppLines {
        let ring = self.ring.lock();
        let Some(first) = ring.lines.front().map(|line| line.seq) else {
            return AppLines::default();
        };
        let skip = usize::try_from((after + 1).saturating_sub(first)).unwrap_or(usize::MAX);
        AppLines {
            lines: ring.lines.iter().skip(skip).take(limit).cloned().collect(),
            missed: (first - 1).saturating_sub(after),
        }
    }

    /// Resolves when there is a line after `after`.
    pub(super) async fn wait(&self, after: u64) {
        let mut latest = self.latest.subscribe();
        // The sender lives as long as this ring, so this ends only with a line.
        let _ = latest.wait_for(|seq| *seq > after).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_last_lines_are_kept_and_the_gap_is_told() {
        let ring = LogRing::new(3, 10);
        for number in 0..5 {
            ring.push(
                Timestamp::UNIX_EPOCH,
                OutputStream::Stdout,
                format!("{number}"),
            );
        }
        let read = ring.read(0, 10);
        assert_eq!(read.missed, 2);
        let lines: Vec<_> = read.lines.iter().map(|line| line.line.as_str()).collect();
        assert_eq!(lines, ["2", "3", "4"]);
        assert_eq!(ring.read(4, 10).lines.len(), 1);
        assert_eq!(
            ring.read(5, 10),
            AppLines {
                lines: Vec::new(),
                missed: 0
            }
        );
        ring.push(Timestamp::UNIX_EPOCH, OutputStream::Stderr, "x".repeat(50));
        assert_eq!(
            ring.read(0, 10).lines.len(),
            1,
            "one long line is kept alone"
        );
        ring.wait(5).await;
    }
}

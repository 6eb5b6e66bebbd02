//! Reading what programs print: by line, within limits, however much it is.

mod line;
mod log;

use std::sync::Arc;

use rowcall_core::ports::{OutputStream, RunLog};
use tokio::io::{AsyncRead, AsyncReadExt};

pub(crate) use self::{
    line::{Line, LineSplitter},
    log::{BoundedLog, Tail},
};
use crate::options::Limits;

/// How much is read at once.
const CHUNK_BYTES: usize = 64 * 1024;

/// What one stream of a run printed.
pub(crate) struct Capture {
    splitter: LineSplitter,
    kept: Kept,
}

struct Kept {
    log: BoundedLog,
    tail: Tail,
    last: LastObject,
}

/// The last line that was an object of JSON.
#[derive(Debug, Default)]
pub(crate) enum LastObject {
    #[default]
    None,
    Text(String),
    /// It was this long, which is longer than the limit.
    TooLong(u64),
}

impl Capture {
    pub(crate) fn new(log: Arc<dyn RunLog>, stream: OutputStream, limits: &Limits) -> Self {
        let object_bytes = match stream {
            OutputStream::Stdout => limits.result_bytes.max(limits.line_bytes),
            OutputStream::Stderr => limits.line_bytes,
        };
        Self {
            splitter: LineSplitter::new(limits.line_bytes, object_bytes),
            kept: Kept {
                log: BoundedLog::new(log, stream, limits),
                tail: Tail::default(),
                last: LastObject::None,
            },
        }
    }

    /// Reads to the end. Safe to drop halfway: what was read counts.
    pub(crate) async fn read(&mut self, source: &mut (impl AsyncRead + Unpin)) {
        let mut chunk = vec![0; CHUNK_BYTES];
        // A read error on a pipe means as much as its end.
        while let Ok(read @ 1..) = source.read(&mut chunk).await {
            self.kept.tail.push(&chunk[..read]);
            self.splitter
                .push(&chunk[..read], |line| self.kept.line(line));
        }
    }

    /// Ends the last line and the log. Gives what is needed to know the result.
    pub(crate) fn finish(mut self) -> (LastObject, Tail) {
        self.splitter.finish(|line| self.kept.line(line));
        self.kept.log.finish(&self.kept.tail);
        (self.kept.last, self.kept.tail)
    }
}

impl Kept {
    fn line(&mut self, line: Line<'_>) {
        if line.looks_like_object() {
            if line.is_cut() {
                self.last = LastObject::TooLong(line.total);
            } else if let Ok(text) = std::str::from_utf8(line.bytes)
                && serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
            {
                self.last = LastObject::Text(text.trim().to_owned());
            }
        }
        self.log.line(line);
    }
}

/// Reads a stream to its end, giving away each line; `each` may wait.
pub(crate) async fn each_line<F, Fut>(
    mut source: impl AsyncRead + Unpin,
    mut splitter: LineSplitter,
    mut each: F,
) where
    F: FnMut(Vec<u8>, u64) -> Fut,
    Fut: Future<Output = ()>,
{
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut lines = Vec::new();
    loop {
        let read = source.read(&mut chunk).await.unwrap_or(0);
        if read == 0 {
            splitter.finish(|line| lines.push((line.bytes.to_vec(), line.total)));
        } else {
            splitter.push(&chunk[..read], |line| {
                lines.push((line.bytes.to_vec(), line.total));
            });
        }
        for (bytes, total) in lines.drain(..) {
            each(bytes, total).await;
        }
        if read == 0 {
            return;
        }
    }
}

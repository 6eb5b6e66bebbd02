//! Reading what programs print: by line, within limits, however much it is.

use std::{borrow::Cow, io::BufRead, sync::Arc};

use rowcall_core::ports::{OutputStream, RunLog};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::options::Limits;

/// How much is read at once.
const CHUNK_BYTES: usize = 64 * 1024;

/// How much of a stream's end is kept for error messages and for the end of a cut log.
const TAIL_BYTES: usize = 16 * 1024;

/// A buffer that grew for one long line is given back above this.
const KEPT_BUFFER_BYTES: usize = 256 * 1024;

/// One line of output.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Line<'a> {
    /// Its beginning, as much as the limits keep, without the line end.
    pub(crate) bytes: &'a [u8],
    /// How long it was.
    pub(crate) total: u64,
}

impl<'a> Line<'a> {
    pub(crate) fn new(bytes: &'a [u8], total: u64) -> Self {
        Self { bytes, total }
    }

    /// Whether this may be an object of JSON: lines that begin like one are kept up to a higher limit.
    pub(crate) fn looks_like_object(&self) -> bool {
        first_byte(self.bytes) == Some(b'{')
    }

    /// Whether a part is missing.
    pub(crate) fn is_cut(&self) -> bool {
        self.total > self.bytes.len() as u64
    }

    /// The line for people: at most `limit` bytes of it, valid UTF-8, without NUL, the cut marked.
    pub(crate) fn text(&self, limit: usize) -> Cow<'a, str> {
        let kept = &self.bytes[..self.bytes.len().min(limit)];
        if kept.len() as u64 == self.total {
            return readable(kept);
        }
        // A character that was cut in two is dropped, not shown as garbage.
        let kept = match std::str::from_utf8(kept) {
            Err(error) if error.error_len().is_none() => &kept[..error.valid_up_to()],
            _ => kept,
        };
        let missing = self.total - kept.len() as u64;
        Cow::Owned(format!("{} … [{missing} more bytes cut]", readable(kept)))
    }
}

fn readable(bytes: &[u8]) -> Cow<'_, str> {
    let text = String::from_utf8_lossy(bytes);
    if text.contains('\0') {
        Cow::Owned(text.replace('\0', "\u{fffd}"))
    } else {
        text
    }
}

fn first_byte(bytes: &[u8]) -> Option<u8> {
    bytes
        .iter()
        .copied()
        .find(|byte| !byte.is_ascii_whitespace())
}

/// Cuts a stream of bytes into lines. Keeps at most one line, of which at most the limit.
#[derive(Debug)]
pub(crate) struct LineSplitter {
    kept: Vec<u8>,
    total: u64,
    plain_bytes: usize,
    object_bytes: usize,
}

impl LineSplitter {
    /// Lines are kept up to `plain_bytes`, those that begin like a JSON object up to `object_bytes`.
    pub(crate) fn new(plain_bytes: usize, object_bytes: usize) -> Self {
        Self {
            kept: Vec::new(),
            total: 0,
            plain_bytes,
            object_bytes,
        }
    }

    /// Takes the next bytes, gives away the lines they complete.
    pub(crate) fn push(&mut self, mut chunk: &[u8], mut each: impl FnMut(Line<'_>)) {
        while !chunk.is_empty() {
            let mut rest = chunk;
            let taken = rest
                .skip_until(b'\n')
                .expect("reading from memory does not fail");
            let (part, next) = chunk.split_at(taken);
            chunk = next;
            match part.strip_suffix(b"\n") {
                // The usual line came whole and needs no copy.
                Some(line) if self.total == 0 && line.len() <= self.limit(line) => {
                    let line = line.strip_suffix(b"\r").unwrap_or(line);
                    each(Line {
                        bytes: line,
                        total: line.len() as u64,
                    });
                }
                Some(line) => {
                    self.keep(line);
                    self.end(&mut each);
                }
                None => self.keep(part),
            }
        }
    }

    /// The stream has ended: what is left is a line too.
    pub(crate) fn finish(&mut self, mut each: impl FnMut(Line<'_>)) {
        if self.total > 0 {
            self.end(&mut each);
        }
    }

    fn limit(&self, start: &[u8]) -> usize {
        if first_byte(start) == Some(b'{') {
            self.object_bytes
        } else {
            self.plain_bytes
        }
    }

    fn keep(&mut self, part: &[u8]) {
        let start = if first_byte(&self.kept).is_some() {
            &self.kept
        } else {
            part
        };
        let room = self.limit(start).saturating_sub(self.kept.len());
        self.kept.extend_from_slice(&part[..part.len().min(room)]);
        self.total += part.len() as u64;
    }

    fn end(&mut self, each: &mut impl FnMut(Line<'_>)) {
        let mut bytes = self.kept.as_slice();
        let mut total = self.total;
        if total == bytes.len() as u64 && bytes.ends_with(b"\r") {
            bytes = &bytes[..bytes.len() - 1];
            total -= 1;
        }
        each(Line { bytes, total });
        self.kept.clear();
        self.kept.shrink_to(KEPT_BUFFER_BYTES);
        self.total = 0;
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(input: &[&[u8]], plain: usize, object: usize) -> Vec<(String, u64)> {
        let mut splitter = LineSplitter::new(plain, object);
        let mut found = Vec::new();
        for chunk in input {
            splitter.push(chunk, |line| {
                found.push((line.text(plain.max(object)).into_owned(), line.total));
            });
        }
        splitter.finish(|line| {
            found.push((line.text(plain.max(object)).into_owned(), line.total));
        });
        found
    }

    #[test]
    fn lines_are_put_together_from_any_pieces() {
        let text = "one\r\n\ntwo\nthree";
        let expected = [("one", 3), ("", 0), ("two", 3), ("three", 5)];
        let expected: Vec<_> = expected
            .map(|(text, total)| (text.to_owned(), total))
            .into();
        for size in 1..=text.len() {
            let chunks: Vec<&[u8]> = text.as_bytes().chunks(size).collect();
            assert_eq!(lines(&chunks, 10, 10), expected, "pieces of {size}");
        }
    }

    #[test]
    fn long_lines_are_cut_and_say_so() {
        assert_eq!(
            lines(&[b"abcdefgh\nx\n"], 4, 8),
            [
                ("abcd … [4 more bytes cut]".to_owned(), 8),
                ("x".to_owned(), 1)
            ]
        );
        assert_eq!(
            lines(&[b"{bcd", b"efgh\n"], 4, 8),
            [("{bcdefgh".to_owned(), 8)]
        );
        let line = Line {
            bytes: "aé".as_bytes(),
            total: 9,
        };
        assert_eq!(line.text(2), "a … [8 more bytes cut]");
    }

    #[test]
    fn what_is_not_utf8_is_replaced() {
        assert_eq!(lines(&[b"a\xffb\0\n"], 9, 9)[0].0, "a\u{fffd}b\u{fffd}");
    }

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

//! From bytes to lines.

use std::{borrow::Cow, io::BufRead};

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

pub(super) fn readable(bytes: &[u8]) -> Cow<'_, str> {
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
}

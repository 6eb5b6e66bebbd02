//! What people and programs read: data on standard output, everything else on standard error.

use std::{
    fmt::Display,
    io::{self, Write as _},
};

use serde::Serialize;

/// Whether a command prints a table for people or JSON for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Aligned columns.
    Table,
    /// One JSON document.
    Json,
}

impl Format {
    /// The format that `--json` asks for.
    pub fn json(json: bool) -> Self {
        if json { Self::Json } else { Self::Table }
    }
}

/// Writes one line of data. A reader that has gone away (`| head`) is not an error.
pub fn line(text: impl Display) -> io::Result<()> {
    ignore_closed_pipe(writeln!(io::stdout().lock(), "{text}"))
}

/// Writes a line for people, beside the data.
pub fn note(text: impl Display) {
    // Nobody can be told when standard error is gone.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Writes a JSON document.
pub fn json(value: &impl Serialize) -> io::Result<()> {
    let text = serde_json::to_string_pretty(value)?;
    line(text)
}

/// Writes rows under a heading, in columns wide enough for all.
pub fn table<const N: usize>(heading: [&str; N], rows: &[[String; N]]) -> io::Result<()> {
    line(render(heading, rows).trim_end_matches('\n'))
}

/// The text of [`table`].
pub fn render<const N: usize>(heading: [&str; N], rows: &[[String; N]]) -> String {
    let mut widths = heading.map(width);
    for row in rows {
        for (column, cell) in widths.iter_mut().zip(row) {
            *column = (*column).max(width(cell));
        }
    }
    let mut out = String::new();
    let heading = heading.map(str::to_owned);
    for row in std::iter::once(&heading).chain(rows) {
        let mut text = String::new();
        for (cell, column) in row.iter().zip(widths) {
            text.push_str(cell);
            text.extend(std::iter::repeat_n(' ', column - width(cell) + 2));
        }
        out.push_str(text.trim_end());
        out.push('\n');
    }
    out
}

fn width(cell: &str) -> usize {
    cell.chars().count()
}

/// Cuts a text to `max` characters, and control characters out of it: data of other people goes to a terminal here.
pub fn shorten(text: &str, max: usize) -> String {
    let mut clean = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut out: String = clean.by_ref().take(max).collect();
    if clean.next().is_some() {
        out.pop();
        out.push('…');
    }
    out
}

fn ignore_closed_pipe(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let rows = [
            ["a".to_owned(), "1".to_owned()],
            ["long name".to_owned(), "22".to_owned()],
        ];
        assert_eq!(
            render(["NAME", "N"], &rows),
            "NAME       N\na          1\nlong name  22\n"
        );
    }

    #[test]
    fn hostile_text_is_harmless() {
        assert_eq!(shorten("a\u{1b}[31mred\nx", 20), "a [31mred x");
        assert_eq!(shorten("abcdef", 4), "abc…");
    }
}

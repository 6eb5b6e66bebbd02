//! What a benchmark prints: a table for people, or JSON.

use std::io::Write as _;

use anyhow::Result;
use serde_json::{Map, Value, json};

/// One value of a table.
#[derive(Clone, Debug)]
pub(crate) enum Cell {
    /// Words.
    Text(String),
    /// A number and how many digits follow its point.
    Number(f64, usize),
    /// Not measured here.
    Nothing,
}

impl Cell {
    fn text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Number(value, 0) => thousands(value.round()),
            Self::Number(value, digits) => format!("{value:.digits$}"),
            Self::Nothing => "–".to_owned(),
        }
    }

    fn json(&self) -> Value {
        match self {
            Self::Text(text) => json!(text),
            Self::Number(value, _) => json!(value),
            Self::Nothing => Value::Null,
        }
    }
}

fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let (sign, digits) = digits
        .strip_prefix('-')
        .map_or(("", digits.as_str()), |rest| ("-", rest));
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    format!("{sign}{out}")
}

/// A goal and what was measured.
#[derive(Clone, Debug)]
pub(crate) struct Goal {
    /// In words.
    pub(crate) wanted: String,
    /// What was measured, in words.
    pub(crate) measured: String,
    /// Whether it was reached.
    pub(crate) met: bool,
}

/// The result of one benchmark.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    /// What was measured.
    pub(crate) title: String,
    /// The heads of the columns; the first one is that of the rows' names.
    pub(crate) columns: Vec<&'static str>,
    /// The rows.
    pub(crate) rows: Vec<Vec<Cell>>,
    /// Goals and whether they were reached.
    pub(crate) goals: Vec<Goal>,
    /// How it was measured and what to know.
    pub(crate) notes: Vec<String>,
}

impl Report {
    /// Prints it on stdout.
    pub(crate) fn print(&self, machine: &[(&'static str, String)], as_json: bool) -> Result<()> {
        let mut out = std::io::stdout().lock();
        if as_json {
            writeln!(
                out,
                "{}",
                serde_json::to_string_pretty(&self.json(machine))?
            )?;
            return Ok(());
        }
        writeln!(out, "\n{}\n", self.title)?;
        for line in self.table() {
            writeln!(out, "{line}")?;
        }
        writeln!(out)?;
        for Goal {
            wanted,
            measured,
            met,
        } in &self.goals
        {
            let word = if *met { "met   " } else { "missed" };
            writeln!(out, "  {word}  {wanted}: {measured}")?;
        }
        for note in &self.notes {
            writeln!(out, "  {note}")?;
        }
        let machine: Vec<String> = machine
            .iter()
            .map(|(name, value)| format!("{name} {value}"))
            .collect();
        writeln!(out, "  {}", machine.join("; "))?;
        Ok(())
    }

    /// Aligned, in Markdown.
    fn table(&self) -> Vec<String> {
        let mut grid: Vec<Vec<String>> =
            vec![self.columns.iter().map(|&name| name.to_owned()).collect()];
        grid.extend(
            self.rows
                .iter()
                .map(|row| row.iter().map(Cell::text).collect()),
        );
        let widths: Vec<usize> = (0..self.columns.len())
            .map(|column| {
                let width = |row: &Vec<String>| row.get(column).map_or(0, |c| c.chars().count());
                grid.iter().map(width).max().unwrap_or(0)
            })
            .collect();
        let mut lines: Vec<String> = grid
            .iter()
            .map(|row| {
                let cells: Vec<String> = row
                    .iter()
                    .zip(&widths)
                    .enumerate()
                    .map(|(column, (cell, &width))| {
                        if column == 0 {
                            format!("{cell:<width$}")
                        } else {
                            format!("{cell:>width$}")
                        }
                    })
                    .collect();
                format!("| {} |", cells.join(" | "))
            })
            .collect();
        let rule: Vec<String> = widths
            .iter()
            .enumerate()
            .map(|(column, &width)| {
                let dashes = "-".repeat(width);
                if column == 0 {
                    format!("-{dashes}-")
                } else {
                    format!("-{dashes}:")
                }
            })
            .collect();
        lines.insert(1, format!("|{}|", rule.join("|")));
        lines
    }

    fn json(&self, machine: &[(&'static str, String)]) -> Value {
        let rows: Vec<Value> = self
            .rows
            .iter()
            .map(|row| {
                let members: Map<String, Value> = self
                    .columns
                    .iter()
                    .zip(row)
                    .map(|(&name, cell)| (name.to_owned(), cell.json()))
                    .collect();
                Value::Object(members)
            })
            .collect();
        let goals: Vec<Value> = self
            .goals
            .iter()
            .map(|one| json!({ "goal": one.wanted, "measured": one.measured, "met": one.met }))
            .collect();
        let machine: Map<String, Value> = machine
            .iter()
            .map(|(name, value)| ((*name).to_owned(), json!(value)))
            .collect();
        json!({
            "title": self.title,
            "rows": rows,
            "goals": goals,
            "notes": self.notes,
            "machine": machine,
        })
    }
}

/// Says on stderr how far it is.
pub(crate) fn progress(text: impl std::fmt::Display) {
    // Nothing depends on it being seen.
    let _ = writeln!(std::io::stderr(), "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        assert_eq!(Cell::Number(1_234_567.4, 0).text(), "1,234,567");
        assert_eq!(Cell::Number(999.0, 0).text(), "999");
        assert_eq!(Cell::Number(0.123, 2).text(), "0.12");
    }

    #[test]
    fn columns_line_up() {
        let report = Report {
            columns: vec!["case", "n"],
            rows: vec![vec![Cell::Text("é".into()), Cell::Number(10.0, 0)]],
            ..Report::default()
        };
        assert_eq!(
            report.table(),
            ["| case |  n |", "|------|---:|", "| é    | 10 |"]
        );
    }
}

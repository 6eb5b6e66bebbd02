//! The example's files, carried in the binary so that the demo runs anywhere.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::Deserialize;

macro_rules! example {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../../../../../examples/support-tickets/", $name)))),*]
    };
}

/// Every file the agents need.
const FILES: &[(&str, &str)] = example![
    "agent.mjs",
    "agent.py",
    "app.json",
    "categorize.mjs",
    "categorize.py",
    "rowcall-worker.mjs",
    "rowcall_worker.py",
    "rules.json",
    "schema.sql",
    "tickets.jsonl",
    "tickets.mjs",
    "tickets.py",
    "worker.mjs",
    "worker.py",
];

/// A ticket of the example.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Ticket {
    pub(super) customer_email: String,
    pub(super) subject: String,
    pub(super) message: String,
}

/// A file of the example.
pub(super) fn text(name: &str) -> &'static str {
    FILES
        .iter()
        .find(|(file, _)| *file == name)
        .map(|(_, text)| *text)
        .expect("the name is one of FILES")
}

/// The tickets, `count` of them, from the beginning again when there are fewer.
pub(super) fn tickets(count: usize) -> anyhow::Result<Vec<Ticket>> {
    let all: Vec<Ticket> = text("tickets.jsonl")
        .lines()
        .filter(|line| !line.trim().is_empty())
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()
        .context("tickets.jsonl is damaged")?;
    Ok(all.iter().cycle().take(count).cloned().collect())
}

/// Writes the agents' files below `dir` and gives their directory.
pub(super) fn write(dir: &Path) -> anyhow::Result<PathBuf> {
    let dir = dir.join("support-tickets");
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    for (name, text) in FILES {
        let path = dir.join(name);
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_has_a_few_dozen_tickets() {
        assert!(
            tickets(36)
                .unwrap()
                .iter()
                .all(|ticket| !ticket.customer_email.is_empty())
        );
        assert_eq!(tickets(100).unwrap().len(), 100);
    }
}

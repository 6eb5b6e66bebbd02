//! The property tests of every parser that reads what strangers send, with far more cases than in CI.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::run::{cargo, run, say};

/// How long it runs when nobody says.
const DEFAULT_MINUTES: u64 = 10;
/// Cases of each property in one round; the seeds are new in each.
const CASES: &str = "20000";

/// Packages, what of them to build, and the modules whose properties run.
const TARGETS: [(&str, &[&str], &[&str]); 2] = [
    (
        "rowcall-stack",
        &["--lib"],
        &[
            "rest::parse::tests",
            "rest::sql::tests",
            "realtime::ws::decode",
            "realtime::changes::filter",
            "realtime::changes::predicate",
            "realtime::changes::value",
            "realtime::changes::decimal",
            "realtime::changes::pgoutput",
        ],
    ),
    (
        "rowcall-realtime",
        &["--test", "it"],
        &["hostile::", "round_trip::"],
    ),
];

/// Runs rounds until the time is over; a case that fails is written down beside its test, to be kept.
pub(crate) fn run_for(minutes: Option<&str>) -> Result<()> {
    let minutes = match minutes {
        Some(text) => text
            .parse()
            .with_context(|| format!("{text} is no number of minutes"))?,
        None => DEFAULT_MINUTES,
    };
    let end = Instant::now() + Duration::from_secs(minutes * 60);
    let mut round = 0;
    loop {
        round += 1;
        say(&format!("round {round}"));
        for (package, parts, modules) in TARGETS {
            run(cargo()
                .args(["test", "--release", "--quiet", "-p", package])
                .args(parts)
                .arg("--")
                .args(modules)
                .env("PROPTEST_CASES", CASES))?;
        }
        if Instant::now() >= end {
            return Ok(());
        }
    }
}

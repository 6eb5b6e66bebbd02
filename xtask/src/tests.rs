//! The tests, with everything they need.

use anyhow::{Context as _, Result};

use crate::{
    clients,
    run::{cargo, run, say, works},
};

/// The environment variable that makes the chaos test as large as the project's promise.
const CHAOS_FULL: &str = "ROWCALL_CHAOS_FULL";

/// The environment variable by which tests take a major version of PostgreSQL.
const POSTGRES: &str = "ROWCALL_TEST_POSTGRES";

/// The same for the test with bad wires between daemons and a project.
const CHAOS_PROXY_FULL: &str = "ROWCALL_CHAOS_PROXY_FULL";

/// How many minutes the soak of the queue workers takes.
const SOAK_MINUTES: &str = "ROWCALL_SOAK_MINUTES";

/// The same when nobody says.
const DEFAULT_SOAK_MINUTES: &str = "60";

/// Sets up what the tests need and runs all of them, or those whose names contain `filter`.
pub(crate) fn all(filter: &[&str]) -> Result<()> {
    clients::set_up()?;
    // Agents, daemons and servers are separate processes: the tests start the built program.
    run(cargo().args(["build", "--workspace", "--all-targets"]))?;
    if works("cargo", &["nextest", "--version"]) {
        run(cargo().args(["nextest", "run", "--workspace"]).args(filter))?;
    } else {
        say(
            "cargo-nextest is not installed: using cargo test, which shows less (cargo install cargo-nextest)",
        );
        run(cargo()
            .args([
                "test",
                "--workspace",
                "--lib",
                "--bins",
                "--tests",
                "--no-fail-fast",
            ])
            .args(filter))?;
    }
    if filter.is_empty() {
        run(cargo().args(["test", "--workspace", "--doc"]))?;
    }
    Ok(())
}

/// The packages whose tests meet PostgreSQL itself.
const DATABASE_PACKAGES: [&str; 4] = ["-p", "rowcall-stack", "-p", "rowcall-backend"];

/// Runs the tests that depend on the version of PostgreSQL on one, which the tests fetch as rowcall does.
pub(crate) fn on_postgres(major: &str, filter: &[&str]) -> Result<()> {
    clients::set_up()?;
    let runner: &[&str] = if works("cargo", &["nextest", "--version"]) {
        &["nextest", "run"]
    } else {
        &["test", "--lib", "--tests", "--no-fail-fast"]
    };
    run(cargo()
        .args(runner)
        .args(DATABASE_PACKAGES)
        .args(filter)
        .env(POSTGRES, major))
}

/// The full run of daemons that reach a Supabase project over bad wires, in release mode: ten minutes, 5,000 tasks.
pub(crate) fn chaos_proxy() -> Result<()> {
    run(cargo()
        .args([
            "test",
            "--release",
            "-p",
            "rowcall",
            "--test",
            "it",
            "project::storm::",
            "--",
            "--nocapture",
        ])
        .env(CHAOS_PROXY_FULL, "1"))
}

/// Queue workers over bad wires for a long time, in release mode.
pub(crate) fn soak(minutes: Option<&str>) -> Result<()> {
    let minutes = minutes.unwrap_or(DEFAULT_SOAK_MINUTES);
    minutes
        .parse::<u64>()
        .with_context(|| format!("{minutes} is no number of minutes"))?;
    run(cargo()
        .args([
            "test",
            "--release",
            "-p",
            "rowcall",
            "--test",
            "it",
            "queue::soak::",
            "--",
            "--nocapture",
        ])
        .env(SOAK_MINUTES, minutes))
}

/// The full fault run, in release mode.
pub(crate) fn chaos() -> Result<()> {
    run(cargo()
        .args([
            "test",
            "--release",
            "-p",
            "rowcall",
            "--test",
            "it",
            "chaos::",
            "--",
            "--nocapture",
        ])
        .env(CHAOS_FULL, "1"))
}

//! Log lines, on standard error.

use std::io::IsTerminal as _;

use tracing_subscriber::{EnvFilter, fmt};

use crate::cli::Global;

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line, for programs.
    Json,
}

/// Only what is wrong. Connections that end with their server are no news.
const CALM: &str = "warn,deadpool.postgres=error";

/// Starts logging: only warnings for `calm` commands, whose output is for people. `RUST_LOG` decides when it is set, otherwise `-v` and `-q` do.
pub fn init(global: &Global, calm: bool) {
    let level = match (global.quiet, global.verbose) {
        (true, _) => CALM,
        (false, 0) if calm => CALM,
        (false, 0) => "info,deadpool.postgres=error",
        (false, 1) => {
            "info,rowcall=debug,rowcall_engine=debug,rowcall_backend=debug,rowcall_stack=debug,rowcall_supervisor=debug"
        }
        (false, _) => {
            "debug,rowcall=trace,rowcall_engine=trace,rowcall_backend=trace,rowcall_stack=trace,rowcall_supervisor=trace"
        }
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let builder = fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false);
    let result = match global.log_format {
        LogFormat::Text => builder
            .with_ansi(std::io::stderr().is_terminal())
            .try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    if let Err(error) = result {
        crate::output::note(format_args!("warning: no log: {error}"));
    }
}

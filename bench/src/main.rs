//! Side-by-side benchmarks of rowcall, one command each. What they measure and what came out is in `README.md`.

mod api;
mod daemon;
mod footprint;
mod idle;
mod inserts;
mod latency;
mod machine;
mod numbers;
mod project;
mod queue;
mod report;
mod server;
mod stack;
mod system;
mod throughput;
mod usage;
mod workload;

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::server::{POSTGRES_GUARD, Place};

/// Benchmarks of rowcall beside its floors and its peers.
#[derive(Debug, Parser)]
#[command(name = "rowcall-bench", max_term_width = 100)]
struct Cli {
    /// Print JSON instead of a table
    #[arg(long, global = true)]
    json: bool,
    /// Use the PostgreSQL programs in this directory
    #[arg(long, global = true, value_name = "DIR", env = "ROWCALL_BENCH_PG_BIN")]
    pg_bin: Option<PathBuf>,
    /// Make the data directories in here; its disk is what is measured
    #[arg(long, global = true, value_name = "DIR")]
    scratch: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Tasks per second through the real engine, beside bare SQL and three peers
    Throughput(throughput::Options),
    /// From an enqueue's commit to the runner's start, beside bare notify, listen and claim
    Latency(latency::Options),
    /// Statements per minute of a daemon without work
    Idle(idle::Options),
    /// Inserts per second into a captured table, beside one that is not
    Inserts(inserts::Options),
    /// From a task's commit to the runner's start over REST and Realtime, and with Realtime down
    Project(project::Options),
    /// Queues: jobs per second, wake-up latency, and what triggers cost senders
    #[command(subcommand)]
    Queue(queue::Part),
    /// Memory of an idle daemon, and how long its start takes
    Footprint(footprint::Options),
    /// Requests per second of the local API, beside bare axum and bare SQL, and memory after many of them
    Api(api::Options),
    /// Broadcast over Realtime: 1 → 500 sockets and 50 → 50
    Realtime(stack::broadcast::Options),
    /// Changes of rows to 500 subscribers, with and without row level security
    #[command(name = "postgres_changes")]
    PostgresChanges(stack::changes::Options),
    /// Memory and heartbeats of 10,000 idle sockets
    Sockets(stack::sockets::Options),
    /// Selects and inserts over REST, beside bare tokio-postgres
    Rest(stack::rest::Options),
}

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    // The guard becomes PostgreSQL: nothing of ours may run before it.
    if arguments
        .get(1)
        .is_some_and(|first| first == POSTGRES_GUARD)
    {
        return rowcall_stack::cluster::run_guard(arguments.into_iter().skip(2));
    }
    if arguments
        .get(1)
        .is_some_and(|first| first == api::BARE_SERVER)
    {
        return api::run_bare_server();
    }
    let result = if arguments.get(1).is_some_and(|first| first == stack::SERVER) {
        serve()
    } else {
        run(Cli::parse_from(arguments))
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report::progress(format_args!("error: {error:?}"));
            ExitCode::FAILURE
        }
    }
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?)
}

fn serve() -> Result<()> {
    runtime()?.block_on(stack::serve())
}

fn run(cli: Cli) -> Result<()> {
    let place = Place {
        pg_bin: cli.pg_bin,
        scratch: cli.scratch.unwrap_or_else(std::env::temp_dir),
    };
    let runtime = runtime()?;
    let (report, machine) = runtime.block_on(async {
        match cli.command {
            Command::Throughput(options) => Box::pin(throughput::run(&place, &options)).await,
            Command::Latency(options) => Box::pin(latency::run(&place, &options)).await,
            Command::Idle(options) => Box::pin(idle::run(&place, &options)).await,
            Command::Inserts(options) => Box::pin(inserts::run(&place, &options)).await,
            Command::Project(options) => Box::pin(project::run(&place, &options)).await,
            Command::Queue(part) => Box::pin(queue::run(&place, &part)).await,
            Command::Footprint(options) => Box::pin(footprint::run(&place, &options)).await,
            Command::Realtime(options) => Box::pin(stack::broadcast::run(&place, &options)).await,
            Command::PostgresChanges(options) => {
                Box::pin(stack::changes::run(&place, &options)).await
            }
            Command::Sockets(options) => Box::pin(stack::sockets::run(&place, &options)).await,
            Command::Rest(options) => Box::pin(stack::rest::run(&place, &options)).await,
            Command::Api(options) => Box::pin(api::run(&place, &options)).await,
        }
    })?;
    report.print(&machine, cli.json)
}

//! The command line.

mod agent;
pub(crate) mod app;
mod calendar;
mod client;
mod completions;
mod config;
pub(crate) mod context;
mod db;
mod demo;
mod doctor;
mod explain;
pub(crate) mod key;
mod login;
mod machines;
mod permissions;
mod queue;
mod serve;
pub(crate) mod setup;
mod stack;
mod tables;
mod task;
mod up;
mod worker;
mod workspace;

use std::{ffi::OsString, path::PathBuf};

use clap::{Args, Parser, Subcommand};
pub use context::{Context, connect};

use crate::{
    config::Config,
    exit::{Exit, UserError, code_of, more, report},
    telemetry,
};

/// The hidden subcommand that becomes our PostgreSQL server.
pub const POSTGRES_GUARD: &str = "__postgres-guard";

/// The hidden subcommand that ends agents after a killed daemon.
pub const PROCESS_GUARD: &str = "__process-guard";

/// rowcall turns rows into work: a row lands in PostgreSQL, exactly one machine claims it, an agent handles it, and the
/// result is back in the database.
#[derive(Debug, Parser)]
#[command(
    name = "rowcall",
    version,
    propagate_version = true,
    max_term_width = 100
)]
#[command(after_help = "Start with `rowcall demo`, or `rowcall up` and `rowcall setup --help`.")]
pub struct Cli {
    /// What applies to every command.
    #[command(flatten)]
    pub global: Global,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Clone, Debug, Args)]
pub struct Global {
    /// Read the configuration from this file instead of ./rowcall.toml
    #[arg(long, global = true, value_name = "FILE", env = "ROWCALL_CONFIG")]
    pub config: Option<PathBuf>,
    /// Keep state here instead of in the platform's data home
    #[arg(long, global = true, value_name = "DIR", env = "ROWCALL_DATA_DIR")]
    pub data_dir: Option<PathBuf>,
    /// Use this PostgreSQL instead of running one
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "ROWCALL_DATABASE_URL",
        hide_env_values = true
    )]
    pub database_url: Option<String>,
    /// Say more (-v debug, -vv trace)
    #[arg(long, short, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Say only warnings and errors
    #[arg(long, short, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// How log lines are written
    #[arg(
        long,
        global = true,
        value_name = "FORMAT",
        default_value = "text",
        env = "ROWCALL_LOG_FORMAT"
    )]
    pub log_format: telemetry::LogFormat,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the daemon: its own PostgreSQL unless a URL is given, and everything that handles tasks
    Up(up::Up),
    /// Read queues of pgmq and have a program or a web service handle their messages
    Worker(worker::Worker),
    /// Queues of pgmq: make, fill, look into, and their wake-ups
    #[command(subcommand)]
    Queue(queue::Queue),
    /// See the whole thing work: start, insert support tickets, watch an agent handle them
    Demo(demo::Demo),
    /// Log in to Supabase, or keep a key or a session of the project
    Login(login::Login),
    /// Forget an account, a key or a session
    Logout(login::Logout),
    /// The tables that Realtime tells of, and which of them an app listens to
    Tables(tables::Tables),
    /// Make the changes of a table into tasks, or set up a Supabase project
    Setup(setup::Setup),
    /// Serve the Supabase-compatible API in front of a PostgreSQL of yours; `stack keys` prints the keys
    Stack(stack::Stack),
    /// The database schema
    #[command(subcommand)]
    Db(db::Db),
    /// The local apps: who handles which changes
    #[command(subcommand)]
    App(app::App),
    /// The agents of apps: what handles tasks, and what clients start by name
    #[command(subcommand)]
    Agent(agent::Agent),
    /// The tasks
    #[command(subcommand)]
    Task(task::Task),
    /// The machines that work on the same tasks
    Machines(machines::Machines),
    /// What waits for a person, and all this machine has seen
    #[command(subcommand)]
    Calendar(calendar::Calendar),
    /// What apps may do; without a subcommand, answer their questions as they come
    Permissions(permissions::Permissions),
    /// Keys for developers of apps
    #[command(subcommand)]
    Key(key::Key),
    /// The workspaces and threads that clients name when they start agents
    #[command(subcommand)]
    Workspace(workspace::Workspace),
    /// Check everything that has to be right, and say how to mend what is not
    Doctor(doctor::Doctor),
    /// Say what an error code means and what to do about it
    Explain(explain::Explain),
    /// The configuration
    #[command(subcommand)]
    Config(config::Config),
    /// Print a shell's completion script
    Completions(completions::Completions),
}

/// Runs the program and gives its exit code.
pub fn main(args: Vec<OsString>, env: Vec<(String, String)>) -> Exit {
    // The guards become other programs: nothing of ours may run before them.
    match args.get(1).and_then(|arg| arg.to_str()) {
        Some(POSTGRES_GUARD) => return context::postgres_guard(&args[2..]),
        Some(PROCESS_GUARD) => return context::process_guard(&args[2..]),
        _ => {}
    }
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            let exit = if error.use_stderr() {
                Exit::Usage
            } else {
                Exit::Success
            };
            // A closed terminal is the only way this fails.
            let _ = error.print();
            if let Some(code) = std::error::Error::source(&error).and_then(code_of) {
                more(code);
            }
            return exit;
        }
    };
    let daemon = match &cli.command {
        Command::Up(_) | Command::Worker(_) => true,
        Command::Stack(stack) => stack.is_serving(),
        _ => false,
    };
    telemetry::init(&cli.global, !daemon);
    match run(cli, env) {
        Ok(exit) => exit,
        Err(error) => report(&error),
    }
}

fn run(cli: Cli, env: Vec<(String, String)>) -> anyhow::Result<Exit> {
    // Neither needs a configuration, and the second may be about one that cannot be read.
    match &cli.command {
        Command::Completions(completions) => return completions.run(),
        Command::Explain(explain) => return explain.run(),
        _ => {}
    }
    let mut config = Config::load(cli.global.config.as_deref(), env)
        .map_err(|error| UserError::of(Exit::Usage, &error))?;
    if let Some(dir) = cli.global.data_dir {
        config.data_dir = Some(std::path::absolute(dir)?);
    }
    if let Some(url) = cli.global.database_url {
        config.database.url = Some(url);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let context = Context::new(config);
    let exit = runtime.block_on(async {
        match cli.command {
            Command::Up(up) => Box::pin(up.run(context)).await,
            Command::Worker(worker) => Box::pin(worker.run(context)).await,
            Command::Queue(queue) => Box::pin(queue.run(context)).await,
            Command::Demo(demo) => Box::pin(demo.run(context)).await,
            Command::Setup(setup) => Box::pin(setup.run(context)).await,
            Command::Stack(stack) => Box::pin(stack.run(context)).await,
            Command::Db(db) => Box::pin(db.run(context)).await,
            Command::App(app) => Box::pin(app.run(context)).await,
            Command::Task(task) => Box::pin(task.run(context)).await,
            Command::Calendar(calendar) => Box::pin(calendar.run(context)).await,
            Command::Permissions(permissions) => Box::pin(permissions.run(context)).await,
            Command::Key(key) => key.run(&context),
            Command::Agent(agent) => agent.run(&context),
            Command::Workspace(workspace) => workspace.run(&context),
            Command::Login(login) => Box::pin(login.run(&context)).await,
            Command::Logout(logout) => logout.run(&context),
            Command::Tables(tables) => Box::pin(tables.run(&context)).await,
            Command::Machines(machines) => machines.run(&context).await,
            Command::Doctor(doctor) => Box::pin(doctor.run(context)).await,
            Command::Config(config) => config.run(&context),
            Command::Completions(_) | Command::Explain(_) => {
                unreachable!("handled before the configuration is read")
            }
        }
    });
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    exit
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::Cli;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}

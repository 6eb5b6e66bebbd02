//! `rowcall demo`

mod crash;
mod files;
mod keep;
mod tickets;
mod watch;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use rowcall_core::App as Manifest;
use rowcall_stack::cluster::Events;
use serde_json::{Value, json};

use super::{
    Context,
    serve::{Stop, run_until},
};
use crate::{
    api,
    daemon::Daemon,
    exit::{Exit, UserError},
    output,
};

/// The folder of the demo's data, below the platform's data home.
const FOLDER: &str = "demo";

/// How many tickets when nobody says.
const TICKETS: u32 = 36;

/// See the whole thing work.
#[derive(Debug, Args)]
pub struct Demo {
    /// Which of the example's agents handles the tickets; a Python or Node process when not given
    #[arg(long, value_enum)]
    agent: Option<Agent>,
    /// How many tickets to insert
    #[arg(long, default_value_t = TICKETS, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    tickets: u32,
    /// How many tickets are handled at once
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    at_once: u32,
    /// Leave it running afterwards, and show further tickets as they are handled
    #[arg(long)]
    keep: bool,
    /// Run two daemons, kill one in the middle of its work, and see the other one finish it
    #[arg(long, conflicts_with = "keep")]
    crash: bool,
    /// Print the table as JSON
    #[arg(long)]
    json: bool,
}

/// The example's agents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Agent {
    /// agent.py, a process for each ticket
    Python,
    /// agent.mjs, a process for each ticket
    Node,
    /// worker.py, kept warm
    PythonWorker,
    /// worker.mjs, kept warm
    NodeWorker,
}

impl Agent {
    fn id(self) -> &'static str {
        match self {
            Self::Python => "support-ticket-categorizer",
            Self::Node => "support-ticket-categorizer-node",
            Self::PythonWorker => "support-ticket-categorizer-worker",
            Self::NodeWorker => "support-ticket-categorizer-worker-node",
        }
    }

    /// The first whose language is installed.
    fn installed() -> Option<Self> {
        [
            (Self::Python, "python3"),
            (Self::Python, "python"),
            (Self::Node, "node"),
        ]
        .into_iter()
        .find(|(_, program)| on_path(program))
        .map(|(agent, _)| agent)
    }
}

fn on_path(program: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).is_file()))
}

impl Demo {
    pub(super) async fn run(self, mut context: Context) -> anyhow::Result<Exit> {
        let agent = self.agent.or_else(Agent::installed).ok_or_else(|| {
            UserError::new(
                Exit::Failure,
                "the demo's agents need Python 3 or Node.js, and neither is on PATH",
            )
            .help("install one of them (Debian: apt-get install python3)")
        })?;
        if context.config.data_dir.is_none() {
            context.config.data_dir = Some(context.config.data_dir()?.join(FOLDER));
        }
        let data_dir = context.data_dir()?;
        let examples = files::write(&data_dir)?;
        // Whoever has 3001 keeps it: the example's agents are told where we are.
        if api::bind(context.config.api.port).await.is_err() {
            output::note(format_args!(
                "note: port {} is in use, taking another one",
                context.config.api.port
            ));
            context.config.api.port = 0;
        }
        let mut stop = Stop::new()?;
        let progress = spinner();
        let daemon = start(&context, &progress).await?;
        let work = async {
            prepare(&daemon, &data_dir).await?;
            progress.finish_and_clear();
            if self.crash {
                return crash::run(&daemon, &context, &examples).await;
            }
            self.handle(&daemon, &context, &examples, agent).await
        };
        let result = tokio::select! {
            result = work => result,
            () = stop.signaled() => Err(anyhow::anyhow!("interrupted")),
        };
        match result {
            Ok(exit) if self.keep => {
                keep::explain(daemon.addresses());
                let printing = keep::print_tickets(&daemon);
                let running = run_until(daemon, stop);
                tokio::pin!(running);
                tokio::select! {
                    ended = &mut running => ended,
                    never = printing => match never? {},
                }
                .map(|_| exit)
            }
            other => {
                progress.finish_and_clear();
                daemon.stop().await?;
                other
            }
        }
    }

    async fn handle(
        &self,
        daemon: &Daemon,
        context: &Context,
        examples: &Path,
        agent: Agent,
    ) -> anyhow::Result<Exit> {
        let app = manifest(examples, agent.id(), self.at_once, &json!({}))?;
        let parsed = Manifest::parse(&app, None)?;
        context.store()?.put_app(
            &parsed.name,
            &app,
            rowcall_core::Clock::now(&crate::system::SystemClock),
        )?;
        daemon.engine().set_apps(&[parsed]);
        let tickets = files::tickets(usize::try_from(self.tickets)?)?;
        output::note(format_args!(
            "handling {} tickets with {}",
            tickets.len(),
            agent.id()
        ));
        let report = tickets::run(daemon, &tickets).await?;
        report.print(self.json)?;
        Ok(if report.all_completed() {
            Exit::Success
        } else {
            Exit::Failure
        })
    }
}

fn spinner() -> ProgressBar {
    let progress = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
        progress.set_style(style);
    }
    progress.enable_steady_tick(Duration::from_millis(100));
    progress
}

async fn start(context: &Context, progress: &ProgressBar) -> anyhow::Result<Daemon> {
    progress.set_message("starting");
    let bar = progress.clone();
    let events = Events::to(move |event| {
        tracing::debug!("{event}");
        bar.set_message(event.to_string());
    });
    Daemon::start(&context.config, events).await
}

/// The table and its capture trigger.
async fn prepare(daemon: &Daemon, data_dir: &Path) -> anyhow::Result<()> {
    let mut client = super::connect(daemon.addresses().database()?).await?;
    client.batch_execute(files::text("schema.sql")).await?;
    let app = Manifest::parse(files::text("app.json"), None)?;
    for table in super::app::captured_tables(&app) {
        super::setup::install_for(&mut client, &app, &table).await?;
    }
    tracing::debug!("demo data is in {}", data_dir.display());
    Ok(())
}

/// The example's app with another agent, limit, and variables, running in `examples`.
fn manifest(examples: &Path, agent: &str, at_once: u32, env: &Value) -> anyhow::Result<String> {
    let mut app: Value = serde_json::from_str(files::text("app.json"))?;
    app["config"]["supabase"]["max_concurrent_tasks"] = at_once.into();
    app["config"]["agentHandlers"][0]["agentId"] = agent.into();
    for agent in app["agents"].as_array_mut().into_iter().flatten() {
        agent["working_dir"] = examples.to_string_lossy().into();
        agent["env"] = env.clone();
        if agent["kind"] == "worker" {
            agent["concurrency"] = at_once.into();
        }
    }
    Ok(app.to_string())
}

/// The directory of one of the daemons of `--crash`.
fn daemon_dir(data_dir: &Path, name: &str) -> PathBuf {
    data_dir.join(format!("daemon-{name}"))
}

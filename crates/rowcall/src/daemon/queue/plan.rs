//! From `[worker.queues]` to queues, routes and agents.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use rowcall_backend::queue::{QueueError, QueueName, QueueSpec, RetryDelay};
use rowcall_core::{
    AgentId, AgentKind, AgentSpec, App, Backoff, EventKind, Trigger,
    agent::{Command, Runtime},
    manifest::{Handler, Mode, Restart, Subscription},
};

use super::app_id;
use crate::{
    config::{RunKind, Worker, WorkerQueue},
    exit::{Exit, UserError},
};

/// The queues as the source reads them, and the app that handles them.
pub(super) struct Plan {
    pub(super) specs: Vec<QueueSpec>,
    pub(super) app: App,
}

impl Plan {
    /// `renews` says whether leases are renewed; otherwise an attempt must end within its message's time-out.
    pub(super) fn of(worker: &Worker, renews: bool) -> anyhow::Result<Self> {
        let mut specs = Vec::new();
        let mut agents: Vec<AgentSpec> = Vec::new();
        let mut handlers = Vec::new();
        for (name, queue) in &worker.queues {
            let spec = spec(worker, name, queue)?;
            let mut wanted = agent(worker, name, queue)?;
            if !renews {
                bound(&mut wanted, &spec);
            }
            // Queues with the same program share it: one warm worker, not one for each.
            let same = agents
                .iter()
                .find(|agent| agent.kind == wanted.kind && agent.timeout == wanted.timeout);
            let id = same.map_or_else(|| wanted.id.clone(), |agent| agent.id.clone());
            if same.is_none() {
                agents.push(wanted);
            }
            handlers.push(Handler {
                table: spec.name.table(),
                agent: id,
                events: [EventKind::Insert].into_iter().collect(),
                description: None,
                trigger: Trigger::Auto,
            });
            specs.push(spec);
        }
        let subscription = Subscription {
            enabled: true,
            mode: Mode::Compatible,
            url: None,
            anon_key: None,
            tables: specs.iter().map(|spec| spec.name.table()).collect(),
            table_actions: BTreeMap::new(),
            filter: None,
            max_concurrent_tasks: worker.concurrency,
        };
        let app = App {
            name: app_id(),
            display_name: None,
            description: None,
            command: None,
            app_type: Runtime::Custom,
            port: None,
            home_url: None,
            health_path: None,
            autostart: false,
            restart: Restart::default(),
            subscription: Some(subscription),
            handlers,
            agents,
            permissions: Vec::new(),
            notices: Vec::new(),
            named_agents: Vec::new(),
        };
        Ok(Self { specs, app })
    }
}

fn queue_name(text: &str) -> anyhow::Result<QueueName> {
    Ok(QueueName::new(text)
        .map_err(|error| UserError::of(Exit::Usage, &QueueError::from(error)))?)
}

fn spec(worker: &Worker, name: &str, queue: &WorkerQueue) -> anyhow::Result<QueueSpec> {
    let tries = queue.max_retries.unwrap_or(worker.max_retries);
    let retry = match queue.retry_after {
        None => RetryDelay::AtExpiry,
        Some(base) => RetryDelay::After(Backoff {
            base: base.0,
            cap: worker.max_backoff.0.max(base.0),
        }),
    };
    Ok(QueueSpec::new(queue_name(name)?)
        .visibility(queue.timeout.0)
        .finish(queue.finish)
        .max_attempts((tries > 0).then_some(tries))
        .dead_letters(queue.dead_letters.as_deref().map(queue_name).transpose()?)
        .retry(retry)
        .pause(Backoff {
            base: worker.idle_wait.0,
            cap: worker.max_backoff.0.max(worker.idle_wait.0),
        })
        .order(queue.order)
        .priority(queue.priority)
        .concurrency(queue.concurrency))
}

fn agent(worker: &Worker, name: &str, queue: &WorkerQueue) -> anyhow::Result<AgentSpec> {
    let kind = match (&queue.url, queue.run.split_first()) {
        (Some(url), _) => AgentKind::Http {
            url: url.clone(),
            token_env: queue.token_env.clone(),
        },
        (None, Some((program, args))) => {
            let command = Command {
                runtime: Runtime::Custom,
                program: Some(program.clone()),
                args: args.to_vec(),
                working_dir: Some(working_dir(queue)?),
                env: queue.env.clone(),
            };
            match queue.kind {
                RunKind::Process => AgentKind::Process(command),
                RunKind::Worker => AgentKind::Worker {
                    command,
                    concurrency: queue.concurrency.unwrap_or(worker.concurrency),
                },
            }
        }
        (None, None) => {
            return Err(
                UserError::new(Exit::Usage, format!("nothing handles the queue {name}"))
                    .help("name a program after --, or a --url, or `run` in [worker.queues]")
                    .into(),
            );
        }
    };
    Ok(AgentSpec {
        id: AgentId::new(name)?,
        kind,
        timeout: queue.time_limit.0.max(Duration::from_secs(1)),
    })
}

/// Ends attempts before their message comes back, and says what else a project without our functions cannot do.
fn bound(agent: &mut AgentSpec, spec: &QueueSpec) {
    let Some(limit) = spec.attempt_limit() else {
        return;
    };
    let queue = &spec.name;
    agent.timeout = agent.timeout.min(limit.max(Duration::from_secs(1)));
    tracing::warn!(
        %queue, time_limit = ?agent.timeout,
        "the project lacks rowcall's functions: leases are not renewed, so an attempt may take no longer than the time-out. Run \
         what `rowcall queue migration` writes in its SQL editor, or raise `timeout`"
    );
    if matches!(spec.retry, RetryDelay::After(_)) {
        tracing::warn!(%queue, "for the same reason failed messages come back when their time-out runs out, not after `retry_after`");
    }
}

/// Programs are named as on a command line: from where rowcall was started.
fn working_dir(queue: &WorkerQueue) -> anyhow::Result<PathBuf> {
    Ok(match &queue.working_dir {
        Some(dir) => std::path::absolute(dir)?,
        None => std::env::current_dir()?,
    })
}

//! `[worker]`: queues of pgmq and who handles their messages.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf};

use rowcall_backend::queue::{
    DEFAULT_MAX_ATTEMPTS, DEFAULT_PAUSE, DEFAULT_VISIBILITY, Finish, QueueName, ReadOrder,
    presence::{DEFAULT_CHANNEL, DEFAULT_EVENT},
};
use rowcall_core::{
    agent::DEFAULT_AGENT_TIMEOUT,
    overrides::{MAX_TEMPERATURE, OverrideRules},
};
use serde::{Deserialize, Serialize};

use super::{ConfigError, Span};

/// The most messages one worker may hold at once.
const MAX_CONCURRENCY: u32 = 10_000;

/// How a worker is woken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum WakeBy {
    /// Over Realtime where a project's URL and key are configured, otherwise by the database.
    #[default]
    Auto,
    /// Over a Realtime channel, with presence.
    Realtime,
    /// By the database itself (LISTEN on a direct connection).
    Direct,
    /// By looking every `idle_wait`.
    Poll,
}

/// How the program of a queue is run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum RunKind {
    /// Started once, kept warm, fed with lines of JSON (docs/worker-protocol.md).
    #[default]
    Worker,
    /// Started for every message.
    Process,
}

/// `[worker]`. The defaults are AIMQ's, and so are the environment variables that set them (`SUPABASE_URL`, `WORKER_NAME`, …).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Worker {
    /// What others see of it; the machine's id when absent.
    pub name: Option<String>,
    /// Messages in work at a time, over all queues.
    pub concurrency: u32,
    /// How often to look while nothing wakes us, and the first pause of a queue whose messages fail one after the other.
    pub idle_wait: Span,
    /// How often to look while wake-ups work.
    pub idle_wait_connected: Span,
    /// After this many attempts a message is given up; 0 tries for ever.
    pub max_retries: u32,
    /// The longest pause of a failing queue.
    pub max_backoff: Span,
    /// How the worker is woken.
    pub wake: WakeBy,
    /// Installs pgmq where it is missing, makes missing queues and switches their wake-ups on.
    pub setup: bool,
    /// Where `rowcall worker` serves numbers for Prometheus; nowhere when absent. A daemon has them in its local API.
    pub metrics: Option<SocketAddr>,
    /// The Realtime channel.
    pub realtime: WorkerRealtime,
    /// The queues, by name.
    pub queues: BTreeMap<String, WorkerQueue>,
}

impl Default for Worker {
    fn default() -> Self {
        Self {
            name: None,
            concurrency: 10,
            idle_wait: Span(DEFAULT_PAUSE.base),
            idle_wait_connected: Span::seconds(60),
            max_retries: DEFAULT_MAX_ATTEMPTS,
            max_backoff: Span(DEFAULT_PAUSE.cap),
            wake: WakeBy::Auto,
            setup: true,
            metrics: None,
            realtime: WorkerRealtime::default(),
            queues: BTreeMap::new(),
        }
    }
}

/// `[worker.realtime]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WorkerRealtime {
    /// The project (`SUPABASE_URL`). Realtime is used when this and the key are there; `rowcall worker` without a database also
    /// reads its queues there.
    pub url: String,
    /// The project's key (`SUPABASE_KEY`).
    pub key: String,
    /// The channel that wakes (`SUPABASE_REALTIME_CHANNEL`).
    pub channel: String,
    /// The event that wakes (`SUPABASE_REALTIME_EVENT`).
    pub event: String,
    /// A private channel: policies on `realtime.messages` decide who may listen.
    pub private: bool,
}

impl Default for WorkerRealtime {
    fn default() -> Self {
        Self {
            url: String::new(),
            key: String::new(),
            channel: DEFAULT_CHANNEL.to_owned(),
            event: DEFAULT_EVENT.to_owned(),
            private: false,
        }
    }
}

/// `[worker.queues.<name>]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WorkerQueue {
    /// The program that handles messages, and its arguments.
    pub run: Vec<String>,
    /// How it is run.
    pub kind: RunKind,
    /// A web service that handles messages instead.
    pub url: Option<String>,
    /// The environment variable whose value it is sent as a bearer token.
    pub token_env: Option<String>,
    /// Where the program runs; the folder `rowcall` was started in when absent.
    pub working_dir: Option<PathBuf>,
    /// Variables of the program.
    pub env: BTreeMap<String, String>,
    /// An attempt that takes longer fails.
    pub time_limit: Span,
    /// The visibility time-out: the lease on a message, renewed while it is handled. 0 pops messages: at most once.
    pub timeout: Span,
    /// What becomes of handled messages.
    pub finish: Finish,
    /// After this many attempts a message is given up; 0 tries for ever. `worker.max_retries` when absent.
    pub max_retries: Option<u32>,
    /// The queue for messages that were given up; without one they are archived.
    pub dead_letters: Option<String>,
    /// Failed messages come back after this, doubling; when their time-out runs out when absent.
    pub retry_after: Option<Span>,
    /// In which order messages are read.
    pub order: ReadOrder,
    /// Queues of higher priority are emptied first.
    pub priority: i32,
    /// Messages of this queue in work at a time.
    pub concurrency: Option<u32>,
    /// What jobs may say about the agent that handles them. Without it nothing is checked, and the handler sees the job alone.
    pub overrides: Option<OverrideRules>,
}

impl Default for WorkerQueue {
    fn default() -> Self {
        Self {
            run: Vec::new(),
            kind: RunKind::Worker,
            url: None,
            token_env: None,
            working_dir: None,
            env: BTreeMap::new(),
            time_limit: Span(DEFAULT_AGENT_TIMEOUT),
            timeout: Span(DEFAULT_VISIBILITY),
            finish: Finish::Archive,
            max_retries: None,
            dead_letters: None,
            retry_after: None,
            order: ReadOrder::Oldest,
            priority: 0,
            concurrency: None,
            overrides: None,
        }
    }
}

impl Worker {
    /// Checks what the types cannot.
    ///
    /// # Errors
    /// With the key that is wrong, and what would be right.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let invalid = |key: String, problem: String| Err(ConfigError::Invalid { key, problem });
        if self.concurrency == 0 || self.concurrency > MAX_CONCURRENCY {
            return invalid(
                "worker.concurrency".into(),
                format!("use 1 to {MAX_CONCURRENCY}"),
            );
        }
        for (key, span) in [
            ("idle_wait", self.idle_wait),
            ("idle_wait_connected", self.idle_wait_connected),
        ] {
            if span.0.as_millis() < 100 {
                return invalid(
                    format!("worker.{key}"),
                    format!("{span} is shorter than 100 ms: use wake-ups instead of polling"),
                );
            }
        }
        for (name, queue) in &self.queues {
            let key = |part: &str| format!("worker.queues.{name}.{part}");
            if let Err(error) = QueueName::new(name) {
                return invalid(format!("worker.queues.{name}"), error.to_string());
            }
            if let Some(Err(error)) = queue.dead_letters.as_ref().map(QueueName::new) {
                return invalid(key("dead_letters"), error.to_string());
            }
            if queue.dead_letters.as_deref() == Some(name) {
                return invalid(
                    key("dead_letters"),
                    "a queue cannot be its own dead letter queue".into(),
                );
            }
            let timeout = queue.timeout.0;
            if !timeout.is_zero() && (timeout.as_secs() == 0 || timeout.subsec_nanos() > 0) {
                return invalid(
                    key("timeout"),
                    format!(
                        "{} must be whole seconds: pgmq counts in them",
                        queue.timeout
                    ),
                );
            }
            if let Some(rules) = &queue.overrides {
                if !(0.0..=MAX_TEMPERATURE).contains(&rules.temperature) {
                    return invalid(
                        key("overrides.temperature"),
                        format!("use 0 to {MAX_TEMPERATURE}"),
                    );
                }
                if let Some(llm) = &rules.llm
                    && !rules.allowed_llms.is_empty()
                    && !rules.allowed_llms.contains(llm)
                {
                    return invalid(
                        key("overrides.llm"),
                        format!("{llm:?} is not among `allowed_llms`"),
                    );
                }
            }
            if queue.concurrency == Some(0) {
                return invalid(key("concurrency"), "use 1 or more".into());
            }
            match &queue.url {
                Some(_) if !queue.run.is_empty() => {
                    return invalid(key("url"), "give either `run` or `url`".into());
                }
                Some(url) if !url.starts_with("http://") && !url.starts_with("https://") => {
                    return invalid(key("url"), "it must begin with http:// or https://".into());
                }
                Some(_) => {}
                None if queue.run.is_empty() => {
                    return invalid(
                        key("run"),
                        "missing: name the program that handles the messages, or a `url`".into(),
                    );
                }
                None => {}
            }
        }
        Ok(())
    }
}

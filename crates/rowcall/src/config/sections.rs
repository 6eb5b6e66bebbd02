//! The sections of the configuration, each with its defaults and bounds.

use std::time::Duration;

use rowcall_core::{Backoff, LeasePolicy, MachineId, RetryPolicy};
use serde::{Deserialize, Serialize};

use super::{ConfigError, Span};

/// `[machine]`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Machine {
    /// What is written into `locked_by`. Made once and kept in the data directory when absent. Two daemons must never
    /// share one, and it must not be the id of a RealTimeX Desktop on the same computer.
    pub id: Option<MachineId>,
}

/// Where PostgreSQL's programs come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    /// An installed server of version 15 or newer, otherwise a provisioned one.
    #[default]
    Auto,
    /// Only what is installed.
    Installed,
    /// Only the pinned build, through uv, pip or npm.
    Provisioned,
}

/// `[database]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Database {
    /// A PostgreSQL of yours; without it rowcall runs its own.
    pub url: Option<String>,
    /// The TCP port of our own PostgreSQL; the next free one when it is taken.
    pub port: u16,
    /// Where its programs come from.
    pub provider: Provider,
    /// Never download.
    pub offline: bool,
    /// Use the password `postgres`, as `supabase start` does, instead of a random one.
    pub well_known_password: bool,
    /// Connections to the database.
    pub pool_size: u32,
}

impl Default for Database {
    fn default() -> Self {
        Self {
            url: None,
            port: 54322,
            provider: Provider::Auto,
            offline: false,
            well_known_password: false,
            pool_size: 4,
        }
    }
}

/// Which reports on tasks are taken without a token or any other credential.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenlessReports {
    /// Those of a process that runs the task: published agent scripts send no credential.
    #[default]
    Agent,
    /// Those of every program on this machine that knows the task's id.
    Any,
    /// None.
    Off,
}

/// `[api]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Api {
    /// The port on 127.0.0.1 and `::1`. Published agents and SDKs expect 3001. 0 takes any free port.
    pub port: u16,
    /// Names under which the API may be asked for, beside localhost, 127.0.0.1 and `[::1]`.
    pub hosts: Vec<String>,
    /// Origins of web pages that may call it, beside its own: for developing the dashboard.
    pub origins: Vec<String>,
    /// How long a request for a permission waits for a person. Python clients give up after 60 s.
    pub permission_timeout: Span,
    /// Decisions about permissions made in advance (see `rowcall up --approve`).
    pub policy: Option<std::path::PathBuf>,
    /// Which reports on tasks are taken without a credential.
    pub tokenless_reports: TokenlessReports,
}

impl Default for Api {
    fn default() -> Self {
        Self {
            port: 3001,
            hosts: Vec::new(),
            origins: Vec::new(),
            permission_timeout: Span::seconds(55),
            policy: None,
            tokenless_reports: TokenlessReports::default(),
        }
    }
}

/// `[stack]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Stack {
    /// Serve the Supabase-compatible API over our own database.
    pub enabled: bool,
    /// Its port; the next free one when it is taken.
    pub port: u16,
    /// Use the well-known keys of `supabase start` instead of generated ones.
    pub supabase_cli_keys: bool,
}

impl Default for Stack {
    fn default() -> Self {
        Self {
            enabled: true,
            port: 54321,
            supabase_cli_keys: false,
        }
    }
}

/// Whether a machine tries again what it failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SameMachineRetry {
    /// On with our own database (one machine, nobody else could), off with a shared one.
    #[default]
    Auto,
    /// Always.
    On,
    /// Never: only other machines retry, as in the published protocol.
    Off,
}

/// `[engine]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Engine {
    /// Tasks that run at once on this machine, over all apps.
    pub max_concurrent_tasks: u32,
    /// Without a heartbeat for this long a lease is stale. RealTimeX clients on the same table count on 5 minutes.
    pub lease_ttl: Span,
    /// How often leases are renewed.
    pub heartbeat: Span,
    /// How often to look at the database when nothing wakes us.
    pub poll: Span,
    /// The same while wake-ups are down.
    pub poll_while_down: Span,
    /// How long running agents may finish after a stop was asked for.
    pub shutdown_grace: Span,
    /// After this many failed attempts a task needs a person.
    pub max_attempts: u32,
    /// Whether the machine that failed a task tries it again.
    pub same_machine_retry: SameMachineRetry,
    /// The first delay before a machine tries its own failed task again.
    pub retry_base: Span,
    /// The longest such delay.
    pub retry_cap: Span,
}

impl Default for Engine {
    fn default() -> Self {
        let lease = LeasePolicy::default();
        let backoff = Backoff::default();
        Self {
            max_concurrent_tasks: 64,
            lease_ttl: Span(lease.ttl),
            heartbeat: Span(lease.renew_every),
            poll: Span::seconds(60),
            poll_while_down: Span::seconds(5),
            shutdown_grace: Span::seconds(30),
            max_attempts: RetryPolicy::default().max_attempts,
            same_machine_retry: SameMachineRetry::Auto,
            retry_base: Span(backoff.base),
            retry_cap: Span(backoff.cap),
        }
    }
}

/// The shortest lease that makes sense: below it, a slow commit looks like a dead machine.
const MIN_LEASE: Duration = Duration::from_secs(1);

impl Engine {
    /// Checks what the types cannot: bounds and the relation of lease and heartbeat.
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        let invalid = |key: &str, problem: String| {
            Err(ConfigError::Invalid {
                key: format!("engine.{key}"),
                problem,
            })
        };
        if self.lease_ttl.0 < MIN_LEASE {
            return invalid(
                "lease_ttl",
                format!("{} is shorter than {MIN_LEASE:?}", self.lease_ttl),
            );
        }
        if self.heartbeat.0.is_zero() || self.heartbeat.0.saturating_mul(2) > self.lease_ttl.0 {
            let problem = format!(
                "{} must be at most half of engine.lease_ttl ({}), so that one lost heartbeat loses no lease",
                self.heartbeat, self.lease_ttl
            );
            return invalid("heartbeat", problem);
        }
        if self.max_concurrent_tasks == 0 || self.max_concurrent_tasks > 100_000 {
            return invalid("max_concurrent_tasks", "use 1 to 100000".into());
        }
        if self.max_attempts == 0 || self.max_attempts > 1_000 {
            return invalid("max_attempts", "use 1 to 1000".into());
        }
        for (key, span) in [
            ("poll", self.poll),
            ("poll_while_down", self.poll_while_down),
        ] {
            if span.0 < Duration::from_millis(100) {
                return invalid(
                    key,
                    format!("{span} is shorter than 100 ms: use wake-ups instead of polling"),
                );
            }
        }
        Ok(())
    }

    /// The lease policy.
    pub fn lease(&self) -> LeasePolicy {
        LeasePolicy {
            ttl: self.lease_ttl.0,
            renew_every: self.heartbeat.0,
        }
    }

    /// The retry policy; `alone` says that the database is our own.
    pub fn retry(&self, alone: bool) -> RetryPolicy {
        let same = match self.same_machine_retry {
            SameMachineRetry::Auto => alone,
            SameMachineRetry::On => true,
            SameMachineRetry::Off => false,
        };
        RetryPolicy {
            max_attempts: self.max_attempts,
            same_machine: same.then_some(Backoff {
                base: self.retry_base.0,
                cap: self.retry_cap.0,
            }),
        }
    }
}

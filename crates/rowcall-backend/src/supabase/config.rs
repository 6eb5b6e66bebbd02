//! What a backend on a Supabase project needs to know.

use std::{fmt, sync::Arc, time::Duration};

use rowcall_core::{AppId, Clock, Dispersal, MachineId, Selector};
use secrecy::SecretString;

use super::session::{TokenKeeper, UserTokens};

/// Longest wait for one answer of the project, by default.
pub const DEFAULT_REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Who this machine is to the others, as presence shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its stable id, which is written into `locked_by` and `attempted_by`.
    pub machine: MachineId,
    /// Who runs it.
    pub user_email: Option<String>,
    /// The computer's name.
    pub hostname: String,
}

/// What a backend on a Supabase project needs to know.
#[derive(Clone)]
pub struct SupabaseConfig {
    /// The project, such as `https://abc.supabase.co`.
    pub url: String,
    /// The anon, publishable, service or secret key.
    pub key: SecretString,
    /// A signed-in user; without one the key alone counts.
    pub user: Option<UserTokens>,
    /// Told of renewed tokens of the user.
    pub keeper: Option<Arc<dyn TokenKeeper>>,
    /// Who we are.
    pub identity: Identity,
    /// The apps that run here: machines of an app tell each other of failed tasks.
    pub apps: Vec<AppId>,
    /// What the apps listen to.
    pub selectors: Vec<Selector>,
    /// Who goes first when many machines hear of one task.
    pub dispersal: Dispersal,
    /// Longest wait for one answer.
    pub request_timeout: Duration,
    /// For the expiry of tokens and for `online_at`; leases do not depend on it.
    pub clock: Arc<dyn Clock>,
    /// How the Realtime client waits, and how it connects: other than by default in tests only.
    pub realtime: RealtimeOptions,
}

/// How the Realtime client behaves.
#[derive(Clone, Debug, Default)]
pub struct RealtimeOptions {
    /// Its waiting times; the published ones when absent.
    pub timing: Option<rowcall_realtime::channel::Timing>,
}

impl SupabaseConfig {
    /// A project by URL and key, with everything else at its default.
    pub fn new(
        url: impl Into<String>,
        key: impl Into<SecretString>,
        identity: Identity,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            url: url.into(),
            key: key.into(),
            user: None,
            keeper: None,
            identity,
            apps: Vec::new(),
            selectors: Vec::new(),
            dispersal: Dispersal::default(),
            request_timeout: DEFAULT_REQUEST_TIMEOUT,
            clock,
            realtime: RealtimeOptions::default(),
        }
    }
}

impl fmt::Debug for SupabaseConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SupabaseConfig")
            .field("url", &self.url)
            .field("identity", &self.identity)
            .field("apps", &self.apps)
            .finish_non_exhaustive()
    }
}

//! A Supabase project, reached with only its URL and a key: REST for claims and settlements, Realtime for signals.
//!
//! Nothing here knows whether the other side is hosted, self-hosted or rowcall's own stack. The project may have
//!
//! - only what the published set-up makes (`rtx_activities`, `rtx_fn_claim_task` and its friends): claims go through that
//!   function, everything else through updates that name the holder they expect;
//! - our columns and functions too (`rowcall setup`): then several tasks go into one request, and settlements are fenced by
//!   attempt;
//! - tables of the user's own with lock columns, which are claimed by a guarded update.
//!
//! [`SupabaseBackend`] is the coordinator and may be used alone; [`SupabaseDriver::run`] keeps Realtime going beside it.

mod activities;
mod announce;
mod batch;
mod capture;
mod claim;
mod clock;
mod config;
mod coordinator;
mod custom;
mod driver;
pub(crate) mod error;
mod hinted;
pub(crate) mod http;
mod lease;
mod maintain;
mod memory;
mod orphans;
mod plan;
mod presence;
mod probe;
mod publications;
mod query;
pub(crate) mod session;
mod signals;
mod table;
mod wanted;

use std::sync::Arc;

use parking_lot::Mutex;
use rowcall_core::{ErrorClass, MachineId, SourceError, dispersal::Turns};
use rowcall_realtime::client::{Client, Config};
use tokio::{sync::watch, time::Instant};
use url::Url;

pub use activities::ActivityRows;
pub use config::{DEFAULT_REQUEST_TIMEOUT, Identity, RealtimeOptions, SupabaseConfig};
pub use driver::SupabaseDriver;
pub use plan::Capture;
pub use presence::{Load, Machine};
pub use probe::{Examined, ExaminedTable, Project, TablePlan};
pub use publications::Publication;
pub use session::{TokenKeeper, UserTokens, sign_in};
pub use wanted::Wanted;

use crate::custom::{CustomConfig, LockApi};
use custom::Custom;
use error::RestError;
use http::{Rest, Transport};
use memory::Memory;
use orphans::Leases;
use plan::Plans;
use session::Session;
use signals::Switchboard;

/// What the backend's handles and its driver share.
struct Inner {
    config: SupabaseConfig,
    rest: Rest,
    /// For requests in the name of somebody else than the session.
    transport: Transport,
    session: Session,
    plans: Plans,
    memory: Memory,
    leases: Leases,
    signals: Switchboard,
    /// Machines that have a free slot, as far as presence tells.
    present: watch::Receiver<Vec<MachineId>>,
    machines: watch::Receiver<Vec<Machine>>,
    /// Signals that wait because other machines go first.
    turns: Mutex<Turns>,
    load: watch::Sender<Load>,
    /// What the apps of this machine listen to.
    wanted: watch::Sender<Arc<Wanted>>,
    realtime: Client,
    /// In custom mode the app is asked for its locks.
    custom: Option<Custom>,
}

/// Tasks in a Supabase project; clones share everything.
#[derive(Clone)]
pub struct SupabaseBackend(Arc<Inner>);

impl std::fmt::Debug for SupabaseBackend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("SupabaseBackend")
            .field(&self.0.config)
            .finish()
    }
}

impl SupabaseBackend {
    /// A backend on a project, and the driver that keeps its Realtime side going. Nothing is sent yet.
    ///
    /// # Errors
    /// When the URL is of no use.
    pub fn new(config: SupabaseConfig) -> Result<(Self, SupabaseDriver), SourceError> {
        Self::make(config, None)
    }

    /// A backend in custom mode: the tables of the selectors are the app's own, and the app is asked for every lock. Signals,
    /// sweeps, heartbeats and presence go over the project as otherwise, as far as the key may read and write the tables.
    ///
    /// # Errors
    /// When a URL is of no use.
    pub fn custom(
        config: SupabaseConfig,
        app: &CustomConfig,
    ) -> Result<(Self, SupabaseDriver), SourceError> {
        let api = LockApi::new(app, config.identity.user_email.as_deref())?;
        Self::make(config, Some(Custom::new(api)))
    }

    fn make(
        config: SupabaseConfig,
        custom: Option<Custom>,
    ) -> Result<(Self, SupabaseDriver), SourceError> {
        let base = project_url(&config.url)?;
        let transport = Transport::new(base, config.key.clone(), config.request_timeout)
            .map_err(|error| error.during("set up the HTTP client"))?;
        let session = Session::new(
            transport.clone(),
            Arc::clone(&config.clock),
            config.user.clone(),
            config.keeper.clone(),
        );
        let mut realtime = Config::new(&config.url, config.key.clone())
            .map_err(|error| bad_url(&config.url, &error))?
            .tokens(Arc::new(session.clone()));
        if let Some(timing) = &config.realtime.timing {
            realtime = realtime.timing(timing.clone());
        }
        let (client, socket) = Client::new(realtime);
        let rest = Rest::new(transport.clone(), session.clone());
        let wanted = Wanted {
            apps: config.apps.clone(),
            selectors: config.selectors.clone(),
        };
        let (present_sender, present) = watch::channel(Vec::new());
        let (machines_sender, machines) = watch::channel(Vec::new());
        let inner = Arc::new(Inner {
            plans: Plans::new(rest.clone(), wanted.tables(), custom.is_some()),
            wanted: watch::Sender::new(Arc::new(wanted)),
            rest,
            transport,
            session,
            memory: Memory::default(),
            leases: Leases::default(),
            signals: Switchboard::new(),
            present,
            machines,
            turns: Mutex::new(Turns::new(config.dispersal, Instant::now().into_std())),
            load: watch::Sender::new(Load::default()),
            realtime: client,
            custom,
            config,
        });
        let driver =
            SupabaseDriver::new(Arc::clone(&inner), socket, present_sender, machines_sender);
        Ok((Self(inner), driver))
    }

    /// Signs in with other tokens, or out: an app has synced its user's session.
    pub async fn set_user(&self, tokens: Option<UserTokens>) {
        self.0.session.set(tokens);
        self.0.plans.forget();
        self.0.realtime.refresh_token().await;
    }

    /// Listens to other tables, for other apps, from now on. Tasks that are out stay as they are.
    pub fn set_wanted(&self, wanted: Wanted) {
        let changed = self.0.wanted.send_if_modified(|known| {
            let changed = **known != wanted;
            if changed {
                self.0.plans.look_for(wanted.tables());
                *known = Arc::new(wanted);
            }
            changed
        });
        if changed {
            tracing::debug!(tables = ?self.0.plans.tables(), "the apps listen to other tables");
        }
    }

    /// The queues of the same project, in the name of the same user.
    pub fn queues(&self) -> crate::queue::QueueProject {
        crate::queue::QueueProject::over(self.0.rest.clone())
    }

    /// Says how busy this machine is; the others hear of it when the limits of Realtime allow.
    pub fn set_load(&self, load: Load) {
        self.0.load.send_if_modified(|known| {
            let changed = *known != load;
            *known = load;
            changed
        });
    }

    /// The machines that are present, this one included; empty while Realtime is down.
    pub fn machines(&self) -> watch::Receiver<Vec<Machine>> {
        self.0.machines.clone()
    }

    /// Whether tasks stand in tables that cannot be read here: those of custom mode that only the app knows.
    pub fn has_blind_tables(&self) -> bool {
        self.0.plans.has_blind()
    }

    /// How the socket to Realtime is.
    pub fn realtime_status(&self) -> watch::Receiver<rowcall_realtime::client::Status> {
        self.0.realtime.status()
    }

    /// Moves what the backend remembers of a task into the past, for the conformance suite.
    #[cfg(any(test, feature = "testing"))]
    pub fn age(&self, task: &rowcall_core::TaskRef, by: std::time::Duration) {
        self.0.memory.age(task, by);
    }
}

/// The URL of a project, as people write it.
pub(crate) fn project_url(url: &str) -> Result<Url, SourceError> {
    let base = Url::parse(url).map_err(|error| bad_url(url, &error))?;
    if !["http", "https"].contains(&base.scheme()) || base.host_str().is_none() {
        let reason = "it must begin with http:// or https:// and name a host";
        return Err(bad_url(url, &reason));
    }
    Ok(base)
}

fn bad_url(url: &str, reason: &dyn std::fmt::Display) -> SourceError {
    let message = format!(
        "the project URL {url:?} cannot be used: {reason}; it looks like https://<project>.supabase.co"
    );
    SourceError::new(ErrorClass::Permanent, message)
}

impl Inner {
    /// What the apps listen to now.
    fn wanted(&self) -> Arc<Wanted> {
        Arc::clone(&self.wanted.borrow())
    }

    /// An error as the engine sees it. A function or column that was there and is gone makes the backend look anew.
    fn explain(&self, error: RestError, what: &str) -> SourceError {
        if error.is_missing_function() || error.is_missing_table() || error.is_missing_column() {
            self.plans.forget();
        }
        error.during(what)
    }
}

//! What the routes need: the daemon as the local API sees it.

use std::{path::PathBuf, sync::Arc, time::Duration};

use jiff::Timestamp;
use rowcall_backend::SupabaseBackend;
use rowcall_core::{Clock, IdSource, TableName, TaskId, TaskRef, ports::ClaimRules};
use rowcall_engine::{
    EngineHandle,
    store::{Decision, Store, StoreError},
};
use rowcall_stack::auth::Keys;
use rowcall_supervisor::{AppHost, Supervisor};
use tokio_util::sync::CancellationToken;

use super::{
    activities::Activities,
    error::ApiError,
    frame::Answers,
    identity::{Caller, Directories},
    outside::Outside,
    permissions::Broker,
    policy::Policy,
    rules::Permission,
    session::Session,
    streams::Streams,
    token::TaskTokens,
    tokens::UserTokens,
};
use crate::{
    config,
    daemon::{Addresses, Backend, QueueBoard, Tasks},
};

/// What the daemon hands to its local API.
pub struct Parts {
    /// The local store.
    pub store: Arc<Store>,
    /// The engine.
    pub engine: EngineHandle,
    /// The database or the project with the tasks.
    pub backend: Backend,
    /// How tasks are claimed for clients that do the work themselves.
    pub rules: ClaimRules,
    /// Where everything is.
    pub addresses: Addresses,
    /// The keys of the embedded stack, which sign its users' tokens.
    pub stack_keys: Option<Keys>,
    /// Queues and workers.
    pub queues: QueueBoard,
    /// The processes of apps.
    pub apps: AppHost,
    /// What starts programs, and knows whose a process is.
    pub supervisor: Supervisor,
    /// The configuration of the local API.
    pub config: config::Api,
    /// Decisions made in advance.
    pub policy: Policy,
    /// Canceled when the daemon stops.
    pub stop: CancellationToken,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// Fresh ids.
    pub ids: Arc<dyn IdSource>,
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts")
            .field("url", &self.addresses.api_url)
            .finish_non_exhaustive()
    }
}

/// The state of all routes. Cheap to clone.
#[derive(Clone)]
pub struct Api(Arc<Inner>);

struct Inner {
    parts: Parts,
    directory: Directories,
    broker: Broker,
    session: Session,
    activities: Activities,
    user_tokens: UserTokens,
    task_tokens: TaskTokens,
    outside: Outside,
    streams: Streams,
    answers: Arc<Answers>,
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Api")
            .field("url", &self.0.parts.addresses.api_url)
            .finish_non_exhaustive()
    }
}

impl Api {
    /// Makes the state; writes the session's token.
    pub fn new(parts: Parts) -> anyhow::Result<Self> {
        let store = &parts.store;
        let feed = store.setting("calendar-feed-token", &super::session::secret("rcf_"))?;
        Ok(Self(Arc::new(Inner {
            directory: Directories::new(store, Arc::clone(&parts.clock), Arc::clone(&parts.ids))?,
            broker: Broker::new(parts.policy.clone(), parts.config.permission_timeout.0),
            session: Session::create(&parts.addresses.data_dir, feed)?,
            activities: Activities::new(
                parts.addresses.database_url.as_deref(),
                parts.backend.over_http(),
            )?,
            user_tokens: UserTokens::default(),
            task_tokens: TaskTokens::load(store)?,
            outside: Outside::default(),
            streams: Streams::default(),
            answers: Arc::default(),
            parts,
        })))
    }

    /// Runs a call to the store where it may block.
    pub(super) async fn store<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let store = Arc::clone(&self.0.parts.store);
        match tokio::task::spawn_blocking(move || work(&store)).await {
            Ok(done) => Ok(done?),
            Err(panic) => Err(ApiError::internal(panic)),
        }
    }

    /// Whether a caller may do what `P` stands for.
    pub(super) async fn permit<P: Permission>(&self, caller: &Caller) -> Result<(), ApiError> {
        let Some(app) = caller.app() else {
            return Ok(());
        };
        if self.decision(app, P::NAME).await? == Some(Decision::Granted) {
            self.directory().used(app, P::NAME);
            return Ok(());
        }
        // Also after a denial: the SDK then asks, is told no at once, and raises its own error for that.
        Err(ApiError::permission_required(P::NAME))
    }

    pub(super) fn engine(&self) -> &EngineHandle {
        &self.0.parts.engine
    }

    pub(super) fn backend(&self) -> &dyn Tasks {
        &*self.0.parts.backend.tasks
    }

    /// Whether there may be tasks that cannot be looked up: those of tables that only the app of custom mode can read.
    pub(super) fn may_be_unseen(&self) -> bool {
        let project = self.0.parts.backend.over_http();
        project.is_some_and(SupabaseBackend::has_blind_tables)
    }

    /// The machines that presence shows; `None` where there is no presence.
    pub(super) fn present(&self) -> Option<Vec<rowcall_backend::supabase::Machine>> {
        self.0.parts.backend.machines()
    }

    pub(super) fn queues(&self) -> &QueueBoard {
        &self.0.parts.queues
    }

    pub(super) fn rules(&self) -> &ClaimRules {
        &self.0.parts.rules
    }

    pub(super) fn apps(&self) -> &AppHost {
        &self.0.parts.apps
    }

    pub(super) fn supervisor(&self) -> &Supervisor {
        &self.0.parts.supervisor
    }

    pub(super) fn addresses(&self) -> &Addresses {
        &self.0.parts.addresses
    }

    pub(super) fn stack_keys(&self) -> Option<&Keys> {
        self.0.parts.stack_keys.as_ref()
    }

    pub(super) fn config(&self) -> &config::Api {
        &self.0.parts.config
    }

    pub(super) fn stop(&self) -> &CancellationToken {
        &self.0.parts.stop
    }

    pub(super) fn directory(&self) -> &Directories {
        &self.0.directory
    }

    pub(super) fn broker(&self) -> &Broker {
        &self.0.broker
    }

    pub(super) fn session(&self) -> &Session {
        &self.0.session
    }

    pub(super) fn activities(&self) -> &Activities {
        &self.0.activities
    }

    pub(super) fn user_tokens(&self) -> &UserTokens {
        &self.0.user_tokens
    }

    pub(super) fn task_tokens(&self) -> &TaskTokens {
        &self.0.task_tokens
    }

    pub(super) fn outside(&self) -> &Outside {
        &self.0.outside
    }

    pub(super) fn streams(&self) -> &Streams {
        &self.0.streams
    }

    pub(super) fn answers(&self) -> &Arc<Answers> {
        &self.0.answers
    }

    pub(super) fn now(&self) -> Timestamp {
        self.0.parts.clock.now()
    }

    pub(super) fn uuid(&self) -> uuid::Uuid {
        self.0.parts.ids.uuid()
    }

    /// The task that an id means, wherever it is.
    pub(super) async fn task_ref(&self, id: &TaskId) -> Result<TaskRef, ApiError> {
        Ok(self.0.parts.backend.find(id).await?)
    }

    /// A task of `rtx_activities` by its id.
    pub(super) fn activity_ref(id: TaskId) -> TaskRef {
        TaskRef {
            table: TableName::activities(),
            id,
        }
    }

    /// The folder of an app or of a developer, below the data directory.
    pub(super) fn data_dir_of(&self, caller: &Caller) -> PathBuf {
        match caller {
            Caller::App { app, .. } => crate::daemon::app_dir(&self.addresses().data_dir, app),
            // A path must never hold a usable key.
            Caller::Key { digest, .. } => self
                .addresses()
                .data_dir
                .join("developers")
                .join(hex::encode(&digest[..8])),
        }
    }
}

/// How often what is counted in memory is written.
pub(super) const WRITE_EVERY: Duration = Duration::from_secs(5);

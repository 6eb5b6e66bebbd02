//! Starting the daemon, in order: store, database, migrations, servers, engine.

use std::sync::Arc;

use rowcall_backend::{
    migrate::{self, MigrateOptions},
    postgres::{PostgresBackend, PostgresConfig},
    supabase::SupabaseDriver,
};
use rowcall_core::{Clock, IdSource, MachineId, ports::ClaimRules};
use rowcall_engine::{
    Engine, EngineOptions, PollOptions, Source,
    store::{Store, StoreOptions, StoreWriter},
};
use rowcall_stack::{
    auth::Keys,
    cluster::{DataDirLock, Events},
    realtime::{Limits, Slot},
    stack::{RealtimeSettings, Stack, StackConfig, loopback},
};
use rowcall_supervisor::{AppHost, AppOptions};
use secrecy::{ExposeSecret as _, SecretString};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Addresses, Backend, Daemon, Database, Project, QueueBoard, RunFile, STORE_FILE, StackAddress,
    apps, database,
    engine::{self, EngineParts},
    machine::named,
    project::warn_of_modes,
    queue::{Origin, Queues},
    wanted,
};
use crate::{
    api::{self, Api, Policy},
    config::Config,
    exit::{Exit, UserError},
    system::{RandomIds, SystemClock},
};

/// How many ports after the wanted one are tried for the Supabase-compatible API.
pub(crate) const STACK_PORTS_TRIED: u16 = 100;

impl Daemon {
    /// Starts everything. When a step fails, what was started before it is stopped again.
    pub async fn start(config: &Config, events: Events) -> anyhow::Result<Self> {
        crate::prometheus::install();
        let data_dir = config.data_dir()?;
        let lock = DataDirLock::acquire(&data_dir).map_err(database::user)?;
        let data_dir = lock.data_dir().to_path_buf();
        let store = Arc::new(Store::open(
            &data_dir.join(STORE_FILE),
            StoreOptions::default(),
        )?);
        let policy = match &config.api.policy {
            Some(file) => Policy::read(file).map_err(|error| UserError::of(Exit::Usage, &error))?,
            None => Policy::default(),
        };
        // Before the database: a port that is taken should not cost a cluster's start.
        let (api_port, listeners) = api::bind(config.api.port)
            .await
            .map_err(|error| UserError::of(Exit::Failure, &error))?;
        if config.backend.is_project() {
            let parts = Self::on_project(config, &data_dir, &store, api_port).await?;
            let held = Held {
                database: None,
                lock: Some(lock),
            };
            return parts.assemble(config, policy, held, store, listeners).await;
        }
        let database = Database::for_daemon(config, lock, events).await?;
        let database_url = database.url.clone();
        match Self::on(config, &data_dir, &store, &database_url, api_port).await {
            Ok(parts) => {
                let held = Held {
                    database: Some(database),
                    lock: None,
                };
                parts.assemble(config, policy, held, store, listeners).await
            }
            Err(error) => {
                database.close().await;
                Err(error)
            }
        }
    }

    /// The parts on a Supabase project, which need neither a database nor that the project answers now.
    async fn on_project(
        config: &Config,
        data_dir: &std::path::Path,
        store: &Arc<Store>,
        api_port: u16,
    ) -> anyhow::Result<Parts> {
        let machine = named(config, data_dir)?;
        let apps = apps::load(store)?;
        let kind = config.backend.kind();
        warn_of_modes(kind, &apps);
        let project = {
            let (config, data_dir, apps) = (config.clone(), data_dir.to_path_buf(), apps.clone());
            // The keyring may block.
            tokio::task::spawn_blocking(move || Project::of(&config, &data_dir, &apps)).await??
        };
        let wanted = wanted(&apps);
        let (backend, driver) = project.backend(&machine, wanted.clone())?;
        let secret = |key: &SecretString| key.expose_secret().to_owned();
        let addresses = Addresses {
            machine,
            data_dir: data_dir.to_path_buf(),
            database_url: None,
            api_url: format!("http://localhost:{api_port}"),
            stack: Some(StackAddress {
                url: project.url.clone(),
                anon_key: project.anon_key.as_ref().map(secret),
                own_key: secret(&project.key),
            }),
        };
        let origin = match &config.database.url {
            Some(url) => Origin::Database(url),
            None => Origin::Project(backend.queues()),
        };
        let backend = Backend::project(backend, kind, &wanted);
        let queues = Queues::open(
            config,
            addresses.machine.as_str(),
            origin,
            addresses.stack.as_ref(),
        )
        .await?;
        let (engine, runners, writer, run_file) = wire(
            config,
            false,
            store,
            &backend,
            &addresses,
            api_port,
            queues.as_ref(),
        )?;
        Ok(Parts {
            queues,
            engine,
            runners,
            writer,
            backend,
            driver: Some(driver),
            stack: None,
            addresses,
            run_file,
        })
    }

    async fn on(
        config: &Config,
        data_dir: &std::path::Path,
        store: &Arc<Store>,
        database_url: &str,
        api_port: u16,
    ) -> anyhow::Result<Parts> {
        let machine = named(config, data_dir)?;
        let own = config.database.url.is_none();
        let backend = Backend::from(prepare(config, &machine, database_url, own).await?);
        let stack = if own && config.stack.enabled {
            Some(start_stack(config, data_dir, database_url).await?)
        } else {
            None
        };
        let addresses = Addresses {
            machine,
            data_dir: data_dir.to_path_buf(),
            database_url: Some(database_url.to_owned()),
            api_url: format!("http://localhost:{api_port}"),
            stack: stack.as_ref().map(|stack| stack.address.clone()),
        };
        let queues = Queues::open(
            config,
            addresses.machine.as_str(),
            Origin::Database(database_url),
            addresses.stack.as_ref(),
        );
        let wired = queues.await.and_then(|queues| {
            let wired = wire(
                config,
                own,
                store,
                &backend,
                &addresses,
                api_port,
                queues.as_ref(),
            )?;
            Ok((wired, queues))
        });
        match wired {
            Ok(((engine, runners, writer, run_file), queues)) => Ok(Parts {
                queues,
                engine,
                runners,
                writer,
                backend,
                driver: None,
                stack,
                addresses,
                run_file,
            }),
            Err(error) => {
                if let Some(stack) = stack {
                    stack.stop().await;
                }
                Err(error)
            }
        }
    }
}

type Wired = (
    Engine,
    Arc<rowcall_supervisor::Runners>,
    Arc<StoreWriter>,
    super::RunFileGuard,
);

/// Puts the engine together, and says where we are.
fn wire(
    config: &Config,
    own: bool,
    store: &Arc<Store>,
    backend: &Backend,
    addresses: &Addresses,
    api_port: u16,
    queues: Option<&Queues>,
) -> anyhow::Result<Wired> {
    let EngineParts {
        builder,
        runners,
        writer,
    } = engine::prepare(addresses, store, options(config, own), queues)?;
    let (coordinator, signals) = backend.ports();
    let name = if config.backend.is_project() {
        "project"
    } else {
        "database"
    };
    let mut apps = apps::load(store)?;
    apps.extend(queues.map(|queues| queues.app().clone()));
    let mut builder = builder
        .source(Source::new(name, coordinator, signals))
        .apps(apps);
    if let Some(queues) = queues {
        builder = builder.source(queues.source());
    }
    let engine = builder.build()?;
    let run_file = RunFile {
        pid: std::process::id(),
        database_url: addresses.database_url.clone(),
        api_port,
        stack_url: addresses.stack.as_ref().map(|stack| stack.url.clone()),
    };
    let run_file = run_file.write(&addresses.data_dir)?;
    Ok((engine, runners, writer, run_file))
}

/// What was started before the database's ownership moves in.
struct Parts {
    queues: Option<Queues>,
    engine: Engine,
    /// Keeps the Realtime side of a project going.
    driver: Option<SupabaseDriver>,
    runners: Arc<rowcall_supervisor::Runners>,
    writer: Arc<StoreWriter>,
    backend: Backend,
    stack: Option<RunningStack>,
    addresses: Addresses,
    run_file: super::RunFileGuard,
}

impl Parts {
    async fn assemble(
        mut self,
        config: &Config,
        policy: Policy,
        held: Held,
        store: Arc<Store>,
        listeners: Vec<tokio::net::TcpListener>,
    ) -> anyhow::Result<Daemon> {
        let handle = self.engine.handle();
        let background = CancellationToken::new();
        let tasks = TaskTracker::new();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let ids: Arc<dyn IdSource> = Arc::new(RandomIds);
        let supervisor = self.runners.supervisor().clone();
        let host = AppHost::new(
            supervisor.clone(),
            AppOptions::default(),
            Arc::clone(&clock),
            Arc::clone(&ids),
        );
        let queues = match &self.queues {
            Some(queues) => queues.board(),
            None => {
                let url = self.addresses.database_url.as_deref();
                QueueBoard::of_database(url.or(config.database.url.as_deref()))?
            }
        };
        let api = Api::new(api::Parts {
            queues,
            store: Arc::clone(&store),
            engine: handle.clone(),
            backend: self.backend.clone(),
            rules: ClaimRules {
                machine: self.addresses.machine.clone(),
                lease: config.engine.lease(),
                retry: config.engine.retry(is_alone(config)),
            },
            addresses: self.addresses.clone(),
            stack_keys: self.stack.as_ref().map(|stack| stack.keys.clone()),
            apps: host.clone(),
            supervisor,
            config: config.api.clone(),
            policy,
            stop: background.clone(),
            clock,
            ids,
        })?;
        tasks.spawn(api::serve(listeners, api::router(&api), background.clone()));
        api.spawn_background(&tasks);
        let watch = store.watch_apps()?;
        if let Some(queues) = &mut self.queues {
            queues.spawn(&tasks, &background);
        }
        let own = self.queues.as_ref().map(|queues| queues.app().clone());
        tasks.spawn(apps::follow(
            store,
            own,
            watch,
            handle.clone(),
            self.backend.clone(),
            background.clone(),
        ));
        if let Some(driver) = self.driver {
            let stopped = background.clone();
            tasks.spawn(async move { stopped.run_until_cancelled(driver.run()).await });
        }
        let load = self
            .backend
            .publish_load(handle.clone(), background.clone());
        tasks.spawn(load);
        let running = tokio::spawn(self.engine.run());
        api.autostart().await;
        Ok(Daemon {
            running,
            engine: handle,
            runners: self.runners,
            apps: host,
            store: self.writer,
            stack: self.stack,
            database: held.database,
            _lock: held.lock,
            background,
            tasks,
            addresses: self.addresses,
            _run_file: self.run_file,
        })
    }
}

/// What keeps the data directory ours.
struct Held {
    database: Option<Database>,
    lock: Option<DataDirLock>,
}

/// Whether no other machine can take this one's failed tasks.
fn is_alone(config: &Config) -> bool {
    config.database.url.is_none() && !config.backend.is_project()
}

/// Brings the schema up to date, says what was done, and connects.
async fn prepare(
    config: &Config,
    machine: &MachineId,
    url: &str,
    own: bool,
) -> anyhow::Result<PostgresBackend> {
    let mut client = crate::cli::connect(url).await?;
    if own {
        // Roles and the publication first: the schema fits itself to them.
        rowcall_stack::bootstrap::apply(&client).await?;
    }
    let refused = |error: &(dyn std::error::Error + 'static)| UserError::of(Exit::Database, error);
    let applied = migrate::apply(&mut client, MigrateOptions::default())
        .await
        .map_err(|error| refused(&error))?;
    for migration in &applied.migrations {
        tracing::info!(migration, "migrated");
    }
    for note in &applied.notes {
        tracing::info!("{note}");
    }
    let mut postgres = PostgresConfig::new(url, machine.as_str())?;
    postgres.connections = usize::try_from(config.database.pool_size)?;
    postgres.max_attempts = config.engine.max_attempts;
    Ok(PostgresBackend::connect(postgres)
        .await
        .map_err(|error| refused(&error))?)
}

/// The Supabase-compatible API while it runs.
pub(super) struct RunningStack {
    stack: Stack,
    address: StackAddress,
    keys: Keys,
}

impl RunningStack {
    /// Ends sockets, requests and connections.
    pub(super) async fn stop(self) {
        self.stack.shutdown().await;
    }
}

async fn start_stack(
    config: &Config,
    data_dir: &std::path::Path,
    database_url: &str,
) -> anyhow::Result<RunningStack> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let keys = if config.stack.supabase_cli_keys {
        Keys::supabase_cli()
    } else {
        Keys::load_or_create(data_dir, clock.now())?
    };
    let mut stack = StackConfig::new(database_url, keys.clone(), clock);
    stack.bind = loopback(config.stack.port);
    stack.spare_ports = STACK_PORTS_TRIED;
    stack.realtime = Some(RealtimeSettings {
        ids: Arc::new(RandomIds),
        limits: Limits::default(),
        // Kept, so that clients who come back after a restart get what was changed meanwhile; our own servers bound the WAL
        // that a slot holds back.
        slot: Some(Slot::Durable {
            name: None,
            keep: true,
        }),
        private_only: false,
    });
    stack.bootstrap = false;
    let stack = Stack::start(stack).await?;
    let address = StackAddress {
        url: stack.url().to_owned(),
        anon_key: Some(keys.anon_key().to_owned()),
        own_key: keys.service_role_key().to_owned(),
    };
    Ok(RunningStack {
        stack,
        address,
        keys,
    })
}

fn options(config: &Config, own: bool) -> EngineOptions {
    EngineOptions {
        lease: config.engine.lease(),
        retry: config.engine.retry(own),
        poll: PollOptions {
            up: config.engine.poll.0,
            down: config.engine.poll_while_down.0,
            ..PollOptions::default()
        },
        concurrency: config.engine.max_concurrent_tasks,
        shutdown_grace: config.engine.shutdown_grace.0,
        ..EngineOptions::default()
    }
}

//! From a locked data directory to a running server.

use std::sync::Arc;
use std::time::Duration;

use super::account::Account;
use super::discover::discover;
use super::error::ClusterError;
use super::event::{ClusterEvent, Events};
use super::install::Install;
use super::layout::{Layout, check_access, socket_path};
use super::log::ServerLog;
use super::make::{make_cluster, remove_unfinished};
use super::password::{self, Superuser};
use super::port::has_ipv6;
use super::provision::{Cache, Client, ClientKind, Pin, find_clients, for_platform};
use super::resolve::{Decision, Environment, Made, resolve, unresolved, why_old};
use super::server::{Launch, Server, StartError};
use super::settings::{Durability, Settings};
use super::state::{Existing, State, inspect};
use super::version::PgVersion;
use super::{Cluster, ClusterConfig, ClusterInfo, DataDirLock, stop};

/// How long the server may be silent while it starts. A line in its log or an answer counts.
const SILENCE_LIMIT: Duration = Duration::from_secs(30);

pub(super) async fn start(
    config: ClusterConfig,
    lock: DataDirLock,
    events: Events,
) -> Result<Cluster, ClusterError> {
    let choice = config.password;
    let stop_grace = config.stop_grace;
    // Programs, files and waiting: all of it blocks.
    let started = tokio::task::spawn_blocking(move || start_server(&config, &lock, &events)).await;
    let started = match started {
        Ok(result) => result?,
        Err(join) => std::panic::resume_unwind(join.into_panic()),
    };
    let Started {
        server,
        info,
        port,
        superuser,
        log,
    } = started;
    match superuser.settle(choice).await {
        Ok(password) => Ok(Cluster {
            server,
            info,
            port,
            password,
            log,
            stop_grace,
        }),
        Err(error) => {
            stop(server, stop_grace).await;
            Err(error)
        }
    }
}

struct Started {
    server: Server,
    info: ClusterInfo,
    port: u16,
    superuser: Superuser,
    log: Arc<ServerLog>,
}

fn start_server(
    config: &ClusterConfig,
    lock: &DataDirLock,
    events: &Events,
) -> Result<Started, ClusterError> {
    let layout = Layout::new(lock.data_dir());
    let existing = inspect(&layout)?;
    let account = Account::for_cluster(&layout.clusters());
    layout.prepare(&account)?;
    let (install, why) = choose(config, &existing, &account, events)?;
    check_access(&account, &install.bin_dir)?;
    events.send(ClusterEvent::Resolved {
        version: install.version,
        bin_dir: install.bin_dir.clone(),
        why: why.clone(),
    });
    remove_unfinished(&layout)?;
    match &existing {
        Existing::Cluster(state) => note_build_change(state, &install, events),
        Existing::Nothing | Existing::StateOnly => {
            if existing == Existing::StateOnly {
                let gone = "the database of this data directory is gone, an empty one is made";
                events.send(ClusterEvent::Note(gone.to_owned()));
            }
            let stored = password::read(&layout.secret())?;
            let password = config.password.desired(stored.as_deref());
            password::write(&layout.secret(), &password)?;
            make_cluster(&layout, &install, &account, &password, events)?;
        }
    }
    let pg_dir = layout
        .data_dir()
        .join(Layout::cluster_name(install.version.major));
    password::close_rules(&pg_dir)?;
    let socket_dir = layout.socket_dir(config.runtime_dir.as_deref(), &account)?;
    let info = ClusterInfo {
        why,
        user: account.name.clone(),
        pg_dir,
        socket_dir,
        log_file: layout.log(),
        install,
    };
    let log = Arc::new(ServerLog::new(layout.log()));
    let (server, port) = launch(config, lock, events, &account, &info, &log)?;
    let superuser = Superuser {
        pg_dir: info.pg_dir.clone(),
        socket_dir: info.socket_dir.clone(),
        port,
        secret: layout.secret(),
        account,
    };
    Ok(Started {
        server,
        info,
        port,
        superuser,
        log,
    })
}

/// The server programs to run, fetched when need be.
fn choose(
    config: &ClusterConfig,
    existing: &Existing,
    account: &Account,
    events: &Events,
) -> Result<(Install, String), ClusterError> {
    let cache = Cache::new(&config.cache_dir);
    let made = match existing {
        Existing::Cluster(state) => Some(Made {
            provider: state.provider,
            major: state.major,
            build_id: state.build_id.clone(),
        }),
        Existing::Nothing | Existing::StateOnly => None,
    };
    choose_for(config, made, &cache, account, events)
}

/// The same for a cluster that was made with `made`, or a new one.
pub(super) fn choose_for(
    config: &ClusterConfig,
    made: Option<Made>,
    cache: &Cache,
    account: &Account,
    events: &Events,
) -> Result<(Install, String), ClusterError> {
    let builds = for_platform(std::env::consts::OS, std::env::consts::ARCH);
    let environment = Environment {
        preference: config.provider,
        made,
        installed: discover(&config.search, account),
        searched: config.search.describe(),
        builds: builds
            .into_iter()
            .map(|pin| (pin, cache.find(&pin)))
            .collect(),
        clients: find_clients(&config.search.path),
        offline: config.offline,
    };
    match resolve(&environment)? {
        Decision::Run { install, why } => Ok((install, why)),
        Decision::Fetch {
            attempts,
            why,
            otherwise,
        } => match (fetch(&attempts, cache, account, events)?, otherwise) {
            (Ok(install), _) => Ok((install, why)),
            (Err(_), Some(old)) => {
                let why = why_old(&old);
                Ok((old, why))
            }
            (Err(failures), None) => Err(unresolved(&environment, &failures)),
        },
    }
}

/// The first build that can be had, or how each client failed.
pub(super) fn fetch(
    attempts: &[(Client, Pin)],
    cache: &Cache,
    account: &Account,
    events: &Events,
) -> Result<Result<Install, Vec<(ClientKind, String)>>, ClusterError> {
    let mut failures = Vec::new();
    for (client, pin) in attempts {
        match cache.fetch(pin, client, account, events)? {
            Ok(install) => return Ok(Ok(install)),
            Err(reason) => failures.push((client.kind, reason)),
        }
    }
    Ok(Err(failures))
}

/// A newer minor version is what one wants; an older one may lack a fix the data relied on.
fn note_build_change(state: &State, install: &Install, events: &Events) {
    let before = state.build_id.rsplit_once('-').map(|(_, version)| version);
    let before: Option<PgVersion> = before.and_then(|version| version.parse().ok());
    if before.is_some_and(|before| install.version < before) {
        events.send(ClusterEvent::Note(format!(
            "this database was made with {}, and is now run by the older {}",
            state.build_id, install.build_id
        )));
    }
}

/// Starts the server on the first port that works.
fn launch(
    config: &ClusterConfig,
    lock: &DataDirLock,
    events: &Events,
    account: &Account,
    info: &ClusterInfo,
    log: &Arc<ServerLog>,
) -> Result<(Server, u16), ClusterError> {
    let ipv6 = has_ipv6();
    let mut failed = None;
    loop {
        let port = config.port.first_free(failed, ipv6)?;
        let settings = Settings {
            port,
            socket_dir: &info.socket_dir,
            ipv6,
            durability: Durability::Durable,
        };
        let launch = Launch {
            guard: config.guard.clone(),
            account: account.clone(),
            program: info.install.program("postgres"),
            arguments: settings.arguments(&info.pg_dir),
            pg_dir: info.pg_dir.clone(),
            socket: socket_path(&info.socket_dir, port),
            socket_dir: info.socket_dir.clone(),
            port,
            log: Arc::clone(log),
            events: events.clone(),
            silence_limit: SILENCE_LIMIT,
            lock: lock.clone(),
        };
        match Server::start(launch) {
            Ok(server) => return Ok((server, port)),
            Err(StartError::PortTaken) => failed = Some(port),
            Err(StartError::Other(error)) => return Err(error),
        }
    }
}

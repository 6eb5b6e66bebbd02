//! The embedded server, with real processes. What these tests share.

mod crash;
mod daemon;
mod disk_full;
mod first_start;
mod leftover;
mod password;
mod refused;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rowcall_stack::cluster::{
    Cluster, ClusterConfig, ClusterError, ClusterEvent, DataDirLock, Events, GuardCommand, Phase,
    PortChoice, ProviderKind, SearchPaths,
};
use rowcall_stack::testing::{explicit_bin_dir, scratch_dir};
use tokio_postgres::{Client, NoTls};

/// More than anything here takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// A data directory and what a daemon would be configured with.
pub(crate) struct Place {
    top: tempfile::TempDir,
    pub(crate) config: ClusterConfig,
    pub(crate) events: Arc<Mutex<Vec<ClusterEvent>>>,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self::inside(scratch_dir())
    }

    pub(crate) fn inside(top: tempfile::TempDir) -> Self {
        let probe = PathBuf::from(env!("CARGO_BIN_EXE_rowcall-cluster-probe"));
        let mut search = SearchPaths::new(std::env::var_os("PATH").as_deref());
        search.explicit = explicit_bin_dir();
        let is_explicit = search.explicit.is_some();
        let mut config = ClusterConfig::new(
            top.path().join("cache"),
            GuardCommand::new(probe, ["__postgres-guard"]),
            search,
        );
        config.provider = is_explicit.then_some(ProviderKind::Installed);
        // Away from what a daemon of the same machine uses and from what the system hands out, and apart for each test process.
        let offset = u16::try_from(std::process::id() % 120).expect("small");
        config.port = PortChoice::NextFree(20_000 + 100 * offset);
        Self {
            top,
            config,
            events: Arc::default(),
        }
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.top.path().join("data")
    }

    pub(crate) fn cache_dir(&self) -> PathBuf {
        self.top.path().join("cache")
    }

    pub(crate) fn top(&self) -> &Path {
        self.top.path()
    }

    pub(crate) async fn start(&self) -> Result<Cluster, ClusterError> {
        let lock = DataDirLock::acquire(&self.data_dir())?;
        let sink = Arc::clone(&self.events);
        let events = Events::to(move |event| sink.lock().push(event));
        Cluster::start(self.config.clone(), &lock, events).await
    }

    pub(crate) async fn started(&self) -> Cluster {
        match self.start().await {
            Ok(cluster) => cluster,
            Err(error) => panic!("{error}"),
        }
    }

    /// The one cluster directory there is.
    pub(crate) fn pg_dir(&self) -> PathBuf {
        let mut found = std::fs::read_dir(self.data_dir().join("pg"))
            .expect("pg/")
            .map(|entry| entry.expect("an entry").path());
        let directory = found.next().expect("a cluster");
        assert_eq!(found.next(), None, "only one");
        directory.canonicalize().expect("canonical")
    }

    /// Starts a second time, checks that the data is there, and stops.
    pub(crate) async fn starts_again_with(&self, row: i32) {
        let cluster = self.started().await;
        assert_eq!(stored(&cluster.url()).await, [row]);
        cluster.stop().await;
        assert_eq!(processes_in(&self.pg_dir()), Vec::<i32>::new());
    }
}

pub(crate) async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("log in");
    tokio::spawn(async move {
        // Some tests kill the server.
        drop(connection.await);
    });
    client
}

/// Commits one row.
pub(crate) async fn store(url: &str, row: i32) {
    let statement = format!(
        "create table if not exists kept (id int primary key); insert into kept values ({row})"
    );
    connect(url)
        .await
        .batch_execute(&statement)
        .await
        .expect("committed");
}

pub(crate) async fn stored(url: &str) -> Vec<i32> {
    let rows = connect(url)
        .await
        .query("select id from kept order by id", &[])
        .await;
    rows.expect("the table")
        .iter()
        .map(|row| row.get(0))
        .collect()
}

pub(crate) async fn show(client: &Client, setting: &str) -> String {
    let row = client.query_one(&format!("show {setting}"), &[]).await;
    row.expect("a setting").get(0)
}

/// The processes that work in a directory, as every server process does.
pub(crate) fn processes_in(directory: &Path) -> Vec<i32> {
    let entries = std::fs::read_dir("/proc")
        .expect("/proc")
        .filter_map(Result::ok);
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid: &i32| {
            std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == directory)
        })
        .collect()
}

pub(crate) fn postmaster(pg_dir: &Path) -> nix::unistd::Pid {
    find_postmaster(pg_dir).expect("a pid file")
}

/// The same where the server may be down just now.
pub(crate) fn find_postmaster(pg_dir: &Path) -> Option<nix::unistd::Pid> {
    let text = std::fs::read_to_string(pg_dir.join("postmaster.pid")).ok()?;
    let pid = text.lines().next()?.parse().ok()?;
    Some(nix::unistd::Pid::from_raw(pid))
}

/// Waits for a condition that another process brings about.
pub(crate) fn eventually(what: &str, condition: impl Fn() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(
            started.elapsed() < PATIENCE,
            "waited {PATIENCE:?} for {what}"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub(crate) async fn phase_is(cluster: &Cluster, wanted: impl FnMut(&Phase) -> bool) {
    let mut phase = cluster.phase();
    tokio::time::timeout(PATIENCE, phase.wait_for(wanted))
        .await
        .expect("in time")
        .expect("the keeper lives");
}

pub(crate) fn is_root() -> bool {
    nix::unistd::Uid::effective().is_root()
}

//! A PostgreSQL of one's own for one run: durable, as the product runs it, with `pg_stat_statements`.

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, bail};
use rowcall_stack::cluster::{
    Cluster, ClusterConfig, DataDirLock, Events, GuardCommand, PortChoice, SearchPaths,
};
use tokio_postgres::Client;

/// The hidden argument that becomes the server.
pub(crate) const POSTGRES_GUARD: &str = "__postgres-guard";

/// Away from the port of a daemon.
const FIRST_PORT: u16 = 24_700;
/// How long a checkpoint or a new database may take.
const ADMIN_LIMIT: Duration = Duration::from_mins(2);

/// Where the server comes from and where it lives.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// The directory of the server programs; searched for when absent.
    pub(crate) pg_bin: Option<PathBuf>,
    /// In which directory the run's own directory is made.
    pub(crate) scratch: PathBuf,
}

impl Place {
    /// A directory that another user may enter.
    pub(crate) fn directory(&self) -> Result<tempfile::TempDir> {
        let dir = tempfile::Builder::new()
            .prefix("rowcall-bench-")
            .tempdir_in(&self.scratch)
            .context("cannot make a directory for the run")?;
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755))?;
        Ok(dir)
    }

    fn config(&self, cache: PathBuf) -> Result<ClusterConfig> {
        let guard = GuardCommand::own_binary([POSTGRES_GUARD])?;
        let mut search = SearchPaths::new(std::env::var_os("PATH").as_deref());
        search.explicit.clone_from(&self.pg_bin);
        let mut config = ClusterConfig::new(cache, guard, search);
        config.port = PortChoice::NextFree(FIRST_PORT);
        Ok(config)
    }
}

/// Starts the cluster in `data_dir` with statement statistics, and what the daemon would have there.
pub(crate) async fn start_cluster(
    place: &Place,
    data_dir: &std::path::Path,
    cache: PathBuf,
) -> Result<(Cluster, DataDirLock)> {
    let lock = DataDirLock::acquire(data_dir)?;
    let config = place.config(cache)?;
    let cluster = Cluster::start(config.clone(), &lock, Events::to_log()).await?;
    let admin = connect(&cluster.url()).await?;
    admin
        .batch_execute("alter system set shared_preload_libraries = 'pg_stat_statements'")
        .await?;
    drop(admin);
    cluster.stop().await;
    let cluster = Cluster::start(config, &lock, Events::to_log())
        .await
        .context("is pg_stat_statements installed beside this PostgreSQL?")?;
    let admin = connect(&cluster.url()).await?;
    admin
        .batch_execute("create extension if not exists pg_stat_statements")
        .await
        .context("the benchmark counts statements with pg_stat_statements")?;
    Ok((cluster, lock))
}

/// One connection; statements on it take as long as they take.
pub(crate) async fn connect(url: &str) -> Result<Client> {
    let client = rowcall_backend::postgres::connect(url).await?;
    client.batch_execute("set statement_timeout = 0").await?;
    Ok(client)
}

/// The server of one run.
pub(crate) struct Server {
    cluster: Cluster,
    _lock: DataDirLock,
    admin: Client,
    base: String,
    dir: tempfile::TempDir,
    made: std::sync::atomic::AtomicU32,
}

impl Server {
    /// Starts one in a new directory.
    pub(crate) async fn start(place: &Place) -> Result<Self> {
        let dir = place.directory()?;
        let (cluster, lock) =
            start_cluster(place, &dir.path().join("data"), dir.path().join("cache")).await?;
        let url = cluster.url();
        let admin = connect(&url).await?;
        let durable: bool = admin
            .query_one(
                "select current_setting('fsync') = 'on' and current_setting('synchronous_commit') = 'on'",
                &[],
            )
            .await?
            .get(0);
        if !durable {
            bail!("the server is not durable; its numbers would say nothing");
        }
        let base = url.strip_suffix("/postgres").unwrap_or(&url).to_owned();
        Ok(Self {
            cluster,
            _lock: lock,
            admin,
            base,
            dir,
            made: 0.into(),
        })
    }

    /// The process id of the postmaster.
    pub(crate) fn postmaster(&self) -> Result<u32> {
        let file = self.cluster.info().pg_dir.join("postmaster.pid");
        let text = fs::read_to_string(&file).with_context(|| format!("{}", file.display()))?;
        Ok(text.lines().next().unwrap_or_default().trim().parse()?)
    }

    /// The run's own directory.
    pub(crate) fn directory(&self) -> &std::path::Path {
        self.dir.path()
    }

    /// The URL of a database.
    pub(crate) fn url(&self, database: &str) -> String {
        format!("{}/{database}", self.base)
    }

    /// The server's version, as it says it.
    pub(crate) async fn version(&self) -> Result<String> {
        Ok(self
            .admin
            .query_one("show server_version", &[])
            .await?
            .get(0))
    }

    /// Makes a new database, empty or as a copy, and says its name.
    pub(crate) async fn create(&self, template: Option<&str>) -> Result<String> {
        let number = self.made.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let name = format!("bench_{number}");
        let template = template.unwrap_or("template0");
        // Every name here is our own.
        let sql = format!("create database {name} template {template}");
        tokio::time::timeout(ADMIN_LIMIT, self.admin.batch_execute(&sql)).await??;
        Ok(name)
    }

    /// Drops a database with everybody in it.
    pub(crate) async fn drop(&self, database: &str) -> Result<()> {
        let sql = format!("drop database {database} with (force)");
        tokio::time::timeout(ADMIN_LIMIT, self.admin.batch_execute(&sql)).await??;
        Ok(())
    }

    /// Writes everything out, so that no run pays for the one before.
    pub(crate) async fn checkpoint(&self) -> Result<()> {
        tokio::time::timeout(ADMIN_LIMIT, self.admin.batch_execute("checkpoint")).await??;
        Ok(())
    }

    /// How many statements were run in a database.
    pub(crate) async fn statements(&self, database: &str) -> Result<i64> {
        let sql = "select coalesce(sum(calls), 0)::bigint from pg_stat_statements \
                   where dbid = (select oid from pg_database where datname = $1)";
        Ok(self.admin.query_one(sql, &[&database]).await?.get(0))
    }

    /// Where the WAL ends, in bytes.
    pub(crate) async fn wal(&self) -> Result<i64> {
        let sql = "select (pg_current_wal_insert_lsn() - '0/0')::bigint";
        Ok(self.admin.query_one(sql, &[]).await?.get(0))
    }

    /// Stops the server and removes its directory.
    pub(crate) async fn stop(self) {
        drop(self.admin);
        self.cluster.stop().await;
    }
}

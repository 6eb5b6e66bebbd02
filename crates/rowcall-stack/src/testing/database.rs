//! A database of one test.

use std::fmt::Display;
use std::future::Future;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::UNIX_EPOCH;

use sha2::{Digest as _, Sha256};
use tokio_postgres::{Client, NoTls};

use super::place::is_alive;
use super::server::TestCluster;
use super::thread::{aside, aside_blocking};

/// Names are cut to this many bytes by the server.
const NAME_LIMIT: usize = 63;
/// From this major version on a template is copied file by file, which is faster than through the WAL.
const FILE_COPY_SINCE: u32 = 15;

/// A database of one test; dropped with all its connections when this value is dropped.
#[derive(Debug)]
pub struct TestDb {
    cluster: TestCluster,
    name: String,
}

impl TestDb {
    /// An empty database.
    ///
    /// # Panics
    ///
    /// When the test server cannot be used.
    pub async fn create() -> Self {
        let cluster = TestCluster::shared().await;
        Self::copy_of("template0", cluster).await
    }

    /// A copy of a database that `migrate` filled once.
    ///
    /// `migrate` gets the URL of an empty database and must close all its connections before it
    /// returns. It runs once for each `name` and build of the test program; the result is kept
    /// while the test server runs.
    ///
    /// # Panics
    ///
    /// When `migrate` fails or the test server cannot be used.
    pub async fn from_template<F, Fut, E>(name: &str, migrate: F) -> Self
    where
        F: FnOnce(String) -> Fut,
        Fut: Future<Output = Result<(), E>>,
        E: Display,
    {
        let cluster = TestCluster::shared().await;
        let template = template_name(name);
        // Held until the template is complete: other processes wait for it here.
        let (turn, missing) = {
            let (cluster, template) = (cluster.clone(), template.clone());
            aside(move || async move { TemplateTurn::take(&cluster, &template).await }).await
        };
        if missing {
            if let Err(error) = migrate(cluster.url_of(&template)).await {
                panic!("migrating the template {name:?} failed: {error:#}");
            }
            let (cluster, template) = (cluster.clone(), template.clone());
            aside(move || async move { seal(&cluster, &template).await }).await;
        }
        drop(turn);
        Self::copy_of(&template, cluster).await
    }

    async fn copy_of(template: &str, cluster: TestCluster) -> Self {
        let name = format!("t_{}", unique_suffix());
        let major = cluster
            .version()
            .split('.')
            .next()
            .and_then(|m| m.parse().ok());
        let strategy = if major.is_some_and(|major: u32| major >= FILE_COPY_SINCE) {
            "strategy = file_copy"
        } else {
            ""
        };
        let create = format!("create database {name} template {template} {strategy}");
        let target = cluster.clone();
        aside(move || async move {
            let admin = connect(&target.socket_url_of("postgres")).await;
            sweep_once(&admin).await;
            run(&admin, &create).await;
        })
        .await;
        Self { cluster, name }
    }

    /// URL over loopback TCP, with the superuser's name and password.
    pub fn url(&self) -> String {
        self.cluster.url_of(&self.name)
    }

    /// URL over the unix socket, with the superuser's name and password.
    pub fn socket_url(&self) -> String {
        self.cluster.socket_url_of(&self.name)
    }

    /// Name of the database.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The server it lives in.
    pub fn cluster(&self) -> &TestCluster {
        &self.cluster
    }

    /// A name for something that lives in the whole server: a role, a replication slot.
    pub fn unique(&self, stem: &str) -> String {
        format!("{stem}_{}", self.name)
    }

    /// A connection as superuser; its driver task runs on the caller's runtime.
    ///
    /// # Panics
    ///
    /// When the server refuses.
    pub async fn connect(&self) -> Client {
        connect(&self.socket_url()).await
    }
}

impl Drop for TestDb {
    fn drop(&mut self) {
        let cluster = self.cluster.clone();
        let name = std::mem::take(&mut self.name);
        aside_blocking(move || async move {
            let admin = connect(&cluster.socket_url_of("postgres")).await;
            drop_database(&admin, &name).await;
        });
    }
}

/// The right to look for a template and to make it, one process at a time.
struct TemplateTurn {
    sender: Option<tokio::sync::oneshot::Sender<()>>,
    holder: Option<std::thread::JoinHandle<()>>,
}

impl TemplateTurn {
    /// Returns the turn, and whether the template has to be filled: it then exists and is empty.
    async fn take(cluster: &TestCluster, template: &str) -> (Self, bool) {
        let (taken, answer) = tokio::sync::oneshot::channel();
        let (sender, release) = tokio::sync::oneshot::channel::<()>();
        let (cluster, template) = (cluster.clone(), template.to_owned());
        // The lock belongs to a session, and the session to a runtime that outlives this call.
        let holder = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.expect("a runtime").block_on(async move {
                let admin = connect(&cluster.socket_url_of("postgres")).await;
                let lock = format!("select pg_advisory_lock(hashtext('{template}'))");
                run(&admin, &lock).await;
                let missing = prepare(&admin, &template).await;
                let _ = taken.send(missing);
                drop(release.await);
            });
        });
        let missing = answer.await.expect("the template can be looked up");
        let turn = Self {
            sender: Some(sender),
            holder: Some(holder),
        };
        (turn, missing)
    }
}

impl Drop for TemplateTurn {
    fn drop(&mut self) {
        drop(self.sender.take());
        if let Some(holder) = self.holder.take() {
            drop(holder.join());
        }
    }
}

/// Makes an empty database for the template unless it is complete; true when it was made.
async fn prepare(admin: &Client, template: &str) -> bool {
    let complete = "select 1 from pg_database where datname = $1 and datistemplate";
    let rows = admin
        .query(complete, &[&template])
        .await
        .expect("look for the template");
    if !rows.is_empty() {
        return false;
    }
    // Of an earlier build of the same program, or of one that died in the middle.
    let stem = template.rsplit_once('_').map_or(template, |(stem, _)| stem);
    let stale = "select datname::text from pg_database where starts_with(datname::text, $1)";
    for row in admin
        .query(stale, &[&format!("{stem}_")])
        .await
        .expect("stale templates")
    {
        let stale: String = row.get(0);
        run(admin, &format!("alter database {stale} is_template false")).await;
        drop_database(admin, &stale).await;
    }
    run(
        admin,
        &format!("create database {template} template template0"),
    )
    .await;
    true
}

/// Declares the template complete. A connection to it would make copying fail.
async fn seal(cluster: &TestCluster, template: &str) {
    let admin = connect(&cluster.socket_url_of("postgres")).await;
    let seal = format!("alter database {template} is_template true allow_connections false");
    run(&admin, &seal).await;
    let close = "select pg_terminate_backend(pid) from pg_stat_activity where datname = $1";
    admin
        .query(close, &[&template])
        .await
        .expect("close the migration's connections");
}

/// Drops the databases of test processes that were killed. Once per process.
async fn sweep_once(admin: &Client) {
    static SWEPT: OnceLock<()> = OnceLock::new();
    if SWEPT.set(()).is_err() {
        return;
    }
    let all = "select datname::text from pg_database where starts_with(datname::text, 't_')";
    for row in admin.query(all, &[]).await.expect("list the databases") {
        let name: String = row.get(0);
        let owner = name.split('_').nth(1).and_then(|pid| pid.parse().ok());
        if owner.is_some_and(|pid: i32| !is_alive(pid)) {
            drop_database(admin, &name).await;
        }
    }
}

/// How long the end of a test waits for its database to be dropped.
const DROP_LIMIT: &str = "5s";

async fn drop_database(admin: &Client, name: &str) {
    // Inactive logical slots of the database go with it; an active one must be ended first.
    let streams = "select pg_terminate_backend(active_pid) from pg_replication_slots \
                   where database = $1 and active";
    drop(admin.query(streams, &[&name]).await);
    let statement = format!("drop database if exists {name} with (force)");
    // PostgreSQL waits for all its processes here. One of them may be talking to a client that is about to log in and
    // belongs to this very test, whose runtime stands still until the database is gone. What remains, also of what
    // another process is dropping, is swept by the next one.
    let limit = format!("set statement_timeout = '{DROP_LIMIT}'");
    drop(admin.batch_execute(&limit).await);
    if let Err(error) = admin.batch_execute(&statement).await {
        tracing::debug!(%error, name, "could not drop a test database");
    }
    drop(admin.batch_execute("reset statement_timeout").await);
}

async fn run(admin: &Client, statement: &str) {
    if let Err(error) = admin.batch_execute(statement).await {
        panic!(
            "{statement}: {}",
            error
                .as_db_error()
                .map_or(error.to_string(), ToString::to_string)
        );
    }
}

async fn connect(url: &str) -> Client {
    let (client, connection) = match tokio_postgres::connect(url, NoTls).await {
        Ok(pair) => pair,
        Err(error) => panic!("connect to the test server: {error:?}"),
    };
    tokio::spawn(async move {
        // Ends with the client; an error is seen by whoever uses the client.
        drop(connection.await);
    });
    client
}

/// Unique among all test processes: the pid and a counter.
fn unique_suffix() -> String {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    format!("{}_{count}", std::process::id())
}

/// `tpl_<name>_<program>_<build>`: a changed migration comes with a changed test program.
fn template_name(name: &str) -> String {
    let program = std::env::current_exe().expect("the path of the test program");
    let meta = program.metadata().expect("the test program's metadata");
    let built = meta
        .modified()
        .ok()
        .and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    let program = digest(&format!("{name} {}", program.display()));
    let version = digest(&format!("{} {built:?}", meta.len()));
    let plain: String = name
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() {
                c.to_ascii_lowercase()
            } else {
                '_'
            }
        })
        .collect();
    let room = NAME_LIMIT - "tpl___".len() - program.len() - version.len();
    let plain = &plain[..plain.len().min(room)];
    format!("tpl_{plain}_{program}_{version}")
}

fn digest(text: &str) -> String {
    hex::encode(&Sha256::digest(text)[..4])
}

//! Scratch servers: the shared one, and one of a single test.

use std::path::Path;
use std::sync::OnceLock;

use nix::sys::signal::Signal;

use super::instance::Instance;
use super::meeting::shared_instance;
use super::place::{make, register, scratch_dir};
use super::thread::aside;

/// The server of a single test ends this soon after its process.
const PRIVATE_IDLE_SECONDS: u32 = 1;

/// One PostgreSQL for all test processes of this user: nothing is synced to disk,
/// `wal_level=logical`, 200 connections, superuser `postgres` with a random password.
#[derive(Debug, Clone)]
pub struct TestCluster {
    instance: Instance,
}

impl TestCluster {
    /// The shared server, started when it does not run yet.
    ///
    /// # Panics
    ///
    /// When there are no server programs or they do not start.
    pub async fn shared() -> Self {
        static SHARED: OnceLock<Instance> = OnceLock::new();
        let instance = aside(|| async { SHARED.get_or_init(shared_instance).clone() }).await;
        Self { instance }
    }

    /// URL of a database over loopback TCP, with the superuser's name and password.
    pub fn url_of(&self, database: &str) -> String {
        self.instance.url_of(database)
    }

    /// The same over the unix socket.
    pub fn socket_url_of(&self, database: &str) -> String {
        self.instance.socket_url_of(database)
    }

    /// Port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.instance.port
    }

    /// Directory with the server programs.
    pub fn bin_dir(&self) -> &Path {
        &self.instance.bin_dir
    }

    /// Version of the server, for example `15.18`.
    pub fn version(&self) -> &str {
        &self.instance.version
    }
}

/// How a [`PrivateCluster`] is made to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerEnd {
    /// Clients are disconnected, a checkpoint is written.
    Fast,
    /// Clients are dropped; recovery on the next start.
    Immediate,
    /// `kill -9` of the server: its processes notice and end.
    Kill,
}

/// A server of one test, for tests that stop, restart or kill it. Takes half a second to make.
///
/// Ends with this value, or a second after the test's process.
#[derive(Debug)]
pub struct PrivateCluster {
    instance: Instance,
    directory: tempfile::TempDir,
}

impl PrivateCluster {
    /// Makes and starts a server.
    ///
    /// # Panics
    ///
    /// When there are no server programs or they do not start.
    pub async fn start() -> Self {
        Self::with(&[]).await
    }

    /// The same with settings of its own, as `name=value`.
    ///
    /// # Panics
    ///
    /// When there are no server programs or they do not start.
    pub async fn with(settings: &[&str]) -> Self {
        let settings = settings.iter().map(ToString::to_string).collect();
        aside(|| async move {
            let directory = scratch_dir();
            make(&directory.path().join("users"), 0o755);
            register(&directory.path().join("users"));
            let instance = Instance::make(directory.path().join("server"), settings);
            let this = Self {
                instance,
                directory,
            };
            this.launch();
            this
        })
        .await
    }

    fn launch(&self) {
        let users = self.directory.path().join("users");
        self.instance.launch(&users, PRIVATE_IDLE_SECONDS);
    }

    /// Makes the server end, and waits until it has.
    pub async fn end(&self, how: ServerEnd) {
        let instance = self.instance.clone();
        aside(move || async move {
            instance.end(match how {
                ServerEnd::Fast => Signal::SIGINT,
                ServerEnd::Immediate => Signal::SIGQUIT,
                ServerEnd::Kill => Signal::SIGKILL,
            });
        })
        .await;
    }

    /// Starts it again, with its data and on its port.
    ///
    /// # Panics
    ///
    /// When it does not start.
    pub async fn start_again(&self) {
        let users = self.directory.path().join("users");
        let instance = self.instance.clone();
        aside(move || async move { instance.launch(&users, PRIVATE_IDLE_SECONDS) }).await;
    }

    /// URL of a database over loopback TCP, with the superuser's name and password.
    pub fn url_of(&self, database: &str) -> String {
        self.instance.url_of(database)
    }

    /// The same over the unix socket.
    pub fn socket_url_of(&self, database: &str) -> String {
        self.instance.socket_url_of(database)
    }
}

impl Drop for PrivateCluster {
    fn drop(&mut self) {
        // The directory goes next.
        self.instance.end(Signal::SIGQUIT);
    }
}

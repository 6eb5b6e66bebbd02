//! One scratch server: its files, its start and its end.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::place::{is_alive, make, reserved_port, wait_for};
use crate::cluster::scratch::{
    self, Account, Durability, Install, NewCluster, Readiness, Settings,
};

/// How long a started server may take to answer.
const READY_LIMIT: Duration = Duration::from_secs(30);
/// The pause before a server is started once more that could not start yet.
const LAUNCH_PAUSE: Duration = Duration::from_millis(200);
/// Lines of the log in which a server says why it ended.
const LAST_WORDS: usize = 40;
/// How long a server may take to end.
const END_LIMIT: Duration = Duration::from_mins(2);
/// Small segments keep a scratch cluster small.
const WAL_SEGMENT_MIB: u32 = 1;

/// A scratch server; also what is written down for other processes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Instance {
    /// Its directory: `data`, `run`, `log`, `pid`, and `ready` while it may be used.
    pub(super) directory: PathBuf,
    pub(super) port: u16,
    pub(super) password: String,
    pub(super) bin_dir: PathBuf,
    pub(super) version: String,
    /// Settings on top of the usual ones, in the command line's form `name=value`.
    #[serde(default)]
    pub(super) settings: Vec<String>,
}

/// The directory of the server programs that tests are told to use: `ROWCALL_TEST_PG_BIN`, or those of the major version
/// `ROWCALL_TEST_POSTGRES`, which are fetched when they are not there yet.
///
/// # Panics
///
/// When that version cannot be had.
pub fn explicit_bin_dir() -> Option<PathBuf> {
    static CHOSEN: OnceLock<Option<PathBuf>> = OnceLock::new();
    CHOSEN.get_or_init(choose_bin_dir).clone()
}

fn choose_bin_dir() -> Option<PathBuf> {
    if let Some(directory) = std::env::var_os("ROWCALL_TEST_PG_BIN") {
        return Some(directory.into());
    }
    let major = std::env::var("ROWCALL_TEST_POSTGRES").ok()?;
    let number = major.parse().ok();
    let number =
        number.unwrap_or_else(|| panic!("ROWCALL_TEST_POSTGRES={major} is no major version"));
    match scratch::install_of(number, &Account::for_server()) {
        Ok(install) => Some(install.bin_dir),
        Err(reason) => panic!("PostgreSQL {major} for tests: {reason}"),
    }
}

impl Instance {
    /// Makes the files of a server in a new directory.
    pub(super) fn make(directory: PathBuf, settings: Vec<String>) -> Self {
        let account = Account::for_server();
        let install = match scratch::find_install(explicit_bin_dir(), &account) {
            Ok(install) => install,
            Err(error) => panic!("{error}"),
        };
        make(&directory, 0o755);
        make(&directory.join("run"), 0o700);
        for directory in [directory.clone(), directory.join("run")] {
            account.take_over(&directory).expect("chown");
        }
        let this = Self {
            port: reserved_port(),
            password: format!("{:032x}", rand::random::<u128>()),
            bin_dir: install.bin_dir.clone(),
            version: install.version.to_string(),
            directory,
            settings,
        };
        this.init(&install, &account);
        this
    }

    fn init(&self, install: &Install, account: &Account) {
        let cluster = NewCluster {
            install,
            account,
            directory: &self.data(),
            password: &self.password,
            wal_segment_mib: Some(WAL_SEGMENT_MIB),
        };
        if let Err(error) = cluster.make() {
            panic!("{error}");
        }
    }

    /// Starts the watchdog, which starts the server, and waits until it answers.
    ///
    /// The watchdog ends the server when no process registered in `users` has been alive for
    /// `idle_seconds`.
    pub(super) fn launch(&self, users: &Path, idle_seconds: u32) {
        let deadline = Instant::now() + READY_LIMIT;
        while let Err(ended) = self.try_launch(users, idle_seconds) {
            let log = fs::read_to_string(self.directory.join("log")).unwrap_or_default();
            // Processes of a server that was killed take a moment to notice.
            let is_late = log
                .lines()
                .rev()
                .take(LAST_WORDS)
                .any(|line| line.contains("still in use"));
            assert!(
                is_late && Instant::now() < deadline,
                "the test server ended ({ended}):\n{log}"
            );
            std::thread::sleep(LAUNCH_PAUSE);
        }
    }

    /// Comes back when the server answers, or with its end.
    fn try_launch(&self, users: &Path, idle_seconds: u32) -> Result<(), ExitStatus> {
        let settings = Settings {
            port: self.port,
            socket_dir: &self.socket_dir(),
            ipv6: false,
            durability: Durability::Scratch,
        };
        let mut watchdog = Command::new("/bin/sh");
        watchdog
            .args(["-c", include_str!("watchdog.sh"), "rowcall-test-watchdog"])
            .arg(&self.directory)
            .arg(users)
            .arg(idle_seconds.to_string())
            .arg(self.bin_dir.join("postgres"))
            .args(settings.arguments(&self.data()));
        for setting in &self.settings {
            // The last one counts.
            watchdog.args(["-c", setting]);
        }
        scratch::postgres_environment(&mut watchdog);
        Account::for_server().apply(&mut watchdog);
        // Detached: it outlives this process, and the terminal's Ctrl-C must not reach it.
        watchdog.process_group(0);
        watchdog
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut watchdog = watchdog.spawn().expect("start the watchdog");
        let mut ended = None;
        wait_for("the test server to be ready", READY_LIMIT, || {
            ended = watchdog.try_wait().ok().flatten();
            ended.is_some() || self.is_ready()
        });
        if let Some(status) = ended {
            return Err(status);
        }
        // Reaps it when it ends while this process still runs.
        std::thread::spawn(move || watchdog.wait());
        Ok(())
    }

    pub(super) fn is_ready(&self) -> bool {
        let socket = self.socket_dir().join(format!(".s.PGSQL.{}", self.port));
        scratch::probe(&socket) == Readiness::Ready
    }

    fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    fn socket_dir(&self) -> PathBuf {
        self.directory.join("run")
    }

    /// Sends the server a signal that ends it, and waits until it can be started again: its
    /// watchdog, which looks once a second, has reaped it.
    pub(super) fn end(&self, signal: Signal) {
        if let Some(pid) = end_server(&self.directory, signal) {
            wait_for("a test server to be reaped", END_LIMIT, || !is_alive(pid));
        }
    }

    /// URL of a database over loopback TCP, with the superuser's name and password.
    pub(super) fn url_of(&self, database: &str) -> String {
        let Self { port, password, .. } = self;
        format!("postgresql://postgres:{password}@127.0.0.1:{port}/{database}")
    }

    /// The same over the unix socket.
    pub(super) fn socket_url_of(&self, database: &str) -> String {
        let Self { port, password, .. } = self;
        let host = self.socket_dir().display().to_string().replace('/', "%2F");
        format!("postgresql://postgres:{password}@{host}:{port}/{database}")
    }
}

/// Ends the server of an instance's directory, when one runs; returns its pid.
pub(super) fn end_server(directory: &Path, signal: Signal) -> Option<i32> {
    let data = directory.join("data");
    let text = fs::read_to_string(directory.join("pid")).ok()?;
    let pid = text.trim().parse().ok()?;
    if !scratch::serves(pid, &data) {
        return None;
    }
    // It may end by itself just now.
    let _ = kill(Pid::from_raw(pid), signal);
    wait_for("a test server to end", END_LIMIT, || {
        !scratch::serves(pid, &data)
    });
    Some(pid)
}

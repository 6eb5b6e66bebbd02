//! The server all test processes of a user share.

use std::collections::hash_map::DefaultHasher;
use std::fs::{self, File, OpenOptions};
use std::hash::{Hash as _, Hasher as _};
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::cluster::scratch::{
    self, Account, Durability, Install, NewCluster, Readiness, Settings,
};

/// The server is stopped when no test process has been alive for this many seconds.
const IDLE_SECONDS: u32 = 30;
/// A shared memory mount with less room than this is not used: containers often have 64 MB.
const ROOM_NEEDED: u64 = 1024 * 1024 * 1024;
/// How long to wait for another process that starts or stops the server.
const TURN_LIMIT: Duration = Duration::from_mins(2);
/// How long a started server may take to answer.
const READY_LIMIT: Duration = Duration::from_secs(30);
/// More marks of test processes than this are thinned out.
const MARKS_KEPT: usize = 200;
/// How often a condition is looked at while waiting.
const POLL: Duration = Duration::from_millis(10);
/// Small segments keep a scratch cluster small.
const WAL_SEGMENT_MIB: u32 = 1;
/// Change this when the settings of the scratch server change: a running one is then not reused.
const LAYOUT: u32 = 1;

/// One PostgreSQL for all test processes of this user: nothing is synced to disk,
/// `wal_level=logical`, 200 connections, superuser `postgres` with a random password.
#[derive(Debug, Clone)]
pub struct TestCluster {
    connection: Connection,
}

/// How to reach the server, as the process that started it wrote it down.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Connection {
    port: u16,
    password: String,
    /// Directory of this start of the server: `data`, `run`, `log`, `pid`, and `ready` while it may be
    /// used.
    instance: PathBuf,
    bin_dir: PathBuf,
    version: String,
}

impl Connection {
    fn socket_dir(&self) -> PathBuf {
        self.instance.join("run")
    }

    fn probe(&self) -> Readiness {
        let socket = format!(".s.PGSQL.{}", self.port);
        scratch::probe(&self.socket_dir().join(socket))
    }
}

impl TestCluster {
    /// The shared server, started when it does not run yet.
    ///
    /// # Panics
    ///
    /// When there are no server programs or they do not start.
    pub async fn shared() -> Self {
        static SHARED: OnceLock<TestCluster> = OnceLock::new();
        super::thread::aside(|| async {
            SHARED
                .get_or_init(|| Self {
                    connection: Directory::open().connect_or_start(),
                })
                .clone()
        })
        .await
    }

    /// URL of a database over loopback TCP, with the superuser's name and password.
    pub fn url_of(&self, database: &str) -> String {
        let Connection { port, password, .. } = &self.connection;
        format!("postgresql://postgres:{password}@127.0.0.1:{port}/{database}")
    }

    /// The same over the unix socket.
    pub fn socket_url_of(&self, database: &str) -> String {
        let Connection { port, password, .. } = &self.connection;
        let host = self
            .connection
            .socket_dir()
            .display()
            .to_string()
            .replace('/', "%2F");
        format!("postgresql://postgres:{password}@{host}:{port}/{database}")
    }

    /// Port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.connection.port
    }

    /// Directory with the server programs.
    pub fn bin_dir(&self) -> &Path {
        &self.connection.bin_dir
    }

    /// Version of the server, for example `15.18`.
    pub fn version(&self) -> &str {
        &self.connection.version
    }
}

/// The directory the test processes meet in.
struct Directory {
    path: PathBuf,
}

impl Directory {
    fn open() -> Self {
        let uid = nix::unistd::Uid::effective();
        let mut key = DefaultHasher::new();
        (LAYOUT, explicit_bin_dir()).hash(&mut key);
        let name = format!("rowcall-test-{uid}-{:08x}", key.finish() >> 32);
        let path = roomy_place().join(name);
        make(&path, 0o755);
        let owner = fs::metadata(&path).expect("metadata").uid();
        assert_eq!(
            owner,
            uid.as_raw(),
            "{} belongs to somebody else",
            path.display()
        );
        make(&path.join("servers"), 0o755);
        make(&path.join("users"), 0o755);
        let own = path.join("users").join(std::process::id().to_string());
        fs::write(&own, "").expect("register as a user of the test server");
        let users = entries(&path.join("users"));
        if users.len() > MARKS_KEPT {
            remove_dead(users);
        }
        Self { path }
    }

    fn connect_or_start(&self) -> Connection {
        if let Some(connection) = self.running() {
            return connection;
        }
        let _turn = self.take_turn();
        if let Some(connection) = self.running() {
            return connection;
        }
        self.clear();
        self.start()
    }

    /// The server that is running and not about to stop.
    fn running(&self) -> Option<Connection> {
        let text = fs::read(self.path.join("connection.json")).ok()?;
        let connection: Connection = serde_json::from_slice(&text).ok()?;
        let usable = connection.instance.join("ready").exists();
        (usable && connection.probe() == Readiness::Ready).then_some(connection)
    }

    fn take_turn(&self) -> File {
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(self.path.join("lock"))
            .expect("open the lock file");
        wait_for(
            "another test process to start the server",
            TURN_LIMIT,
            || lock.try_lock().is_ok(),
        );
        lock
    }

    /// Ends what is left of earlier servers and removes their files.
    fn clear(&self) {
        for instance in entries(&self.path.join("servers")) {
            drop(fs::remove_file(instance.join("ready")));
            let pid = fs::read_to_string(instance.join("pid")).ok();
            if let Some(pid) = pid.and_then(|pid| pid.trim().parse().ok()) {
                end_server(pid, &instance.join("data"));
            }
            // The watchdog may be removing the same files.
            drop(fs::remove_dir_all(instance));
        }
    }

    fn start(&self) -> Connection {
        let account = Account::for_server();
        let install = server_programs(&account);
        let instance = self
            .path
            .join("servers")
            .join(format!("{:08x}", rand::random::<u32>()));
        fs::create_dir(&instance).expect("a directory for the server");
        make(&instance.join("run"), 0o700);
        for directory in [instance.clone(), instance.join("run")] {
            account.take_over(&directory).expect("chown");
        }
        let connection = Connection {
            port: free_port(),
            password: format!("{:032x}", rand::random::<u128>()),
            bin_dir: install.bin_dir.clone(),
            version: install.version.to_string(),
            instance,
        };
        let cluster = NewCluster {
            install: &install,
            account: &account,
            directory: &connection.instance.join("data"),
            password: &connection.password,
            wal_segment_mib: Some(WAL_SEGMENT_MIB),
        };
        if let Err(error) = cluster.make() {
            panic!("{error}");
        }
        self.launch(&connection, &install, &account);
        self.publish(&connection);
        connection
    }

    /// Starts the watchdog, which starts the server, and waits until it answers.
    fn launch(&self, connection: &Connection, install: &Install, account: &Account) {
        let settings = Settings {
            port: connection.port,
            socket_dir: &connection.socket_dir(),
            ipv6: false,
            durability: Durability::Scratch,
        };
        let mut watchdog = Command::new("/bin/sh");
        watchdog
            .args(["-c", include_str!("watchdog.sh"), "rowcall-test-watchdog"])
            .arg(&connection.instance)
            .arg(self.path.join("users"))
            .arg(IDLE_SECONDS.to_string())
            .arg(install.program("postgres"))
            .args(settings.arguments(&connection.instance.join("data")));
        scratch::postgres_environment(&mut watchdog);
        account.apply(&mut watchdog);
        // Detached: it outlives this process, and the terminal's Ctrl-C must not reach it.
        watchdog.process_group(0);
        watchdog
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut watchdog = watchdog.spawn().expect("start the watchdog");
        wait_for("the test server to be ready", READY_LIMIT, || {
            if let Ok(Some(status)) = watchdog.try_wait() {
                let log = fs::read_to_string(connection.instance.join("log"));
                panic!(
                    "the test server ended ({status}):\n{}",
                    log.unwrap_or_default()
                );
            }
            connection.probe() == Readiness::Ready
        });
        // Reaps it when it ends while this process still runs.
        std::thread::spawn(move || watchdog.wait());
    }

    /// Lets other processes find the server.
    fn publish(&self, connection: &Connection) {
        let path = self.path.join("connection.json");
        drop(fs::remove_file(&path));
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .expect("create connection.json");
        let text = serde_json::to_vec_pretty(connection).expect("plain data");
        file.write_all(&text).expect("write connection.json");
        fs::write(connection.instance.join("ready"), "").expect("mark the server as ready");
    }
}

/// Makes a directory unless it is there.
fn make(path: &Path, mode: u32) {
    match fs::create_dir(path) {
        Ok(()) => fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("chmod"),
        Err(error) => assert!(path.is_dir(), "{}: {error}", path.display()),
    }
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).expect("read a directory of the test server");
    entries
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .collect()
}

/// Removes the marks of test processes that have ended. The watchdog looks at all of them.
fn remove_dead(users: Vec<PathBuf>) {
    for user in users {
        let pid = user.file_name().and_then(|pid| pid.to_str()?.parse().ok());
        if pid.is_some_and(|pid: i32| !is_alive(pid)) {
            // Another process may have done so.
            drop(fs::remove_file(user));
        }
    }
}

/// Ends a server whose watchdog is gone or is just ending it.
fn end_server(pid: i32, data: &Path) {
    if scratch::serves(pid, data) {
        let pid = nix::unistd::Pid::from_raw(pid);
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGQUIT);
    }
    wait_for("an earlier test server to end", TURN_LIMIT, || {
        !scratch::serves(pid, data)
    });
}

fn explicit_bin_dir() -> Option<PathBuf> {
    std::env::var_os("ROWCALL_TEST_PG_BIN").map(PathBuf::from)
}

fn server_programs(account: &Account) -> Install {
    match scratch::find_install(explicit_bin_dir(), account) {
        Ok(install) => install,
        Err(error) => panic!("{error}"),
    }
}

/// `/dev/shm` when it is there and large enough, else the directory for temporary files.
fn roomy_place() -> PathBuf {
    let memory = Path::new("/dev/shm");
    let room = nix::sys::statvfs::statvfs(memory)
        .map(|stat| stat.blocks_available() * stat.fragment_size());
    if room.is_ok_and(|room| room >= ROOM_NEEDED) {
        return memory.to_owned();
    }
    std::env::temp_dir()
}

/// A temporary directory that other users may enter, in memory where there is room.
///
/// # Panics
///
/// When it cannot be made.
pub fn scratch_dir() -> tempfile::TempDir {
    let directory = tempfile::Builder::new()
        .prefix("rowcall-scratch-")
        .permissions(PermissionsExt::from_mode(0o755))
        .tempdir_in(roomy_place());
    directory.expect("a temporary directory")
}

/// Nobody is told which port another process picks, but the operating system does not hand out the
/// same one twice in a row.
fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    listener.local_addr().expect("its address").port()
}

/// Whether a process exists, also when it is another user's.
pub(super) fn is_alive(pid: i32) -> bool {
    let answer = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), None);
    answer != Err(nix::errno::Errno::ESRCH)
}

fn wait_for(what: &str, limit: Duration, mut done: impl FnMut() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(
            started.elapsed() < limit,
            "waited {} s for {what}",
            limit.as_secs()
        );
        sleep(POLL);
    }
}

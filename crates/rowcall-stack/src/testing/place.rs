//! Where scratch servers live, and waiting for them.

use std::fs::{self, File, OpenOptions};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tempfile::TempDir;

/// A shared memory mount with less room than this is not used: containers often have 64 MB.
const ROOM_NEEDED: u64 = 1024 * 1024 * 1024;
/// How often a condition is looked at while waiting.
const POLL: Duration = Duration::from_millis(10);

/// `/dev/shm` when it is there and large enough, else the directory for temporary files.
pub(super) fn roomy_place() -> PathBuf {
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
pub fn scratch_dir() -> TempDir {
    let directory = tempfile::Builder::new()
        .prefix("rowcall-scratch-")
        .permissions(PermissionsExt::from_mode(0o755))
        .tempdir_in(roomy_place());
    directory.expect("a temporary directory")
}

/// Makes a directory unless it is there.
pub(super) fn make(path: &Path, mode: u32) {
    match fs::create_dir(path) {
        Ok(()) => fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("chmod"),
        Err(error) => assert!(path.is_dir(), "{}: {error}", path.display()),
    }
}

pub(super) fn entries(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).expect("read a directory of the test server");
    entries
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .collect()
}

/// The ports that tests take: below those that the system hands out by itself, to listeners that ask for any and to whoever
/// connects somewhere. So a port stays free while its server is down.
const PORTS: std::ops::Range<u16> = 10_000..20_000;

/// A port on which nothing listens, and which no other test is given while this process runs.
///
/// # Panics
///
/// When all are taken.
pub fn reserved_port() -> u16 {
    // Kept to the end of the process.
    static LOCKS: Mutex<Vec<File>> = Mutex::new(Vec::new());
    let user = nix::unistd::Uid::effective();
    let directory = roomy_place().join(format!("rowcall-test-ports-{user}"));
    make(&directory, 0o700);
    let first = rand::random_range(PORTS);
    for port in (first..PORTS.end).chain(PORTS.start..first) {
        let mut lock = OpenOptions::new();
        lock.create(true).truncate(false).write(true);
        let lock = lock.open(directory.join(port.to_string()));
        let lock = lock.expect("a lock file for a port");
        if lock.try_lock().is_ok() && is_free(port) {
            LOCKS.lock().push(lock);
            return port;
        }
    }
    panic!("no port from {} to {} is free", PORTS.start, PORTS.end);
}

fn is_free(port: u16) -> bool {
    TcpListener::bind(("127.0.0.1", port)).is_ok()
}

/// Whether a process exists, also when it is another user's.
pub(super) fn is_alive(pid: i32) -> bool {
    let answer = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), None);
    answer != Err(nix::errno::Errno::ESRCH)
}

/// Registers this process as a user of a server, for its watchdog.
pub(super) fn register(users: &Path) {
    let own = users.join(std::process::id().to_string());
    fs::write(own, "").expect("register as a user of the test server");
}

pub(super) fn wait_for(what: &str, limit: Duration, mut done: impl FnMut() -> bool) {
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

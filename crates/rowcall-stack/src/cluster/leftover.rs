//! What a killed daemon may leave behind: a running server, and files that keep a new one from
//! starting.
//!
//! The caller holds the lock of the data directory, so a running server of it is an orphan,
//! whatever its parent. The server's pid file also protects against processes that still use the
//! old shared memory: it is removed only when nobody works in the directory any more.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::error::ClusterError;
use super::event::{ClusterEvent, Events};
use super::process::{Process, look_up, working_in};

/// How long an orphan may take for a fast shutdown, with its checkpoint.
const FAST_LIMIT: Duration = Duration::from_secs(10);
/// How long it may take to drop everything.
const IMMEDIATE_LIMIT: Duration = Duration::from_secs(5);
/// How long to wait until the parent of a zombie has noticed.
const REAP_LIMIT: Duration = Duration::from_secs(2);
/// How long to wait until the processes of a killed server have ended.
const SETTLE_LIMIT: Duration = Duration::from_secs(5);
/// How often to look.
const POLL: Duration = Duration::from_millis(10);

/// `postmaster.pid`, as far as it matters here.
#[derive(Debug, PartialEq, Eq)]
struct PidFile {
    pid: i32,
    port: Option<u16>,
    socket_dir: Option<PathBuf>,
}

impl PidFile {
    /// Line 1 is the pid, 4 the port, 5 the socket directory
    /// (`src/include/utils/pidfile.h` of PostgreSQL).
    fn parse(text: &str) -> Option<Self> {
        let lines: Vec<&str> = text.lines().collect();
        let line = |number: usize| lines.get(number - 1).map(|line| line.trim());
        Some(Self {
            pid: line(1)?.trim_start_matches('-').parse().ok()?,
            port: line(4).and_then(|port| port.parse().ok()),
            socket_dir: line(5).filter(|dir| !dir.is_empty()).map(PathBuf::from),
        })
    }
}

/// Makes sure that a server can start in `pg_dir`.
pub(crate) fn clear(pg_dir: &Path, socket_dir: &Path, events: &Events) -> Result<(), ClusterError> {
    let path = pg_dir.join("postmaster.pid");
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return remove_sockets(socket_dir);
        }
        Err(error) => return Err(ClusterError::io("read", &path)(error)),
    };
    let Some(file) = PidFile::parse(&text) else {
        // Empty or cut off: the disk was full, or the machine lost power while it was written.
        return remove_pid_file(&path, None, pg_dir, socket_dir);
    };
    let process = look_up(file.pid);
    if process.serves(pg_dir) {
        stop_orphan(file.pid, pg_dir, events)?;
        return remove_sockets(socket_dir);
    }
    if process == Process::Zombie {
        // Often its parent is just slow.
        wait_until(REAP_LIMIT, || look_up(file.pid) != Process::Zombie);
    }
    match look_up(file.pid) {
        // The server ignores and replaces the file itself, after its own checks.
        Process::Gone => remove_sockets(socket_dir),
        Process::Zombie | Process::Alive { .. } => {
            remove_pid_file(&path, Some(&file), pg_dir, socket_dir)
        }
    }
}

fn stop_orphan(pid: i32, pg_dir: &Path, events: &Events) -> Result<(), ClusterError> {
    events.send(ClusterEvent::StoppingOrphan { pid });
    let ended = || !look_up(pid).serves(pg_dir);
    for (signal, limit) in [
        (Signal::SIGINT, FAST_LIMIT),
        (Signal::SIGQUIT, IMMEDIATE_LIMIT),
    ] {
        // It may have ended meanwhile, which is seen below.
        let _ = kill(Pid::from_raw(pid), signal);
        if wait_until(limit, ended) {
            return Ok(());
        }
    }
    Err(ClusterError::OrphanWontStop { pid })
}

/// Removes the pid file when nobody works in the directory any more.
fn remove_pid_file(
    path: &Path,
    file: Option<&PidFile>,
    pg_dir: &Path,
    socket_dir: &Path,
) -> Result<(), ClusterError> {
    let nobody = || working_in(pg_dir).is_some_and(|users| users.is_empty());
    if !wait_until(SETTLE_LIMIT, nobody) {
        let pid = file.map_or(0, |file| file.pid);
        return Err(ClusterError::PidFileHeld {
            path: path.to_owned(),
            pid,
            program: match look_up(pid) {
                Process::Alive { program, .. } => program,
                Process::Zombie => "a zombie".to_owned(),
                Process::Gone => "gone".to_owned(),
            },
            users: working_in(pg_dir).unwrap_or_default(),
        });
    }
    tracing::info!(path = %path.display(), "removing the pid file of a server that is gone");
    remove(path)?;
    // A socket elsewhere: the data directory was moved, or its path is too long for a socket.
    if let Some(PidFile {
        port: Some(port),
        socket_dir: Some(elsewhere),
        ..
    }) = file
        && elsewhere != socket_dir
    {
        remove(&elsewhere.join(format!(".s.PGSQL.{port}.lock")))?;
    }
    remove_sockets(socket_dir)
}

/// Removes the sockets and their lock files. The directory is ours alone and no server runs; with a
/// lock file that names a living process a start would fail.
fn remove_sockets(socket_dir: &Path) -> Result<(), ClusterError> {
    let entries = fs::read_dir(socket_dir).map_err(ClusterError::io("read", socket_dir))?;
    for entry in entries.filter_map(Result::ok) {
        if entry.file_name().to_string_lossy().starts_with(".s.PGSQL.") {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

fn remove(path: &Path) -> Result<(), ClusterError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(ClusterError::io("remove", path)(error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

fn wait_until(limit: Duration, done: impl Fn() -> bool) -> bool {
    let started = Instant::now();
    while !done() {
        if started.elapsed() > limit {
            return false;
        }
        sleep(POLL);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::process::Command;

    struct Place {
        top: tempfile::TempDir,
    }

    impl Place {
        fn new() -> Self {
            let top = tempfile::tempdir().expect("a temporary directory");
            for name in ["pg", "run"] {
                fs::create_dir(top.path().join(name)).expect("a directory");
            }
            Self { top }
        }

        fn at(&self, name: &str) -> PathBuf {
            let top = self.top.path().canonicalize().expect("canonical");
            top.join(name)
        }

        /// A pid file as the server writes it, and the lock file of its socket.
        fn left_by(&self, pid: u32) {
            let run = self.at("run");
            let text = format!(
                "{pid}\n{}\n1700000000\n54322\n{}\n127.0.0.1\n 1 2\nready\n",
                self.at("pg").display(),
                run.display()
            );
            fs::write(self.at("pg/postmaster.pid"), text).expect("a pid file");
            fs::write(run.join(".s.PGSQL.54322.lock"), "").expect("a lock file");
            fs::write(run.join(".s.PGSQL.54322"), "").expect("a socket");
        }

        fn clear(&self) -> Result<(), ClusterError> {
            clear(&self.at("pg"), &self.at("run"), &Events::to_log())
        }

        fn sockets(&self) -> usize {
            fs::read_dir(self.at("run")).expect("listed").count()
        }
    }

    #[test]
    fn reads_the_pid_file() {
        let full = "42\n/data/pg/18\n1700000000\n54322\n/data/run\n127.0.0.1\n  1  2\nready\n";
        assert_eq!(
            PidFile::parse(full),
            Some(PidFile {
                pid: 42,
                port: Some(54_322),
                socket_dir: Some(PathBuf::from("/data/run")),
            })
        );
        assert_eq!(PidFile::parse("42\n").map(|file| file.pid), Some(42));
        assert_eq!(PidFile::parse(""), None);
    }

    #[test]
    fn nothing_left_is_fine() {
        let place = Place::new();
        place.clear().expect("nothing to do");
    }

    #[test]
    fn a_reused_pid_does_not_block_the_start() {
        let place = Place::new();
        let mut other = Command::new("/bin/sleep")
            .arg("600")
            .spawn()
            .expect("sleep");
        place.left_by(other.id());
        place.clear().expect("sleep is no server");
        assert!(!place.at("pg/postmaster.pid").exists());
        assert_eq!(place.sockets(), 0);
        assert!(
            other.try_wait().expect("asked").is_none(),
            "it was left alone"
        );
        other.kill().expect("kill");
        other.wait().expect("reap");
    }

    #[test]
    fn an_unreaped_server_does_not_block_the_start() {
        let place = Place::new();
        let mut zombie = Command::new("/bin/true").spawn().expect("true");
        place.left_by(zombie.id());
        place.clear().expect("a zombie runs nothing");
        assert!(!place.at("pg/postmaster.pid").exists());
        assert_eq!(place.sockets(), 0);
        zombie.wait().expect("reap");
    }

    #[test]
    fn the_pid_file_stays_while_somebody_works_in_the_directory() {
        let place = Place::new();
        // As a busy backend of a killed server would.
        let mut backend = Command::new("/bin/sleep")
            .arg("600")
            .current_dir(place.at("pg"))
            .spawn()
            .expect("sleep");
        place.left_by(backend.id());
        let error = place.clear().expect_err("it may still write");
        assert_eq!(error.code(), "cluster-pid-file");
        assert!(
            error.to_string().contains(&backend.id().to_string()),
            "{error}"
        );
        assert!(place.at("pg/postmaster.pid").exists());
        backend.kill().expect("kill");
        backend.wait().expect("reap");
        place.clear().expect("now it is gone");
        assert_eq!(place.sockets(), 0);
    }

    #[test]
    fn a_cut_off_pid_file_is_removed() {
        let place = Place::new();
        fs::write(place.at("pg/postmaster.pid"), "").expect("an empty pid file");
        place.clear().expect("it names nobody");
        assert!(!place.at("pg/postmaster.pid").exists());
    }
}

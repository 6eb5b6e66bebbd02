//! The directory in which the test processes of a user find their common server.

use std::collections::hash_map::DefaultHasher;
use std::fs::{self, File, OpenOptions};
use std::hash::{Hash as _, Hasher as _};
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::instance::{Instance, end_server, explicit_bin_dir};
use super::place::{entries, is_alive, make, register, roomy_place, wait_for};

/// The server is stopped when no test process has been alive for this many seconds.
const IDLE_SECONDS: u32 = 30;
/// How long to wait for another process that starts or stops the server.
const TURN_LIMIT: Duration = Duration::from_mins(2);
/// More marks of test processes than this are thinned out: the watchdog looks at all of them.
const MARKS_KEPT: usize = 200;
/// Change this when the settings of the scratch server change: a running one is then not reused.
const LAYOUT: u32 = 3;

/// The server all test processes of this user share, started when it does not run yet.
pub(super) fn shared_instance() -> Instance {
    Meeting::join().connect_or_start()
}

struct Meeting {
    path: PathBuf,
}

impl Meeting {
    /// Registers this process first, so that a running server stays.
    fn join() -> Self {
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
        let users = path.join("users");
        make(&users, 0o755);
        register(&users);
        let marks = entries(&users);
        if marks.len() > MARKS_KEPT {
            remove_dead(marks);
        }
        Self { path }
    }

    fn connect_or_start(&self) -> Instance {
        if let Some(instance) = self.running() {
            return instance;
        }
        let _turn = self.take_turn();
        if let Some(instance) = self.running() {
            return instance;
        }
        self.clear();
        let name = format!("{:08x}", rand::random::<u32>());
        let instance = Instance::make(self.path.join("servers").join(name), Vec::new());
        instance.launch(&self.path.join("users"), IDLE_SECONDS);
        self.publish(&instance);
        instance
    }

    /// The server that is running and not about to stop.
    fn running(&self) -> Option<Instance> {
        let text = fs::read(self.path.join("connection.json")).ok()?;
        let instance: Instance = serde_json::from_slice(&text).ok()?;
        let usable = instance.directory.join("ready").exists();
        (usable && instance.is_ready()).then_some(instance)
    }

    fn take_turn(&self) -> File {
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(self.path.join("lock"))
            .expect("open the lock file");
        let what = "another test process to start the server";
        wait_for(what, TURN_LIMIT, || lock.try_lock().is_ok());
        lock
    }

    /// Ends what is left of earlier servers and removes their files.
    fn clear(&self) {
        for directory in entries(&self.path.join("servers")) {
            drop(fs::remove_file(directory.join("ready")));
            end_server(&directory, Signal::SIGQUIT);
            // The watchdog may be removing the same files.
            drop(fs::remove_dir_all(directory));
        }
    }

    /// Lets other processes find the server.
    fn publish(&self, instance: &Instance) {
        let path = self.path.join("connection.json");
        drop(fs::remove_file(&path));
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .expect("create connection.json");
        let text = serde_json::to_vec_pretty(instance).expect("plain data");
        file.write_all(&text).expect("write connection.json");
        fs::write(instance.directory.join("ready"), "").expect("mark the server as ready");
    }
}

/// Removes the marks of test processes that have ended.
fn remove_dead(marks: Vec<PathBuf>) {
    for mark in marks {
        let pid = mark.file_name().and_then(|pid| pid.to_str()?.parse().ok());
        if pid.is_some_and(|pid: i32| !is_alive(pid)) {
            // Another process may have done so.
            drop(fs::remove_file(mark));
        }
    }
}

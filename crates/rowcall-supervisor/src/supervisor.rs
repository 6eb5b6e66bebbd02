//! Starts programs, knows all that run, and ends them all.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use rowcall_core::{AppId, Command, IdSource};
use rustix::process::{Pid, Signal, getpid, test_kill_process};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

use crate::{
    child::{self, Launch, Pipes, Running},
    environment::Variables,
    error::LaunchError,
    guard::Guard,
    options::{AppHome, SupervisorOptions},
    processes::{self, Mark},
    program::{self, Program},
};

/// Tells supervisors of one process apart even when their id source repeats itself, as those of tests do.
static SUPERVISORS: AtomicU64 = AtomicU64::new(0);

/// How often the last processes are looked for while stopping.
const STOP_POLL: Duration = Duration::from_millis(20);

/// Starts programs in their own process groups and answers for all that comes from them. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Supervisor(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    options: SupervisorOptions,
    /// What the marks of all our starts begin with, unique on this machine.
    prefix: String,
    /// Our own directory below the configured one, so that cleaning up touches nobody else's files.
    spool: PathBuf,
    numbers: AtomicU64,
    guard: Mutex<Guard>,
    running: watch::Sender<usize>,
    stopping: AtomicBool,
}

impl Supervisor {
    /// Starts nothing yet. Removes task data that killed daemons left in the spool directory.
    pub fn new(options: SupervisorOptions, ids: &dyn IdSource) -> Self {
        let pid = getpid().as_raw_pid();
        let number = SUPERVISORS.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("{}.{pid}.{number}.", ids.uuid().simple());
        let spool = options.spool_dir.join(format!("{pid}.{number}"));
        remove_stale(&options.spool_dir);
        let guard = Guard::new(options.guard.clone(), &prefix, &spool, options.graces);
        Self(Arc::new(Inner {
            prefix,
            spool,
            numbers: AtomicU64::new(0),
            guard: Mutex::new(guard),
            running: watch::Sender::new(0),
            stopping: AtomicBool::new(false),
            options,
        }))
    }

    /// The options it works with.
    pub fn options(&self) -> &SupervisorOptions {
        &self.0.options
    }

    /// Process ids of everything that runs because of this supervisor, also of what detached itself. Linux only; reads
    /// every process, so a few milliseconds.
    pub fn processes(&self) -> Vec<u32> {
        let mark = Mark::Prefix(self.0.prefix.clone());
        processes::find(&mark, &BTreeSet::new(), 0)
            .iter()
            .map(|member| member.pid.as_raw_pid().unsigned_abs())
            .collect()
    }

    /// What begins the mark of every start of this supervisor.
    pub fn mark(&self) -> &str {
        &self.0.prefix
    }

    /// Starts nothing more, waits for what runs (its own stop tokens end it) for a little longer than the graces allow,
    /// kills what is left, and ends the guard.
    pub async fn shutdown(&self) {
        self.0.stopping.store(true, Ordering::SeqCst);
        let graces = &self.0.options.graces;
        let patience = graces.terminate + graces.kill + graces.drain;
        let mut running = self.0.running.subscribe();
        let ended = timeout(patience, running.wait_for(|count| *count == 0)).await;
        if ended.is_err() {
            tracing::warn!("agents still run at shutdown; killing them");
        }
        let deadline = Instant::now() + graces.kill;
        loop {
            let mark = Mark::Prefix(self.0.prefix.clone());
            let groups = self.0.guard.lock().groups().clone();
            let living = tokio::task::spawn_blocking(move || {
                let living = processes::find(&mark, &groups, 0);
                for member in &living {
                    processes::signal(member, Signal::KILL);
                }
                living.len()
            });
            if matches!(living.await, Ok(0) | Err(_)) || Instant::now() >= deadline {
                break;
            }
            sleep(STOP_POLL).await;
        }
        let guard = self.0.guard.lock().close();
        if let Some(guard) = guard {
            guard.wait().await;
        }
        let _ = fs::remove_dir(&self.0.spool);
    }

    /// The variables that every program of an app gets: ours for all, then the app's connections.
    pub(crate) fn variables(&self, home: &AppHome) -> Variables {
        let mut variables = Variables::new(&self.0.options.inherited);
        variables.extend(&home.variables);
        variables
    }

    pub(crate) fn home(&self, app: &AppId) -> AppHome {
        (self.0.options.homes)(app)
    }

    /// Finds a command's program. Makes the app's own directory where that is where it runs.
    pub(crate) fn resolve(
        command: &Command,
        variables: &Variables,
        home: &Path,
    ) -> Result<Program, LaunchError> {
        if let Err(error) = fs::create_dir_all(home)
            && command.working_dir.is_none()
        {
            return Err(LaunchError::WorkingDir {
                path: home.to_owned(),
                problem: format!("cannot be created ({error})"),
            });
        }
        program::resolve(command, &variables.path(), home)
    }

    pub(crate) fn spawn(&self, launch: &Launch) -> Result<(Running, Pipes), LaunchError> {
        child::spawn(self, launch)
    }

    /// A number that this supervisor never gives twice.
    pub(crate) fn number(&self) -> u64 {
        self.0.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// A fresh file name for the data of one task.
    pub(crate) fn spool_file(&self) -> PathBuf {
        self.0
            .spool
            .join(format!("activity-{}.json", self.number()))
    }

    /// Counts a start that is about to happen.
    pub(crate) fn register(&self) -> Result<Registration, LaunchError> {
        self.0.running.send_modify(|count| *count += 1);
        let registration = Registration {
            mark: format!("{}{}", self.0.prefix, self.number()),
            supervisor: self.clone(),
            group: Mutex::new(None),
            kept: AtomicBool::new(false),
        };
        // Asked after counting: a shutdown either sees the count or is seen here.
        if self.0.stopping.load(Ordering::SeqCst) {
            return Err(LaunchError::Stopping);
        }
        self.0.guard.lock().ensure_started();
        Ok(registration)
    }
}

/// One start, as supervisor and guard know it, from before it begins until it is gone.
#[derive(Debug)]
pub(crate) struct Registration {
    mark: String,
    supervisor: Supervisor,
    group: Mutex<Option<Pid>>,
    kept: AtomicBool,
}

impl Registration {
    pub(crate) fn mark(&self) -> &str {
        &self.mark
    }

    pub(crate) fn started(&self, group: Pid) {
        *self.group.lock() = Some(group);
        self.supervisor.0.guard.lock().add(group.as_raw_pid());
    }

    /// The guard is not to forget the group.
    pub(crate) fn keep(&self) {
        self.kept.store(true, Ordering::Relaxed);
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        if let Some(group) = self.group.lock().take()
            && !self.kept.load(Ordering::Relaxed)
        {
            self.supervisor.0.guard.lock().remove(group.as_raw_pid());
        }
        self.supervisor.0.running.send_modify(|count| *count -= 1);
    }
}

/// Directories are named `<pid>.<number>`: those of processes that no longer exist hold data nobody will read.
fn remove_stale(spool_dir: &Path) {
    let Ok(entries) = fs::read_dir(spool_dir) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let owner = name
            .to_str()
            .and_then(|name| name.split_once('.'))
            .and_then(|(pid, number)| {
                number.parse::<u64>().ok()?;
                Pid::from_raw(pid.parse().ok()?)
            });
        if let Some(owner) = owner
            && owner != getpid()
            && test_kill_process(owner) == Err(rustix::io::Errno::SRCH)
        {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

//! A place to run agents in: a directory, a supervisor with short graces, and a log that remembers.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use rowcall_core::{
    AgentError, AgentKind, AgentOutput, AgentSpec, Command, EventKind, IdSource, Payload, Runtime,
    TableName, Task, TaskRef,
    lease::LeaseKey,
    ports::{AgentRunner, OutputStream, RunContext, RunLog},
};
use rowcall_supervisor::{AppHome, Runners, Supervisor, SupervisorOptions, inherit};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

/// Longer than anything here takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

#[derive(Debug)]
struct Ids;

impl IdSource for Ids {
    #[expect(clippy::disallowed_methods, reason = "marks must differ between tests")]
    fn uuid(&self) -> uuid::Uuid {
        uuid::Uuid::new_v4()
    }

    fn unit(&self) -> f64 {
        0.0
    }
}

/// Remembers lines.
#[derive(Default)]
pub(crate) struct Lines(Mutex<Vec<(OutputStream, String)>>);

impl RunLog for Lines {
    fn line(&self, stream: OutputStream, line: &str) {
        self.0.lock().unwrap().push((stream, line.to_owned()));
    }
}

impl Lines {
    pub(crate) fn all(&self) -> Vec<String> {
        let lines = self.0.lock().unwrap();
        lines.iter().map(|(_, line)| line.clone()).collect()
    }

    pub(crate) fn of(&self, wanted: OutputStream) -> Vec<String> {
        let lines = self.0.lock().unwrap();
        lines
            .iter()
            .filter(|(stream, _)| *stream == wanted)
            .map(|(_, line)| line.clone())
            .collect()
    }

    pub(crate) fn has(&self, part: &str) -> bool {
        self.all().iter().any(|line| line.contains(part))
    }
}

/// For kinds that are no programs: there are none in these tests.
struct Nobody;

#[async_trait::async_trait]
impl AgentRunner for Nobody {
    async fn run(&self, _: RunContext, _: CancellationToken) -> Result<AgentOutput, AgentError> {
        unreachable!("no test runs an in-process agent")
    }
}

pub(crate) struct Place {
    pub(crate) dir: TempDir,
    pub(crate) runners: Runners,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(crate) fn with(change: impl FnOnce(&mut SupervisorOptions)) -> Self {
        let dir = TempDir::new().unwrap();
        let home = dir.path().join("home");
        let homes = Arc::new(move |_: &_| AppHome {
            directory: home.clone(),
            variables: BTreeMap::from([
                ("SUPABASE_URL".to_owned(), "http://stack".to_owned()),
                ("SERVER_URL".to_owned(), "http://daemon".to_owned()),
            ]),
        });
        let mut options = SupervisorOptions::new(dir.path().join("spool"), homes);
        options.inherited = inherit(std::env::vars_os());
        options.graces.terminate = Duration::from_secs(2);
        options.graces.leftovers = Duration::from_millis(200);
        options.graces.report_exit = Duration::from_millis(400);
        options.worker.cancel_grace = Duration::from_secs(2);
        options.worker.shutdown_grace = Duration::from_secs(5);
        options.worker.restart.base = Duration::from_millis(20);
        options.worker.restart.cap = Duration::from_millis(100);
        change(&mut options);
        let supervisor = Supervisor::new(options, &Ids);
        Self {
            dir,
            runners: Runners::new(supervisor, Arc::new(Nobody)),
        }
    }

    /// Writes a file into the directory.
    pub(crate) fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A run of a shell script.
    pub(crate) fn sh(&self, script: &str) -> Run<'_> {
        let path = self.file("agent.sh", script);
        self.run(command(
            Runtime::Custom,
            Some("sh"),
            &[path.to_str().unwrap()],
        ))
    }

    /// A run of a Python script.
    pub(crate) fn python(&self, script: &str) -> Run<'_> {
        let path = self.file("agent.py", script);
        self.run(command(Runtime::Python, None, &[path.to_str().unwrap()]))
    }

    pub(crate) fn run(&self, command: Command) -> Run<'_> {
        self.agent(AgentKind::Process(command))
    }

    pub(crate) fn agent(&self, kind: AgentKind) -> Run<'_> {
        let reference = TaskRef {
            table: TableName::activities(),
            id: "7f0b9c1e-0b53-4a8a-9d0e-0f4d0a3a2b11".parse().unwrap(),
        };
        let task = Task {
            task: reference.clone(),
            source: "support_tickets".parse().unwrap(),
            event: EventKind::Insert,
            key: Some(Payload::from_text("{\"id\": 5}".to_owned()).unwrap()),
            raw_data: Payload::from_text("{\"id\": 5, \"subject\": \"größer\"}".to_owned())
                .unwrap(),
            old_data: None,
            row: None,
            attempt: 2,
            retry_count: 1,
            attempted_by: Vec::new(),
            created_at: jiff::Timestamp::UNIX_EPOCH,
        };
        Run {
            place: self,
            task,
            spec: AgentSpec {
                id: "agent".parse().unwrap(),
                kind,
                timeout: PATIENCE,
            },
            lease: LeaseKey {
                task: reference,
                machine: "machine-1".parse().unwrap(),
                attempt: 2,
            },
            log: Arc::new(Lines::default()),
            reported: CancellationToken::new(),
            stop: CancellationToken::new(),
        }
    }

    /// Nothing of any agent is left, not even what detached itself.
    #[track_caller]
    pub(crate) fn assert_no_orphan(&self) {
        let left = self.runners.supervisor().processes();
        let names: Vec<_> = left
            .iter()
            .map(|pid| fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default())
            .collect();
        assert!(left.is_empty(), "left behind: {names:?}");
    }

    /// Ends everything, and looks again.
    pub(crate) async fn close(self) {
        self.runners.shutdown().await;
        self.assert_no_orphan();
        let spool = self.path("spool");
        let left = fs::read_dir(&spool).map_or(0, Iterator::count);
        assert_eq!(left, 0, "task data left in {}", spool.display());
    }
}

/// One attempt about to be made.
pub(crate) struct Run<'a> {
    place: &'a Place,
    pub(crate) task: Task,
    pub(crate) spec: AgentSpec,
    lease: LeaseKey,
    pub(crate) log: Arc<Lines>,
    pub(crate) reported: CancellationToken,
    pub(crate) stop: CancellationToken,
}

impl Run<'_> {
    pub(crate) fn timeout(mut self, timeout: Duration) -> Self {
        self.spec.timeout = timeout;
        self
    }

    pub(crate) fn context(&self) -> RunContext {
        RunContext {
            task: Arc::new(self.task.clone()),
            lease: self.lease.clone(),
            app: "app".parse().unwrap(),
            agent: Arc::new(self.spec.clone()),
            reported: self.reported.clone(),
            log: self.log.clone(),
        }
    }

    /// Runs it to its end: the result as JSON, or the error.
    pub(crate) async fn go(&self) -> Result<String, AgentError> {
        let run = self.place.runners.run(self.context(), self.stop.clone());
        tokio::time::timeout(PATIENCE * 2, run)
            .await
            .expect("the run ends")
            .map(|output| output.result.get().to_owned())
    }
}

pub(crate) fn command(runtime: Runtime, program: Option<&str>, args: &[&str]) -> Command {
    Command {
        runtime,
        program: program.map(str::to_owned),
        args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        working_dir: None,
        env: BTreeMap::default(),
    }
}

/// Waits for a condition that another process makes true.
#[track_caller]
pub(crate) fn until(what: &str, mut condition: impl FnMut() -> bool) -> impl Future<Output = ()> {
    let caller = std::panic::Location::caller();
    let what = what.to_owned();
    async move {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while !condition() {
            assert!(
                tokio::time::Instant::now() < deadline,
                "{caller}: never came true: {what}"
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Whether the process lives whose id an agent wrote into a file.
#[track_caller]
pub(crate) fn alive(pid_file: &Path) -> bool {
    let pid = fs::read_to_string(pid_file).unwrap();
    assert!(!pid.trim().is_empty(), "no id in {}", pid_file.display());
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    // A zombie has ended; nobody has asked how yet.
    stat.rsplit_once(')')
        .is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}

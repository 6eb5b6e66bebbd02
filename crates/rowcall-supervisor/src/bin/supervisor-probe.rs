//! A daemon in miniature, for the tests of `rowcall-supervisor`: `supervisor-probe guard` is a process guard,
//! `supervisor-probe daemon <dir> <script>` runs one agent under a supervisor with such a guard and prints its mark.

use std::{ffi::OsString, io::Write, path::Path, process::ExitCode, sync::Arc, time::Duration};

use rowcall_core::{
    AgentKind, AgentSpec, Command, EventKind, IdSource, Payload, Runtime, TableName, Task, TaskRef,
    lease::LeaseKey,
    ports::{AgentRunner, OutputStream, RunContext, RunLog},
};
use rowcall_supervisor::{
    AppHome, GuardCommand, ProcessRunner, Supervisor, SupervisorOptions, guard, inherit,
};
use tokio_util::sync::CancellationToken;

#[derive(Debug)]
struct Ids;

impl IdSource for Ids {
    #[expect(clippy::disallowed_methods, reason = "the edge where ids are made")]
    fn uuid(&self) -> uuid::Uuid {
        uuid::Uuid::new_v4()
    }

    fn unit(&self) -> f64 {
        0.0
    }
}

/// Prints what the agent prints, so that the test knows when it runs.
struct Echo;

impl RunLog for Echo {
    fn line(&self, _stream: OutputStream, line: &str) {
        let mut out = std::io::stdout().lock();
        let _ = writeln!(out, "{line}");
        let _ = out.flush();
    }
}

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    match args.first().and_then(|arg| arg.to_str()) {
        Some("guard") => guard::run_guard(),
        Some("daemon") if args.len() == 3 => daemon(Path::new(&args[1]), &args[2]),
        _ => ExitCode::FAILURE,
    }
}

fn daemon(dir: &Path, script: &OsString) -> ExitCode {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    else {
        return ExitCode::FAILURE;
    };
    runtime.block_on(async {
        let home = dir.to_owned();
        let homes = Arc::new(move |_: &_| AppHome {
            directory: home.clone(),
            ..AppHome::default()
        });
        let mut options = SupervisorOptions::new(dir.join("spool"), homes);
        options.inherited = inherit(std::env::vars_os());
        options.graces.terminate = Duration::from_millis(300);
        options.limits.inline_activity_bytes = 1;
        options.guard = std::env::current_exe().ok().map(|program| GuardCommand {
            program,
            args: vec!["guard".into()],
        });
        let supervisor = Supervisor::new(options, &Ids);
        Echo.line(OutputStream::Stdout, &format!("mark {}", supervisor.mark()));
        let runner = ProcessRunner::new(supervisor);
        let _ = runner.run(context(script), CancellationToken::new()).await;
    });
    ExitCode::SUCCESS
}

fn context(script: &OsString) -> RunContext {
    let reference = TaskRef {
        table: TableName::activities(),
        id: "42".parse().expect("a key"),
    };
    let command = Command {
        runtime: Runtime::Custom,
        program: Some(script.to_string_lossy().into_owned()),
        args: Vec::new(),
        working_dir: None,
        env: std::collections::BTreeMap::default(),
    };
    RunContext {
        lease: LeaseKey {
            task: reference.clone(),
            machine: "probe".parse().expect("a machine id"),
            attempt: 1,
        },
        task: Arc::new(Task {
            task: reference,
            source: TableName::activities(),
            event: EventKind::Insert,
            key: None,
            raw_data: Payload::empty_object(),
            old_data: None,
            row: None,
            attempt: 1,
            retry_count: 0,
            attempted_by: Vec::new(),
            created_at: jiff::Timestamp::UNIX_EPOCH,
        }),
        app: "probe".parse().expect("an app id"),
        agent: Arc::new(AgentSpec {
            id: "probe".parse().expect("an agent id"),
            kind: AgentKind::Process(command),
            timeout: Duration::from_mins(1),
        }),
        reported: CancellationToken::new(),
        log: Arc::new(Echo),
    }
}

//! One app's program, from the wish to start it to its end.

use std::{os::unix::process::ExitStatusExt as _, process::ExitStatus, sync::Arc, time::Duration};

use rowcall_core::{Clock, IdSource, manifest::Restart, ports::OutputStream};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    AppLaunch, AppOptions,
    log::LogRing,
    port, ready,
    state::{AppProcess, AppState, Ended},
    time,
};
use crate::{
    child::{Launch, Pipes, Running},
    output::{Line, LineSplitter, each_line},
    supervisor::Supervisor,
};

/// A program that names no port counts as running when it is alive after this.
const SETTLED: Duration = Duration::from_secs(1);

/// After this long without an answer on the proposed port, it is looked where the program really listens.
const LOOK_AFTER: Duration = Duration::from_secs(2);

/// Starts a program and keeps it.
pub(super) struct Keeper {
    pub(super) supervisor: Supervisor,
    pub(super) options: AppOptions,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) ids: Arc<dyn IdSource>,
    pub(super) launch: AppLaunch,
    pub(super) state: watch::Sender<AppProcess>,
    pub(super) log: Arc<LogRing>,
    pub(super) stop: CancellationToken,
}

/// How one start ended.
enum Ending {
    /// Somebody stopped it.
    Stopped,
    /// By itself.
    Exited(ExitStatus),
    /// It could not be started.
    NotStarted(String),
}

impl Keeper {
    /// Changes what everybody sees.
    pub(super) fn told(&self, change: impl FnOnce(&mut AppProcess)) {
        self.state.send_modify(change);
    }

    fn note(&self, text: &str) {
        self.log.push(
            self.clock.now(),
            OutputStream::Stderr,
            format!("[rowcall: {text}]"),
        );
    }

    fn enter(&self, state: AppState, problem: Option<String>) {
        let since = time(&*self.clock);
        self.told(|process| {
            process.state = state;
            process.since = since;
            process.problem = problem;
            if !matches!(state, AppState::Running | AppState::Stopping) {
                process.pid = None;
                process.ready = false;
            }
        });
    }

    /// Until the program has ended for good.
    pub(super) async fn run(self) {
        let mut crashes = 0;
        loop {
            let began = Instant::now();
            let ending = self.once().await;
            let status = match ending {
                Ending::Stopped => return self.enter(AppState::Stopped, None),
                Ending::NotStarted(problem) => {
                    self.note(&problem);
                    tracing::warn!(app.id = %self.launch.app, problem, "the app could not be started");
                    return self.enter(AppState::Error, Some(problem));
                }
                Ending::Exited(status) => status,
            };
            let how = describe(status);
            self.note(&how);
            let again = match self.launch.restart {
                Restart::Always => true,
                Restart::OnFailure => !status.success(),
                Restart::Never => false,
            };
            if !again {
                let problem = (!status.success()).then_some(how);
                let state = if problem.is_some() {
                    AppState::Error
                } else {
                    AppState::Stopped
                };
                return self.enter(state, problem);
            }
            crashes = if began.elapsed() >= self.options.healthy_after {
                1
            } else {
                crashes + 1
            };
            if crashes >= self.options.crash_limit {
                let problem = format!(
                    "it ended {crashes} times in a row, the last time: {how}; see its output, then start it again"
                );
                tracing::error!(app.id = %self.launch.app, problem, "the app is given up");
                self.note(&problem);
                return self.enter(AppState::Error, Some(problem));
            }
            let wait = self.options.restart.delay(crashes, self.ids.unit());
            tracing::warn!(app.id = %self.launch.app, how, ?wait, "the app ended; it is started again");
            self.enter(AppState::Starting, Some(how));
            self.told(|process| {
                process.crashes = crashes;
                process.restarts += 1;
            });
            // Cancel-safe: both arms only wait.
            tokio::select! {
                () = self.stop.cancelled() => return self.enter(AppState::Stopped, None),
                () = sleep(wait) => {}
            }
        }
    }

    /// One start, to its end.
    async fn once(&self) -> Ending {
        let wish = self.launch.port;
        let found = tokio::task::spawn_blocking(move || {
            if wish.movable {
                port::free(wish.port)
            } else {
                Some(wish.port)
            }
        });
        let Some(port) = found.await.unwrap_or_default() else {
            return Ending::NotStarted(format!("no port is free from {} on", wish.port));
        };
        if wish.named && !wish.movable && !port::is_free(port) {
            return Ending::NotStarted(format!(
                "port {port} is taken by another program: stop that, or change the app's arguments"
            ));
        }
        let (running, pipes) = match self.spawn(port) {
            Ok(started) => started,
            Err(error) => return Ending::NotStarted(error.with_code()),
        };
        let pid = running.pid();
        self.told(|process| {
            process.pid = Some(pid);
            process.port = wish.named.then_some(port);
        });
        let reading = self.read(pipes);
        let keeping = self.keep(running, port);
        tokio::pin!(reading, keeping);
        let mut drained = false;
        // The output is read whatever is waited for: a full pipe would stop the program.
        let ending = loop {
            tokio::select! {
                biased;
                ending = &mut keeping => break ending,
                () = &mut reading, if !drained => drained = true,
            }
        };
        if !drained {
            let _ = timeout(self.supervisor.options().graces.drain, &mut reading).await;
        }
        if let Ending::Exited(status) = &ending {
            let ended = Ended {
                at: self.clock.now(),
                code: status.code(),
                signal: status.signal(),
            };
            self.told(|process| process.ended = Some(ended));
        }
        ending
    }

    fn spawn(&self, port: u16) -> Result<(Running, Pipes), crate::LaunchError> {
        let command = self.launch.with_port(port);
        let mut variables =
            crate::environment::Variables::new(&self.supervisor.options().inherited);
        variables.extend(&self.launch.variables);
        variables.extend(&AppLaunch::port_variables(port));
        variables.extend(&command.env);
        let program = Supervisor::resolve(&command, &variables, &self.launch.directory)?;
        self.supervisor.spawn(&Launch {
            program,
            variables,
            talks: false,
        })
    }

    async fn read(&self, pipes: Pipes) {
        let limit = self.supervisor.options().limits.line_bytes;
        let take = |stream| {
            move |bytes: Vec<u8>, total: u64| {
                let text = Line::new(&bytes, total).text(limit).into_owned();
                self.log.push(self.clock.now(), stream, text);
                std::future::ready(())
            }
        };
        tokio::join!(
            each_line(
                pipes.stdout,
                LineSplitter::new(limit, limit),
                take(OutputStream::Stdout)
            ),
            each_line(
                pipes.stderr,
                LineSplitter::new(limit, limit),
                take(OutputStream::Stderr)
            ),
        );
    }

    /// Waits for the program's end, and says meanwhile whether it is ready.
    async fn keep(&self, mut running: Running, port: u16) -> Ending {
        let group = running.pid();
        // Cancel-safe: each branch only waits or looks.
        tokio::select! {
            biased;
            () = self.stop.cancelled() => {
                self.enter(AppState::Stopping, None);
                running.stop(self.supervisor.options().graces.terminate).await;
                running.finish().await;
                return Ending::Stopped;
            }
            () = running.ended() => {}
            () = self.watch(group, port) => unreachable!("watching never ends"),
        }
        Ending::Exited(running.finish().await)
    }

    /// Finds out whether the program is ready, then rests.
    async fn watch(&self, group: u32, port: u16) {
        let wish = self.launch.port;
        let path = self.launch.health_path.as_deref();
        let began = Instant::now();
        let mut found = port;
        loop {
            if ready::answers(found, path).await {
                self.told(|process| {
                    process.port = Some(found);
                    process.ready = true;
                });
                self.enter(AppState::Running, None);
                break;
            }
            if !wish.named && began.elapsed() >= SETTLED && !self.is(AppState::Running) {
                self.enter(AppState::Running, None);
            }
            if began.elapsed() >= LOOK_AFTER {
                // Nobody reports a port back: an app may listen elsewhere than it was told to.
                let looked = tokio::task::spawn_blocking(move || port::listened(&members(group)));
                if let Some(real) = looked.await.unwrap_or_default().first() {
                    found = *real;
                }
            }
            if began.elapsed() >= self.options.ready_timeout {
                if wish.named {
                    let problem = format!("it runs, but nothing answers on port {found} yet");
                    self.enter(AppState::Running, Some(problem));
                }
                break;
            }
            sleep(self.options.ready_every).await;
        }
        std::future::pending::<()>().await;
    }

    fn is(&self, state: AppState) -> bool {
        self.state.borrow().state == state
    }
}

/// The processes of a group.
#[cfg(target_os = "linux")]
fn members(group: u32) -> Vec<u32> {
    let groups = std::collections::BTreeSet::from([i32::try_from(group).unwrap_or(-1)]);
    // No run has this mark: only the group counts, and what descends from it.
    crate::processes::find(&crate::processes::Mark::Run(String::new()), &groups, 0)
        .iter()
        .map(|member| member.pid.as_raw_pid().unsigned_abs())
        .collect()
}

#[cfg(not(target_os = "linux"))]
fn members(_: u32) -> Vec<u32> {
    Vec::new()
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("it ended with exit code {code}"),
        (None, Some(signal)) => format!("it was ended by signal {signal}"),
        (None, None) => "it ended".to_owned(),
    }
}

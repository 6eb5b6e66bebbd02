//! The keeper of one worker: starts it, gives it tasks, brings back answers, and restarts it when it falls.

mod crash;
mod messages;

use std::{collections::BTreeMap, future::pending, sync::Arc};

use rowcall_core::{
    AgentError, AgentErrorKind, AgentOutput,
    ports::{OutputStream, RunLog},
};
use serde_json::value::RawValue;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{
    Spec,
    connection::{Connection, Event},
    protocol::{PROTOCOL_VERSION, ToWorker},
};
use crate::{
    child::Launch,
    error::LaunchError,
    options::{Limits, WorkerOptions},
    output::{BoundedLog, Line, Tail},
    process::{seconds, stopped},
    supervisor::Supervisor,
};

/// How a task at a worker ended.
pub(super) type Answer = Result<AgentOutput, AgentError>;

/// One task for a worker.
pub(super) struct Assignment {
    pub(super) id: u64,
    /// JSON.
    pub(super) task: String,
    pub(super) log: Arc<dyn RunLog>,
    /// Told when the worker has the task.
    pub(super) sent: Option<oneshot::Sender<()>>,
    pub(super) reply: oneshot::Sender<Answer>,
    /// It was sent before, to a process that left just then.
    pub(super) again: bool,
}

/// What runs ask of a keeper.
pub(super) enum Request {
    Assign(Assignment),
    Cancel {
        id: u64,
        reason: &'static str,
    },
    /// The task did not react to its cancellation: end the worker.
    Kill {
        id: u64,
    },
}

/// A task that the worker has.
struct InFlight {
    assignment: Assignment,
    stdout: BoundedLog,
    stderr: BoundedLog,
    /// The worker has named it since.
    begun: bool,
}

impl InFlight {
    fn new(assignment: Assignment, limits: &Limits) -> Self {
        let bounded = |stream| BoundedLog::new(assignment.log.clone(), stream, limits);
        Self {
            stdout: bounded(OutputStream::Stdout),
            stderr: bounded(OutputStream::Stderr),
            assignment,
            begun: false,
        }
    }

    fn log(&mut self, stream: OutputStream) -> &mut BoundedLog {
        match stream {
            OutputStream::Stdout => &mut self.stdout,
            OutputStream::Stderr => &mut self.stderr,
        }
    }

    fn finish_logs(&mut self) {
        let nothing = Tail::default();
        self.stdout.finish(&nothing);
        self.stderr.finish(&nothing);
    }

    fn answer(mut self, answer: Answer) {
        self.finish_logs();
        // Whoever no longer waits does not need it.
        let _ = self.assignment.reply.send(answer);
    }
}

/// Whether there is a process.
enum State {
    Asleep,
    /// After a crash; the next start is not before this.
    Resting(Instant),
    /// Started, and not yet ready.
    Starting(Box<Connection>, Instant),
    /// With when it will have been idle for long enough, if it is.
    Ready(Box<Connection>, Option<Instant>),
}

pub(super) struct Keeper {
    supervisor: Supervisor,
    options: WorkerOptions,
    limits: Limits,
    spec: Spec,
    requests: mpsc::Receiver<Request>,
    closing: CancellationToken,
    state: State,
    /// Assigned before the worker was ready.
    waiting: Vec<Assignment>,
    in_flight: BTreeMap<u64, InFlight>,
    /// Crashes since the last answer.
    crashes: u32,
    /// How the last one was described.
    last_crash: String,
    /// How much output of this start still goes to the logs of tasks that wait for it.
    startup_left: u64,
}

/// What woke the keeper.
enum Wake {
    Request(Option<Request>),
    Event(Event),
    Deadline,
    Closing,
}

impl Keeper {
    pub(super) fn new(
        supervisor: Supervisor,
        spec: Spec,
        requests: mpsc::Receiver<Request>,
        closing: CancellationToken,
    ) -> Self {
        Self {
            options: supervisor.options().worker,
            limits: supervisor.options().limits,
            supervisor,
            spec,
            requests,
            closing,
            state: State::Asleep,
            waiting: Vec::new(),
            in_flight: BTreeMap::new(),
            crashes: 0,
            last_crash: String::new(),
            startup_left: 0,
        }
    }

    /// Works until nobody can ask any more, or everything closes.
    pub(super) async fn run(mut self) {
        loop {
            match self.wake().await {
                Wake::Request(Some(Request::Assign(assignment))) => self.assign(assignment),
                Wake::Request(Some(Request::Cancel { id, reason })) => self.cancel(id, reason),
                Wake::Request(Some(Request::Kill { id })) => self.kill(id).await,
                Wake::Event(Event::Line {
                    stream,
                    bytes,
                    total,
                }) => self.line(stream, Line::new(&bytes, total)).await,
                Wake::Event(Event::Ended) => self.fell("").await,
                Wake::Event(Event::StdinClosed) => {
                    self.fell("closed its standard input and ").await;
                }
                Wake::Deadline => self.deadline().await,
                Wake::Request(None) | Wake::Closing => break,
            }
        }
        self.close().await;
    }

    async fn wake(&mut self) -> Wake {
        let (connection, deadline) = match &mut self.state {
            State::Asleep => (None, None),
            State::Resting(until) => (None, Some(*until)),
            State::Starting(connection, until) => (Some(connection), Some(*until)),
            State::Ready(connection, until) => (Some(connection), *until),
        };
        let event = async {
            match connection {
                Some(connection) => connection.next().await,
                None => pending().await,
            }
        };
        let due = async {
            match deadline {
                Some(until) => sleep_until(until).await,
                None => pending().await,
            }
        };
        // All branches are safe to cancel: channels and timers.
        tokio::select! {
            () = self.closing.cancelled() => Wake::Closing,
            request = self.requests.recv() => Wake::Request(request),
            event = event => Wake::Event(event),
            () = due => Wake::Deadline,
        }
    }

    fn assign(&mut self, assignment: Assignment) {
        match &self.state {
            State::Ready(..) => self.send(assignment),
            State::Asleep => {
                self.waiting.push(assignment);
                self.start();
            }
            State::Resting(_) if self.crashes >= self.options.crash_limit => {
                let _ = assignment.reply.send(Err(self.given_up()));
            }
            State::Resting(_) | State::Starting(..) => self.waiting.push(assignment),
        }
    }

    /// A task that the worker never saw is simply forgotten.
    fn forget(&mut self, id: u64) -> bool {
        let Some(at) = self.waiting.iter().position(|task| task.id == id) else {
            return false;
        };
        let _ = self.waiting.remove(at).reply.send(Err(stopped()));
        true
    }

    fn cancel(&mut self, id: u64, reason: &'static str) {
        if !self.forget(id)
            && self.in_flight.contains_key(&id)
            && let State::Ready(connection, _) = &self.state
        {
            let id = &id.to_string();
            connection.send(&ToWorker::Cancel { id, reason });
        }
    }

    /// A task goes on although it was called off, and it cannot be ended without its worker. The other tasks of the
    /// worker did nothing wrong: they are released, not failed.
    async fn kill(&mut self, id: u64) {
        if self.forget(id) || !self.in_flight.contains_key(&id) {
            return;
        }
        if let Some(mut connection) = self.end_process().await {
            // Whoever still answered on being asked to end has done its work.
            self.drain(&mut connection).await;
        }
        if let Some(task) = self.in_flight.remove(&id) {
            task.answer(Err(stopped()));
        }
        self.fail_in_flight(AgentErrorKind::Canceled, |_| {
            "the worker was restarted because another of its tasks did not stop when asked"
                .to_owned()
        });
        self.go_on();
    }

    fn start(&mut self) {
        let opened = self.launch().and_then(|launch| {
            let concurrency = self.spec.concurrency as usize;
            Connection::open(&self.supervisor, &launch, concurrency)
        });
        match opened {
            Ok(connection) => {
                connection.send(&ToWorker::Hello {
                    protocol: PROTOCOL_VERSION,
                    app: self.spec.app.as_str(),
                    agent: self.spec.agent.as_str(),
                    machine_id: self.spec.machine.as_str(),
                    concurrency: self.spec.concurrency,
                });
                self.startup_left = self.limits.log_bytes;
                let until = Instant::now() + self.options.ready_timeout;
                self.state = State::Starting(Box::new(connection), until);
            }
            Err(error) => {
                // Nothing ran, so nothing crashed: the next task tries again at once.
                self.state = State::Asleep;
                let error = AgentError::from(error);
                for task in self.waiting.drain(..) {
                    let _ = task.reply.send(Err(error.clone()));
                }
            }
        }
    }

    fn launch(&self) -> Result<Launch, LaunchError> {
        let home = self.supervisor.home(&self.spec.app);
        let mut variables = self.supervisor.variables(&home);
        variables.set("MACHINE_ID", self.spec.machine.as_str());
        variables.set("ROWCALL_WORKER_PROTOCOL", PROTOCOL_VERSION.to_string());
        variables.extend(&self.spec.command.env);
        let program = Supervisor::resolve(&self.spec.command, &variables, &home.directory)?;
        Ok(Launch {
            program,
            variables,
            talks: true,
        })
    }

    fn send(&mut self, mut assignment: Assignment) {
        let State::Ready(connection, idle) = &mut self.state else {
            self.waiting.push(assignment);
            return;
        };
        *idle = None;
        let task: &RawValue = match serde_json::from_str(&assignment.task) {
            Ok(task) => task,
            Err(error) => {
                let message = format!("the task's data is not JSON: {error}");
                let error = AgentError::new(AgentErrorKind::NotStarted, message);
                let _ = assignment.reply.send(Err(error));
                return;
            }
        };
        let id = &assignment.id.to_string();
        // When the worker no longer reads, its end is on the way and takes care of this task too.
        connection.send(&ToWorker::Task { id, task });
        if let Some(sent) = assignment.sent.take() {
            let _ = sent.send(());
        }
        let id = assignment.id;
        let task = InFlight::new(assignment, &self.limits);
        self.in_flight.insert(id, task);
    }

    fn rest_if_idle(&mut self) {
        if let State::Ready(_, idle) = &mut self.state
            && self.in_flight.is_empty()
        {
            *idle = Some(Instant::now() + self.options.idle);
        }
    }

    /// After an end that was no crash.
    fn go_on(&mut self) {
        self.state = State::Asleep;
        if !self.waiting.is_empty() {
            self.start();
        }
    }

    async fn deadline(&mut self) {
        match &self.state {
            State::Resting(_) => self.go_on(),
            State::Starting(..) => {
                let limit = seconds(self.options.ready_timeout);
                self.broke_protocol(&format!(
                    "did not say ready within {limit}; see docs/worker-protocol.md"
                ))
                .await;
            }
            State::Ready(..) => {
                tracing::debug!(agent = %self.spec.agent, "an idle worker is shut down");
                self.shut_down().await;
                self.go_on();
            }
            State::Asleep => {}
        }
    }

    /// Asks the process to exit, ends it if it does not.
    async fn shut_down(&mut self) {
        if let State::Ready(connection, _) | State::Starting(connection, _) = &mut self.state {
            connection.shutdown(self.options.shutdown_grace).await;
        }
        self.end_process().await;
    }

    /// Ends the process without a word of the protocol. Its tasks, and what it still wrote, are the caller's to handle.
    async fn end_process(&mut self) -> Option<Box<Connection>> {
        match std::mem::replace(&mut self.state, State::Asleep) {
            State::Ready(mut connection, _) | State::Starting(mut connection, _) => {
                connection
                    .stop(self.supervisor.options().graces.terminate)
                    .await;
                connection.close().await;
                Some(connection)
            }
            State::Asleep | State::Resting(_) => None,
        }
    }

    async fn close(&mut self) {
        self.requests.close();
        self.shut_down().await;
        while let Some(request) = self.requests.recv().await {
            if let Request::Assign(assignment) = request {
                self.waiting.push(assignment);
            }
        }
        self.fail_all(AgentErrorKind::Canceled, "rowcall is stopping");
    }
}

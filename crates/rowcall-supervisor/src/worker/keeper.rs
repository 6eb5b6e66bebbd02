//! The keeper of one worker: starts it, gives it tasks, brings back answers, and restarts it when it falls.

use std::{collections::BTreeMap, future::pending, sync::Arc, time::Duration};

use rowcall_core::{
    AgentError, AgentErrorKind, AgentOutput, Payload,
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
    protocol::{FromWorker, PROTOCOL_VERSION, ToWorker},
};
use crate::{
    child::Launch,
    options::{Limits, WorkerOptions},
    outcome,
    output::{BoundedLog, Line, Tail},
    process::{seconds, stopped},
    program::LaunchError,
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
    pub(super) sent: oneshot::Sender<()>,
    pub(super) reply: oneshot::Sender<Answer>,
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
    stdout: BoundedLog,
    stderr: BoundedLog,
    reply: oneshot::Sender<Answer>,
}

impl InFlight {
    fn new(log: &Arc<dyn RunLog>, limits: &Limits, reply: oneshot::Sender<Answer>) -> Self {
        let bounded = |stream| BoundedLog::new(log.clone(), stream, limits);
        Self {
            stdout: bounded(OutputStream::Stdout),
            stderr: bounded(OutputStream::Stderr),
            reply,
        }
    }

    fn log(&mut self, stream: OutputStream) -> &mut BoundedLog {
        match stream {
            OutputStream::Stdout => &mut self.stdout,
            OutputStream::Stderr => &mut self.stderr,
        }
    }

    fn answer(mut self, answer: Answer) {
        let nothing = Tail::default();
        self.stdout.finish(&nothing);
        self.stderr.finish(&nothing);
        // Whoever no longer waits does not need it.
        let _ = self.reply.send(answer);
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

    fn given_up(&self) -> AgentError {
        AgentError::new(
            AgentErrorKind::NotStarted,
            format!(
                "the worker crashed {} times in a row and is not started again for up to {}; the last time it {}",
                self.crashes,
                seconds(self.options.crash_pause),
                self.last_crash
            ),
        )
    }

    fn cancel(&mut self, id: u64, reason: &'static str) {
        if let Some(at) = self.waiting.iter().position(|task| task.id == id) {
            let _ = self.waiting.remove(at).reply.send(Err(stopped()));
        } else if self.in_flight.contains_key(&id)
            && let State::Ready(connection, _) = &self.state
        {
            let id = &id.to_string();
            connection.send(&ToWorker::Cancel { id, reason });
        }
    }

    /// A task goes on although it was called off, and it cannot be ended without its worker. The other tasks of the
    /// worker did nothing wrong: they are released, not failed.
    async fn kill(&mut self, id: u64) {
        self.cancel(id, "stop");
        if !self.in_flight.contains_key(&id) {
            return;
        }
        self.end_process(self.supervisor.options().graces.terminate)
            .await;
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

    fn send(&mut self, assignment: Assignment) {
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
        // When the worker no longer reads, its end is on the way and answers this task too.
        connection.send(&ToWorker::Task { id, task });
        let _ = assignment.sent.send(());
        let task = InFlight::new(&assignment.log, &self.limits, assignment.reply);
        self.in_flight.insert(assignment.id, task);
    }

    async fn line(&mut self, stream: OutputStream, line: Line<'_>) {
        if stream == OutputStream::Stderr || !line.looks_like_object() {
            self.output(stream, line);
            return;
        }
        if line.is_cut() {
            // Which task it answered cannot be known, so none of them can be trusted to be answered.
            self.broke_protocol(&format!(
                "wrote a message of {} bytes; the limit is {}",
                line.total, self.limits.result_bytes
            ))
            .await;
            return;
        }
        match FromWorker::read(line.bytes) {
            FromWorker::Ready { protocol } => self.ready(protocol).await,
            FromWorker::Result { id, result } => {
                let result = result.map_or_else(
                    || Ok(Payload::empty_object()),
                    |result| Payload::from_value(&result),
                );
                let answer = result
                    .map(|result| AgentOutput { result })
                    .map_err(|error| AgentError::new(AgentErrorKind::Protocol, error.to_string()));
                self.answered(&id, answer);
            }
            FromWorker::Error { id, error } => {
                let message = match outcome::error_text(&error) {
                    text if error.is_null() || text.is_empty() => {
                        "the worker answered with an error without a message".to_owned()
                    }
                    text => text,
                };
                self.answered(&id, Err(AgentError::new(AgentErrorKind::Failed, message)));
            }
            FromWorker::Progress { id } => match self.task(&id) {
                Some(task) => task.stdout.line(line),
                None => self.unknown(&id, "progress"),
            },
            FromWorker::Log {
                id: Some(id),
                message,
            } => match self.task(&id) {
                Some(task) => task.stdout.note(&message),
                None => self.unknown(&id, "log"),
            },
            FromWorker::Log { id: None, message } => self.note(&message),
            FromWorker::Malformed(problem) => {
                self.note(&format!("[rowcall: ignored a message: {problem}]"));
            }
            FromWorker::Other => self.output(stream, line),
        }
    }

    fn task(&mut self, id: &str) -> Option<&mut InFlight> {
        self.in_flight.get_mut(&id.parse().ok()?)
    }

    /// A late answer of a task that was called off, a second one, or an invented id: told, and nothing else.
    fn unknown(&mut self, id: &str, what: &str) {
        let id: String = id.chars().take(64).collect();
        tracing::debug!(agent = %self.spec.agent, id, what, "a worker named a task it does not have");
        self.note(&format!(
            "[rowcall: ignored {what} for task {id}, which the worker does not have or has answered]"
        ));
    }

    fn answered(&mut self, id: &str, answer: Answer) {
        let known = id
            .parse()
            .ok()
            .and_then(|id: u64| self.in_flight.remove(&id));
        match known {
            Some(task) => {
                self.crashes = 0;
                task.answer(answer);
                self.rest_if_idle();
            }
            None => self.unknown(id, "an answer"),
        }
    }

    fn rest_if_idle(&mut self) {
        if let State::Ready(_, idle) = &mut self.state
            && self.in_flight.is_empty()
        {
            *idle = Some(Instant::now() + self.options.idle);
        }
    }

    async fn ready(&mut self, protocol: u32) {
        if protocol != PROTOCOL_VERSION {
            self.broke_protocol(&format!(
                "speaks protocol {protocol}; this rowcall speaks {PROTOCOL_VERSION}"
            ))
            .await;
            return;
        }
        self.state = match std::mem::replace(&mut self.state, State::Asleep) {
            State::Starting(connection, _) => State::Ready(connection, None),
            other => other,
        };
        for task in std::mem::take(&mut self.waiting) {
            self.send(task);
        }
        self.rest_if_idle();
    }

    /// Output that is no message belongs to whatever the worker does just now.
    fn output(&mut self, stream: OutputStream, line: Line<'_>) {
        if self.in_flight.is_empty() {
            for task in &self.waiting {
                task.log.line(stream, &line.text(self.limits.line_bytes));
            }
            tracing::debug!(agent = %self.spec.agent, line = %line.text(1024), "worker output");
        }
        for task in self.in_flight.values_mut() {
            task.log(stream).line(line);
        }
    }

    fn note(&mut self, text: &str) {
        let line = Line::new(text.as_bytes(), text.len() as u64);
        self.output(OutputStream::Stdout, line);
    }

    /// The worker cannot be understood: it is ended, and its tasks fail.
    async fn broke_protocol(&mut self, problem: &str) {
        self.end_process(self.supervisor.options().graces.terminate)
            .await;
        problem.clone_into(&mut self.last_crash);
        self.fail_all(AgentErrorKind::Protocol, &format!("the worker {problem}"));
        self.crashed();
    }

    /// The process ended, and nobody had asked it to.
    async fn fell(&mut self, how: &str) {
        let (was_ready, mut connection) = match std::mem::replace(&mut self.state, State::Asleep) {
            State::Starting(connection, _) => (false, connection),
            State::Ready(connection, _) => (true, connection),
            other => {
                self.state = other;
                return;
            }
        };
        if !how.is_empty() {
            connection
                .stop(self.supervisor.options().graces.terminate)
                .await;
        }
        let status = connection.close().await;
        self.drain(&mut connection).await;
        let ended = status.map_or_else(|| "ended".to_owned(), outcome::describe);
        let because = outcome::because(&connection.stderr, &connection.stdout);
        let clean = status.is_some_and(|status| status.success());
        if was_ready && clean && self.in_flight.is_empty() {
            // It may leave whenever it has nothing to do; the next task starts it again.
            self.go_on();
            return;
        }
        if was_ready {
            self.last_crash = format!("{how}{ended}{because}");
            let message = format!("the worker {how}{ended} while it had this task{because}");
            self.fail_in_flight(AgentErrorKind::Failed, |_| message.clone());
        } else {
            self.last_crash = format!("{how}{ended} before it was ready{because}");
            let message = format!("the worker {}", self.last_crash);
            self.fail_all(AgentErrorKind::NotStarted, &message);
        }
        self.crashed();
    }

    /// Answers that were in the pipes when the process ended.
    async fn drain(&mut self, connection: &mut Connection) {
        let until = Instant::now() + self.supervisor.options().graces.drain;
        while let Some(event) = connection.rest(until).await {
            let Event::Line {
                stream,
                bytes,
                total,
            } = event
            else {
                continue;
            };
            let line = Line::new(&bytes, total);
            match (stream, FromWorker::read(line.bytes)) {
                (OutputStream::Stdout, FromWorker::Result { .. } | FromWorker::Error { .. })
                    if !line.is_cut() =>
                {
                    // Without a process this can only be an answer, so it cannot come back here.
                    Box::pin(self.line(stream, line)).await;
                }
                _ => self.output(stream, line),
            }
        }
    }

    fn crashed(&mut self) {
        self.crashes = self.crashes.saturating_add(1);
        tracing::warn!(
            app = %self.spec.app,
            agent = %self.spec.agent,
            crashes = self.crashes,
            "a worker {}",
            self.last_crash
        );
        let pause = if self.crashes >= self.options.crash_limit {
            self.options.crash_pause
        } else {
            // Nothing else shares this worker, so there is nobody to stay out of step with: no jitter.
            self.options.restart.delay(self.crashes, 0.0)
        };
        self.state = State::Resting(Instant::now() + pause);
        if self.crashes >= self.options.crash_limit {
            let error = self.given_up();
            for task in self.waiting.drain(..) {
                let _ = task.reply.send(Err(error.clone()));
            }
        }
    }

    /// After an end that was no crash.
    fn go_on(&mut self) {
        self.state = State::Asleep;
        if !self.waiting.is_empty() {
            self.start();
        }
    }

    fn fail_in_flight(&mut self, kind: AgentErrorKind, message: impl Fn(u64) -> String) {
        for (id, task) in std::mem::take(&mut self.in_flight) {
            task.answer(Err(AgentError::new(kind, message(id))));
        }
    }

    fn fail_all(&mut self, kind: AgentErrorKind, message: &str) {
        self.fail_in_flight(kind, |_| message.to_owned());
        for task in self.waiting.drain(..) {
            let _ = task.reply.send(Err(AgentError::new(kind, message)));
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
        self.end_process(self.supervisor.options().graces.terminate)
            .await;
    }

    /// Ends the process without a word of the protocol. Its tasks are the caller's to answer.
    async fn end_process(&mut self, grace: Duration) {
        if let State::Ready(mut connection, _) | State::Starting(mut connection, _) =
            std::mem::replace(&mut self.state, State::Asleep)
        {
            connection.stop(grace).await;
            connection.close().await;
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

//! When a worker falls: what becomes of its tasks, and when it is started again.

use rowcall_core::{AgentError, AgentErrorKind, ports::OutputStream};
use tokio::time::Instant;

use super::{
    super::{
        connection::{Connection, Event},
        protocol::FromWorker,
    },
    Keeper, State,
};
use crate::{outcome, output::Line, process::seconds};

impl Keeper {
    pub(super) fn given_up(&self) -> AgentError {
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

    /// The worker cannot be understood: it is ended, and its tasks fail.
    pub(super) async fn broke_protocol(&mut self, problem: &str) {
        self.end_process().await;
        problem.clone_into(&mut self.last_crash);
        self.fail_all(AgentErrorKind::Protocol, &format!("the worker {problem}"));
        self.crashed();
    }

    /// The process ended, and nobody had asked it to.
    pub(super) async fn fell(&mut self, how: &str) {
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
        if was_ready && clean {
            self.take_back();
            if self.in_flight.is_empty() {
                // It may leave whenever it has nothing to do; the next task starts it again.
                self.go_on();
                return;
            }
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

    /// A worker that leaves by itself may do so just when a task is on its way to it. Such a task, of which the worker
    /// never spoke, goes to the next process, once: one that leaves without an answer again and again is broken.
    fn take_back(&mut self) {
        let untouched: Vec<u64> = self
            .in_flight
            .iter()
            .filter(|(_, task)| !task.begun && !task.assignment.again)
            .map(|(id, _)| *id)
            .collect();
        for id in untouched {
            if let Some(mut task) = self.in_flight.remove(&id) {
                task.finish_logs();
                task.assignment.again = true;
                self.waiting.push(task.assignment);
            }
        }
    }

    /// Answers that were in the pipes when the process ended.
    pub(super) async fn drain(&mut self, connection: &mut Connection) {
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

    pub(super) fn crashed(&mut self) {
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

    pub(super) fn fail_in_flight(&mut self, kind: AgentErrorKind, message: impl Fn(u64) -> String) {
        for (id, task) in std::mem::take(&mut self.in_flight) {
            task.answer(Err(AgentError::new(kind, message(id))));
        }
    }

    pub(super) fn fail_all(&mut self, kind: AgentErrorKind, message: &str) {
        self.fail_in_flight(kind, |_| message.to_owned());
        for task in self.waiting.drain(..) {
            let _ = task.reply.send(Err(AgentError::new(kind, message)));
        }
    }
}

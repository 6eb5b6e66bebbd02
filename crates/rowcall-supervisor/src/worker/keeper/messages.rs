//! What a worker says, and what it prints besides.

use rowcall_core::{AgentError, AgentErrorKind, AgentOutput, Payload, ports::OutputStream};

use super::{
    super::protocol::{FromWorker, PROTOCOL_VERSION},
    Answer, InFlight, Keeper, State,
};
use crate::{outcome, output::Line};

impl Keeper {
    pub(super) async fn line(&mut self, stream: OutputStream, line: Line<'_>) {
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

    pub(super) fn task(&mut self, id: &str) -> Option<&mut InFlight> {
        let task = self.in_flight.get_mut(&id.parse().ok()?)?;
        task.begun = true;
        Some(task)
    }

    /// A late answer of a task that was called off, a second one, or an invented id: told, and nothing else.
    pub(super) fn unknown(&mut self, id: &str, what: &str) {
        let id: String = id.chars().take(64).collect();
        tracing::debug!(agent = %self.spec.agent, id, what, "a worker named a task it does not have");
        self.note(&format!(
            "[rowcall: ignored {what} for task {id}, which the worker does not have or has answered]"
        ));
    }

    pub(super) fn answered(&mut self, id: &str, answer: Answer) {
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

    pub(super) async fn ready(&mut self, protocol: u32) {
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
    pub(super) fn output(&mut self, stream: OutputStream, line: Line<'_>) {
        if self.in_flight.is_empty() {
            let text = line.text(self.limits.line_bytes);
            if let Some(left) = self.startup_left.checked_sub(text.len() as u64 + 1) {
                self.startup_left = left;
                for task in &self.waiting {
                    task.log.line(stream, &text);
                }
            }
            tracing::debug!(agent = %self.spec.agent, line = %line.text(1024), "worker output");
        }
        for task in self.in_flight.values_mut() {
            task.log(stream).line(line);
        }
    }

    pub(super) fn note(&mut self, text: &str) {
        let line = Line::new(text.as_bytes(), text.len() as u64);
        self.output(OutputStream::Stdout, line);
    }
}

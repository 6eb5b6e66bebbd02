//! The lines between rowcall and a worker; `docs/worker-protocol.md` describes them for those who write workers.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};

/// The version both sides must speak.
pub const PROTOCOL_VERSION: u32 = 1;

/// What we say.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum ToWorker<'a> {
    /// The first line.
    Hello {
        protocol: u32,
        app: &'a str,
        agent: &'a str,
        machine_id: &'a str,
        /// How many tasks may be sent before the first of them is answered.
        concurrency: u32,
    },
    /// Work. `id` names this attempt on this connection and is never used twice.
    Task { id: &'a str, task: &'a RawValue },
    /// Give this one up, and answer it all the same.
    Cancel { id: &'a str, reason: &'a str },
    /// Finish and exit; standard input closes after this.
    Shutdown,
}

impl ToWorker<'_> {
    pub(super) fn line(&self) -> String {
        let mut line = serde_json::to_string(self).expect("texts, numbers and JSON serialise");
        line.push('\n');
        line
    }
}

/// What a worker says.
#[derive(Debug)]
pub(super) enum FromWorker {
    Ready {
        protocol: u32,
    },
    Result {
        id: String,
        result: Option<Box<RawValue>>,
    },
    Error {
        id: String,
        error: Value,
    },
    Progress {
        id: String,
    },
    Log {
        id: Option<String>,
        message: String,
    },
    /// It names one of our types and is wrong in itself.
    Malformed(&'static str),
    /// It is no message: whatever a program prints.
    Other,
}

#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    id: Option<Value>,
    protocol: Option<u32>,
    result: Option<Box<RawValue>>,
    error: Option<Value>,
    #[serde(borrow)]
    level: Option<Cow<'a, str>>,
    message: Option<Value>,
}

impl FromWorker {
    /// Reads one line. Never fails: what is no message is output.
    pub(super) fn read(line: &[u8]) -> Self {
        let Some(fields) = std::str::from_utf8(line)
            .ok()
            .filter(|line| line.trim_start().starts_with('{'))
            .and_then(|line| serde_json::from_str::<Fields<'_>>(line).ok())
        else {
            return Self::Other;
        };
        let id = match fields.id {
            Some(Value::String(id)) => Some(id),
            // Written by people who parse it as a number; the text is the same.
            Some(Value::Number(id)) => Some(id.to_string()),
            _ => None,
        };
        match (&*fields.kind, id) {
            ("ready", _) => match fields.protocol {
                Some(protocol) => Self::Ready { protocol },
                None => Self::Malformed("ready without protocol"),
            },
            ("result", Some(id)) => Self::Result {
                id,
                result: fields.result,
            },
            ("result", None) => Self::Malformed("result without id"),
            ("error", Some(id)) => Self::Error {
                id,
                error: fields.error.unwrap_or(Value::Null),
            },
            ("error", None) => Self::Malformed("error without id"),
            ("progress", Some(id)) => Self::Progress { id },
            ("progress", None) => Self::Malformed("progress without id"),
            ("log", id) => Self::Log {
                id,
                message: log_text(fields.level.as_deref(), fields.message),
            },
            _ => Self::Other,
        }
    }
}

fn log_text(level: Option<&str>, message: Option<Value>) -> String {
    let message = match message {
        Some(Value::String(text)) => text,
        Some(other) => other.to_string(),
        None => String::new(),
    };
    match level {
        Some(level) => format!("[{level}] {message}"),
        None => message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_we_say_is_one_line() {
        let task = RawValue::from_string("{\"a\":1}".to_owned()).unwrap();
        let line = ToWorker::Task {
            id: "7",
            task: &task,
        }
        .line();
        assert_eq!(
            line,
            "{\"type\":\"task\",\"id\":\"7\",\"task\":{\"a\":1}}\n"
        );
        assert_eq!(ToWorker::Shutdown.line(), "{\"type\":\"shutdown\"}\n");
    }

    #[test]
    fn what_workers_say() {
        let read = |line: &str| format!("{:?}", FromWorker::read(line.as_bytes()));
        assert!(read(r#"{"type":"ready","protocol":1,"name":"x"}"#).starts_with("Ready"));
        assert!(read(r#"{"type":"result","id":"7","result":{"a":1}}"#).contains("Some"));
        assert!(read(r#"{"id":7,"type":"result"}"#).contains("None"));
        assert!(read(r#"{"type":"error","id":"7","error":{"message":"m"}}"#).contains('m'));
        assert!(read(r#"{"type":"log","level":"warn","message":"m"}"#).contains("[warn] m"));
        assert!(read(r#"{"type":"result"}"#).starts_with("Malformed"));
        for output in [
            "",
            "hello",
            "{",
            "{}",
            "[1]",
            r#"{"type":"other"}"#,
            r#"{"type":1}"#,
        ] {
            assert_eq!(read(output), "Other", "{output}");
        }
        assert!(matches!(FromWorker::read(b"{\xff}"), FromWorker::Other));
    }
}

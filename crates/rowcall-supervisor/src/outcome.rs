//! What the end of a program means for its task, when nobody reported by webhook.

use std::{os::unix::process::ExitStatusExt, process::ExitStatus};

use rowcall_core::{AgentError, AgentErrorKind, AgentOutput, Payload};
use serde_json::Value;

use crate::output::{LastObject, Tail};

/// How much of the error output stands in an error message.
pub(crate) const MESSAGE_BYTES: usize = 2 * 1024;

/// `exited with code 3`, `was killed by SIGSEGV (signal 11)`.
pub(crate) fn describe(status: ExitStatus) -> String {
    if let Some(code) = status.code() {
        return format!("exited with code {code}");
    }
    let Some(signal) = status.signal() else {
        return "ended in an unknown way".to_owned();
    };
    let name = match signal {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        6 => "SIGABRT",
        8 => "SIGFPE",
        9 => "SIGKILL, often because the machine ran out of memory",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        15 => "SIGTERM",
        _ => return format!("was killed by signal {signal}"),
    };
    format!("was killed by signal {signal} ({name})")
}

/// `: ` and the end of the error output, or of the output, or nothing.
pub(crate) fn because(stderr: &Tail, stdout: &Tail) -> String {
    [stderr, stdout]
        .iter()
        .map(|tail| tail.text(MESSAGE_BYTES))
        .find(|text| !text.is_empty())
        .map(|text| format!(": {text}"))
        .unwrap_or_default()
}

/// The message of `{"error": "text"}` or `{"error": {"message": "text"}}`; other values as JSON.
pub(crate) fn error_text(error: &Value) -> String {
    let message = error.get("message").unwrap_or(error);
    let mut text = match message {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    if text.len() > MESSAGE_BYTES {
        text.truncate(text.floor_char_boundary(MESSAGE_BYTES));
        text.push('…');
    }
    text
}

/// Exit code 0: completed with the last line of stdout that is an object of JSON, of which `result` if there is one.
/// Anything else: failed with that line's `error`, or the end of the error output.
pub(crate) fn of_exit(
    status: ExitStatus,
    last: LastObject,
    stdout: &Tail,
    stderr: &Tail,
    result_bytes: usize,
) -> Result<AgentOutput, AgentError> {
    let failed = |message| Err(AgentError::new(AgentErrorKind::Failed, message));
    if !status.success() {
        let how = describe(status);
        if let LastObject::Text(text) = &last
            && let Some(error) = serde_json::from_str::<Value>(text)
                .ok()
                .and_then(|mut object| object.get_mut("error").map(Value::take))
        {
            return failed(format!("{} (the agent {how})", error_text(&error)));
        }
        return failed(format!("the agent {how}{}", because(stderr, stdout)));
    }
    match last {
        LastObject::None => Ok(AgentOutput {
            result: Payload::empty_object(),
        }),
        LastObject::TooLong(bytes) => failed(format!(
            "the agent printed a result of {bytes} bytes; the limit is {result_bytes}: store the data elsewhere and \
             return where it is"
        )),
        LastObject::Text(text) => match Payload::from_text(text) {
            Ok(object) => Ok(AgentOutput {
                result: object
                    .members()
                    .and_then(|mut members| members.remove("result"))
                    .and_then(|result| Payload::from_value(&result).ok())
                    .unwrap_or(object),
            }),
            Err(error) => failed(format!("the agent's result is not JSON: {error}")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tail(text: &str) -> Tail {
        let mut tail = Tail::default();
        tail.push(text.as_bytes());
        tail
    }

    fn outcome(raw: i32, last: &str, stderr: &str) -> Result<String, String> {
        let last = if last.is_empty() {
            LastObject::None
        } else {
            LastObject::Text(last.to_owned())
        };
        let status = ExitStatus::from_raw(raw);
        of_exit(status, last, &tail("printed\n"), &tail(stderr), 100)
            .map(|output| output.result.get().to_owned())
            .map_err(|error| error.message)
    }

    #[test]
    fn success_takes_the_last_object() {
        assert_eq!(outcome(0, "", "noise"), Ok("{}".to_owned()));
        assert_eq!(outcome(0, r#"{"a": 1}"#, ""), Ok(r#"{"a": 1}"#.to_owned()));
        assert_eq!(outcome(0, r#"{"result": [1]}"#, ""), Ok("[1]".to_owned()));
        assert_eq!(outcome(0, r#"{"result": null}"#, ""), Ok("null".to_owned()));
    }

    #[test]
    fn failure_says_why() {
        let code3 = 3 << 8;
        assert_eq!(
            outcome(code3, r#"{"error": {"message": "no key"}}"#, "x").unwrap_err(),
            "no key (the agent exited with code 3)"
        );
        assert_eq!(
            outcome(code3, r#"{"error": "no key"}"#, "x").unwrap_err(),
            "no key (the agent exited with code 3)"
        );
        assert_eq!(
            outcome(code3, r#"{"a": 1}"#, "Traceback\nValueError\n").unwrap_err(),
            "the agent exited with code 3: Traceback\nValueError"
        );
        assert_eq!(
            outcome(code3, "", "").unwrap_err(),
            "the agent exited with code 3: printed"
        );
        assert!(outcome(11, "", "").unwrap_err().contains("SIGSEGV"));
        assert!(outcome(9, "", "").unwrap_err().contains("memory"));
    }

    #[test]
    fn a_result_that_is_too_long_is_not_lost_silently() {
        let status = ExitStatus::from_raw(0);
        let error =
            of_exit(status, LastObject::TooLong(500), &tail(""), &tail(""), 100).unwrap_err();
        assert!(error.message.contains("500 bytes; the limit is 100"));
    }
}

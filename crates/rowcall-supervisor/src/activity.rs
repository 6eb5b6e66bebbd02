//! The data of a task as programs get it: in a variable and an argument, or by file when it is too large for those.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use rowcall_core::{Payload, TableName, manifest::NAMED_SCHEMA, ports::RunContext};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::error::LaunchError;

/// Linux refuses a longer string among arguments and environment (`MAX_ARG_STRLEN`, 32 pages), its name and end
/// included. No configured limit goes above this.
const STRING_BYTES: usize = 128 * 1024 - 64;

/// The fields that name a task, without its data.
#[derive(Serialize)]
struct Head<'a> {
    /// The id that webhooks and the task list use.
    id: String,
    /// The same under the name that published agents read.
    task_uuid: String,
    table_name: String,
    schema: &'a str,
    event: &'a str,
    attempt: u32,
    retry_count: u32,
    idempotency_key: String,
    machine_id: &'a str,
    app: &'a str,
    agent: &'a str,
    created_at: String,
}

#[derive(Serialize)]
struct Activity<'a> {
    #[serde(flatten)]
    head: Head<'a>,
    /// The primary key of the source row, where the capture trigger wrote it.
    key: Option<&'a RawValue>,
    /// The row, or the `raw_data` column of a row of `rtx_activities`.
    raw_data: &'a RawValue,
    old_data: Option<&'a RawValue>,
}

/// What stands in the variable when the data is in a file.
#[derive(Serialize)]
struct Notice<'a> {
    truncated: bool,
    file: &'a Path,
    bytes: usize,
    #[serde(flatten)]
    head: Head<'a>,
}

fn head(context: &RunContext) -> Head<'_> {
    let task = &context.task;
    Head {
        id: task.task.id.to_string(),
        task_uuid: task.task.id.to_string(),
        table_name: table_name(context),
        schema: task.source.schema(),
        event: task.event.as_str(),
        attempt: task.attempt,
        retry_count: task.retry_count,
        idempotency_key: task.idempotency_key(),
        machine_id: context.lease.machine.as_str(),
        app: context.app.as_str(),
        agent: context.agent.id.as_str(),
        created_at: task.created_at.to_string(),
    }
}

/// The table whose change made the task, as published agents know it: without the schema when that is `public`.
pub(crate) fn table_name(context: &RunContext) -> String {
    let source = &context.task.source;
    if source.schema() == NAMED_SCHEMA {
        // Started by name: no table changed, and the row that holds the task is an activity.
        TableName::activities().name().to_owned()
    } else if source.schema() == "public" {
        source.name().to_owned()
    } else {
        source.to_string()
    }
}

/// The whole data of a task, as one line of JSON: what programs find in `ACTIVITY_DATA` and workers in `task`.
pub fn json(context: &RunContext) -> String {
    let task = &context.task;
    let activity = Activity {
        head: head(context),
        key: task.key.as_ref().map(Payload::raw),
        raw_data: task.raw_data.raw(),
        old_data: task.old_data.as_ref().map(Payload::raw),
    };
    let mut text = serde_json::to_string(&activity).expect("texts, numbers and JSON serialise");
    // JSON from outside may be spread over lines; inside strings line ends are always escaped.
    if text.contains(['\n', '\r']) {
        text = text.replace(['\n', '\r'], " ");
    }
    text
}

/// How a program gets the data.
#[derive(Debug)]
pub(crate) struct Delivery {
    /// For `ACTIVITY_DATA` and the last argument.
    pub(crate) inline: String,
    /// For `ACTIVITY_DATA_FILE`; removed when this is dropped.
    pub(crate) file: Option<SpoolFile>,
}

/// A file with the data of a task, which lives as long as this.
#[derive(Debug)]
pub(crate) struct SpoolFile(PathBuf);

impl SpoolFile {
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for SpoolFile {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "could not remove the data of a task");
        }
    }
}

/// Chooses between variable and file. Writes the file, so not on an async thread when `needs_file`.
pub(crate) fn deliver(
    context: &RunContext,
    text: String,
    limit: usize,
    path: PathBuf,
) -> Result<Delivery, LaunchError> {
    if !needs_file(&text, limit) {
        return Ok(Delivery {
            inline: text,
            file: None,
        });
    }
    let file = write(path, &text)?;
    let notice = Notice {
        truncated: true,
        file: file.path(),
        bytes: text.len(),
        head: head(context),
    };
    Ok(Delivery {
        inline: serde_json::to_string(&notice).expect("texts and numbers serialise"),
        file: Some(file),
    })
}

pub(crate) fn needs_file(text: &str, limit: usize) -> bool {
    text.len() > limit.min(STRING_BYTES)
}

fn write(path: PathBuf, text: &str) -> Result<SpoolFile, LaunchError> {
    let attempt = || {
        if let Some(dir) = path.parent() {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(dir)?;
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?;
        file.write_all(text.as_bytes())
    };
    match attempt() {
        Ok(()) => Ok(SpoolFile(path)),
        Err(source) => {
            let _ = fs::remove_file(&path);
            Err(LaunchError::Spool { path, source })
        }
    }
}

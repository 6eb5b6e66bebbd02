//! How an app's program is.

use jiff::Timestamp;
use serde::Serialize;

/// Where an app's program stands, in the words of the published data model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AppState {
    /// It does not run.
    #[default]
    Stopped,
    /// It was started and is not ready yet, or waits for its next start after a crash.
    Starting,
    /// It runs.
    Running,
    /// It was told to end.
    Stopping,
    /// It was given up: it cannot be started, or it crashed too often.
    Error,
}

/// How a program ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Ended {
    /// When.
    pub at: Timestamp,
    /// Its exit code, when it ended by itself.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
}

/// An app's program at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct AppProcess {
    /// Where it stands.
    pub state: AppState,
    /// Since when.
    pub since: Option<Timestamp>,
    /// Its process id.
    pub pid: Option<u32>,
    /// The port it was given, or the one it was found to listen on.
    pub port: Option<u16>,
    /// Whether it accepts connections there, and its health path, if it has one, answers well.
    pub ready: bool,
    /// How often it crashed since it was last healthy.
    pub crashes: u32,
    /// How often it was started again since the last wish to start it.
    pub restarts: u32,
    /// How it ended last.
    pub ended: Option<Ended>,
    /// What is wrong, for people.
    pub problem: Option<String>,
}

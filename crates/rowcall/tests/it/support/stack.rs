//! The Supabase-compatible API as `rowcall stack` serves it.

use std::{collections::BTreeMap, path::Path, process::Stdio};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use rowcall_stack::testing::scratch_dir;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::Child,
};

use super::{PATIENCE, command};

/// `NAME="value"` lines, as `rowcall stack` and `rowcall stack keys` print them.
pub(crate) type Settings = BTreeMap<String, String>;

/// A running `rowcall stack`.
pub(crate) struct Stack {
    child: Child,
    dir: TempDir,
    pub(crate) settings: Settings,
}

impl Stack {
    /// Starts it in front of a database, on any free port.
    pub(crate) async fn start(database_url: &str) -> Self {
        Self::start_in(scratch_dir(), database_url, "0").await
    }

    /// Starts it with the keys of a data directory and on a port.
    pub(crate) async fn start_in(dir: TempDir, database_url: &str, port: &str) -> Self {
        let log = std::fs::File::create(dir.path().join("stack.log")).expect("a log");
        let mut child = command(dir.path())
            .args(["stack", "--port", port])
            .env("ROWCALL_DATABASE_URL", database_url)
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("it starts");
        let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        let read = async {
            let mut printed = Settings::new();
            while let Some(line) = lines.next_line().await.expect("lines") {
                read_setting(&line, &mut printed);
                if printed.contains_key("ANON_KEY") {
                    break;
                }
            }
            printed
        };
        let printed = tokio::time::timeout(PATIENCE, read)
            .await
            .expect("it says where it is");
        assert!(
            printed.contains_key("API_URL"),
            "{}",
            std::fs::read_to_string(dir.path().join("stack.log")).unwrap_or_default()
        );
        let mut settings = keys(dir.path()).await;
        for (name, value) in printed {
            let known = settings.insert(name.clone(), value.clone());
            assert!(known.is_none_or(|known| known == value), "{name} is one");
        }
        Self {
            child,
            dir,
            settings,
        }
    }

    pub(crate) fn url(&self) -> &str {
        &self.settings["API_URL"]
    }

    /// Everything it has said.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("stack.log")).unwrap_or_default()
    }

    /// Stops it and gives back its data directory.
    pub(crate) async fn stop(mut self) -> TempDir {
        let pid = self.child.id().and_then(|id| i32::try_from(id).ok());
        kill(Pid::from_raw(pid.expect("it runs")), Signal::SIGTERM).expect("the signal is sent");
        let status = tokio::time::timeout(PATIENCE, self.child.wait())
            .await
            .expect("it stops")
            .expect("its status");
        assert!(status.success(), "{status}: {}", self.log());
        self.dir
    }
}

/// What `rowcall stack keys` prints for a data directory.
pub(crate) async fn keys(data_dir: &Path) -> Settings {
    let output = super::run(data_dir, &["stack", "keys"]).await;
    assert!(output.status.success(), "{output:?}");
    let mut settings = Settings::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        read_setting(line, &mut settings);
    }
    settings
}

fn read_setting(line: &str, settings: &mut Settings) {
    if let Some((name, value)) = line.split_once('=') {
        settings.insert(name.to_owned(), value.trim_matches('"').to_owned());
    }
}

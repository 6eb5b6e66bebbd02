//! A browser without a window.

use std::{path::PathBuf, process::Stdio};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use rowcall_stack::testing::scratch_dir;
use tempfile::TempDir;
use tokio::process::{Child, Command};

/// Names under which distributions install it.
const PROGRAMS: [&str; 4] = [
    "chromium",
    "chromium-browser",
    "google-chrome-stable",
    "google-chrome",
];

/// An open page. It is closed when this is dropped, with all of the browser's helpers.
pub(crate) struct Browser {
    child: Child,
    profile: TempDir,
}

impl Browser {
    /// Opens a page. `more` are further arguments of Chromium.
    pub(crate) fn open(url: &str, more: &[&str]) -> Self {
        let profile = scratch_dir();
        let log = std::fs::File::create(profile.path().join("browser.log")).expect("a log");
        let child = Command::new(program())
            .args([
                "--headless=new",
                // It refuses root otherwise; the pages are ours.
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--disable-quic",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--enable-logging=stderr",
            ])
            .args(more)
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg(url)
            .env("HOME", profile.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .expect("the browser starts");
        Self { child, profile }
    }

    /// What it said so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.profile.path().join("browser.log")).unwrap_or_default()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Its helpers are of its group.
        if let Some(pid) = self.child.id().and_then(|id| i32::try_from(id).ok()) {
            let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

/// The browser, as `cargo xtask test` installs it.
fn program() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .flat_map(|dir| PROGRAMS.map(|name| dir.join(name)))
        .find(|file| file.is_file())
        .expect("no browser: install Chromium (Debian: apt-get install chromium; `cargo xtask test` does it for root)")
}

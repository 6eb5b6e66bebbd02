//! What tests need from the system's packages.

use std::process::Command;

use anyhow::{Result, bail};

use crate::run::{run, say, works};

/// Names under which distributions install Chromium.
const BROWSERS: [&str; 4] = [
    "chromium",
    "chromium-browser",
    "google-chrome-stable",
    "google-chrome",
];

/// Installs the browser that tests drive, unless there is one.
pub(crate) fn browser() -> Result<()> {
    if BROWSERS.iter().any(|name| works(name, &["--version"])) {
        return Ok(());
    }
    install("Chromium, in which tests run pages,", "chromium")
}

/// Installs a package where that is possible without asking anybody, and says how to otherwise.
pub(crate) fn install(what: &str, package: &str) -> Result<()> {
    let root = std::fs::metadata("/proc/self")
        .is_ok_and(|meta| std::os::unix::fs::MetadataExt::uid(&meta) == 0);
    if !root || !works("apt-get", &["--version"]) {
        bail!(
            "{what} is missing. Install it (Debian: sudo apt-get install {package}) and run this again"
        );
    }
    say(&format!("{what} is missing: installing Debian's {package}"));
    run(Command::new("apt-get").args(["update", "-q"]))?;
    run(Command::new("apt-get").args(["install", "-qy", "--no-install-recommends", package]))
}

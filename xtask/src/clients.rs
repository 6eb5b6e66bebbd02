//! The official clients that tests drive, from npm and PyPI, at pinned versions.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    debian,
    run::{root, run, works},
};

/// Installs the npm and PyPI packages under `tests/clients` and the browser, unless they are there already.
pub(crate) fn set_up() -> Result<()> {
    let dir = root().join("tests/clients");
    if !dir.is_dir() {
        return Ok(());
    }
    node(&dir)?;
    python(&dir)?;
    python(&dir.join("queue"))?;
    debian::browser()
}

fn node(dir: &Path) -> Result<()> {
    let lock = dir.join("package-lock.json");
    let stamp = dir.join("node_modules/.rowcall-stamp");
    if !lock.is_file() || fresh(&stamp, &lock) {
        return Ok(());
    }
    if !works("npm", &["--version"]) {
        bail!(
            "npm is missing: the tests drive the official JavaScript clients. Install Node.js 20 or newer (Debian: apt-get install nodejs npm)"
        );
    }
    run(Command::new("npm")
        .args(["ci", "--no-audit", "--no-fund"])
        .current_dir(dir))?;
    mark(&stamp, &lock)
}

fn python(dir: &Path) -> Result<()> {
    let requirements = dir.join("requirements.txt");
    let venv = dir.join(".venv");
    let stamp = venv.join(".rowcall-stamp");
    if !requirements.is_file() || fresh(&stamp, &requirements) {
        return Ok(());
    }
    if !works("python3", &["--version"]) {
        bail!(
            "python3 is missing: the tests drive the official Python clients. Install Python 3.9 or newer"
        );
    }
    if !works("python3", &["-c", "import ensurepip, venv"]) {
        // Debian's python3 comes without the module that makes virtual environments.
        debian::install("Python's venv module", "python3-venv")?;
    }
    if venv.exists() {
        std::fs::remove_dir_all(&venv)
            .with_context(|| format!("cannot remove {}", venv.display()))?;
    }
    run(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
    run(Command::new(venv.join("bin/pip"))
        .args(["install", "--quiet", "--disable-pip-version-check", "-r"])
        .arg(&requirements))?;
    let without = dir.join("no-deps.txt");
    if without.is_file() {
        run(Command::new(venv.join("bin/pip"))
            .args([
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "--no-deps",
                "-r",
            ])
            .arg(&without))?;
    }
    mark(&stamp, &requirements)
}

/// Whether what was installed belongs to this version of the list.
fn fresh(stamp: &PathBuf, list: &Path) -> bool {
    match (std::fs::read(stamp), std::fs::read(list)) {
        (Ok(was), Ok(is)) => was == is,
        _ => false,
    }
}

fn mark(stamp: &Path, list: &Path) -> Result<()> {
    std::fs::copy(list, stamp).with_context(|| format!("cannot write {}", stamp.display()))?;
    Ok(())
}

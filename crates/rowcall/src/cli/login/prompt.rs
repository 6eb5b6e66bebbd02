//! Asking a person, or a pipe.

use std::{
    io::{BufRead as _, IsTerminal as _, Read as _},
    process::{Command, Stdio},
};

use anyhow::Context as _;
use secrecy::SecretString;

use crate::exit::{Exit, UserError};

/// The longest line that is read, in bytes.
const MAX_LINE: u64 = 64 * 1024;

/// Asks for a line.
pub(in crate::cli) fn ask(question: &str) -> anyhow::Result<String> {
    if std::io::stdin().is_terminal() {
        eprint_question(question);
    }
    let mut line = String::new();
    let read = std::io::stdin()
        .lock()
        .take(MAX_LINE)
        .read_line(&mut line)
        .context("cannot read standard input")?;
    if read == 0 {
        return Err(UserError::new(
            Exit::Usage,
            format!(
                "no answer to \"{}\" on standard input",
                question.trim_end_matches([':', ' '])
            ),
        )
        .into());
    }
    Ok(line.trim().to_owned())
}

/// Asks for a secret: a terminal does not show what is typed.
pub(in crate::cli) fn ask_hidden(question: &str) -> anyhow::Result<SecretString> {
    let _quiet = std::io::stdin().is_terminal().then(Quiet::begin);
    let answer = ask(question)?;
    if answer.is_empty() {
        return Err(UserError::new(Exit::Usage, "nothing was given").into());
    }
    Ok(answer.into())
}

fn eprint_question(question: &str) {
    use std::io::Write as _;
    let mut err = std::io::stderr().lock();
    // Nobody can be told when standard error is gone.
    let _ = write!(err, "{question}");
    let _ = err.flush();
}

/// The terminal shows nothing of what is typed while this lives.
struct Quiet;

impl Quiet {
    fn begin() -> Self {
        stty("-echo");
        Self
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        stty("echo");
        crate::output::note("");
    }
}

fn stty(argument: &str) {
    // Without it the answer is shown, which is the person's to see.
    let _ = Command::new("stty")
        .arg(argument)
        .stdin(Stdio::inherit())
        .status();
}

/// Opens a page where a person can see it; without a desktop nothing happens.
pub(super) fn open_browser(page: &str) {
    let program = if cfg!(target_os = "macos") {
        "open"
    } else {
        "xdg-open"
    };
    let mut command = Command::new(program);
    command
        .arg(page)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    if let Ok(mut child) = command.spawn() {
        // It ends by itself; somebody has to wait for it.
        std::thread::spawn(move || child.wait());
    }
}

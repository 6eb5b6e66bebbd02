//! How commands end: exit codes and the errors people read.
//!
//! Every error has a code that stays: `error[db-busy]: …`. Its page is `docs/errors/<code>.md`, embedded in the program.

mod code;
pub mod pages;

use std::fmt;

pub(crate) use self::code::code_of;

/// The exit codes of the program, as `docs/cli.md` documents them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Success = 0,
    /// It did not work; the message says why.
    Failure = 1,
    /// The command line or the configuration is wrong.
    Usage = 2,
    /// What was asked for is not there.
    NotFound = 3,
    /// The database cannot be reached or started.
    Database = 4,
    /// `doctor` found something that must be mended.
    Problems = 5,
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

impl Exit {
    /// The code of errors that have none of their own.
    fn code(self) -> &'static str {
        match self {
            Self::Success | Self::Failure => "failure",
            Self::Usage => "usage",
            Self::NotFound => "not-found",
            Self::Database => "db-unavailable",
            Self::Problems => "problems",
        }
    }
}

/// An error with an exit code and, where there is one, the way out.
#[derive(Debug)]
pub struct UserError {
    /// How the process ends.
    pub exit: Exit,
    /// What happened and why.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
    /// The code of the error this was made of.
    code: Option<&'static str>,
}

impl UserError {
    /// An error for people.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            message: message.into(),
            help: None,
            code: None,
        }
    }

    /// An error of ours with its own words and its code.
    pub fn of(exit: Exit, error: &(dyn std::error::Error + 'static)) -> Self {
        Self {
            code: code_of(error),
            ..Self::new(exit, error.to_string())
        }
    }

    /// Names the code of the error that the message was made of.
    #[must_use]
    pub fn code(mut self, code: &'static str) -> Self {
        self.code = Some(code);
        self
    }

    /// Adds what to do.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

impl fmt::Display for UserError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for UserError {}

/// Prints an error the one way all commands do, and gives the exit code it asks for.
pub fn report(error: &anyhow::Error) -> Exit {
    let user = error.downcast_ref::<UserError>();
    let exit = user.map_or(Exit::Failure, |user| user.exit);
    let code = user
        .and_then(|user| user.code)
        .or_else(|| code_of(error.as_ref()))
        .unwrap_or(exit.code());
    crate::output::note(format_args!("error[{code}]: {}", chain(error)));
    if let Some(help) = user.and_then(|user| user.help.as_ref()) {
        crate::output::note(format_args!("  help: {help}"));
    }
    more(code);
    exit
}

/// The line that leads to the page of a code.
pub(crate) fn more(code: &str) {
    crate::output::note(format_args!("  more: rowcall explain {code}"));
}

/// The message and its causes, leaving out causes that the message already quotes.
fn chain(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1) {
        let cause = cause.to_string();
        if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn causes_are_said_once() {
        let error = Err::<(), _>(std::io::Error::other("disk full"))
            .context("cannot write: disk full")
            .context("cannot save the app")
            .unwrap_err();
        assert_eq!(
            chain(&error),
            "cannot save the app: cannot write: disk full"
        );
    }
}

//! The guard: a hidden subcommand of our own binary that becomes the server.
//!
//! The server must not outlive the daemon, however the daemon dies. Linux can signal a process when
//! its parent ends, but a process has to ask for that itself, after it has changed its user and
//! before it runs the server. So the daemon starts its own binary again; that drops root, leaves the
//! terminal's session, asks for the signal and executes PostgreSQL under the same process id.
//! Where there is no such signal (macOS), the next start stops the server that was left over.

use std::ffi::{OsStr, OsString};
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use super::account::Account;
use super::command::postgres_environment;

/// Exit status of a guard that did not become a server.
const GUARD_FAILED: u8 = 70;
/// In place of a user: stay who we are.
const SAME_USER: &str = "-";

/// How to start our own binary so that it calls [`run_guard`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuardCommand {
    program: PathBuf,
    arguments: Vec<OsString>,
}

impl GuardCommand {
    /// The running binary with `arguments` in front, for example `["__postgres-guard"]`.
    ///
    /// # Errors
    ///
    /// When the path of the running binary cannot be found out.
    pub fn own_binary<A: Into<OsString>>(
        arguments: impl IntoIterator<Item = A>,
    ) -> std::io::Result<Self> {
        // On Linux the name is resolved by the new process itself, so it works even when the file
        // was replaced by an upgrade, or lies in a directory that only root may enter.
        let program = if cfg!(target_os = "linux") {
            PathBuf::from("/proc/self/exe")
        } else {
            std::env::current_exe()?
        };
        Ok(Self::new(program, arguments))
    }

    /// Another binary that calls [`run_guard`] with the arguments after `arguments`.
    pub fn new<A: Into<OsString>>(
        program: PathBuf,
        arguments: impl IntoIterator<Item = A>,
    ) -> Self {
        Self {
            program,
            arguments: arguments.into_iter().map(Into::into).collect(),
        }
    }

    /// A command that runs `server` with `server_arguments` as `account`, and ends it when the
    /// calling thread ends.
    pub(crate) fn command(
        &self,
        account: &Account,
        server: &Path,
        server_arguments: &[OsString],
    ) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments);
        let drops_itself = account.switch && cfg!(target_os = "linux");
        for number in [account.uid.as_raw(), account.gid.as_raw()] {
            if drops_itself {
                command.arg(number.to_string());
            } else {
                command.arg(SAME_USER);
            }
        }
        if !drops_itself {
            account.apply(&mut command);
        }
        command.arg(std::process::id().to_string());
        command.arg(server).args(server_arguments);
        postgres_environment(&mut command);
        command
    }
}

/// Becomes the server; to be called by the hidden subcommand with the arguments after its name.
///
/// Must run before the process starts threads. Returns only when it failed; the reason is on
/// stderr, which is the server's log.
pub fn run_guard(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let Err(reason) = become_server(&arguments);
    // Nothing is left to tell it to when this fails.
    let _ = writeln!(std::io::stderr(), "FATAL:  rowcall guard: {reason}");
    ExitCode::from(GUARD_FAILED)
}

/// `<uid|-> <gid|-> <pid of the parent> <server> <arguments …>`
fn become_server(arguments: &[OsString]) -> Result<std::convert::Infallible, String> {
    let [uid, gid, parent, server, rest @ ..] = arguments else {
        return Err("started without the arguments rowcall passes".to_owned());
    };
    drop_root(number(uid)?, number(gid)?)?;
    // The terminal's Ctrl-C must reach the daemon, which stops the server last, and not the server.
    nix::unistd::setsid().map_err(|error| format!("setsid: {error}"))?;
    follow_parent(number(parent)?)?;
    let error = Command::new(server).args(rest).exec();
    Err(format!(
        "could not run {}: {error}",
        Path::new(server).display()
    ))
}

fn number(argument: &OsStr) -> Result<Option<u32>, String> {
    match argument.to_str() {
        Some(SAME_USER) => Ok(None),
        Some(text) => text
            .parse()
            .map(Some)
            .map_err(|_| format!("not a number: {text:?}")),
        None => Err(format!("not a number: {}", argument.display())),
    }
}

#[cfg(target_os = "linux")]
fn drop_root(uid: Option<u32>, gid: Option<u32>) -> Result<(), String> {
    use nix::unistd::{Gid, Uid, setgid, setgroups, setuid};
    let (Some(uid), Some(gid)) = (uid, gid) else {
        return Ok(());
    };
    setgroups(&[])
        .and_then(|()| setgid(Gid::from_raw(gid)))
        .and_then(|()| setuid(Uid::from_raw(uid)))
        .map_err(|error| format!("could not become user {uid}: {error}"))
}

#[cfg(not(target_os = "linux"))]
fn drop_root(uid: Option<u32>, gid: Option<u32>) -> Result<(), String> {
    match (uid, gid) {
        // The parent has started us as the right user.
        (None, None) => Ok(()),
        _ => Err("changing the user is the parent's work on this system".to_owned()),
    }
}

/// Asks for a fast shutdown when the parent ends. Changing the user would have cleared that.
#[cfg(target_os = "linux")]
fn follow_parent(parent: Option<u32>) -> Result<(), String> {
    nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGINT)
        .map_err(|error| format!("could not ask for a signal at the parent's end: {error}"))?;
    // It may have ended before we asked.
    let now = nix::unistd::getppid().as_raw().cast_unsigned();
    if parent == Some(now) {
        Ok(())
    } else {
        Err("the daemon has ended".to_owned())
    }
}

#[cfg(not(target_os = "linux"))]
fn follow_parent(_parent: Option<u32>) -> Result<(), String> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(arguments: &[&str]) -> String {
        let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
        let Err(reason) = become_server(&arguments);
        reason
    }

    #[test]
    fn refuses_what_rowcall_does_not_pass() {
        assert!(refused(&[]).contains("without the arguments"));
        assert!(refused(&["-", "-", "1"]).contains("without the arguments"));
        assert!(refused(&["me", "-", "1", "/bin/true"]).contains("not a number"));
    }

    #[test]
    fn passes_user_parent_and_server() {
        let guard = GuardCommand::new(PathBuf::from("/bin/rowcall"), ["hidden"]);
        let account = Account::for_server();
        let command = guard.command(&account, Path::new("/bin/postgres"), &["-D".into()]);
        let arguments: Vec<_> = command.get_args().filter_map(OsStr::to_str).collect();
        assert_eq!(arguments[0], "hidden");
        assert_eq!(arguments[3], std::process::id().to_string());
        assert_eq!(arguments[4..], ["/bin/postgres", "-D"]);
    }
}

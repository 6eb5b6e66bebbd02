//! Runs a short-lived program with a time limit, in its own process group, with bounded output.

use std::io::Read;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// Output kept of each stream: the last this many bytes.
const OUTPUT_LIMIT: usize = 64 * 1024;
/// Lines shown of a failed package client.
const COMPLAINT_LINES: usize = 4;
/// How often a running program is asked whether it has ended.
const POLL: Duration = Duration::from_millis(5);
/// How long to wait for output after the program has ended: a grandchild may hold the pipe open.
const DRAIN: Duration = Duration::from_secs(1);

/// What a program left behind.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Finished {
    /// The last non-empty line of either stream: where programs put their complaint.
    pub(crate) fn last_line(&self) -> String {
        last_line(&self.stderr)
            .or_else(|| last_line(&self.stdout))
            .unwrap_or_else(|| self.status.to_string())
    }

    /// The last lines of either stream in one: package clients need several to say what is wrong.
    pub(crate) fn complaint(&self) -> String {
        let stream = [&self.stderr, &self.stdout]
            .into_iter()
            .find(|text| !text.trim().is_empty());
        let Some(stream) = stream else {
            return self.status.to_string();
        };
        let lines = stream
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty());
        let mut last: Vec<&str> = lines.rev().take(COMPLAINT_LINES).collect();
        last.reverse();
        last.join("; ")
    }
}

fn last_line(text: &str) -> Option<String> {
    let line = text.lines().rfind(|line| !line.trim().is_empty())?;
    Some(line.trim().to_owned())
}

/// A program could not be run to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    #[error("{0}")]
    Spawn(#[source] std::io::Error),
    #[error("no answer within {} s, stopped", .0.as_secs())]
    TimedOut(Duration),
}

/// Gives `command` the environment every PostgreSQL program gets, and nothing else.
///
/// The host's locale, time zone and `PG*` variables would otherwise change what `initdb` and the
/// server do.
pub(crate) fn postgres_environment(command: &mut Command) {
    command
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("LC_ALL", "C")
        .env("TZ", "UTC")
        .current_dir("/");
}

/// Runs `command` and waits at most `limit`; then its whole process group is killed.
pub(crate) fn run(command: &mut Command, limit: Duration) -> Result<Finished, RunError> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .map_err(RunError::Spawn)?;
    let stdout = child.stdout.take().map(collect);
    let stderr = child.stderr.take().map(collect);
    let status = wait(&mut child, limit)?;
    let text = |tail: Option<mpsc::Receiver<Vec<u8>>>| {
        let bytes = tail.and_then(|tail| tail.recv_timeout(DRAIN).ok());
        String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned()
    };
    Ok(Finished {
        status,
        stdout: text(stdout),
        stderr: text(stderr),
    })
}

fn wait(child: &mut Child, limit: Duration) -> Result<ExitStatus, RunError> {
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait().map_err(RunError::Spawn)? {
            return Ok(status);
        }
        if started.elapsed() > limit {
            let group = Pid::from_raw(child.id().cast_signed());
            // The group may just have ended by itself, which is as good.
            let _ = killpg(group, Signal::SIGKILL);
            drop(child.wait());
            return Err(RunError::TimedOut(limit));
        }
        thread::sleep(POLL);
    }
}

/// Reads a stream to its end on a thread of its own and hands over the tail.
fn collect(mut stream: impl Read + Send + 'static) -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::sync_channel(1);
    thread::spawn(move || {
        let mut tail = Vec::new();
        let mut chunk = [0; 4096];
        while let Ok(count) = stream.read(&mut chunk) {
            if count == 0 {
                break;
            }
            tail.extend_from_slice(&chunk[..count]);
            if tail.len() > 2 * OUTPUT_LIMIT {
                tail.drain(..tail.len() - OUTPUT_LIMIT);
            }
        }
        let _ = sender.send(tail);
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn keeps_status_and_last_line() {
        let finished = run(
            &mut shell("echo out; echo first >&2; echo 'the reason' >&2; exit 3"),
            Duration::from_secs(10),
        )
        .expect("sh runs");
        assert_eq!(finished.status.code(), Some(3));
        assert_eq!(finished.stdout, "out\n");
        assert_eq!(finished.last_line(), "the reason");
        assert_eq!(finished.complaint(), "first; the reason");
    }

    #[test]
    fn a_complaint_is_short() {
        let script = "for n in 1 2 3 4 5; do echo; echo \"  line $n\"; done; exit 1";
        let finished = run(&mut shell(script), Duration::from_secs(10)).expect("sh runs");
        assert_eq!(finished.complaint(), "line 2; line 3; line 4; line 5");
        let silent = run(&mut shell("exit 7"), Duration::from_secs(10)).expect("sh runs");
        assert_eq!(silent.complaint(), "exit status: 7");
    }

    #[test]
    fn a_hanging_program_is_killed_with_its_children() {
        let marker = tempfile::tempdir().expect("a temporary directory");
        let pid_file = marker.path().join("pid");
        let script = format!("sleep 600 & echo $! > {}; wait", pid_file.display());
        let error = run(&mut shell(&script), Duration::from_millis(300)).expect_err("it hangs");
        assert!(matches!(error, RunError::TimedOut(_)), "{error}");

        let pid = std::fs::read_to_string(&pid_file).expect("the child's pid");
        let pid = Pid::from_raw(pid.trim().parse().expect("a number"));
        let started = Instant::now();
        while nix::sys::signal::kill(pid, None).is_ok() && !is_zombie(pid) {
            assert!(started.elapsed() < Duration::from_mins(1), "{pid} is alive");
            thread::sleep(POLL);
        }
    }

    fn is_zombie(pid: Pid) -> bool {
        std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") Z "))
    }
}

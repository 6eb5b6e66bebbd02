//! The daemon's side of the guard.

use std::{
    collections::BTreeSet, fs::File, io, io::Write, path::Path, process::Stdio, time::Duration,
};

use tokio::{
    process::{Child, Command},
    time::timeout,
};

use super::{GuardCommand, Message};
use crate::options::Graces;

/// A guard that somebody killed is started again, but not for ever.
const MAX_STARTS: u32 = 10;

/// How long the guard may take to exit once everything has ended.
const EXIT_GRACE: Duration = Duration::from_secs(2);

/// Keeps a guard process alive and informed. Nothing here waits: messages are shorter than the kernel's atomic pipe
/// writes, and one that does not fit into a full pipe is dropped, because marks find its group all the same.
#[derive(Debug)]
pub(crate) struct Guard {
    command: Option<GuardCommand>,
    watch: String,
    groups: BTreeSet<i32>,
    process: Option<(Child, File)>,
    starts: u32,
}

impl Guard {
    pub(crate) fn new(
        command: Option<GuardCommand>,
        prefix: &str,
        spool: &Path,
        graces: Graces,
    ) -> Self {
        let watch = Message::Watch {
            prefix: prefix.to_owned(),
            spool: spool.to_owned(),
            terminate: graces.terminate,
            kill: graces.kill,
        };
        Self {
            command,
            watch: line(&watch),
            groups: BTreeSet::new(),
            process: None,
            starts: 0,
        }
    }

    /// Starts the guard if there should be one and is none.
    pub(crate) fn ensure_started(&mut self) {
        if let Some((child, _)) = &mut self.process
            && !matches!(child.try_wait(), Ok(None))
        {
            tracing::warn!("the process guard has ended; starting another");
            self.process = None;
        }
        let Some(command) = &self.command else {
            return;
        };
        if self.process.is_some() || self.starts >= MAX_STARTS {
            return;
        }
        self.starts += 1;
        match start(command) {
            Ok(process) => {
                self.process = Some(process);
                self.send(&self.watch.clone());
                for group in self.groups.clone() {
                    self.send(&line(&Message::Add(group)));
                }
            }
            Err(error) => tracing::error!(
                program = %command.program.display(),
                %error,
                "the process guard could not be started: if rowcall is killed, its agents go on running"
            ),
        }
    }

    /// The process groups that run now.
    pub(crate) fn groups(&self) -> &BTreeSet<i32> {
        &self.groups
    }

    pub(crate) fn add(&mut self, group: i32) {
        self.groups.insert(group);
        let had_guard = self.process.is_some();
        self.send(&line(&Message::Add(group)));
        if had_guard && self.process.is_none() {
            // It was dying when we last looked.
            self.ensure_started();
        }
    }

    pub(crate) fn remove(&mut self, group: i32) {
        self.groups.remove(&group);
        self.send(&line(&Message::Remove(group)));
    }

    fn send(&mut self, line: &str) {
        let Some((_, pipe)) = &mut self.process else {
            return;
        };
        match pipe.write(line.as_bytes()) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                tracing::debug!("the process guard does not read; a message was dropped");
            }
            Err(error) => {
                tracing::warn!(%error, "the process guard does not answer");
                self.process = None;
            }
        }
    }

    /// Closes the pipe: everything has ended, and the guard will find nothing to do.
    pub(crate) fn close(&mut self) -> Option<ClosedGuard> {
        self.command = None;
        let (child, pipe) = self.process.take()?;
        drop(pipe);
        Some(ClosedGuard(child))
    }
}

/// A guard on its way out.
#[derive(Debug)]
pub(crate) struct ClosedGuard(Child);

impl ClosedGuard {
    pub(crate) async fn wait(mut self) {
        if timeout(EXIT_GRACE, self.0.wait()).await.is_err() {
            tracing::warn!("the process guard is still busy; leaving it to its work");
        }
    }
}

fn line(message: &Message) -> String {
    let mut line = serde_json::to_string(message).expect("texts and numbers serialise");
    line.push('\n');
    line
}

fn start(command: &GuardCommand) -> io::Result<(Child, File)> {
    let mut child = Command::new(&command.program)
        .args(&command.args)
        .arg0("rowcall-process-guard")
        // Without our environment it is never taken for an agent of a rowcall that runs us as one of its agents.
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // Ctrl-C in the terminal is for the daemon.
        .process_group(0)
        .spawn()?;
    let stdin = child.stdin.take().expect("stdin is piped");
    let pipe = stdin.into_owned_fd()?;
    // A guard that does not read must not hold up the daemon.
    rustix::io::ioctl_fionbio(&pipe, true)?;
    Ok((child, pipe.into()))
}

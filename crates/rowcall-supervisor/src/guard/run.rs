//! The guard's own side.

use std::{
    collections::{BTreeSet, HashSet},
    fs,
    io::{self, BufRead},
    path::PathBuf,
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};

use super::Message;
use crate::processes::{self, Mark};

/// How often the guard looks what is still alive.
const POLL: Duration = Duration::from_millis(50);

/// What is to be ended.
struct Watched {
    mark: Mark,
    spool: PathBuf,
    terminate: Duration,
    kill: Duration,
    groups: BTreeSet<i32>,
}

/// Runs a guard: reads from standard input what belongs to the daemon, and ends it when the input ends. To be called
/// first thing in `main`, outside any runtime, when the program was started with [`super::GUARD_ARGUMENT`].
pub fn run_guard() -> ExitCode {
    // Signals that are meant for the daemon must not end its guard first. A handler that does nothing is installed;
    // the runtime only exists because it can install one.
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
    else {
        return ExitCode::FAILURE;
    };
    let ignored = [
        SignalKind::hangup(),
        SignalKind::interrupt(),
        SignalKind::quit(),
        SignalKind::terminate(),
    ];
    let context = runtime.enter();
    let _handlers: Vec<_> = ignored
        .into_iter()
        .filter_map(|kind| signal(kind).ok())
        .collect();
    drop(context);
    if let Some(watched) = listen(io::stdin().lock()) {
        end(&watched);
    }
    ExitCode::SUCCESS
}

/// Follows what the daemon says until it says nothing more.
fn listen(input: impl BufRead) -> Option<Watched> {
    let mut watched: Option<Watched> = None;
    for line in input.lines() {
        // An error while reading means that the daemon is gone, as the end of the input does.
        let Ok(line) = line else { break };
        let Ok(message) = serde_json::from_str(&line) else {
            continue;
        };
        match (message, &mut watched) {
            (
                Message::Watch {
                    prefix,
                    spool,
                    terminate,
                    kill,
                },
                None,
            ) if !prefix.is_empty() => {
                watched = Some(Watched {
                    mark: Mark::Prefix(prefix),
                    spool,
                    terminate,
                    kill,
                    groups: BTreeSet::new(),
                });
            }
            (Message::Add(group), Some(watched)) if group > 1 => {
                watched.groups.insert(group);
            }
            (Message::Remove(group), Some(watched)) => {
                watched.groups.remove(&group);
            }
            _ => {}
        }
    }
    watched
}

fn end(watched: &Watched) {
    if !clear(watched, Signal::TERM, watched.terminate) {
        clear(watched, Signal::KILL, watched.kill);
    }
    let _ = fs::remove_dir_all(&watched.spool);
}

/// TERM once for each, KILL again and again, until nothing lives or the time is over.
fn clear(watched: &Watched, signal: Signal, patience: Duration) -> bool {
    let deadline = Instant::now() + patience;
    let mut told = HashSet::new();
    loop {
        let living = processes::find(&watched.mark, &watched.groups, 0);
        if living.is_empty() {
            return true;
        }
        for member in &living {
            if told.insert(member.pid) || signal == Signal::KILL {
                processes::signal(member, signal);
                if signal == Signal::TERM {
                    // A stopped process acts on TERM only once it continues.
                    processes::signal(member, Signal::CONT);
                }
            }
        }
        if Instant::now() >= deadline {
            return false;
        }
        thread::sleep(POLL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_what_it_is_told() {
        let input = concat!(
            "{\"add\":7}\n",
            "{\"watch\":{\"prefix\":\"p.\",\"spool\":\"/s\",\"terminate\":{\"secs\":1,\"nanos\":0},",
            "\"kill\":{\"secs\":1,\"nanos\":0}}}\n",
            "garbage\n{\"add\":8}\n{\"add\":9}\n{\"add\":1}\n{\"remove\":8}\n"
        );
        let watched = listen(input.as_bytes()).unwrap();
        assert_eq!(watched.groups, BTreeSet::from([9]));
        assert_eq!(watched.spool, PathBuf::from("/s"));
    }

    #[test]
    fn nothing_is_ended_without_a_mark() {
        assert!(listen("{\"add\":7}\n".as_bytes()).is_none());
    }
}

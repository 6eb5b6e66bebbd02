//! Looks at other processes: what a pid is, and who works in a directory.

use std::path::{Path, PathBuf};

/// What a process id stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Process {
    /// There is no such process.
    Gone,
    /// It has ended, but its parent has not noticed: nothing runs.
    Zombie,
    /// It runs.
    Alive {
        /// Name of the program, as far as it can be told.
        program: String,
        /// Working directory, as far as it may be read.
        cwd: Option<PathBuf>,
    },
}

impl Process {
    /// Whether it is a server process of the data directory: each has that as working directory.
    pub(crate) fn serves(&self, data_dir: &Path) -> bool {
        match self {
            Self::Gone | Self::Zombie => false,
            Self::Alive { program, cwd } => {
                // Where the directory cannot be read, the pid file that names the process decides.
                let works_here = match cwd {
                    Some(cwd) => cwd == data_dir,
                    None => cfg!(not(target_os = "linux")),
                };
                program.starts_with("postgres") && works_here
            }
        }
    }
}

/// Looks a process up.
#[cfg(target_os = "linux")]
pub(crate) fn look_up(pid: i32) -> Process {
    let directory = PathBuf::from(format!("/proc/{pid}"));
    // `pid (name) state …`: the name may hold spaces and parentheses.
    let Ok(stat) = std::fs::read_to_string(directory.join("stat")) else {
        return Process::Gone;
    };
    let name = stat
        .split_once('(')
        .and_then(|(_, rest)| rest.rsplit_once(')'));
    let (name, state) = name.unwrap_or(("", ""));
    if state.trim_start().starts_with(['Z', 'X']) {
        return Process::Zombie;
    }
    let exe = std::fs::read_link(directory.join("exe")).ok();
    let program = exe.as_deref().and_then(Path::file_name).map_or_else(
        || name.to_owned(),
        |name| name.to_string_lossy().into_owned(),
    );
    Process::Alive {
        program,
        cwd: std::fs::read_link(directory.join("cwd")).ok(),
    }
}

/// Without `/proc`: `ps` tells state and program, but not the working directory.
#[cfg(not(target_os = "linux"))]
pub(crate) fn look_up(pid: i32) -> Process {
    let mut ps = std::process::Command::new("ps");
    ps.args(["-o", "stat=,comm=", "-p", &pid.to_string()]);
    let limit = std::time::Duration::from_secs(5);
    let Ok(finished) = super::command::run(&mut ps, limit) else {
        return Process::Alive {
            program: "unknown".to_owned(),
            cwd: None,
        };
    };
    match finished.stdout.trim().split_once(char::is_whitespace) {
        None => Process::Gone,
        Some((state, _)) if state.starts_with('Z') => Process::Zombie,
        Some((_, program)) => {
            let program = program.trim();
            let name = Path::new(program).file_name().unwrap_or_default();
            Process::Alive {
                program: name.to_string_lossy().into_owned(),
                cwd: None,
            }
        }
    }
}

/// The processes whose working directory is `directory`; `None` where that cannot be known.
pub(crate) fn working_in(directory: &Path) -> Option<Vec<i32>> {
    let entries = std::fs::read_dir("/proc").ok()?;
    let mut pids: Vec<i32> = entries
        .filter_map(Result::ok)
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| {
            std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == directory)
        })
        .collect();
    pids.sort_unstable();
    // Without a Linux `/proc` not even our own entry is there.
    Path::new("/proc/self/cwd").exists().then_some(pids)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    use std::process::Command;
    use std::time::{Duration, Instant};

    #[test]
    fn tells_alive_zombie_and_gone_apart() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let directory = directory.path().canonicalize().expect("canonical");
        let mut child = Command::new("/bin/sleep")
            .arg("600")
            .current_dir(&directory)
            .spawn()
            .expect("sleep");
        let pid = child.id().cast_signed();

        let process = look_up(pid);
        let Process::Alive { cwd, .. } = &process else {
            panic!("{process:?}");
        };
        assert_eq!(cwd.as_deref(), Some(directory.as_path()));
        assert!(!process.serves(&directory), "sleep is not a server");
        assert_eq!(working_in(&directory), Some(vec![pid]));

        child.kill().expect("kill");
        let started = Instant::now();
        while look_up(pid) != Process::Zombie {
            assert!(
                started.elapsed() < Duration::from_secs(5),
                "{:?}",
                look_up(pid)
            );
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(working_in(&directory), Some(vec![]));
        child.wait().expect("reap");
        assert_eq!(look_up(pid), Process::Gone);
    }
}

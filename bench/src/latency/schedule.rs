//! Real-time scheduling for the processes that are measured.

use std::process::Command;

/// Puts processes, with all their threads and whatever they start, into the first real-time class; says whether it was
/// allowed. Ordinary scheduling on a busy machine adds its own slices of milliseconds to everything.
pub(super) fn real_time(pids: &[u32]) -> bool {
    pids.iter().all(|pid| {
        Command::new("chrt")
            .args(["--all-tasks", "--rr", "--pid", "1"])
            .arg(pid.to_string())
            .output()
            .is_ok_and(|output| output.status.success())
    })
}

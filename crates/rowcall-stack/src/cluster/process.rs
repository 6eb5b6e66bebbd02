//! Looks at other processes through `/proc`.

use std::path::Path;

/// Whether a process has `directory` as its working directory, as every PostgreSQL process has its
/// data directory.
pub(crate) fn works_in(pid: i32, directory: &Path) -> bool {
    std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == directory)
}

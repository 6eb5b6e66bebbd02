//! Runners that live in this process. Programs are run by the supervisor.

mod in_process;

pub use in_process::{FnRunner, InProcessRunner};

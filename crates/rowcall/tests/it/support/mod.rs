//! Real daemons as separate processes, on databases of their own.

mod daemon;
mod database;
mod wait;

pub use daemon::{Daemon, command, reqwest_client, run, shell_app};
pub use database::{Database, Row};
pub use wait::{PATIENCE, until};

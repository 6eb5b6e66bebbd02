//! Real daemons as separate processes, on databases of their own.

mod browser;
mod clients;
mod daemon;
mod database;
mod project;
mod stack;
mod wait;

pub(crate) use browser::Browser;
pub(crate) use clients::{clients, python_tool};
pub(crate) use daemon::{BRIEF_LEASES, Daemon, command, http_client, run, shell_app};
pub(crate) use database::Database;
pub(crate) use project::Project;
pub(crate) use stack::{Settings, Stack, keys};
pub(crate) use wait::{PATIENCE, until};

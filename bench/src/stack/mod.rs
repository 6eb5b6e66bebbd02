//! The Supabase-compatible API under load: the server in a process of its own, clients that do as little as possible.

pub(crate) mod broadcast;
pub(crate) mod changes;
mod http;
pub(crate) mod rest;
mod server;
mod socket;
pub(crate) mod sockets;

pub(crate) use server::{SERVER, serve};

use anyhow::Result;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Lets this process and its children have as many sockets as the system permits.
fn raise_file_limit() -> Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok(())
}

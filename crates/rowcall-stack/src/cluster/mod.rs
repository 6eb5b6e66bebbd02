//! The embedded PostgreSQL: found or fetched, made once, run as a supervised child, stopped last.

mod account;
mod command;
mod discover;
mod error;
mod initdb;
mod install;
mod process;
mod ready;
mod resolve;
#[cfg(feature = "testing")]
pub(crate) mod scratch;
mod settings;
mod version;

pub use discover::SearchPaths;
pub use error::ClusterError;
pub use install::{Install, ProviderKind, UnknownProvider};
pub use resolve::Findings;
pub use version::{BadVersion, NEWEST_TESTED_MAJOR, OLDEST_MAJOR, PREFERRED_MAJOR, PgVersion};

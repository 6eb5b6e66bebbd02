//! Where tasks live and how they are claimed: the coordinators and signal sources behind the ports of `rowcall-core`.

#[cfg(any(test, feature = "testing"))]
pub mod conformance;
pub mod memory;
pub mod migrate;
pub mod postgres;
pub mod queue;
mod sql;

pub use memory::{MemoryCoordinator, NewTask};
pub use postgres::{PostgresBackend, PostgresConfig};

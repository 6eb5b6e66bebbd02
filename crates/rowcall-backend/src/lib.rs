//! Where tasks live and how they are claimed: the coordinators and signal sources behind the ports of `rowcall-core`.

pub mod capture;
#[cfg(any(test, feature = "testing"))]
pub mod conformance;
pub mod custom;
pub mod memory;
pub mod migrate;
pub mod postgres;
pub mod queue;
pub mod setup;
mod sql;
pub mod supabase;
mod text;

pub use custom::CustomConfig;
pub use memory::{MemoryCoordinator, NewTask};
pub use postgres::{PostgresBackend, PostgresConfig};
pub use supabase::{SupabaseBackend, SupabaseConfig, SupabaseDriver};

//! Where tasks live and how they are claimed: the coordinators and signal sources behind the ports of `rowcall-core`.

pub mod memory;

pub use memory::{MemoryCoordinator, NewTask};

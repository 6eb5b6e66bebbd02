//! The Realtime server, driven by a raw client of both protocol versions.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod broadcast;
mod changes;
mod changes_filters;
mod changes_records;
mod changes_rls;
mod changes_tables;
mod changes_values;
mod client;
mod faults;
mod matrix;
mod official;
mod outages;
mod presence;
mod private;
mod protocol;
mod server;
mod soak;
mod wire;

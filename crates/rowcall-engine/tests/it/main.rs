//! The engine over the in-memory model of a database, on paused time.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod claims;
mod dispersal;
mod double;
mod faults;
mod leases;
mod people;
mod polls;
mod reports;
mod retries;
mod sqlite;
mod stop;
mod world;

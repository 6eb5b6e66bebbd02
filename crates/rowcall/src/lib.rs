//! The daemon and the command line of rowcall: configuration, wiring and everything a person meets.
//!
//! Only this crate reads configuration and the environment, and only this crate knows which backend, runner and server
//! there are. Everything else is handed what it needs.

mod agents;
pub mod api;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod exit;
pub mod management;
pub mod output;
mod prometheus;
pub mod secrets;
pub mod system;
pub mod telemetry;

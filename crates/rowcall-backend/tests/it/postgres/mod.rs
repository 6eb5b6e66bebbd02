//! Compatible mode against a real PostgreSQL.

mod capture;
mod capture_keys;
mod capture_script;
mod conformance;
mod database;
mod filter;
mod migrate;
mod model;
mod plans;
mod published;
mod tls;
mod wake;

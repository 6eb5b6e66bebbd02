//! Compatible mode against a real PostgreSQL.

mod capture;
mod conformance;
mod database;
mod filter;
mod migrate;
mod published;
mod wake;

//! Compatible mode against a real PostgreSQL.

mod conformance;
mod database;

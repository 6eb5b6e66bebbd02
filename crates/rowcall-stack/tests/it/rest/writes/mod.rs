//! Inserts, updates, upserts, deletes.

mod bodies;
mod insert;
mod preferences;
mod update;
mod upsert;

/// Asks for the rows that were written.
const REPRESENTATION: &str = "return=representation";
